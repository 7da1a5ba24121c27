"""Looking over a database file, for damage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from oo_daemon.store import checked
from oo_daemon.store.errors import Corrupt
from oo_daemon.store.migrations import known
from oo_daemon.store.storage import explain


def quick_check(path: Path) -> None:
    """Look over the pages of a file, also of one that is in use; changes nothing.

    Raises `Corrupt`, `CannotStore`, and `NewerSchema` where a newer program has lived on it.
    """
    with _reading(path) as connection:
        _well(connection, "quick_check(3)")
        migrated = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'migration'").fetchall()
        newest = connection.execute("SELECT max(number) FROM migration").fetchall() if migrated else []
    for (number,) in newest:
        known(int(number or 0))


def whole_check(path: Path) -> None:
    """Look also whether each index says what its table says, and whether each row's others are there. Takes longer.

    Raises `Corrupt`, `CannotStore`.
    """
    with _reading(path) as connection:
        _well(connection, "quick_check(3)")
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'").fetchall()
        for (name,) in tables:  # one by one: as long as one of them is looked at, the log cannot be begun anew
            _well(connection, f'integrity_check("{name}")')
            if connection.execute(f'PRAGMA foreign_key_check("{name}")').fetchone() is not None:
                raise Corrupt(f"the database file is damaged (rows of {name} belong to nothing): stop the daemon and restore a backup")


def _well(connection: apsw.Connection, pragma: str) -> None:
    verdicts = [str(verdict) for (verdict,) in connection.execute(f"PRAGMA {pragma}")]
    if verdicts != ["ok"]:
        raise Corrupt(f"the database file is damaged ({verdicts[0]}): stop the daemon and restore a backup")


@contextmanager
def _reading(path: Path) -> Iterator[apsw.Connection]:
    try:
        connection = checked.connect(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(5_000)
            yield connection
        finally:
            connection.close()
    except apsw.Error as error:
        raise explain(error) from error
