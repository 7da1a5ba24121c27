"""A copy of the database file, looked at."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemon.store.world import Book

from oo_daemon.store import backup
from oo_daemon.store.errors import Corrupt


def test_a_snapshot_holds_what_the_database_holds(path: Path, book: Book, tmp_path: Path) -> None:
    """Also what is still in the write-ahead log, and while the database is in use."""
    book.connect()
    backup.snapshot(path, tmp_path / "copy")
    found = backup.content(tmp_path / "copy")
    ((connections,),) = book.database.rows("SELECT count(*) FROM connection")
    assert (found.epoch, found.position, found.credential, connections) == (1, 0, None, 1)
    assert found == backup.content(tmp_path / "copy")
    assert not (tmp_path / "copy-wal").exists()


@pytest.mark.rows("B13")
def test_a_flipped_byte_is_detected(path: Path, book: Book, tmp_path: Path) -> None:
    """Pages whose content is out of order are not called a backup."""
    for number in range(200):
        book.database.rows("INSERT INTO migration (number, name) VALUES (?, ?)", (1000 + number, "x" * 300))
    backup.snapshot(path, tmp_path / "copy")
    whole = (tmp_path / "copy").read_bytes()
    noticed, tried = 0, 0
    for place in range(200, len(whole), max(1, len(whole) // 100)):
        page = place // 4096 * 4096
        (tmp_path / "copy").write_bytes(whole[:page] + bytes([whole[page] ^ 0xFF]) + whole[page + 1 :])
        tried += 1
        try:
            backup.content(tmp_path / "copy")
        except Corrupt:
            noticed += 1
    assert tried >= 100
    assert noticed >= tried * 0.95


def test_adopting_makes_it_another_epoch(path: Path, book: Book, tmp_path: Path) -> None:
    """Whoever read further than the file reaches can tell."""
    book.connect()
    backup.snapshot(path, tmp_path / "copy")
    backup.adopt(tmp_path / "copy")
    assert backup.content(tmp_path / "copy").epoch == 2


def test_what_was_there_is_kept(path: Path, book: Book, tmp_path: Path) -> None:
    """The file that is replaced stays beside it, and a second one does not overwrite the first."""
    book.connect()
    kept = []
    for _ in range(2):
        backup.snapshot(path, tmp_path / "copy")
        kept.append(backup.put_in_place(tmp_path / "copy", tmp_path / "live"))
    assert kept == [None, tmp_path / "live.before-1"]
    assert backup.content(tmp_path / "live") == backup.content(tmp_path / "live.before-1")
