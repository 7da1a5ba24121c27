"""Subscriptions: what providers were asked to push, and when the subscriptions of a connection are looked at next.

A row is written before the provider is asked, so that what a crash leaves there is known here. Its id is what pushes are routed by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, cast

import msgspec

from oo_daemon.store.database import Database

#: `making`: it is not known whether it was made; `ending`: it is to be unsubscribed; `ended`: only late pushes are routed by it.
State: TypeAlias = Literal["making", "standing", "ending", "ended"]


class SubscriptionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One subscription."""

    id: str
    connection: int
    topic: str
    handle: str = ""
    state: State
    changed_at: int
    renew_at: int | None = None  #: when half of its life is over; None: it does not expire
    expires_at: int | None = None


class Subscriber(msgspec.Struct, frozen=True, kw_only=True):
    """How the last look at a connection's subscriptions went."""

    look_at: int
    tries: int  #: failures since the last that went well
    reason: str


_COLUMNS = "id, connection, topic, handle, state, changed_at, renew_at, expires_at"


def put(database: Database, row: SubscriptionRow) -> None:
    """Write a subscription, new or changed."""
    database.rows(
        f"INSERT INTO subscription ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
        "handle = excluded.handle, state = excluded.state, changed_at = excluded.changed_at, renew_at = excluded.renew_at, "
        "expires_at = excluded.expires_at",
        (row.id, row.connection, row.topic, row.handle, row.state, row.changed_at, row.renew_at, row.expires_at),
    )


def of(database: Database, connection: int) -> list[SubscriptionRow]:
    """All of a connection's, oldest first."""
    rows = database.rows(f"SELECT {_COLUMNS} FROM subscription WHERE connection = ? ORDER BY changed_at, id", (connection,))
    return [
        SubscriptionRow(
            id=id_,
            connection=number,
            topic=topic,
            handle=handle,
            state=cast(State, state),
            changed_at=changed_at,
            renew_at=renew_at,
            expires_at=expires_at,
        )
        for id_, number, topic, handle, state, changed_at, renew_at, expires_at in rows
    ]


def forget_ended(database: Database, connection: int, before: int) -> None:
    """Forget those of a connection that ended before this."""
    database.rows("DELETE FROM subscription WHERE connection = ? AND state = 'ended' AND changed_at < ?", (connection, before))


def due(database: Database, providers: Sequence[str], now: int, limit: int) -> list[int]:
    """Active connections at these providers whose subscriptions are to be looked at: those that never were, and those whose time it is."""
    if not providers:
        return []
    rows = database.rows(
        "SELECT c.number FROM connection c LEFT JOIN subscriber s ON s.connection = c.number WHERE c.state = 'active' "
        f"AND c.provider IN ({', '.join('?' * len(providers))}) AND COALESCE(s.look_at, 0) <= ? ORDER BY COALESCE(s.look_at, 0) LIMIT ?",
        (*providers, now, limit),
    )
    return [int(number) for (number,) in rows]


def subscriber(database: Database, connection: int) -> Subscriber | None:
    """How the last look went; None where there was none."""
    for look_at, tries, reason in database.rows("SELECT look_at, tries, reason FROM subscriber WHERE connection = ?", (connection,)):
        return Subscriber(look_at=look_at, tries=tries, reason=reason)
    return None


def looked(database: Database, connection: int, seen: Subscriber) -> None:
    """Note how a look went; nothing where the connection was erased meanwhile."""
    database.rows(
        "INSERT INTO subscriber (connection, look_at, tries, reason) SELECT number, ?, ?, ? FROM connection WHERE number = ? "
        "ON CONFLICT (connection) DO UPDATE SET look_at = excluded.look_at, tries = excluded.tries, reason = excluded.reason",
        (seen.look_at, seen.tries, seen.reason, connection),
    )


def renew_all(database: Database, registration: str, now: int) -> None:
    """Have everything that a registration's connections subscribed to be replaced at the next look: the address has another secret."""
    of = "connection IN (SELECT number FROM connection WHERE registration = ?)"
    database.rows(f"UPDATE subscription SET renew_at = ? WHERE state = 'standing' AND {of}", (now, registration))
    database.rows(f"UPDATE subscriber SET look_at = ? WHERE {of}", (now, registration))


def failing(database: Database) -> dict[str, int]:
    """How many active connections are without a subscription that they should have, by provider."""
    return dict(
        database.rows(
            "SELECT c.provider, count(*) FROM subscriber s JOIN connection c ON c.number = s.connection "
            "WHERE s.tries > 0 AND c.state = 'active' GROUP BY c.provider ORDER BY c.provider"
        )
    )
