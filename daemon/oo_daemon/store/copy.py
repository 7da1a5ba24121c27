"""Copying a database into another, of either dialect: row by row and whole, from where it was cut off, and compared at the end.

Nobody may use either of the two meanwhile. What is half copied says so, and no daemon starts on it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, TypeAlias

import msgspec

from oo_daemon.store.accept import STREAM
from oo_daemon.store.database import Database, Row
from oo_daemon.store.errors import CannotOpen
from oo_daemon.store.migrations import MIGRATIONS

#: Rows of one transaction.
BATCH = 1000
#: Bytes of a digest.
SIZE = 32
#: Hears of how many more rows are done.
Told: TypeAlias = Callable[[int], None]


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """What a copy came to."""

    rows: Mapping[str, int]  #: by table
    epoch: int
    position: int


class Differs(Exception):
    """The copy is not what the original is; the message says where."""


def tables() -> Sequence[str]:
    """All tables that hold something, each after those that it refers to."""
    return [name for migration in MIGRATIONS for text in migration.statements for name in re.findall(r"^CREATE TABLE (\w+)", text)]


def is_half(database: Database) -> bool:
    """Say whether a copy into this database was begun and has not ended."""
    if database.dialect == "sqlite":
        return bool(database.rows("SELECT 1 FROM sqlite_schema WHERE name = 'copying'"))
    return database.rows("SELECT to_regclass('copying')") != [(None,)]


def counted(database: Database) -> Mapping[str, int]:
    """Rows by table."""
    return {name: int(database.rows(f'SELECT count(*) FROM "{name}"')[0][0]) for name in tables()}


def copy(source: Database, target: Database, named: str, told: Told = lambda rows: None) -> None:
    """Copy everything, or go on with a copy that was cut off; `told` hears of rows that are done.

    `named` says where the source is. It stays half a copy until `compare` has found it whole. Raises `CannotOpen` where the target holds
    something else.
    """
    table, after = _begun(target, named)
    names = tables()
    done = names.index(table)
    told(sum(counted(target)[name] for name in names[: done + 1]))
    for name in names[done:]:
        for rows, last in _pages(source, name, after if name == table else None):
            with _transaction(target):
                _put(target, name, rows)
                target.rows('UPDATE copying SET "table" = ?, after = ?', (name, _written(last)))
            told(len(rows))
        following = names[names.index(name) + 1 :][:1]
        if following:
            target.rows('UPDATE copying SET "table" = ?, after = ?', (following[0], _written(None)))


def compare(source: Database, target: Database, told: Told = lambda rows: None) -> Copied:
    """Hold all rows of a copy against those of the source, and let it be whole; `told` hears of rows on both sides. Raises `Differs`."""
    _count_on(source, target)
    _compare(source, target, told)
    target.rows("DROP TABLE copying")
    ((epoch, position),) = target.rows("SELECT epoch, position FROM stream WHERE id = ?", (STREAM,))
    return Copied(rows=counted(target), epoch=epoch, position=position)


def _begun(target: Database, named: str) -> tuple[str, Sequence[Any] | None]:
    """Where to go on; from the beginning where nothing is there yet."""
    if is_half(target):
        ((source, table, after),) = target.rows('SELECT source, "table", after FROM copying')
        if source != named:
            raise CannotOpen(f"A copy of {source} was begun there, and not of {named}: finish that one, or give an empty database.")
        return table, _read(after)
    full = [name for name, rows in counted(target).items() if rows > (name == "stream")]
    if full:
        raise CannotOpen(f"There is something in that database already ({', '.join(full[:3])}): give an empty one.")
    with _transaction(target):
        target.rows("DELETE FROM stream")
        target.rows('CREATE TABLE copying (source TEXT NOT NULL, "table" TEXT NOT NULL, after TEXT NOT NULL)')
        target.rows('INSERT INTO copying (source, "table", after) VALUES (?, ?, ?)', (named, tables()[0], _written(None)))
    return tables()[0], None


def _pages(source: Database, table: str, after: Sequence[Any] | None) -> Iterator[tuple[list[Row], Sequence[Any]]]:
    """All rows of a table in the order of its key, as dictionaries would be too slow: with the key of each page's last."""
    key, columns = _key(source, table), _columns(source, table)
    order, places = ", ".join(f'"{name}"' for name in key), ", ".join("?" * len(key))
    shown = ", ".join(f'"{name}"' for name in columns)
    while True:
        where = "" if after is None else f"WHERE ({order}) > ({places})"
        rows = source.rows(f'SELECT {shown} FROM "{table}" {where} ORDER BY {order} LIMIT ?', (*(after or ()), BATCH))
        if not rows:
            return
        after = [rows[-1][columns.index(name)] for name in key]
        yield rows, after


def _put(target: Database, table: str, rows: Sequence[Row]) -> None:
    columns = _columns(target, table)
    shown, places = ", ".join(f'"{name}"' for name in columns), ", ".join("?" * len(columns))
    target.many(f'INSERT INTO "{table}" ({shown}) VALUES ({places})', rows)


def _columns(database: Database, table: str) -> list[str]:
    """In the same order in both dialects."""
    if database.dialect == "sqlite":
        return sorted(name for (name,) in database.rows("SELECT name FROM pragma_table_info(?)", (table,)))
    sql = "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = ?"
    return sorted(name for (name,) in database.rows(sql, (table,)))


def _key(database: Database, table: str) -> list[str]:
    if database.dialect == "sqlite":
        return [name for (name,) in database.rows("SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", (table,))]
    sql = (
        "SELECT a.attname FROM pg_index i CROSS JOIN unnest(i.indkey) WITH ORDINALITY k (number, place) "
        "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number "
        "WHERE i.indrelid = ?::regclass AND i.indisprimary ORDER BY k.place"
    )
    return [name for (name,) in database.rows(sql, (f'"{table}"',))]


def _numbered(database: Database) -> Mapping[str, int]:
    """By table whose rows are numbered, the highest number that was ever given: none is given again."""
    given = {}
    for migration in MIGRATIONS:
        for text in migration.statements:
            for table in re.findall(r"^CREATE TABLE (\w+) \(\s*number \{serial\}", text):
                if database.dialect == "sqlite":
                    rows = database.rows("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,))
                    given[table] = int(rows[0][0]) if rows else 0
                else:
                    sql = "SELECT last_value FROM pg_sequences WHERE schemaname = current_schema() AND sequencename = ?"
                    rows = database.rows(sql, (f"{table}_number_seq",))
                    given[table] = int(rows[0][0] or 0)
    return given


def _count_on(source: Database, target: Database) -> None:
    for table, last in _numbered(source).items():
        if target.dialect == "sqlite":
            target.rows("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
            target.rows("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, last))
        elif last:
            target.rows("SELECT setval(pg_get_serial_sequence(?, 'number'), ?)", (table, last))


def _compare(source: Database, target: Database, told: Told) -> None:
    for table in tables():
        here, there = _digest(source, table, told), _digest(target, table, told)
        if here != there:
            raise Differs(f"the table {table} has {there[0]} rows there and {here[0]} here, or some of them differ")
    if _numbered(source) != _numbered(target):
        raise Differs("rows are not numbered on from where they were")


def _digest(database: Database, table: str, told: Told) -> tuple[int, int]:
    """How many rows a table has, and a digest over all of them in whatever order: dialects sort texts in their own ways."""
    rows, total = 0, 0
    for page, _ in _pages(database, table, None):
        rows += len(page)
        told(len(page))
        for row in page:
            hasher = blake2b(digest_size=SIZE)
            for value in row:
                data = value if isinstance(value, str) else bytes(value) if isinstance(value, bytes | memoryview) else str(value)
                kind, plain = (b"b", data) if isinstance(data, bytes) else (b"t" if isinstance(value, str) else b"n", data.encode())
                hasher.update(kind + len(plain).to_bytes(8) + plain)
            total = (total + int.from_bytes(hasher.digest())) % 2 ** (8 * SIZE)
    return rows, total


class _transaction:  # noqa: N801  # used as a verb
    def __init__(self, database: Database) -> None:
        self.database = database

    def __enter__(self) -> None:
        self.database.rows("BEGIN IMMEDIATE" if self.database.dialect == "sqlite" else "BEGIN")

    def __exit__(self, *error: object) -> None:
        self.database.rows("ROLLBACK" if error[0] else "COMMIT")


def _written(key: Sequence[Any] | None) -> str:
    return json.dumps(
        None if key is None else [{"b": base64.b64encode(part).decode()} if isinstance(part, bytes) else part for part in key]
    )


def _read(text: str) -> Sequence[Any] | None:
    key = json.loads(text)
    return None if key is None else [base64.b64decode(part["b"]) if isinstance(part, dict) else part for part in key]
