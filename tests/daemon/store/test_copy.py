"""Copying: everything arrives, once, wherever it is cut off; and what differs is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import postgresql as servers
import pytest
from daemon.store.inbox_contract import arrival, furnish
from daemon.store.world import NOW, SECOND, Book, connect, delete, encode, occur, upsert

from oo_config import Server
from oo_daemon.store import accept, connections, copy, credentials, engines, inbox, migrations, outbox, postgresql, uses
from oo_daemon.store.backup import restored
from oo_daemon.store.database import Database
from oo_daemon.store.errors import CannotOpen
from oo_daemon.store.postgresql import PostgresqlDatabase
from oo_daemon.store.storage import open_database
from oo_vault import Sealed

NAMED = "/srv/oo.sqlite3"


@pytest.fixture
def original(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database in which something of most kinds lies, and whose newest rows have gone."""
    monkeypatch.setattr(copy, "BATCH", 70)
    book = Book(open_database(path))
    with book.transaction() as database:
        furnish(database)
        for number in range(3):
            connection = connect(database, f"c{number}")
            drafts = [upsert(f"n{each}", "ä€\N{GRINNING FACE}") for each in range(100)] + [occur(f"o{each}") for each in range(20)]
            accept.accept(database, accept.Batch(connection=connection, observed_at=NOW, drafts=[*drafts, occur("o")]), encode)
            accept.accept(database, accept.Batch(connection=connection, observed_at=NOW, drafts=[delete("n1")]), encode)
            credentials.put(database, connection.number, 1, Sealed(key_id="k", blob=b"\x00\xff"), NOW + SECOND)
            uses.add(database, {(connection.number, "acme.example"): 3}, NOW)
            inbox.put(database, arrival(f"d{number}", body=b"\x00\x01'\\"))
        database.rows("DELETE FROM connection WHERE number = ?", (connection.number,))
    yield book.database
    book.database.close()


@pytest.fixture
def target(server: servers.Server) -> Iterator[PostgresqlDatabase]:
    """An empty one on a server."""
    with server.migrated() as database:
        yield database


class Cut(Exception):
    """The power went."""


def test_everything_arrives(original: Database, target: PostgresqlDatabase, tmp_path: Path) -> None:
    """From a file to a server and back: rows, positions and numbers are the same, and nothing given before is given again."""
    copy.copy(original, target, NAMED)
    compared: list[int] = []
    done = copy.compare(original, target, compared.append)
    assert sum(compared) == 2 * sum(done.rows.values())
    assert done.rows == copy.counted(original) == copy.counted(target)
    assert (done.rows["outbox"], done.rows["delivery"], done.rows["credential"]) == (3 * 122, 3, 2)
    assert outbox.end(target) == outbox.end(original)
    assert connections.listed(target) == connections.listed(original)
    back = open_database(tmp_path / "back.sqlite3")
    copy.copy(target, back, "there")
    copy.compare(target, back)
    for database in (target, back):
        assert connect(database, "new").number == 4
        with pytest.raises(CannotOpen, match="There is something in that database already"):
            copy.copy(original, database, NAMED)
    back.close()


@pytest.mark.parametrize("after", [1, 250, 400])
def test_cut_off_and_gone_on(original: Database, target: PostgresqlDatabase, after: int) -> None:
    """It goes on where it was, nothing comes twice, and until then no daemon starts on it and nothing else is copied into it."""
    seen = 0

    def tell(rows: int) -> None:
        nonlocal seen
        seen += rows
        if seen >= after:
            raise Cut

    with pytest.raises(Cut):
        copy.copy(original, target, NAMED, tell)
    assert copy.is_half(target)
    with pytest.raises(CannotOpen, match="cut off: finish it"):
        engines._whole(target)
    target.connect()
    with pytest.raises(CannotOpen, match="was begun there, and not of"):
        copy.copy(original, target, "/srv/other.sqlite3")
    already = sum(copy.counted(target).values())
    told: list[int] = []
    copy.copy(original, target, NAMED, told.append)
    assert copy.is_half(target), "nobody has compared it yet"
    assert copy.compare(original, target).rows == copy.counted(original)
    assert told[0] == already
    assert sum(told) == sum(copy.counted(original).values())
    assert not copy.is_half(target)


def test_what_differs_is_found(original: Database, target: PostgresqlDatabase) -> None:
    """One byte in one row is enough, and what was written to the original after it was copied."""
    with pytest.raises(Cut):
        copy.copy(original, target, NAMED, lambda rows: _cut() if rows and copy.counted(target)["outbox"] == 3 * 122 else None)
    target.rows("UPDATE outbox SET body = body || '\\x00'::bytea WHERE position = 7")
    copy.copy(original, target, NAMED)
    with pytest.raises(copy.Differs, match="the table outbox"):
        copy.compare(original, target)
    assert copy.is_half(target)


def _cut() -> None:
    raise Cut


def test_a_database_that_was_restored(original: Database, target: PostgresqlDatabase) -> None:
    """Positions get a new epoch, and grants are tried with care."""
    copy.copy(original, target, NAMED)
    copy.compare(original, target)
    restored(target)
    assert outbox.end(target).epoch == outbox.end(original).epoch + 1
    assert target.rows("SELECT DISTINCT state FROM credential") == [("verify",)]


def test_alone(server: servers.Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever copies or erases must be alone: a daemon on the server refuses it, as one on the file does."""
    monkeypatch.setattr(postgresql, "PROMISES", ())
    with server.database() as address:
        with engines.alone_on(Server(address)) as database:
            assert copy.counted(database)["stream"] == 1
            with pytest.raises(CannotOpen, match="Daemons run on"), engines.alone_on(Server(address)):
                pass
        assert engines.look_over(Server(address)) == []
        monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, migrations.Migration(number=2, name="next", statements=())))
        (says,) = engines.look_over(Server(address))
        assert says == "The next start brings the tables from schema 1 to 2, for good: make a backup on the server first."
        with engines.alone_on(path), pytest.raises(CannotOpen, match="Another daemon"), engines.alone_on(path):
            pass
    with server.database() as address:
        assert engines.look_over(Server(address)) == ["There are no tables yet; `oo run` makes them."]
