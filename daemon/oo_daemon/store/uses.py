"""How often a credential was used: by connection, host and hour; never what was asked."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from oo_daemon.store.database import Database

HOUR = 3_600_000_000  #: microseconds


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """The uses of a credential at one host within one hour."""

    hour: int  #: its first microsecond
    host: str
    uses: int


def add(database: Database, counted: Mapping[tuple[int, str], int], now: int) -> None:
    """Count uses, by connection and host, into this hour; those of a connection that is gone are forgotten."""
    database.many(
        "INSERT INTO credential_use (connection, hour, host, uses) SELECT number, ?, ?, ? FROM connection WHERE number = ? "
        "ON CONFLICT (connection, hour, host) DO UPDATE SET uses = credential_use.uses + excluded.uses",
        [(now - now % HOUR, host, uses, connection) for (connection, host), uses in counted.items()],
    )


def of(database: Database, connection: int, since: int) -> list[Use]:
    """The uses of a connection's credential from the hour of then on, newest hour first."""
    rows = database.rows(
        "SELECT hour, host, uses FROM credential_use WHERE connection = ? AND hour > ? ORDER BY hour DESC, host", (connection, since - HOUR)
    )
    return [Use(hour=hour, host=host, uses=uses) for hour, host, uses in rows]


def forget(database: Database, before: int) -> int:
    """Forget hours before this. Gives how many lines there were."""
    return len(database.rows("DELETE FROM credential_use WHERE hour < ? RETURNING hour", (before,)))
