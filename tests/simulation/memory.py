"""The database of one life after another: in memory, over one connection for as long as the process is there.

Preparing every statement anew, for each life and after each fault, cost as much as running them all. What the disk does, and what
closing and opening a file does, is tested in `faults`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from unittest import mock

import apsw

from oo_daemon.store import database
from oo_daemon.store.database import SqliteDatabase
from oo_daemon.store.migrations import migrate

#: What counts where nothing reaches a disk.
PROFILE = {"journal_mode": "memory", "foreign_keys": 1, "trusted_schema": 0}


class Memory(SqliteDatabase):
    """Its connection outlives being closed; a fault has rolled back before."""

    def __init__(self) -> None:
        super().__init__(Path(":memory:"))
        self._kept: apsw.Connection | None = None
        with mock.patch.object(database, "PROFILE", PROFILE):
            self.connect()
        migrate(self)
        # Those that others refer to come last.
        names = self.rows("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY rowid DESC")
        self.tables = [name for (name,) in names]
        self._first = {table: self.rows(f"SELECT * FROM {table}") for table in self.tables}

    def _connect(self) -> apsw.Connection:
        if self._kept is None:
            self._kept = super()._connect()
        return self._kept

    def _close(self, conn: apsw.Connection) -> None:
        """It is as good as new."""

    def begin_anew(self) -> None:
        """Be as empty as on the first day."""
        self.connect(reuse_if_open=True)
        if self.in_transaction_now():
            self.rows("ROLLBACK")
        for table in (*self.tables, "sqlite_sequence"):
            self.rows(f"DELETE FROM {table}")
        for table, rows in self._first.items():
            for row in rows:
                self.rows(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)


@cache
def memory() -> Memory:
    """The one of this process."""
    return Memory()
