"""A copy of the database file, looked at."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import pytest
from daemon.store.inbox_contract import arrival, furnish
from daemon.store.world import NOW, Book, encode, upsert

from oo_daemon.store import accept, backup, check, checked, inbox
from oo_daemon.store.accept import Batch
from oo_daemon.store.errors import Corrupt
from oo_daemon.store.storage import explain


def test_a_snapshot_holds_what_the_database_holds(path: Path, book: Book, tmp_path: Path) -> None:
    """Also what is still in the write-ahead log, and while the database is in use."""
    book.connect()
    backup.snapshot(path, tmp_path / "copy")
    found = backup.content(tmp_path / "copy", bare=True)
    ((connections,),) = book.database.rows("SELECT count(*) FROM connection")
    assert (found.epoch, found.position, found.credential, connections) == (1, 0, None, 1)
    assert found == backup.content(tmp_path / "copy", bare=True)
    assert not (tmp_path / "copy-wal").exists()


def _filled(book: Book) -> None:
    """Some of everything: rows with long and short bodies, indexes of several levels, and pages that were given back."""
    connection = book.connect()
    with book.transaction() as database:
        for start in range(0, 1500, 500):
            drafts = [upsert(f"n{number}", "ä" * 20) for number in range(start, start + 500)]
            accept.accept(database, Batch(connection=connection, observed_at=NOW, drafts=drafts), encode)
        furnish(database)
        inbox.put(database, arrival("d1", body=b"x" * 20_000))
        database.rows("INSERT INTO audit_subject (name, id) SELECT 'user ' || position, hex(randomblob(16)) FROM outbox")
        database.rows("DELETE FROM outbox WHERE position <= 200")


@pytest.mark.rows("B13")
def test_a_flipped_byte_is_detected(book: Book, tmp_path: Path) -> None:
    """Wherever it is; and nobody is told what it has made of anything."""
    _filled(book)
    path = tmp_path / "copy"
    book.database.rows("VACUUM INTO ?", (str(path),))
    whole, chance = path.read_bytes(), random.Random(13)  # spreads the places
    every = _events(path)
    noticed = 0
    for place in chance.sample(range(len(whole)), 100):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ chance.randrange(1, 256)]) + whole[place + 1 :])
        with suppress(Corrupt):
            assert _events(path) == every
        try:
            check.quick_check(path)
        except Corrupt:
            noticed += 1
    assert noticed >= 95


def _events(path: Path) -> list[tuple[Any, ...]]:
    file = checked.connect(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return file.execute("SELECT * FROM outbox").fetchall()
    except apsw.Error as error:
        raise explain(error) from error
    finally:
        file.close()


def test_adopting_makes_it_another_epoch(path: Path, book: Book, tmp_path: Path) -> None:
    """Whoever read further than the file reaches can tell."""
    book.connect()
    backup.snapshot(path, tmp_path / "bare")
    backup.with_checksums(tmp_path / "bare", tmp_path / "copy")
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
    assert backup.content(tmp_path / "live", bare=True) == backup.content(tmp_path / "live.before-1", bare=True)
