"""Several daemons on one PostgreSQL and one NATS, each behind a proxy; what befalls them; and what all clients were told."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import postgresql
import psycopg
from aiohttp import web
from broker import Broker
from chaos.checker import History, Told
from chaos.provider import CLIENT, SECRET, WEBHOOK_SECRET, Provider
from chaos.proxy import Proxy, proxy
from faults.nursery import Borne, Nursery
from jetstream.reading import everything
from ports import free_port

from oo_client import Client, ClientError
from oo_config import load
from oo_daemon.app import build
from oo_daemon.cli.stage import Browser
from oo_daemon.store.postgresql import LOCK_TIMEOUT_MS, NAME
from oo_sdk import NormalizedEvent
from oo_sdk.vocabulary import Document
from oo_vault import create_key_file, read_key_file, write_bundle

#: How many daemons sync and how many take webhooks; how many people there are, and how many notes each has.
WORKERS, DOORS, PEOPLE, NOTES, SENDERS = 3, 2, 4, 5, 6
#: Calls to the provider that are allowed in a second.
CALLS = 8
#: Events of the log that tell of a fault of ours.
OWN_FAULTS = {"delivery_fault", "intake_failed", "run_failed", "job_fault"}
#: Seconds: of a lease, between changes and between deliveries, and that everything may take to come to rest.
LEASE, CHANGES, PACE, REST = 3.0, 0.1, 0.15, 120.0


@dataclass
class Fleet:
    """The servers, the daemons, and the clients' histories."""

    folder: Path
    bears: Nursery
    server: postgresql.Server
    database: str
    broker: Broker
    chance: random.Random
    provider: Provider = field(default_factory=Provider)
    to_server: Proxy = field(init=False)
    to_broker: Proxy = field(init=False)
    daemons: dict[str, Borne] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    answers: Counter[int] = field(default_factory=Counter)
    befell: Counter[str] = field(default_factory=Counter)
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    _doors: list[int] = field(default_factory=list)
    _ingress: frozenset[str] = frozenset(f"daemon-{number}" for number in range(WORKERS, WORKERS + DOORS))
    _path: str = ""
    _births: asyncio.Lock = field(default_factory=asyncio.Lock)
    _kept: Path | None = None

    # --- set-up -------------------------------------------------------------------------------------------------------

    def _config(self, name: str, server: int, **public: Any) -> Path:
        place = self.folder / name
        place.mkdir(exist_ok=True)
        tables: dict[str, dict[str, Any]] = {
            "places": {"state": str(place), "database": self.server.over_tcp(self.database, server)},
            "vault": {"key_file": str(self.folder / "root.key")}
            if name not in self._ingress
            else {"bundle_file": str(self.folder / "bundle")},
            "public": {"port": 0, **public},
            "plugins": {"enabled": ["oo-fire"]},
            "connectors.fire": {"address": self.address, "calls": CALLS},
            "sync": {"tick": 0.1, "interval": 1, "lease": LEASE, "heartbeat": LEASE / 4},
            "disk": {"least_free": 1},
            "sinks.nats": {
                "servers": [f"nats://127.0.0.1:{self.to_broker.port}"],
                "subject_key_file": str(self.folder / "subject.key"),
                "create": True,
                "monitoring": self.broker.monitoring,
            },
        }
        lines = [line for table, of in tables.items() for line in (f"[{table}]", *(f"{key} = {json.dumps(of[key])}" for key in of))]
        (place / "oo.toml").write_text("\n".join(lines))
        return place / "oo.toml"

    async def prepare(self) -> None:
        """Register the provider and connect everybody, with a daemon in this process."""
        create_key_file(self.folder / "root.key")
        write_bundle(self.folder / "bundle", read_key_file(self.folder / "root.key"))
        (self.folder / "subject.key").write_text("0123456789abcdef")
        # Without the proxy, which shares this loop: it could not answer while the daemon begins.
        async with build(load(self._config("first", self.server.port), {})), Client(self.folder / "first" / "oo.sock") as client:
            made = await client.register(provider="fire", client_id=CLIENT, client_secrets=[SECRET], webhook_secrets=[WEBHOOK_SECRET])
            assert made.webhook_url is not None
            self._path = "/webhooks/" + made.webhook_url.rpartition("/")[2]
            for number in range(PEOPLE):
                link = await client.connect(provider="fire", user=f"user-{number}")
                async with Browser() as browser:
                    await browser.open(link.url)
                    await browser.press()
                    await browser.press("answer", "yes")
        for number in range(WORKERS + DOORS):
            door = free_port()
            self._config(f"daemon-{number}", self.to_server.port, port=door)
            if number >= WORKERS:
                self._doors.append(door)
            await self._begin(f"daemon-{number}")
        for name in self.daemons:
            await self._answering(name)

    async def _begin(self, name: str) -> None:
        self.daemons[name] = await self.bears.daemon(self.folder / name / "oo.toml", "ingress" if name in self._ingress else "worker")

    async def _answering(self, name: str) -> None:
        async with asyncio.timeout(REST), Client(self.folder / name / "oo.sock") as client:
            while True:
                with suppress(ClientError, OSError):
                    await client.health()
                    return
                if self.daemons[name].ended:  # the database was away when it started: whoever keeps it running starts it again
                    await self._begin(name)
                await asyncio.sleep(0.05)  # a daemon that begins can only be asked

    address: str = ""

    # --- load ---------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Senders and a provider at work; in the end each sender waits until what it has sent is taken."""
        keeper = asyncio.create_task(self._keep_running())
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
                asyncio.timeout(None) as patience,
                asyncio.TaskGroup() as tasks,
            ):
                for number in range(SENDERS):
                    tasks.create_task(self._send(session, number))
                tasks.create_task(self._change())
                try:
                    yield
                finally:
                    self.ending.set()
                    patience.reschedule(asyncio.get_running_loop().time() + REST)
        finally:
            keeper.cancel()

    async def _keep_running(self) -> None:
        """Start again what has ended by itself, as a service is: the database was away when it started."""
        while True:
            async with self._births:
                for name in [name for name, borne in self.daemons.items() if borne.ended]:
                    await self._begin(name)
            await asyncio.sleep(0.5)  # as a service manager does: begun anew after a while, or it would end in a circle

    async def _send(self, session: aiohttp.ClientSession, number: int) -> None:
        count = 0
        while not self.ending.is_set():
            message, account = f"m{number}-{count}", f"account-{number % PEOPLE}"
            body = json.dumps({"account": account, "message": message}).encode()
            headers = {"X-Fire-Signature": hmac.new(WEBHOOK_SECRET.encode(), body, hashlib.sha256).hexdigest(), "X-Fire-Delivery": message}
            status = 0
            while status != 200:
                url = f"http://127.0.0.1:{self.chance.choice(self._doors)}{self._path}"
                try:
                    async with session.post(url, data=body, headers=headers) as answer:
                        status = answer.status
                except (aiohttp.ClientError, TimeoutError):
                    status = 0
                self.answers[status] += 1
                await asyncio.sleep(0 if status == 200 else 0.1)
            self.acknowledged.add(message)
            count += 1
            await asyncio.sleep(PACE)

    async def _change(self) -> None:
        number = 0
        while not self.ending.is_set():
            account = f"account-{self.chance.randrange(PEOPLE)}"
            self.provider.change(account, f"n{self.chance.randrange(NOTES)}", f"v{number}")
            number += 1
            await asyncio.sleep(CHANGES)

    # --- what befalls them --------------------------------------------------------------------------------------------

    async def fire(self, seconds: float) -> None:
        """One misfortune after another; each of them at least once."""
        ways: list[Callable[[], Awaitable[None]]] = [
            self.cut_server, self.kill_worker, self.stop_worker, self.delay_server, self.cut_broker, self.keep_broker, self.kill_door,
            self.restart_server, self.half_close, self.lose_broker_end, self.refuse_server, self.end_backends, self.cancel_statements,
            self.hold_rows, self.cross,
        ]  # fmt: skip
        until, left = time.monotonic() + seconds, list(ways)
        while left or time.monotonic() < until:
            way = left.pop(0) if left else self.chance.choice(ways)
            self.befell[getattr(way, "__name__", "")] += 1
            await way()
            await asyncio.sleep(self.chance.uniform(0.1, 0.8))  # the moment of the next, and nothing that is waited for

    async def cut_server(self) -> None:
        self.to_server.cut()

    async def refuse_server(self) -> None:
        self.to_server.refuses = True
        self.to_server.reset()
        await asyncio.sleep(self.chance.uniform(0.2, 1))  # so long does this misfortune last
        self.to_server.refuses = False

    async def half_close(self) -> None:
        self.to_server.half_close()
        self.to_broker.half_close()

    async def delay_server(self) -> None:
        self.to_server.delay = 0.05
        await asyncio.sleep(1)  # nothing is waited for: so long does this misfortune last
        self.to_server.delay = 0

    async def end_backends(self) -> None:
        """End some connections of the daemons, those first that are in the middle of something."""
        await asyncio.to_thread(self._to_backends, "pg_terminate_backend")

    async def cancel_statements(self) -> None:
        """Cancel what the daemons ask just now, as a time-out does."""
        await asyncio.to_thread(self._to_backends, "pg_cancel_backend")

    def _to_backends(self, do: str) -> None:
        with self._session() as session:
            pids = f"SELECT pid FROM pg_stat_activity WHERE application_name = '{NAME}' ORDER BY state = 'idle', random() LIMIT 8"
            session.execute(f"SELECT {do}(pid) FROM ({pids}) AS daemons".encode())

    async def hold_rows(self) -> None:
        """Hold rows that all daemons need; now and then for longer than they wait."""
        seconds = LOCK_TIMEOUT_MS / 1000 + 1 if self.befell["hold_rows"] % 3 == 0 else 0.5
        await asyncio.to_thread(self._hold, seconds, ("connection", "stream"))

    async def cross(self) -> None:
        """Take what they take in another order than they do: somebody's transaction is ended for it."""
        await asyncio.to_thread(self._hold, 0.3, ("stream", "delivery", "schedule", "consumer"))

    def _hold(self, seconds: float, tables: Sequence[str]) -> None:
        with suppress(psycopg.OperationalError), self._session() as session, session.transaction():
            for table in tables:
                session.execute(f"SELECT 1 FROM {table} FOR UPDATE".encode())
                time.sleep(seconds)  # nothing is waited for: so long are they held

    def _session(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.server.address(self.database), autocommit=True)

    async def cut_broker(self) -> None:
        self.to_broker.reset()

    async def kill_worker(self) -> None:
        await self._kill(f"daemon-{self.chance.randrange(WORKERS)}")

    async def kill_door(self) -> None:
        await self._kill(f"daemon-{WORKERS + self.chance.randrange(DOORS)}")

    async def _kill(self, name: str) -> None:
        async with self._births:
            await self.daemons[name].kill()
            await self._begin(name)

    async def stop_worker(self) -> None:
        borne = self.daemons[f"daemon-{self.chance.randrange(WORKERS)}"]
        borne.signal(signal.SIGSTOP)
        await asyncio.sleep(LEASE + 1)  # past its lease
        borne.signal(signal.SIGCONT)

    async def restart_server(self) -> None:
        await asyncio.to_thread(self.server.kill)
        await asyncio.to_thread(self.server.start)

    async def keep_broker(self) -> None:
        await asyncio.to_thread(self._around_broker, signal.SIGTERM, self._keep)

    async def lose_broker_end(self) -> None:
        await asyncio.to_thread(self._around_broker, signal.SIGKILL, self._lose)

    def _around_broker(self, how: signal.Signals, do: Callable[[], None]) -> None:
        self.broker.end(how)
        do()
        self.broker.start()

    def _keep(self) -> None:
        self._kept = self.broker.keep()

    def _lose(self) -> None:
        if self._kept is not None:
            self.broker.put_back(self._kept)

    # --- the end ------------------------------------------------------------------------------------------------------

    async def rest(self) -> float:
        """Wait until everything that came in has become events, and all of them are in the stream; gives how many seconds that took."""
        began = time.monotonic()
        for name in self.daemons:
            await self._answering(name)
        left, deadline = "", time.monotonic() + REST
        while time.monotonic() < deadline:
            with suppress(psycopg.Error):
                left = await asyncio.to_thread(self._left)
                if not left:
                    return time.monotonic() - began
            await asyncio.sleep(0.2)
        raise AssertionError(f"it does not come to rest: {left}")

    def _left(self) -> str:
        """What is still under way."""
        with psycopg.connect(self.server.address(self.database)) as database:
            sql = (
                "SELECT delivery_id, tries, fence, waiting, reason, lease_owner IS NOT NULL, next_try_at, lease_until, received_at "
                "FROM delivery WHERE state = 'received' ORDER BY number LIMIT 10"
            )
            waiting = database.execute(sql).fetchall()
            sql = "SELECT c.provider_account, s.cursor, c.state, s.outcome FROM connection c JOIN schedule s ON s.connection = c.number"
            rows = database.execute(sql).fetchall()
            read = {account: (json.loads(cursor or '{"read": 0}')["read"], *more) for account, cursor, *more in rows}
            of_sink = "SELECT s.position - c.position, c.reason FROM stream s, consumer c WHERE c.name = 'sink:nats'"
            ((behind, reason),) = database.execute(of_sink).fetchall()
        feeds = [
            f"{account} {len(feed)}: {read[account]}" for account, feed in self.provider.feeds.items() if len(feed) != read[account][0]
        ]
        deliveries = [f"deliveries {waiting} at {time.time_ns() // 1000}"] if waiting else []
        sink = [f"the sink by {behind}, {reason}"] if behind else []
        return "; ".join([*deliveries, *sink, *feeds])

    def faults(self) -> Counter[str]:
        """What daemons say was their own fault, and not that of what befell them."""
        said: Counter[str] = Counter()
        for borne in self.bears.borne:
            for line in borne.said.read_text().splitlines():
                # Else it is a sentence for whoever has called: one that cannot start says so.
                if line.startswith("{") and (of := json.loads(line))["event"] in OWN_FAULTS:
                    said[f"{of['event']}: {of.get('error', of.get('reason'))}"] += 1
        return said

    async def history(self) -> History:
        """What everybody knows in the end, once the daemons are stopped."""
        for borne in self.daemons.values():
            await borne.stop()
        with psycopg.connect(self.server.address(self.database)) as database:
            stored = [id_ for (id_,) in database.execute("SELECT delivery_id FROM delivery").fetchall()]
            bodies = [bytes(body) for (body,) in database.execute("SELECT body FROM outbox ORDER BY position").fetchall()]
        stream = await everything(self.broker.url)
        return History(
            acknowledged=frozenset(self.acknowledged),
            feeds=self.provider.feeds,
            stored=stored,
            outbox=[told(NormalizedEvent.FromString(body)) for body in bodies if b"fire." in body],
            stream=[told(read.event) for read in stream if read.event.type.startswith("fire.")],
            rotations=self.provider.rotations,
            shown=self.provider.shown,
            interruptions=sum(self.befell.values()) * (WORKERS + DOORS),
            calls=self.provider.calls,
            rate=CALLS,
        )


def told(event: NormalizedEvent) -> Told:
    """An event, as it is compared."""
    document = Document()
    event.payload.Unpack(document)
    account = f"account-{event.user.removeprefix('user-')}"
    return Told(id=event.id, type=event.type, account=account, subject=event.subject, title=document.title)


@asynccontextmanager
async def fleet(folder: Path, bears: Nursery, server: postgresql.Server, address: str, broker: Broker, seed: int) -> AsyncIterator[Fleet]:
    """A fleet at work."""
    database = address.partition("?")[0].rpartition("/")[2]
    made = Fleet(folder, bears, server, database, broker, random.Random(seed))
    async with AsyncExitStack() as stack:
        made.to_server = await stack.enter_async_context(proxy(server.port))
        made.to_broker = await stack.enter_async_context(proxy(broker.port))
        door = socket.create_server(("127.0.0.1", 0))
        made.address = f"http://127.0.0.1:{door.getsockname()[1]}"
        runner = web.AppRunner(made.provider.app(), shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, door).start()
        await made.prepare()
        yield made
