"""A copy of the database file, looked at."""

from __future__ import annotations

import random
from pathlib import Path

import apsw
import pytest
from daemon.store.inbox_contract import arrival, furnish
from daemon.store.world import NOW, Book, encode, upsert

from oo_daemon.store import accept, backup, inbox
from oo_daemon.store.accept import Batch
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


def _b_tree(page: bytes, first: bool) -> tuple[int, range, range, range] | None:
    """Of a page of SQLite's: its kind, and where its header, the places of its cells and its cells are; None: it has none."""
    head = 100 if first else 0
    kind, cells = page[head], int.from_bytes(page[head + 3 : head + 5])
    if kind not in (2, 5, 10, 13) or not cells:
        return None
    places = head + (12 if kind in (2, 5) else 8)
    return kind, range(head, places), range(places, places + 2 * cells), range(int.from_bytes(page[head + 5 : head + 7]), len(page))


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
    """Wherever a byte says where something is, on pages of each kind, and wherever one is a part of an index.

    What SQLite keeps no second word of is left out, as docs/operations says: what stands in rows, and room that nothing is in.
    """
    _filled(book)
    path = tmp_path / "copy"
    book.database.rows("VACUUM INTO ?", (str(path),))
    file = apsw.Connection(str(path))
    indexes = {page for (page,) in file.execute("SELECT pageno FROM dbstat JOIN sqlite_schema s USING (name) WHERE s.type = 'index'")}
    file.close()
    whole, chance = path.read_bytes(), random.Random(13)  # spreads the places
    places = []
    for start in range(0, len(whole), 4096):
        if (found := _b_tree(whole[start : start + 4096], start == 0)) is None:
            continue
        kind, header, cells, content = found
        of_index = start // 4096 + 1 in indexes and kind == 10
        places += [(kind, start + chance.choice(part)) for part in (header, cells, *([content] * 5 if of_index else []))]
    assert {kind for kind, _ in places} == {2, 5, 10, 13}
    missed = []
    for kind, place in chance.sample(places, 150):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ chance.randrange(1, 256)]) + whole[place + 1 :])
        try:
            backup.content(path)
        except Corrupt:
            continue
        missed.append((kind, place))
    assert len(missed) <= 150 * 0.05, missed


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
