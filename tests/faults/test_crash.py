"""Power cuts: what was acknowledged is there, and what is there is a moment of the undisturbed run (A3, B4)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import pytest
from faults.crash_disk import FATES, POINTS, SECTOR, SOME, Crash, Disk, Operation, hunt

from oo_daemon.outbox import wire
from oo_daemon.store import connections, credentials, database, schedule
from oo_daemon.store.accept import Batch
from oo_daemon.store.connections import Connection, SignedIn
from oo_daemon.store.runs import Tally
from oo_daemon.store.schedule import CursorMoved, Held, RunEnded
from oo_daemon.store.storage import InlineStorage, open_database
from oo_sdk import Change, Event
from oo_sdk.vocabulary import Task
from oo_vault import Sealed


@dataclass(frozen=True)
class State:
    """What a reader of the database finds."""

    events: int
    cursor: str | None
    tokens: int  #: version of the credential
    known: int  #: objects in the index


@dataclass
class Story:
    """What the workload did: each state it went through, and after which operation of the disk it was acknowledged."""

    acknowledged: list[tuple[int, State]] = field(default_factory=list)
    event_ids: list[str] = field(default_factory=list)


def looked_at(connection: apsw.Connection) -> State:
    ((events,),) = connection.execute("SELECT count(*) FROM outbox")
    cursors = list(connection.execute("SELECT cursor FROM schedule"))
    tokens = list(connection.execute("SELECT token_version FROM credential"))
    ((known,),) = connection.execute("SELECT count(*) FROM object")
    return State(events, cursors[0][0] if cursors else None, tokens[0][0] if tokens else 0, known)


async def workload(disk: Disk, path: Path) -> Story:
    """A sign-in, syncs in batches with checkpoints, refreshes, and checkpoints of the write-ahead log in between."""
    story = Story()
    sqlite = open_database(path, vfs=disk.name)
    storage = InlineStorage(sqlite, wire.encode)

    def acknowledge() -> None:
        story.acknowledged.append((disk.now, looked_at(sqlite.handle())))

    acknowledge()
    who = SignedIn(
        id="c" * 32,
        user="ada",
        provider="todoist",
        account="default",
        registration=None,
        provider_account="1",
        label="",
        scopes=(),
        meta={},
    )

    async def sign_in() -> Connection:
        def prepare(database: database.Database) -> Batch:
            made = connections.put(database, who, 1)
            credentials.put(database, made.number, 1, Sealed(key_id="k", blob=bytes(600)), None)
            schedule.create(database, made.number, 1)
            return Batch(connection=made, observed_at=1)

        await storage.accept(prepare)
        made = await storage.read(connections.by_id, who.id)
        assert made is not None
        return made

    connection = await sign_in()
    acknowledge()
    number = 0
    for turn in range(12):
        (run,) = await storage.write(schedule.claim, "me", turn * 10 + 5, turn * 10 + 9, 1)
        for page in range(4):
            drafts = []
            for _ in range(7):
                number += 1
                # Every third is an object that was there before: the index row is updated in place.
                subject = f"task{number if number % 3 else number // 3}"
                drafts.append(
                    wire.draft("todoist", Event("task", subject, Change.UPSERTED, payload=Task(title=f"Task {number} " + "x" * 150)))
                )
            mark = CursorMoved(run=run, cursor={"page": turn * 10 + page}) if page % 2 else Held(run=run)
            await storage.accept(Batch(connection=connection, observed_at=turn, drafts=drafts, marks=(mark,)))
            acknowledge()
        fence = await storage.write(credentials.lease, who.id, "me", turn * 10, turn * 10 + 5)
        assert fence is not None
        await storage.write(credentials.probe, who.id, fence, 2000)
        await storage.write(credentials.commit, who.id, fence, turn + 1, Sealed(key_id="k", blob=bytes([turn]) * 700), None, "good")
        acknowledge()
        tally = Tally(events=28)
        ended = RunEnded(run=run, now=turn * 10 + 8, next_run_at=(turn + 1) * 10, outcome="done", detail="", tally=tally, keep_tries=False)
        await storage.accept(Batch(connection=connection, observed_at=turn, marks=(ended,)))
        acknowledge()
        mode = apsw.SQLITE_CHECKPOINT_TRUNCATE if turn % 5 == 4 else apsw.SQLITE_CHECKPOINT_PASSIVE
        sqlite.handle().wal_checkpoint(mode=mode)
    story.event_ids = [wire.decode(bytes(body)).id for (body,) in sqlite.rows("SELECT body FROM outbox ORDER BY position")]
    sqlite.close()
    return story


def checked(connection: apsw.Connection, crash: Crash, story: Story) -> str:
    """What is wrong in the database after a crash; empty when nothing is."""
    ((verdict,),) = connection.execute("PRAGMA integrity_check")
    if verdict != "ok":
        return f"corrupt: {verdict}"
    made = list(connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migration'"))
    if not made or list(connection.execute("SELECT count(*) FROM migration")) == [(0,)]:
        return "lost: the schema" if crash.point >= story.acknowledged[0][0] else ""
    found = looked_at(connection)
    told = [state for point, state in story.acknowledged if point <= crash.point]
    lived = {state for _, state in story.acknowledged} | {State(0, None, 0, 0)}
    if found not in lived:
        return f"{found} is no state of the undisturbed run"
    order = [state for _, state in story.acknowledged]
    if told and order.index(found) < order.index(told[-1]):
        return f"lost: acknowledged {told[-1]}, found {found}"
    ids = [wire.decode(bytes(body)).id for (body,) in connection.execute("SELECT body FROM outbox ORDER BY position")]
    return "" if ids == story.event_ids[: len(ids)] else "the events are no prefix of the undisturbed run's"


async def hunted(disk: Disk, story: Story, count: int, what: str) -> list[str]:
    """Crash so often; gives what was wrong."""

    async def check(crash: Crash, path: Path) -> str:
        connection = apsw.Connection(str(path))
        try:
            return checked(connection, crash, story)
        finally:
            connection.close()

    return await hunt(disk, count, check, what)


@pytest.fixture
def disk() -> Iterator[Disk]:
    with Disk(f"crash-{os.getpid()}") as disk:
        yield disk


@pytest.mark.rows("A3")
def test_no_point_is_counted_for_the_same_files_again() -> None:
    """Each moment comes with each fate; what comes after that is torn elsewhere, since what is kept or dropped would be the same."""
    log = [Operation("write", "f", 0, bytes(8 * SECTOR)), Operation("sync", "f"), Operation("write", "f", 0, b"x" * 8 * SECTOR)]
    crashes = list(Disk("points", log).crashes(30))
    fates = Counter((crash.point, crash.fate) for crash in crashes)
    assert fates == {(point, fate): 8 if fate == "torn" else 1 for point in (1, 2, 3) for fate in FATES}
    assert len({crash.files["f"] for crash in crashes if crash.point == 3}) > 5


@pytest.mark.rows("A3", "B4", "C11")
@pytest.mark.timeout(3600)
async def test_power_cuts_lose_nothing(disk: Disk, tmp_path: Path) -> None:
    """After any power cut, what was acknowledged is there, the database is whole, and cursor and events are of one moment."""
    story = await workload(disk, tmp_path / "oo.sqlite3")
    assert await hunted(disk, story, POINTS, "syncs and refreshes") == []


@pytest.mark.rows("A3")
@pytest.mark.timeout(600)
async def test_without_full_sync_power_cuts_lose(disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness can fail: with synchronous=NORMAL, acknowledged writes are lost."""
    monkeypatch.setitem(database.PROFILE, "synchronous", 1)
    story = await workload(disk, tmp_path / "oo.sqlite3")
    wrong = await hunted(disk, story, SOME, "the same without full sync")
    assert any("lost" in fault for fault in wrong)
    assert not any("corrupt" in fault for fault in wrong)
