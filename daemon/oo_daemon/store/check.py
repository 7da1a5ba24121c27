"""Looking over a database file, for damage."""

from __future__ import annotations

from pathlib import Path

import apsw

from oo_daemon.store.errors import Corrupt
from oo_daemon.store.migrations import known
from oo_daemon.store.storage import explain


def quick_check(path: Path) -> None:
    """Look over the pages of a file, also of one that is in use; changes nothing.

    Raises `Corrupt`, `CannotStore`, and `NewerSchema` where a newer program has lived on it.
    """
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(5_000)
            verdicts = [str(verdict) for (verdict,) in connection.execute("PRAGMA quick_check(3)")]
            migrated = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'migration'").fetchall()
            newest = connection.execute("SELECT max(number) FROM migration").fetchall() if migrated else []
        finally:
            connection.close()
    except apsw.Error as error:
        raise explain(error) from error
    if verdicts != ["ok"]:
        raise Corrupt(f"the database file is damaged ({verdicts[0]}): stop the daemon and restore a backup")
    for (number,) in newest:
        known(int(number or 0))
