"""The database connection: PostgreSQL through psycopg 3, for named queries that are written once for both dialects.

psycopg is imported here only, and nothing imports this module unless it has a PostgreSQL to talk to (the extra `postgresql`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import peewee
import psycopg
from psycopg.pq import TransactionStatus

from oo_daemon.store.database import Database, Row

#: A writer holds the stream's row until its commit: one that has died in the middle must not stop the others for long.
IDLE_IN_TRANSACTION_MS = 30_000

_PIECE = re.compile(r"""'[^']*'|"[^"]*"|[?%]""")


class PostgresqlDatabase(peewee.PostgresqlDatabase, Database):
    """One PostgreSQL database, named by a `postgresql://` address. Each thread has a connection of its own, at READ COMMITTED."""

    dialect = "postgresql"

    def __init__(self, address: str) -> None:
        super().__init__(
            address, autoconnect=False, prefer_psycopg3=True, options=f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_MS}"
        )

    def handle(self) -> psycopg.Connection[Row]:
        """The calling thread's connection."""
        return self.connection()  # type: ignore[no-any-return, no-untyped-call]  # peewee leaves it untyped

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Execute one statement and read its answer to the end."""
        cursor = self.handle().execute(translated(sql), parameters)
        return cursor.fetchall() if cursor.description else []

    def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Execute one statement for each of the parameters."""
        self.handle().cursor().executemany(translated(sql), parameters)

    def each(self, sql: str, parameters: Iterable[Sequence[Any]]) -> list[Row]:
        """Execute one statement that answers for each of the parameters; gives all answers, in order."""
        cursor, rows = self.handle().cursor(), list[Row]()
        cursor.executemany(translated(sql), parameters, returning=True)
        while cursor.description:
            rows += cursor.fetchall()
            if not cursor.nextset():
                break
        return rows

    def in_transaction_now(self) -> bool:
        """True also where an error has broken the transaction, which takes nothing but its ROLLBACK any more."""
        return self.handle().info.transaction_status != TransactionStatus.IDLE


@lru_cache(1024)
def translated(sql: str) -> str:
    """A statement with psycopg's placeholders for ours. What is quoted stays as it is, and a `%` means itself."""
    return _PIECE.sub(lambda piece: "%s" if piece[0] == "?" else piece[0].replace("%", "%%"), sql)
