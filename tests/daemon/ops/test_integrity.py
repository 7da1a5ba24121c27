"""Damage is noticed, told, and ends the daemon."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from daemon.ingress.wire import Notebook

from oo_daemon.ops.fatal import Fatal
from oo_daemon.ops.integrity import Integrity
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.store.errors import Corrupt
from oo_daemon.store.storage import open_database


@pytest.mark.rows("B13")
async def test_a_damaged_page(tmp_path: Path) -> None:
    """A whole file is well; one with a spoilt page is not, and whoever waits for that hears it."""
    path = tmp_path / "oo.sqlite3"
    open_database(path).close()
    fatal, metrics = Fatal(), MemoryMetrics()
    look = Integrity(database=path, metrics=metrics, log=Notebook(), fatal=fatal.tell)
    await look.look()
    assert ((await look()).well, metrics.values()["database_well", ()]) == (True, 1)
    whole = bytearray(path.read_bytes())
    whole[3 * 4096 : 3 * 4096 + 8] = b"\xff" * 8
    path.write_bytes(bytes(whole))
    await look.look()
    assert ((await look()).well, metrics.values()["database_well", ()]) == (False, 0)
    assert isinstance(await asyncio.wait_for(fatal.happened(), 5), Corrupt)
