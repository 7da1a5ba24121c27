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
    """Its rows stay as they are, and it sends whoever looks for one elsewhere."""
    file = apsw.Connection(str(path))
    file.execute("INSERT INTO audit_subject (name, id) VALUES ('user ada', '5555555555555555'); PRAGMA wal_checkpoint(TRUNCATE)")
    ((root,),) = file.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_audit_subject_2'").fetchall()
    file.close()
    whole = path.read_bytes()
    start = (int(str(root)) - 1) * 4096
    page = whole[start : start + 4096].replace(b"5555555555555555", b"5555555555555556")
    path.write_bytes(whole[:start] + page + whole[start + 4096 :])
    assert path.read_bytes() != whole


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
