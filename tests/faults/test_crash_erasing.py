"""Power cuts while somebody is erased: whatever is left, the next start brings it to its end, and touches nobody else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from daemon.ingress.wire import Notebook
from daemon.store.world import NOW, signed_in
from daemon.virtual import SeededChance, VirtualClock
from faults.crash_disk import Crash, Disk, hunt

from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import own, wire
from oo_daemon.ports import SECOND
from oo_daemon.privacy.deletions import DeletionLog
from oo_daemon.privacy.erase import Erasures
from oo_daemon.store import connections, credentials, erasures, jobs, schedule
from oo_daemon.store.accept import Batch, accept
from oo_daemon.store.database import SqliteDatabase
from oo_daemon.store.storage import InlineStorage, open_database
from oo_sdk import Change, Event
from oo_sdk.vocabulary import Task
from oo_vault import Sealed

#: The long run has 3,000.
POINTS = int(os.environ.get("OO_TEST_ERASURE_POINTS", "60"))
EVENTS = 150
#: Ticks after which an erasure has come to its end, however often it had to begin.
ENOUGH = 6


@dataclass(frozen=True)
class File:
    """The database as a file, which is packed."""

    database: SqliteDatabase

    async def pack(self) -> None:
        self.database.rows("VACUUM")
        self.database.rows("PRAGMA wal_checkpoint(TRUNCATE)")

    def size(self) -> int:
        return 1000

    def free(self) -> int:
        return 10**9


@dataclass
class Story:
    """After which operation of the disk there was something to erase, and it was promised; and what the log outside then knew."""

    lived: int = 0
    promised: int = 0
    logged: str = ""


def erasing(database: SqliteDatabase, log: Path) -> Erasures:
    """As after a start."""

    async def closed() -> None:
        return

    return Erasures(
        storage=InlineStorage(database, wire.encode),
        deletions=DeletionLog(log),
        file=File(database),
        clock=VirtualClock(start=NOW + SECOND),
        chance=SeededChance(),
        metrics=MemoryMetrics(),
        log=Notebook(),
        erased_event=own.erased_event,
        wake_jobs=lambda: None,
        closed=closed,
    )


def tell_providers(database: SqliteDatabase) -> None:
    """Their revocations come to an end."""
    for erasure in erasures.listed(database, unfinished=True):
        for part in erasure.parts:
            job = jobs.latest(database, "revoke", part.number)
            if job is not None and job.state == "queued":
                with database.atomic():
                    database.rows("UPDATE job SET state = 'done', next_try_at = NULL WHERE number = ?", (job.number,))
                    erasures.told(database, part.number, {"revoked": "fully", "reason": ""}, NOW)


async def to_its_end(rooms: Erasures, database: SqliteDatabase) -> None:
    """Go on until nothing is left to do."""
    for _ in range(ENOUGH):
        await rooms.tick()
        tell_providers(database)
        if all(each.state == "done" for each in erasures.listed(database)):
            return


async def workload(disk: Disk, path: Path) -> Story:
    """Two people live here, and one of them is erased."""
    story = Story()
    database = open_database(path, vfs=disk.name)
    for name, user, provider in (("a", "ada", "acme"), ("b", "ada", "other"), ("c", "grace", "acme")):
        with database.atomic():
            connection = connections.put(database, signed_in(name * 32, user=user, provider=provider), NOW)
            schedule.create(database, connection.number, NOW)
            credentials.put(database, connection.number, 1, Sealed(key_id="k", blob=b"sealed"), None)
            drafts = [
                wire.draft(provider, Event("task", f"canary-{name}-{number}", Change.UPSERTED, payload=Task(title=f"canary {user}")))
                for number in range(EVENTS)
            ]
            accept(database, Batch(connection=connection, observed_at=NOW, drafts=drafts), wire.encode)
    story.lived = disk.now
    log = path.with_name("deletions.log")
    rooms = erasing(database, log)
    await rooms.of_user("ada")
    # It lies outside of this disk, and is written before anything on it.
    story.logged = log.read_text()
    story.promised = disk.now
    await to_its_end(rooms, database)
    database.close()
    return story


async def after(crash: Crash, path: Path, story: Story) -> str:
    """Start again on what the crash left; says what is wrong."""
    log = path.with_name("deletions.log")
    asked = crash.point > story.lived
    log.write_text(story.logged if asked else "")
    database = open_database(path)
    try:
        rooms = erasing(database, log)
        await rooms.again()
        await to_its_end(rooms, database)
        ((mine,),) = database.rows("SELECT count(*) FROM connection WHERE \"user\" = 'ada'")
        ((others,),) = database.rows(
            "SELECT count(*) FROM connection c JOIN credential k ON k.connection = c.number WHERE c.\"user\" = 'grace'"
        )
        ((events,),) = database.rows("SELECT count(*) FROM outbox WHERE \"user\" = 'grace'")
        told = [wire.decode(bytes(body)).type for (body,) in database.rows("SELECT body FROM outbox WHERE \"user\" = 'ada'")]
        if (others, events) != (1, EVENTS):
            return f"somebody else lost something: {others} connections, {events} events"
        if not asked:
            return "" if (mine, len(told)) == (2, 2 * EVENTS) else f"erased before it was asked for: {mine}, {len(told)}"
        if mine or not told or set(told) - {"user.erased", "connection.erased"}:
            return f"not erased: {mine} connections, {len(told)} events"
        if crash.point >= story.promised and told != ["user.erased"]:
            return f"consumers are told {told}"
        if any(each.state != "done" for each in erasures.listed(database)):
            return "an erasure that does not end"
    finally:
        database.close()
    return "something is left in the file" if b"canary ada" in path.read_bytes() else ""


@pytest.fixture
def disk() -> Iterator[Disk]:
    with Disk(f"erasing-{os.getpid()}") as disk:
        yield disk


@pytest.mark.rows("F1", "F3", "F4")
@pytest.mark.timeout(3600)
async def test_an_erasure_survives_power_cuts(disk: Disk, tmp_path: Path) -> None:
    """Wherever the power is cut, from the first moment on: who was promised to be erased is erased, wholly, and nobody else."""
    story = await workload(disk, tmp_path / "oo.sqlite3")

    async def check(crash: Crash, path: Path) -> str:
        return await after(crash, path, story)

    assert await hunt(disk, POINTS, check, "erasing", start=story.lived) == []
