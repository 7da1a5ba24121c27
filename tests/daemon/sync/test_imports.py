"""Imports: whatever dies, everything of a file comes in, and nothing twice."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import cast

import oo_apple_health.connector
import pytest
from apple_health.generator import Phone
from daemon.sync.world import Hub
from daemon.virtual import Notes, SeededChance, VirtualClock, lost
from oo_apple_health import AppleHealth

from oo_daemon.connections.errors import Declined
from oo_daemon.connections.uploads import Files, Uploads
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import own, wire
from oo_daemon.reader import Reading
from oo_daemon.reader_process import Process
from oo_daemon.registry import Registry
from oo_daemon.store import connections, outbox, uploads
from oo_daemon.store.accept import Accepted
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.storage import InlineStorage, Lane, Prepared
from oo_daemon.store.uploads import Upload
from oo_daemon.sync.frames import Frame, Known, Order, Things, Wrong
from oo_daemon.sync.imports import AHEAD, TRIES, Imports, ReaderDied
from oo_sdk import Change, Event
from oo_sdk.vocabulary import Workout

PHONE = Phone(records=1_200, days=200)
#: Entries that are in the file twice: in a correlation, and by themselves.
TWICE = 4


#: Nothing here takes longer (seconds).
PATIENCE = 20.0


class Died(BaseException):
    """The daemon is gone."""


@dataclass
class Here:
    """A reader in this process. `at_frame` is asked before each."""

    order: Order
    at_frame: Callable[[int], None]
    known: Known | None = None
    events: int = 0  #: made into bytes, of what occurred
    killed: bool = False

    async def frames(self) -> AsyncGenerator[Frame, None]:
        said, number = Reading(self.order).frames(), 0
        with suppress(StopIteration):
            while True:
                frame, self.known = said.send(self.known), None
                number += 1
                self.at_frame(number)
                self.events += sum(len(day.events) for day in frame.days) if isinstance(frame, Things) else 0
                yield frame
                await asyncio.sleep(0)

    async def answer(self, known: Known) -> None:
        self.known = known

    async def kill(self) -> None:
        self.killed = True


@dataclass
class World:
    """What takes files in, and what reads them."""

    storage: InlineStorage
    folder: Path
    at_frame: Callable[[int], None] = lambda number: None
    room: int = 10**12
    readers: list[Here] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """As after a start."""
        self.clock = clock = VirtualClock()
        self.imports = Imports(
            storage=self.storage,
            files=Files(self.folder),
            clock=clock,
            metrics=MemoryMetrics(),
            log=Notes(),
            keep=False,
            open=self.open,
        )
        self.uploads = Uploads(
            storage=self.storage,
            registry=Registry(plugins=(), connectors=MappingProxyType({"apple_health": AppleHealth()})),
            files=Files(self.folder),
            clock=clock,
            chance=SeededChance(len(self.readers)),
            room=lambda size: size <= self.room,
            largest=10**9,
            life=3600,
            public_url="https://oo.example",
            connection_event=own.connection_event,
            stopped=self.imports.stop_one,
        )

    async def open(self, order: Order) -> Here:
        self.readers.append(Here(order, self.at_frame))
        return self.readers[-1]

    async def hand_in(self, phone: Phone | bytes = PHONE, user: str = "ada") -> Upload:
        """A file, whole."""
        body = phone if isinstance(phone, bytes) else written(phone)
        self.clock.shift(1)
        ticket = await self.uploads.await_file(provider="apple_health", user=user, name="export.xml", size=len(body))
        return (await self.uploads.receive(ticket.held, pieces(body), offset=0)).upload

    async def work(self) -> None:
        """Go on until nothing is queued."""
        for _ in range(50):
            await self.imports.tick()
            tasks = list(self.imports._running.values())
            if not tasks:
                return
            await asyncio.gather(*tasks, return_exceptions=True)

    async def now(self, upload: Upload) -> Upload:
        return (await self.uploads.held(upload.id)).upload

    def told(self) -> list[tuple[str, str]]:
        """Type and subject of every event of the file, in order of the outbox."""
        events = [wire.decode(stored[1]) for stored in outbox.page(self.storage.database, after=0, limit=100_000).events]
        return [(event.type, event.subject) for event in events if event.provider == "apple_health" and event.type.startswith("apple")]


def written(phone: Phone) -> bytes:
    file = BytesIO()
    phone.write(file)
    return file.getvalue()


async def pieces(body: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.fixture
def world(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(oo_apple_health.connector, "STRIDE", 20_000)
    monkeypatch.setattr("oo_apple_health.records.CHUNK", 16_384)
    assert isinstance(hub.storage, InlineStorage)
    return World(hub.storage, tmp_path / "uploads")


async def whole(world: World) -> list[tuple[str, str]]:
    """What an import gives that nothing disturbs."""
    upload = await world.hand_in()
    await world.work()
    assert (await world.now(upload)).state == "done"
    return world.told()


@pytest.mark.rows("B6")
async def test_everything_comes_in_and_once(world: World) -> None:
    """Each entry is one event; the same file again gives none, and the numbers say so; the file is gone, and was ours alone."""
    upload = await world.hand_in()
    (file,) = world.folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(world.folder.stat().st_mode) == 0o700
    await world.work()
    told = world.told()
    done = await world.now(upload)
    assert (done.state, done.records, done.events, done.done) == ("done", len(told) + TWICE, len(told), upload.size)
    assert len(set(told)) == len(told) > 1_200
    assert sum(done.kinds["apple_health.heart_rate"].months.values()) == done.kinds["apple_health.heart_rate"].records
    assert not list(world.folder.iterdir())
    again = await world.hand_in(replace(PHONE, offset=2, pointer=0x31000000))
    await world.work()
    done = await world.now(again)
    assert (done.state, done.records, done.events, world.told()) == ("done", len(told) + TWICE, 0, told)
    assert (world.readers[0].events > 1_000, world.readers[1].events) == (True, 0), "what is known is not even made into bytes"
    assert [each.state for each in connections.listed(world.storage.database)] == ["active"]


@pytest.mark.parametrize("frame", [1, 2, 3, 5, 8, 13])
async def test_the_reader_dies_anywhere(world: World, frame: int) -> None:
    """It is begun again at the last checkpoint, and everything is there once."""
    expected = await whole(world)
    world.storage.database.rows("DELETE FROM outbox")
    world.storage.database.rows("DELETE FROM occurrence_day")
    world.storage.database.rows("DELETE FROM object")

    def die(number: int) -> None:
        if number == frame and len(world.readers) == 2:
            raise ReaderDied

    world.at_frame = die
    upload = await world.hand_in()
    await world.work()
    assert sorted(world.told()) == sorted(expected)
    assert len(world.readers) == 3
    done = await world.now(upload)
    assert (done.state, done.records, done.events) == ("done", len(expected) + TWICE, len(expected))


@pytest.mark.rows("B4")
@pytest.mark.parametrize("write", [1, 2, 3, 6, 11])
async def test_the_daemon_dies_anywhere(world: World, write: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before or after any of its commits: the next one goes on, and everything is there once."""
    expected = await whole(world)
    for table in ("outbox", "occurrence_day", "object"):
        world.storage.database.rows(f"DELETE FROM {table}")
    upload = await world.hand_in()
    real, count = world.storage.write, 0

    async def mortal(query: object, *args: object, **kwargs: object) -> object:
        nonlocal count
        count += 1
        if count == write:
            raise asyncio.CancelledError
        if count > write:
            raise CannotStore("it is dead")
        return await real(query, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(world.storage, "write", mortal)
    for _ in range(3):
        try:
            await world.imports.tick()
        except asyncio.CancelledError:
            break
        await asyncio.gather(*world.imports._running.values(), return_exceptions=True)
    monkeypatch.undo()
    monkeypatch.setattr(oo_apple_health.connector, "STRIDE", 20_000)
    monkeypatch.setattr("oo_apple_health.records.CHUNK", 16_384)
    await world.storage.write(uploads.rescue, "")
    world.begin()
    await world.work()
    done = await world.now(upload)
    assert (done.state, done.records, done.events) == ("done", len(expected) + TWICE, len(expected))
    assert sorted(world.told()) == sorted(expected)


async def test_a_file_that_ends_its_reader(world: World) -> None:
    """It is not tried for ever."""

    def die(number: int) -> None:
        raise ReaderDied

    world.at_frame = die
    upload = await world.hand_in()
    await world.work()
    done = await world.now(upload)
    assert (done.state, len(world.readers)) == ("failed", TRIES)
    assert "ended the program" in done.reason
    assert not list(world.folder.iterdir())


async def test_a_file_that_ends_the_daemon(world: World) -> None:
    """It is not opened once more than so often, although nobody was left to say that it failed."""
    upload = await world.hand_in()
    world.storage.database.rows("UPDATE upload SET tries = ?", (TRIES,))
    await world.work()
    done = await world.now(upload)
    assert (done.state, "ended the program" in done.reason, world.readers) == ("failed", True, [])


async def test_a_connection_that_is_erased_after_the_claim(world: World) -> None:
    """Nothing of its file is opened."""
    await world.hand_in()
    await world.imports.tick()
    world.storage.database.rows("DELETE FROM connection")
    assert await asyncio.gather(*world.imports._running.values()) == [None]
    assert world.readers == []


async def test_a_claim_whose_answer_was_lost_is_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has made it, and nobody here reads the file: it is queued again, and that was no try."""
    upload = await world.hand_in()
    with monkeypatch.context() as away:
        away.setattr(uploads, "claim", lost(uploads.claim))
        await world.imports.tick()
    assert ((await world.now(upload)).state, world.imports._running) == ("running", {})
    await world.work()
    done = await world.now(upload)
    assert (done.state, done.events, done.tries) == ("done", len(world.told()), 1)


async def test_storage_that_goes_away_right_after_the_claim(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is queued again, and goes to its end."""
    upload = await world.hand_in()

    def refuse(*_: object) -> None:
        raise CannotStore("the server went away")

    with monkeypatch.context() as away:
        away.setattr(connections, "by_number", refuse)
        await world.imports.tick()
        await asyncio.gather(*world.imports._running.values())
    assert (await world.now(upload)).state == "running"
    await world.work()
    assert (await world.now(upload)).state == "done"


async def test_an_end_that_cannot_be_stored(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file stays, and once there is room it comes to the same end."""
    upload = await world.hand_in()

    def refuse(*_: object) -> None:
        raise CannotStore("the disk is full")

    with monkeypatch.context() as full:
        full.setattr(uploads, "end", refuse)
        await world.imports.tick()
        await asyncio.gather(*world.imports._running.values())
    assert ((await world.now(upload)).state, len(list(world.folder.iterdir()))) == ("running", 1)
    await world.work()
    done, told = await world.now(upload), world.told()
    assert (done.state, done.events, len(set(told))) == ("done", len(told), len(told))


@dataclass
class Says(Here):
    """A reader that says what it was told to."""

    frames_: list[Frame] = field(default_factory=list)

    async def frames(self) -> AsyncGenerator[Frame, None]:
        for frame in self.frames_:
            yield frame


async def test_what_a_connector_could_not_make_sense_of(world: World) -> None:
    """Its author's reason is in the log; the person reads whom to tell."""
    upload = await world.hand_in()

    async def opened(order: Order) -> Here:
        return Says(order, world.at_frame, frames_=[Wrong("connector", "it is a bug")])

    world.imports.open = opened
    await world.work()
    done = await world.now(upload)
    assert (done.state, "tell whoever runs oO here" in done.reason, "bug" in done.reason) == ("failed", True, False)
    assert [line["error"] for line in cast(Notes, world.imports.log).said("import_failed")] == ["it is a bug"]


async def test_a_file_is_not_read_faster_than_it_is_stored(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many batches are on their way and no more, whatever the reader has to say."""
    await world.hand_in()
    draft = wire.draft("apple_health", Event("workout", "w1", Change.UPSERTED, payload=Workout()))
    under_way, most, real = 0, 0, world.storage.accept

    async def slow(batch: Prepared, *lane: Lane) -> Accepted:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return await real(batch, *lane)

    async def opened(order: Order) -> Here:
        return Says(order, world.at_frame, frames_=[Things([], [draft], {}) for _ in range(3 * AHEAD)])

    world.imports.open = opened
    monkeypatch.setattr(world.storage, "accept", slow)
    await world.work()
    assert most == AHEAD


async def test_a_file_that_is_kept(world: World) -> None:
    """Where the host would have it so, the file outlives its import; one that failed does not."""
    world.imports.keep = True
    kept = await world.hand_in()
    await world.work()
    await world.hand_in(b"no export at all", user="grace")
    await world.work()
    assert [file for file in world.folder.iterdir() if kept.id in file.name] == list(world.folder.iterdir()) != []


async def test_a_file_that_makes_no_sense(world: World) -> None:
    """The person reads what is wrong and what to do; what came before is kept."""
    body = written(PHONE)
    upload = await world.hand_in(body[: len(body) // 2])
    other = await world.hand_in(b"no export at all", user="grace")
    await world.work()
    cut, none = await world.now(upload), await world.now(other)
    assert (cut.state, cut.events > 100, "cut off" in cut.reason) == ("failed", True, True)
    assert (none.state, none.events, "no export of the Health app" in none.reason) == ("failed", 0, True)


async def test_a_disk_that_is_full_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on by itself once there is room, at its checkpoint."""
    real, refusing = world.storage.accept, True

    async def accept(batch: object, *more: object) -> object:
        if refusing and len(world.told()) > 300:
            raise CannotStore("the disk is full")
        return await real(batch, *more)  # type: ignore[arg-type]

    upload = await world.hand_in()
    monkeypatch.setattr(world.storage, "accept", accept)
    await world.imports.tick()
    await asyncio.gather(*world.imports._running.values())
    assert (await world.now(upload)).state == "running"
    refusing = False
    await world.work()
    done = await world.now(upload)
    assert (done.state, done.events, done.records) == ("done", len(set(world.told())), len(world.told()) + TWICE)
    assert world.readers[-1].order.since is not None


async def test_cancelled(world: World) -> None:
    """Nothing more comes in, the reader is ended and the file is gone; what came before stays."""
    stopped = asyncio.Event()

    def tell(number: int) -> None:
        if number == 4:
            stopped.set()

    world.at_frame = tell
    upload = await world.hand_in()
    await world.imports.tick()
    await stopped.wait()
    cancelled = await world.uploads.cancel(await world.uploads.held(upload.id))
    before = world.told()
    await world.work()
    assert (cancelled.upload.state, world.told(), world.readers[0].killed) == ("cancelled", before, True)
    assert 0 < len(before) < 1_200
    assert not list(world.folder.iterdir())


async def test_a_stop_in_order_is_gone_on_from(world: World) -> None:
    """The reader is ended, the file is put back with its place, and after the next start everything is there once."""
    reading = asyncio.Event()
    world.at_frame = lambda number: reading.set() if number == 4 else None
    upload = await world.hand_in()
    await world.imports.tick()
    await reading.wait()
    await world.imports.stop()
    assert ((await world.now(upload)).state, world.readers[0].killed) == ("queued", True)
    world.begin()
    await world.work()
    done, told = await world.now(upload), world.told()
    assert (done.state, done.events, len(set(told))) == ("done", len(told), len(told))
    assert world.readers[-1].order.since is not None


async def test_a_disconnect_ends_it(world: World) -> None:
    """What came before stays, and the person reads why it went no further."""

    def disconnect(number: int) -> None:
        if number == 6:
            world.storage.database.rows("UPDATE connection SET state = 'disconnected'")

    world.at_frame = disconnect
    upload = await world.hand_in()
    await world.work()
    done = await world.now(upload)
    assert (done.state, "does not work any more" in done.reason) == ("failed", True)
    assert 0 < len(world.told()) < 1_200


async def test_what_cannot_be_read_any_more_says_so(world: World) -> None:
    """A file that is gone is asked for again; after a fault of ours the daemon goes on with the next one."""

    def fault(number: int) -> None:
        raise ZeroDivisionError

    gone = await world.hand_in()
    for file in world.folder.iterdir():
        file.unlink()
    await world.work()
    assert "hand it in again" in (await world.now(gone)).reason
    world.at_frame = fault
    faulty = await world.hand_in()
    await world.work()
    assert ((await world.now(faulty)).state, "could not go on" in (await world.now(faulty)).reason) == ("failed", True)
    world.at_frame = lambda number: None
    assert await whole(world)


@pytest.mark.rows("F1")
async def test_erasing_stops_it(world: World) -> None:
    """A connection that is being erased takes nothing more, and its files go."""
    second = asyncio.Event()

    def tell(number: int) -> None:
        if number == 3:
            second.set()

    world.at_frame = tell
    await world.hand_in()
    waiting = await world.uploads.await_file(provider="apple_health", user="ada")
    await world.uploads.receive(waiting.held, pieces(b"some"), offset=0)
    await world.imports.tick()
    await second.wait()
    connection = waiting.held.connection
    world.storage.database.rows("UPDATE connection SET state = 'erasing' WHERE number = ?", (connection.number,))
    before = world.told()
    assert await world.uploads.purge(connection) == 2
    await world.work()
    assert world.told() == before
    assert not list(world.folder.iterdir())
    with pytest.raises(Declined, match="erasing"):
        await world.uploads.await_file(provider="apple_health", user="ada")


async def test_files_of_one_user_wait_for_each_other(world: World) -> None:
    """Oldest first; those of another user do not wait for them."""
    first, second, other = await world.hand_in(), await world.hand_in(), await world.hand_in(user="grace")
    claimed = [await world.storage.write(uploads.claim, "", 1, 2) for _ in range(3)]
    assert [each and each.id for each in claimed] == [first.id, other.id, None]
    await world.storage.write(uploads.end, first.id, "done", "", 1)
    claim = await world.storage.write(uploads.claim, "", 1, 2)
    assert claim is not None
    assert claim.id == second.id


async def test_received_in_pieces(world: World) -> None:
    """What is here stays when the line breaks, and it goes on from there; from elsewhere it does not, and not beyond its size."""
    body = written(PHONE)
    ticket = await world.uploads.await_file(provider="apple_health", user="ada")

    async def breaks() -> AsyncIterator[bytes]:
        yield body[: 1024 * 1024] if len(body) > 1024 * 1024 else body[:0]
        yield b"x" * (1024 * 1024)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await world.uploads.receive(ticket.held, breaks(), offset=0, size=len(body) + 2 * 1024 * 1024)
    held = await world.uploads.of_ticket(ticket.ticket)
    assert held.upload.received >= 1024 * 1024
    for offset in (1, held.upload.received + 1):
        with pytest.raises(Declined, match="bytes of this file are here"):
            await world.uploads.receive(held, pieces(b"x"), offset=offset)
    assert (await world.uploads.receive(held, pieces(body[:50_000]), offset=0, size=len(body))).upload.received == 50_000
    with pytest.raises(Declined, match="More came"):
        await world.uploads.receive(held, pieces(body), offset=50_000)
    ended = await world.uploads.receive(held, pieces(body[50_000:]), offset=50_000)
    assert ended.upload.state == "queued"
    await world.work()
    assert (await world.now(ended.upload)).state == "done"
    world.room = 10
    with pytest.raises(Declined, match="not enough room"):
        await world.uploads.await_file(provider="apple_health", user="ada", size=11)
    with pytest.raises(Declined, match="takes no files"):
        await world.uploads.await_file(provider="todoist", user="ada")


async def test_a_real_reader(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of its own says the same; killed from outside, it is begun again."""
    expected = await whole(world)
    for table in ("outbox", "occurrence_day", "object"):
        world.storage.database.rows(f"DELETE FROM {table}")
    opened: list[Process] = []

    async def open_(order: Order) -> Process:
        opened.append(await Process.open(order))
        if len(opened) == 1:
            os.kill(opened[0].process.pid, signal.SIGKILL)
        return opened[-1]

    world.imports.open = open_
    upload = await world.hand_in()
    await world.work()
    assert (await world.now(upload)).state == "done"
    assert sorted(world.told()) == sorted(expected)
    assert opened[0].process.returncode not in {None, 0}  # asyncio says 255 where another was quicker to ask the system
    assert len(opened) == 2


async def test_who_stops_it_again_does_not_interrupt_its_end(world: World) -> None:
    """Its reader is waited for all the same."""
    opened: list[Process] = []
    ending = asyncio.Event()

    class Ending(Process):
        async def kill(self) -> None:
            ending.set()
            await Process.kill(self)

    async def open_(order: Order) -> Process:
        opened.append(Ending((await Process.open(order)).process))
        return opened[-1]

    world.imports.open = open_
    upload = await world.hand_in()
    await world.imports.tick()
    async with asyncio.timeout(PATIENCE):
        while not opened:
            await asyncio.sleep(0)
        first = asyncio.ensure_future(world.imports.stop_one(upload.id))
        await ending.wait()
        await world.imports.stop_one(upload.id)
        await first
    assert opened[0].process.returncode is not None


@pytest.mark.rows("E11")
async def test_a_reader_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs counts as one that died, after ten minutes; it is ended."""
    monkeypatch.setattr("oo_daemon.reader_process.SILENCE", 0.05)
    pipe = asyncio.subprocess.PIPE
    hanging = Process(await asyncio.create_subprocess_exec(sys.executable, "-c", "import sys; sys.stdin.read()", stdin=pipe, stdout=pipe))
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ReaderDied):
            await anext(hanging.frames())
        await hanging.kill()
    assert hanging.process.returncode not in {None, 0}


def test_a_reader_is_small() -> None:
    """The process that reads a file has no part of ours that would need a database, a network or a key."""
    said = subprocess.run(
        [sys.executable, "-c", "import oo_daemon.reader, oo_apple_health, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in said.stdout.split()}
    assert "oo_apple_health" in loaded
    assert loaded.isdisjoint({"peewee", "apsw", "aiohttp", "nacl", "oo_vault", "apscheduler"})
