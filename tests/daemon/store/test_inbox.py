"""The inbox on a real file: what its queries cost, and what a disk that refuses leaves behind. The rest is in the contract."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from daemon.store.faulty import Faults, FaultyVfs
from daemon.store.inbox_contract import arrival, furnish
from daemon.store.world import LEASE, NOW, Book, encode

from oo_daemon.store import inbox
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.storage import InlineStorage, open_database


@pytest.mark.rows("A1", "B12")
@pytest.mark.parametrize("call", range(1, 12))
async def test_a_disk_that_refuses_half_way_keeps_nothing(path: Path, call: int) -> None:
    """At whichever write or sync the disk is full, the delivery is refused and not there; once there is room it is taken as a new one."""
    faults = Faults()
    vfs = FaultyVfs(f"full-{call}", faults)  # registered for as long as it lives
    database = open_database(path, vfs=f"full-{call}")
    storage = InlineStorage(database, encode)
    await storage.write(furnish)
    faults.arm(call, apsw.FullError, lasting=1000)
    try:
        new = await storage.write(inbox.put, arrival(body=bytes(40_000)))
    except CannotStore:
        faults.disarm()
        assert await storage.read(inbox.listed) == []
        assert await storage.write(inbox.put, arrival()) is True
    else:
        assert new, "the call is beyond what one delivery needs"
        assert call > 8
    database.close()
    del vfs


def test_what_ingress_and_intake_ask_is_found_by_index(book: Book) -> None:
    """Claiming, counting and forgetting read no row that they do not need, however full the inbox is."""
    with book.transaction() as database:
        furnish(database)
        for n in range(500):
            inbox.put(database, arrival(f"d{n}"))
        for claimed in inbox.claim(database, "me", NOW, NOW + LEASE, 490):
            inbox.give_up(database, claimed, NOW, "bad", forget=False)
    plans: list[str] = []

    def note(cursor: apsw.Cursor, sql: str, bindings: object) -> bool:
        if not sql.startswith("EXPLAIN"):
            plans.extend(row[3] for row in book.sqlite.handle().execute(f"EXPLAIN QUERY PLAN {sql}", bindings))  # type: ignore[arg-type]  # as they came
        return True

    book.sqlite.handle().exec_trace = note
    with book.draft() as database:
        inbox.claim(database, "me", NOW, NOW + LEASE, 9)
        inbox.claim_again(database, "me", NOW, NOW + LEASE)
        inbox.depth(database)
        inbox.forget_bodies(database, NOW, 9)
        inbox.forget_ids(database, NOW, 9)
        inbox.release(database, "me")
        inbox.listed(database, state="dead", limit=9)
        inbox.replay(database, inbox.Which(state="dead"), 9, NOW)
        inbox.page(database, state="dead", limit=9)
        inbox.replayed(database, NOW)
        inbox.call_off(database, NOW, NOW, 9)
    book.sqlite.handle().exec_trace = None
    assert sum("delivery_dead" in step for step in plans) == 3, plans
    assert sum("delivery_replayed" in step for step in plans) == 2, plans
    read = [step for step in plans if step.startswith(("SCAN", "SEARCH")) and "delivery" in step]
    assert len(read) >= 6
    assert not [step for step in read if step.startswith("SCAN") and "USING" not in step], plans
    assert not [step for step in plans if "TEMP B-TREE" in step], plans
