"""Damage is noticed, told, and ends the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from daemon.ingress.wire import Notebook
from daemon.store.world import connect

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


def _spoil_an_index(path: Path) -> None:
    """It is of another column than it says, so that it sends whoever looks for a row elsewhere; each page is as it was written."""
    file = apsw.Connection(str(path))
    file.execute("PRAGMA writable_schema = on")
    file.execute("UPDATE sqlite_schema SET sql = replace(sql, '(connection)', '(stream)') WHERE name = 'outbox_by_connection'")
    assert file.changes() == 1
    file.close()


def _take_a_connection_out(path: Path) -> None:
    """What belongs to it stays behind."""
    file = apsw.Connection(str(path))  # which holds nobody to foreign keys, where ours does
    file.execute("DELETE FROM connection")
    file.close()


@pytest.mark.rows("B13")
@pytest.mark.parametrize("spoil", [_spoil_an_index, _take_a_connection_out])
async def test_parts_that_do_not_agree(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """What each page by itself does not show, an index without its row or a row without its connection, is found at night."""
    path = tmp_path / "oo.sqlite3"
    database = open_database(path)
    connect(database, "c1")
    database.rows("INSERT INTO outbox SELECT 1, 0, number, 'ada', 't', NULL, x'00', 1 FROM connection")
    database.rows("INSERT INTO occurrence (connection, \"key\") SELECT number, x'00' FROM connection")
    database.close()
    fatal, metrics = Fatal(), MemoryMetrics()
    look = Integrity(database=path, metrics=metrics, log=Notebook(), fatal=fatal.tell)
    await look.look_through()
    assert ((await look()).well, metrics.values()["database_well", ()]) == (True, 1)
    spoil(path)
    await look.look()
    assert (await look()).well
    await look.look_through()
    assert ((await look()).well, metrics.values()["database_well", ()]) == (False, 0)
    assert isinstance(await asyncio.wait_for(fatal.happened(), 5), Corrupt)
