"""Power cuts under webhooks, intake and jobs: what a sender was told is there, once, and what was promised is done (A1, A3, A4)."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import apsw
import pytest
from daemon.store.inbox_contract import furnish
from daemon.store.world import signed_in
from daemon.virtual import FixedChance, Notes, VirtualClock, settle
from declared import everything
from faults.crash_disk import POINTS, SOME, Crash, Disk, hunt

from oo_daemon.host import SameLoop
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import wire
from oo_daemon.ports import SECOND
from oo_daemon.registry import Registry
from oo_daemon.store import connections, inbox, jobs, schedule
from oo_daemon.store import database as profile
from oo_daemon.store.connections import Connection
from oo_daemon.store.database import Database, SqliteDatabase
from oo_daemon.store.inbox import Arrival
from oo_daemon.store.jobs import Ended, Job, Later
from oo_daemon.store.storage import InlineStorage, Query, open_database
from oo_daemon.sync.intake import Intake
from oo_daemon.sync.jobs import Worker
from oo_sdk import Change, Connector, Delivery, Event, HmacScheme, News, Nudge, RetryLater, Unreadable
from oo_sdk.vocabulary import Task

TURNS, EACH = 8, 5
#: How often a file that was left is not only looked at: the daemon's parts go on with it to the end.
GOES_ON = 50
#: Seconds within which what failed once is tried again; rounds within which all is done, since jobs are done one after another.
A_WHILE, ROUNDS = 60.0, 50


class Acme(Connector):
    """Makes of a delivery what its id says."""

    id = "acme"
    stores = everything(Task)
    webhooks = HmacScheme(header="X-Sign")

    def __init__(self) -> None:
        self.failed: set[str] = set()

    async def route(self, delivery: Delivery) -> Sequence[str]:
        return ["a-1"]

    async def read(self, delivery: Delivery) -> Sequence[News]:
        number = int(delivery.id)
        if number % 11 == 0:
            raise Unreadable("it says nothing")
        if number % 7 == 0 and delivery.id not in self.failed:
            self.failed.add(delivery.id)
            raise RetryLater(after=timedelta(seconds=1))
        task = Event("task", f"t{number % 10}", Change.UPSERTED, payload=Task(title=f"Task {number}"), order=number)
        return [task, Event("ping", delivery.id, Change.OCCURRED, payload=Task(title="p" * 200)), *([Nudge()] if number % 3 else [])]


class Handler:
    """Does every job at the second try."""

    async def attempt(self, job: Job, connection: Connection) -> Ended | Later:
        if job.tries == 1:
            return Later(reason="not at once")
        return Ended(state="done", drafts=[wire.draft("acme", Event("done", job.key, Change.OCCURRED, payload=Task(title="d")))])

    def give_up(self, job: Job, connection: Connection, reason: str) -> Ended:
        return Ended(state="failed", reason=reason)


@dataclass
class Told(InlineStorage):
    """A storage that says when something was committed."""

    committed: Callable[[], None] = lambda: None

    def __init__(self, database: SqliteDatabase, committed: Callable[[], None]) -> None:
        super().__init__(database, wire.encode)
        self.committed = committed

    async def write(self, query: Query[..., Any], *args: Any, **kwargs: Any) -> Any:
        came = await super().write(query, *args, **kwargs)
        self.committed()
        return came


@dataclass
class Parts:
    """The daemon's parts between the inbox and the outbox, on a virtual clock."""

    storage: InlineStorage
    clock: VirtualClock = field(default_factory=VirtualClock)

    def __post_init__(self) -> None:
        log, metrics, chance = Notes(), MemoryMetrics(), FixedChance()

        async def nudged() -> None:
            """Nobody syncs here."""

        async def nothing_withdrawn(_: Connection) -> None:
            """Nobody takes anything back here."""

        self.intake = Intake(
            storage=self.storage,
            registry=Registry(plugins=(), connectors={"acme": Acme()}),
            guests=SameLoop(),
            clock=self.clock,
            chance=chance,
            metrics=metrics,
            log=log,
            owner="me",
            lease=60.0,
            make_draft=wire.declared_draft,
            withdrawn=nothing_withdrawn,
            nudged=nudged,
        )
        self.worker = Worker(
            storage=self.storage,
            clock=self.clock,
            chance=chance,
            metrics=metrics,
            log=log,
            log_for=lambda connection, provider: log,
            owner="me",
            handlers={"act": Handler()},
            workers=4,
        )

    async def work(self) -> None:
        """Work on what is due."""
        await self.clock.until(self.intake.tick())
        await self.worker.tick()
        await settle()

    async def deliver(self, number: int) -> bool:
        """What the webhooks' door does with a delivery that is signed; False: it was here before."""
        arrival = Arrival(
            source="acme", delivery_id=str(number), weak=False, headers={}, body=b"b" * 300 + b"%d" % number, received_at=self.clock.now()
        )
        return await self.storage.write(inbox.put, arrival)

    async def promise(self, number: int) -> None:
        """What the API does with an action."""
        await self.storage.write(jobs.put, id_=f"j{number}", kind="act", connection=1, key=f"k{number}", body={}, now=self.clock.now())

    async def to_the_end(self) -> None:
        """Send everything again, as senders do who heard no answer, and work until nothing is left."""
        for number in range(TURNS * EACH):
            await self.deliver(number)
        for number in range(TURNS):
            await self.promise(number)
        for _ in range(ROUNDS):
            await self.work()
            await self.clock.advance(A_WHILE)
            if not await self.storage.read(left):
                return
        raise AssertionError("there is no end to it")


@dataclass(frozen=True)
class Meaning:
    """What the events of an outbox come to, in whatever order deliveries were worked on."""

    occurred: tuple[str, ...] = ()  #: all that took place
    tasks: tuple[tuple[str, str], ...] = ()  #: how each task is in the end
    doubled: int = 0  #: events whose id was there before


@dataclass
class Story:
    """What an undisturbed run was like."""

    states: list[tuple[int, bytes]] = field(default_factory=list)  #: after which operation of the disk there was which content
    delivered: list[tuple[int, str]] = field(default_factory=list)  #: after which operation a sender was told of its delivery
    promised: list[tuple[int, str]] = field(default_factory=list)  #: likewise of a job
    meaning: Meaning = field(default_factory=Meaning)  #: what all the events come to


def content(connection: apsw.Connection) -> bytes:
    """A hash of all rows of all tables."""
    hasher = blake2b(digest_size=16)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    for name in tables:
        hasher.update(repr((name, connection.execute(f'SELECT * FROM "{name}"').fetchall())).encode())
    return hasher.digest()


def meaning(database: Database) -> Meaning:
    """Read all events."""
    events = [wire.as_json(bytes(body)) for (body,) in database.rows("SELECT body FROM outbox ORDER BY position")]
    return Meaning(
        occurred=tuple(sorted(f"{event['type']} {event['subject']}" for event in events if event["change"] == "occurred")),
        tasks=tuple(sorted({event["subject"]: event["payload"]["title"] for event in events if event["change"] == "upserted"}.items())),
        doubled=len(events) - len({event["id"] for event in events}),
    )


def differing(found: Meaning, wanted: Meaning) -> str:
    """What is not as it should be; empty where all is."""
    if found == wanted:
        return ""
    apart = sorted({*found.occurred} ^ {*wanted.occurred} | {str(task) for task in {*found.tasks} ^ {*wanted.tasks}})
    return f"going on ends elsewhere: {apart}, {found.doubled} doubled, {len(found.occurred)} of {len(wanted.occurred)}"


def left(database: Database) -> int:
    """How many deliveries and jobs are still to be done."""
    ((queued,),) = database.rows("SELECT count(*) FROM job WHERE state = 'queued'")
    return inbox.depth(database) + int(queued)


def begin(database: Database) -> None:
    """A registration with its source, and a connection."""
    furnish(database)
    made = connections.put(database, signed_in("c" * 32, registration="acme"), 1)
    schedule.create(database, made.number, 1)


async def workload(disk: Disk, path: Path) -> Story:
    """Deliveries, some of them twice, jobs, both worked on in between, and checkpoints of the write-ahead log."""
    story = Story()
    sqlite = open_database(path, vfs=disk.name)
    parts = Parts(Told(sqlite, lambda: story.states.append((disk.now, content(sqlite.handle())))))
    await parts.storage.write(begin)
    for turn in range(TURNS):
        for number in range(turn * EACH, (turn + 1) * EACH):
            assert await parts.deliver(number)
            story.delivered.append((disk.now, str(number)))
            if number % 4 == 0:
                assert not await parts.deliver(number // 2), "it was here before"
        await parts.promise(turn)
        story.promised.append((disk.now, f"j{turn}"))
        await parts.work()
        await parts.clock.advance(2.0)
        mode = apsw.SQLITE_CHECKPOINT_TRUNCATE if turn % 5 == 4 else apsw.SQLITE_CHECKPOINT_PASSIVE
        sqlite.handle().wal_checkpoint(mode=mode)
    await parts.to_the_end()
    story.meaning = meaning(sqlite)
    assert len(story.meaning.occurred) > TURNS * EACH
    assert (len(story.meaning.tasks), story.meaning.doubled) == (10, 0)
    assert sqlite.rows("SELECT count(*) FROM job WHERE state <> 'done'") == [(0,)]
    sqlite.close()
    return story


def checked(connection: apsw.Connection, crash: Crash, story: Story) -> str:
    """What is wrong in the database after a crash; empty when nothing is."""
    ((verdict,),) = connection.execute("PRAGMA integrity_check")
    if verdict != "ok":
        return f"corrupt: {verdict}"
    first, _ = story.states[0]
    if crash.point < first:
        return ""  # nothing was promised yet
    if not list(connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'delivery'")):
        return "lost: the schema"
    found = content(connection)
    order = [state for _, state in story.states]
    if found not in order:
        return "a state that the undisturbed run did not have"
    told = [state for point, state in story.states if point <= crash.point]
    if len(order) - 1 - order[::-1].index(found) < len(told) - 1 and found != told[-1]:
        return "lost: an acknowledged commit"
    for what, table, column in ((story.delivered, "delivery", "delivery_id"), (story.promised, "job", "id")):
        kept = {id_ for (id_,) in connection.execute(f"SELECT {column} FROM {table}")}
        if lost := {id_ for point, id_ in what if point <= crash.point} - kept:
            return f"lost: {table} {sorted(lost)}"
    return ""


async def gone_on(path: Path, crash: Crash, story: Story) -> str:
    """Let the daemon's parts go on with the file to the end: each event that was to be is there once."""
    database = open_database(path, mounts="")
    try:
        parts = Parts(InlineStorage(database, wire.encode), VirtualClock(start=VirtualClock().now() + int(3600 * SECOND)))
        if not database.rows("SELECT 1 FROM connection"):
            await parts.storage.write(begin)
        for free in (inbox.rescue, jobs.rescue):
            await parts.storage.write(free)
        for point, id_ in story.delivered:
            if point <= crash.point and await parts.deliver(int(id_)):
                return f"delivery {id_} was taken for a new one"
        await parts.to_the_end()
        return differing(meaning(database), story.meaning)
    finally:
        database.close()


def hunter(story: Story) -> Callable[[Crash, Path], Awaitable[str]]:
    """The check of one crash."""
    count = 0

    async def check(crash: Crash, path: Path) -> str:
        nonlocal count
        count += 1
        connection = apsw.Connection(str(path))
        try:
            fault = checked(connection, crash, story)
        finally:
            connection.close()
        return fault or (await gone_on(path, crash, story) if count % GOES_ON == 0 else "")

    return check


@pytest.fixture
def disk() -> Iterator[Disk]:
    with Disk(f"crash-inbox-{os.getpid()}") as disk:
        yield disk


@pytest.mark.rows("A1", "A3", "A4")
@pytest.mark.timeout(3600)
async def test_power_cuts_lose_no_delivery(disk: Disk, tmp_path: Path) -> None:
    """After any power cut, every delivery and job that was acknowledged is there, and going on tells each event once."""
    story = await workload(disk, tmp_path / "oo.sqlite3")
    assert await hunt(disk, POINTS, hunter(story), "webhooks, intake and jobs") == []


@pytest.mark.rows("A3")
@pytest.mark.timeout(600)
async def test_without_full_sync_deliveries_are_lost(disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness can fail: with synchronous=NORMAL, deliveries that were acknowledged are lost."""
    monkeypatch.setitem(profile.PROFILE, "synchronous", 1)
    story = await workload(disk, tmp_path / "oo.sqlite3")
    wrong = await hunt(disk, SOME, hunter(story), "the same without full sync")
    assert any("lost" in fault for fault in wrong)
    assert not any("corrupt" in fault for fault in wrong)
