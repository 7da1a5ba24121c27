"""The schema: forward only, all or nothing, and the same as the models say."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from daemon.store.world import NOW, Book, connect
from peewee import BlobField, IntegerField, Model, TextField

from oo_daemon.store import connections, migrations, models
from oo_daemon.store.errors import CannotOpen
from oo_daemon.store.migrations import DIALECTS, MIGRATIONS, Migration, migrate
from oo_daemon.store.storage import open_database

MODELS = [each for each in vars(models).values() if isinstance(each, type) and issubclass(each, models.Table) and each is not models.Table]


def _schema(book: Book) -> list[tuple[object, ...]]:
    return book.database.rows("SELECT type, name, sql FROM sqlite_schema ORDER BY name")


@pytest.mark.rows("H8")
def test_migrating_again_changes_nothing(book: Book) -> None:
    """A start on a database that is up to date leaves schema and data as they are."""
    connection = book.connect()
    before = _schema(book)
    assert migrate(book.database) == MIGRATIONS[-1].number
    assert _schema(book) == before
    assert connections.listed(book.database) == [connection]


@pytest.mark.rows("H8")
def test_an_older_program_refuses_a_newer_schema(path: Path, book: Book) -> None:
    """The message says which way out there is, and nothing is changed."""
    newest = MIGRATIONS[-1].number
    book.database.rows("INSERT INTO migration (number, name) VALUES (?, 'from the future')", (newest + 1,))
    before = _schema(book)
    with pytest.raises(CannotOpen, match=f"schema {newest + 1}, newer than this program's {newest}.*install the newer"):
        open_database(path)
    assert _schema(book) == before


@pytest.mark.rows("H8")
def test_a_migration_that_fails_leaves_nothing_behind(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those before it stand, itself is taken back, and the next start tries it again."""
    first = MIGRATIONS[-1].number
    good = Migration(number=first + 1, name="good", statements=("CREATE TABLE good (id {int})",))
    bad = Migration(number=first + 2, name="bad", statements=("CREATE TABLE half (id {int})", "CREATE TABLE good (id {int})"))
    mended = Migration(number=first + 2, name="mended", statements=("CREATE TABLE whole (id {int})",))
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, good, bad))
    with pytest.raises(Exception, match="already exists"):
        migrate(book.database)
    assert not book.database.in_transaction_now()
    assert book.database.rows("SELECT name FROM sqlite_schema WHERE name IN ('good', 'half')") == [("good",)]
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, good, mended))
    assert migrate(book.database) == first + 2
    assert [name for _, name in book.database.rows("SELECT number, name FROM migration ORDER BY number")][-2:] == ["good", "mended"]


def test_migrations_are_numbered_without_gaps() -> None:
    """1, 2, 3 and so on, in order."""
    assert [each.number for each in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_statement_has_its_words_in_every_dialect(dialect: str) -> None:
    """No type word is missing, and none is left unread."""
    for statement in itertools.chain.from_iterable(each.statements for each in MIGRATIONS):
        written = statement.format(**DIALECTS[dialect])
        assert "{" not in written
        if dialect == "postgresql":
            assert not {"AUTOINCREMENT", "ROWID", "BLOB", "INTEGER"} & set(written.replace(",", " ").replace("(", " ").split())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.table_name)
def test_a_model_has_the_columns_of_its_table(book: Book, model: type[Model]) -> None:
    """Names, types, what may be missing and what is the key: as the migrated schema has them."""
    words = {"INTEGER": IntegerField, "TEXT": TextField, "BLOB": BlobField}
    table = book.database.rows(f"PRAGMA table_info({model._meta.table_name})")
    in_table = {name: (words[kind], not required and not key, bool(key)) for _, name, kind, required, _, key in table}
    fields = model._meta.sorted_fields
    assert {field.column_name: (type(field), field.null, field.primary_key) for field in fields} == in_table


def test_a_connections_number_is_never_used_again(book: Book) -> None:
    """What was erased is not taken for what comes after it."""
    first = book.connect()
    book.database.rows("DELETE FROM connection")
    with book.transaction() as database:
        assert connect(database, "c2").number > first.number


def test_what_hangs_on_a_connection_goes_with_it(book: Book) -> None:
    """Foreign keys are on: a schedule without a connection is refused, and a deletion takes it along."""
    book.connect()
    book.database.rows("DELETE FROM connection")
    assert book.database.rows("SELECT * FROM schedule") == []
    with pytest.raises(Exception, match="FOREIGN KEY"):
        book.database.rows(
            "INSERT INTO schedule (connection, next_run_at, generation, tries, fence, finished_fence, events) VALUES (9, ?, 0, 0, 0, 0, 0)",
            (NOW,),
        )
