"""Levels: how much there is, and how old (H6)."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemon.store.world import NOW, connect

from oo_daemon.ops.levels import Levels
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import wire
from oo_daemon.ports import SECOND
from oo_daemon.store import connections, consumers, schedule
from oo_daemon.store.connections import StateChanged
from oo_daemon.store.consumers import ALL, Start
from oo_daemon.store.storage import InlineStorage, open_database


class Clock:
    """Ten seconds after everything."""

    def now(self) -> int:
        return NOW + 10 * SECOND

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing waits")


@pytest.mark.rows("H6")
async def test_what_lies_in_the_tables(tmp_path: Path) -> None:
    """Connections by state, the one that waits longest, who has still to read what; a state that was left is told as none."""
    path = tmp_path / "oo.sqlite3"
    database = open_database(path)
    connection = connect(database)
    schedule.due_now(database, connection.number, NOW)
    consumers.add(database, "reader", Start(), ALL, 10, NOW)
    metrics = MemoryMetrics()
    look = Levels(storage=InlineStorage(database, wire.encode), database=path, clock=Clock(), metrics=metrics)
    await look.look()
    seen = metrics.values()
    place = (("provider", connection.provider), ("state", "active"))
    assert seen["connections", place] == 1
    assert seen["sync_stalest_seconds", (("provider", connection.provider),)] == pytest.approx(10, abs=10)
    assert seen["consumer_lag", (("consumer", "reader"),)] == 0
    assert (seen["outbox_depth", ()], seen["inbox_oldest_seconds", ()]) == (0, 0)
    assert seen["wal_bytes", ()] > 0
    StateChanged(number=connection.number, state="paused", reason="", now=NOW).apply(database)
    await look.look()
    assert metrics.values()["connections", place] == 0
    assert connections.counted(database) == {"paused": 1}
    database.close()
