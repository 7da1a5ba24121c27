"""Erasing while everything else goes on: from the promise on, not one event more."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from daemon.ingress.wire import Notebook
from daemon.store.world import NOW, connect
from daemon.virtual import SeededChance, VirtualClock

from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import own, wire
from oo_daemon.ports import SECOND
from oo_daemon.privacy.deletions import DeletionLog
from oo_daemon.privacy.erase import Erasures
from oo_daemon.store import outbox
from oo_daemon.store.accept import Batch
from oo_daemon.store.connections import Connection, StillActive
from oo_daemon.store.database import Database
from oo_daemon.store.errors import LeaseLost
from oo_daemon.store.storage import Lane, ThreadedStorage, open_database
from oo_sdk import Change, Event
from oo_sdk.vocabulary import Task

#: The long run has 1,000.
RACES = int(os.environ.get("OO_TEST_ERASURE_RACES", "100"))


class File:
    """A file that is never packed here."""

    async def pack(self) -> None:
        raise AssertionError("not here")

    def size(self) -> int:
        return 1

    def free(self) -> int:
        return 0


@pytest.mark.rows("F2")
@pytest.mark.timeout(1200)
async def test_not_one_event_after_the_promise(tmp_path: Path) -> None:
    """Syncs and deliveries write in both lanes while their user is erased: what is accepted at all lies before the promise."""
    path = tmp_path / "oo.sqlite3"
    database = open_database(path)
    database.rows("PRAGMA synchronous = 0")
    people = [connect(database, f"{number:032}", user=f"user-{number}") for number in range(RACES)]
    storage = ThreadedStorage(database, wire.encode)

    async def closed() -> None:
        return

    erasing = Erasures(
        storage=storage,
        deletions=DeletionLog(path.with_name("deletions.log")),
        file=File(),
        clock=VirtualClock(start=NOW + SECOND),
        chance=SeededChance(),
        metrics=MemoryMetrics(),
        log=Notebook(),
        erased_event=own.erased_event,
        wake_jobs=lambda: None,
        closed=closed,
    )
    before = refused = 0

    async def writes(connection: Connection, lane: Lane, began: asyncio.Event) -> int:
        """Go on until that is refused; gives how often it was not."""
        for number in range(1000):
            drafts = [wire.draft("acme", Event("task", f"{lane}-{number}", Change.UPSERTED, payload=Task(title="t")))]
            marks = [StillActive(number=connection.number)] if lane is Lane.INGEST else []
            try:
                await storage.accept(Batch(connection=connection, observed_at=NOW, drafts=drafts, marks=marks), lane)
            except LeaseLost:
                return number
            began.set()
        raise AssertionError("it was never refused")

    try:
        for person in people:
            began = asyncio.Event()
            work = [asyncio.ensure_future(writes(person, lane, began)) for lane in (Lane.INGEST, Lane.BULK)]
            await began.wait()
            await erasing.of_user(person.user)
            end = (await storage.read(outbox.end)).number
            before += sum(await asyncio.gather(*work))
            refused += len(work)

            def late(database: Database, user: str = person.user, end: int = end) -> int:
                ((count,),) = database.rows('SELECT count(*) FROM outbox WHERE "user" = ? AND position > ?', (user, end))
                return int(count)

            assert await storage.read(late) == 0
    finally:
        await storage.close()
    assert refused == 2 * RACES
    assert before >= RACES
