"""A write that means nothing: whoever can make it can keep promises. And whether clocks agree."""

from __future__ import annotations

from collections.abc import Callable

from oo_daemon.store.database import Database

#: By how much (microseconds) the clock of a daemon may be off that of the database which it shares with others.
AGREED = 5_000_000


def touch(database: Database, now: int) -> None:
    """Write a row, through to the disk."""
    database.rows('INSERT INTO probe (one, "at") VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET "at" = excluded."at"', (now,))


def ahead(database: Database, now: Callable[[], int]) -> int:
    """By how much our clock is ahead of the database's (microseconds); a file has none."""
    if database.dialect == "sqlite":
        return 0
    before = now()
    ((there,),) = database.rows("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
    return (before + now()) // 2 - int(there)
