"""An upgrade while people send: the doors stay open, nothing is lost, there is a way back, and an older program keeps its hands off."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import aiohttp
import apsw
import pytest
from journeys.house import House
from journeys.next_program import step

from oo_client import Client, Event
from oo_daemon.store import migrations
from oo_daemon.store.errors import CannotStore, NewerSchema
from oo_daemon.store.migrations import MIGRATIONS

#: Upgrades, one after another, and webhooks a second of each of two senders.
UPGRADES = int(os.environ.get("OO_TEST_UPGRADES", "1"))
RATE = 50
#: Longest that anybody may wait for an answer, in seconds: as promised where it is measured, looser where other tests run beside it.
LONGEST = 3.0 if UPGRADES > 1 else 60.0
PATIENCE = 60.0
NOW = MIGRATIONS[-1].number
SECRET = secrets.token_urlsafe(32)


@dataclass
class Unit:
    """What systemd is to the daemon: it opens the doors, hands them over at each start, and hears when it is ready."""

    folder: Path
    public: socket.socket
    private: socket.socket
    heard: socket.socket
    child: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.public.getsockname()[1]}"

    async def start(self, schema: int) -> int | None:
        """Start the program of a schema; gives its exit code, or None once it is ready."""
        # The number of a child is known to itself only, and its doors are 3 and 4: so a shell says so before it becomes the program.
        become = 'public=$1 private=$2; shift 2; exec 3<&"$public" 4<&"$private"; export LISTEN_PID=$$; exec "$@"'
        doors = [str(door.fileno()) for door in (self.public, self.private)]
        environ = {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "public:private", "NOTIFY_SOCKET": str(self.folder / "notify")}
        with (self.folder / "oo.log").open("ab") as log:
            self.child = await asyncio.create_subprocess_exec(
                *("bash", "-c", become, "unit", *doors, *self._program(schema), "run"),
                env={"PATH": os.environ["PATH"], **environ},
                pass_fds=(self.public.fileno(), self.private.fileno()),
                stdout=log,
                stderr=log,
            )
        loop = asyncio.get_running_loop()
        ended = asyncio.ensure_future(self.child.wait())
        async with asyncio.timeout(PATIENCE):
            while not ended.done():
                said = asyncio.ensure_future(loop.sock_recv(self.heard, 1000))
                await asyncio.wait({ended, said}, return_when=asyncio.FIRST_COMPLETED)
                if said.done() and b"READY=1" in said.result():
                    ended.cancel()
                    return None
                said.cancel()
                with suppress(asyncio.CancelledError):
                    await said
        return ended.result()

    async def stop(self) -> None:
        """As `systemctl stop` does."""
        assert self.child is not None
        self.child.terminate()
        assert await asyncio.wait_for(self.child.wait(), PATIENCE) == 0

    async def oo(self, schema: int, *arguments: str) -> tuple[int, str]:
        """Run a verb of the program of a schema; gives its exit code and what it said."""
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            *self._program(schema), *arguments, env={"PATH": os.environ["PATH"]}, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
        said, aside = await asyncio.wait_for(child.communicate(), PATIENCE)
        return child.returncode or 0, (said + aside).decode()

    def _program(self, schema: int) -> tuple[str, ...]:
        program = Path(__file__).with_name("next_program.py")
        return sys.executable, str(program), str(schema), "--config", str(self.folder / "oo.toml")


@asynccontextmanager
async def unit(folder: Path) -> AsyncIterator[Unit]:
    """A host with the service installed and not yet started."""
    public = socket.create_server(("127.0.0.1", 0), backlog=1000)
    with public, socket.socket(socket.AF_UNIX) as private, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        private.bind(str(folder / "oo.sock"))
        private.listen(1000)
        heard.bind(str(folder / "notify"))
        heard.setblocking(False)
        here = Unit(folder, public, private, heard)
        lines = ["[places]", f"state = {json.dumps(str(folder))}", "[public]", f"url = {json.dumps(here.url)}"]
        lines += ["source_rate = 100000", "max_connections_per_address = 1000"]
        (folder / "oo.toml").write_text("\n".join(lines) + "\n")
        assert (await here.oo(NOW, "vault", "init"))[0] == 0
        try:
            yield here
        finally:
            if here.child is not None and here.child.returncode is None:
                here.child.kill()
                await here.child.wait()


@dataclass
class Senders:
    """Two at an even pace, one with a connection for each delivery and one that keeps its own; and what they saw."""

    url: str
    asked: int = 0
    answered: int = 0
    refused: int = 0
    cut: int = 0
    wrong: list[int] = field(default_factory=list)
    again: int = 0  #: asked to come again, as where a host is so slow that too many wait at once
    longest: float = 0.0
    acknowledged: set[str] = field(default_factory=set)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as sending:
            sending.create_task(self._fresh(ended))
            sending.create_task(self._kept(ended))
            try:
                yield
            finally:
                ended.set()

    async def caught_up(self) -> None:
        """Wait until all those are answered who wait now, and some more: a slow machine is down for most of an upgrade."""
        wanted = self.asked + 20
        async with asyncio.timeout(PATIENCE):
            while self.answered + self.refused + self.cut < wanted:
                await asyncio.sleep(0.01)

    async def _fresh(self, ended: asyncio.Event) -> None:
        async with self._session(force_close=True) as session, asyncio.TaskGroup() as asking:
            for number in count():
                asking.create_task(self._post(session, f"fresh-{number}"))
                if await self._over(ended):
                    return

    async def _kept(self, ended: asyncio.Event) -> None:
        async with self._session(force_close=False) as session:
            for number in count():
                await self._post(session, f"kept-{number}")
                if await self._over(ended):
                    return

    def _session(self, *, force_close: bool) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, force_close=force_close)
        return aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {SECRET}"})

    async def _over(self, ended: asyncio.Event) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), 1 / RATE)
        return ended.is_set()

    async def _post(self, session: aiohttp.ClientSession, name: str) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.asked += 1
        try:
            async with session.post(self.url, json={"id": name}) as answer:
                await answer.read()
                status = answer.status
            self.answered += 1
            if status == 200:
                self.acknowledged.add(name)
            elif status == 503:
                self.again += 1
            else:
                self.wrong.append(status)
        except aiohttp.ClientConnectorError:
            self.refused += 1
        except (aiohttp.ClientError, OSError):
            self.cut += 1
        self.longest = max(self.longest, loop.time() - began)


def named(events: list[Event]) -> list[str]:
    """The deliveries that became these events."""
    return [str((event.payload or {})["fields"]["id"]) for event in events if event.type.startswith("webhook.")]


async def told(client: Client, wanted: set[str]) -> list[str]:
    """All that the outbox says of deliveries, once it says all of these."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = named([event async for event in client.events(follow=False)])
            if wanted <= set(found):
                return found
            await asyncio.sleep(0.05)


@pytest.mark.timeout(900)
@pytest.mark.rows("H8", "H12", "H1", "B16")
async def test_an_upgrade_with_traffic(tmp_path: Path) -> None:
    """Each newer program takes over while deliveries arrive; the older one, started by mistake, refuses; nobody is turned away.

    The backup that an upgrade makes of what was there before is what the older program goes on from, and that of a newer one is not.
    """
    async with unit(tmp_path) as here:
        assert await here.start(NOW) is None
        async with Client(tmp_path / "oo.sock") as client:
            source = await client.add_source("hooks", user="ada", scheme="bearer", secret=SECRET)
        senders = Senders(source.url)
        async with senders.at_work():
            for newer in range(NOW + 1, NOW + 1 + UPGRADES):
                await senders.caught_up()
                await here.stop()
                assert await here.start(newer) is None
                await here.stop()
                assert await here.start(newer - 1) == 78, "systemd does not start it again"
                assert await here.start(newer) is None
        print(f"\nupgrades: {UPGRADES}, asked {senders.asked}, asked again {senders.again}, longest wait {senders.longest:.2f} s")
        assert (senders.refused, senders.cut, senders.wrong) == (0, 0, [])
        assert senders.longest < LONGEST
        async with Client(tmp_path / "oo.sock") as client:
            found = await told(client, senders.acknowledged)
            assert len(found) == len(set(found)), "each once"
            before, *_ = backups = await client.backups()
            assert len(backups) == UPGRADES
            newer_made = await client.make_backup()
        await here.stop()
        log = (tmp_path / "oo.log").read_text()
        assert log.count('"schema_upgraded"') == UPGRADES
        assert log.count("install the newer version again, or restore a backup from before the upgrade") == UPGRADES

        older = NOW + UPGRADES - 1
        code, said = await here.oo(older, "restore", newer_made.name, "--yes")
        assert (code, "install the newer version" in said) == (78, True), said
        assert schema(tmp_path) == older + 1, "what is there stays"
        code, said = await here.oo(older, "restore", before.name, "--yes")
        assert code == 0, said
        assert schema(tmp_path) == older
        assert await here.start(older) is None
        async with Client(tmp_path / "oo.sock") as client:
            kept = await told(client, set())
            assert 0 < len(kept) <= len(found)
            assert set(kept) <= set(found)
            assert len(await client.backups()) == UPGRADES + 1, "a start without an upgrade makes none"
        await here.stop()


@pytest.mark.rows("H8", "B16")
async def test_an_upgrade_without_a_way_back_is_none(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the backup cannot be made, nothing is changed, and the message says what to do."""
    await house.stop()
    backups = house.folder / "backups"
    backups.write_text("a file stands where the folder should be")
    with monkeypatch.context() as newer:
        newer.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, step(NOW + 1)))
        with pytest.raises(CannotStore, match=r"free some space, or set backup\.folder"):
            await house.start()
        assert schema(house.folder) == NOW
        backups.unlink()
        await house.start()
        await house.stop()
    assert schema(house.folder) == NOW + 1
    assert len(list(backups.iterdir())) == 1
    with pytest.raises(NewerSchema):
        await house.start()
    (house.folder / "oo.sqlite3").unlink()
    await house.start()


def schema(folder: Path) -> int:
    database = apsw.Connection(str(folder / "oo.sqlite3"))
    ((number,),) = database.execute("SELECT max(number) FROM migration")
    database.close()
    return int(number)
