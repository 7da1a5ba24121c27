"""Connections: one user's link to one provider, one row per (user, provider, account)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from oo_daemon.store.database import Database, holding, pattern
from oo_daemon.store.errors import LeaseLost
from oo_daemon.store.values import Connection as Connection
from oo_daemon.store.values import State as State


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished sign-in says of a connection."""

    id: str  #: the random id, if the connection is new
    user: str
    provider: str
    account: str
    registration: str | None
    provider_account: str
    label: str
    scopes: tuple[str, ...]
    meta: Mapping[str, Any]


#: Read on every sync and request, so with a prepared statement: peewee puts a query together anew each time, for a millisecond.
_COLUMNS = (
    'number, id, "user", provider, account, registration, state, reason, provider_account, label, scopes, meta, '
    "created_at, changed_at, version"
)


def columns(table: str) -> str:
    """What `value` takes, where a table is joined under this name."""
    return ", ".join(f"{table}.{column}" for column in _COLUMNS.split(", "))


def value(row: Sequence[Any]) -> Connection:
    """A connection, from its columns."""
    number, id_, user, provider, account, registration, state, reason, provider_account, label, scopes, meta, created, changed, version = (
        row
    )
    return Connection(
        number=number,
        id=id_,
        user=user,
        provider=provider,
        account=account,
        registration=registration,
        state=cast(State, state),
        reason=reason,
        provider_account=provider_account,
        label=label,
        scopes=tuple(scopes.split()),
        meta=msgspec.json.decode(meta),
        created_at=created,
        changed_at=changed,
        version=version,
    )


def _found(database: Database, where: str, *values: str | int) -> list[Connection]:
    rows = database.rows(f"SELECT {_COLUMNS} FROM connection WHERE {where} ORDER BY number", values)
    return [value(row) for row in rows]


def by_id(database: Database, id_: str) -> Connection | None:
    """The connection with this random id."""
    return next(iter(_found(database, "id = ?", id_)), None)


def by_number(database: Database, number: int) -> Connection | None:
    """The connection with the store's own number."""
    return next(iter(_found(database, "number = ?", number)), None)


def held(database: Database, number: int) -> Connection | None:
    """The same, and nobody else changes it until the commit."""
    database.rows(f"SELECT 1 FROM connection WHERE number = ? {database.locking('FOR NO KEY UPDATE')}", (number,))
    return by_number(database, number)


def of(database: Database, user: str, provider: str, account: str) -> Connection | None:
    """The connection of this user's account at this provider."""
    return next(iter(_found(database, '"user" = ? AND provider = ? AND account = ?', user, provider, account)), None)


def listed(database: Database, *, user: str | None = None, provider: str | None = None) -> list[Connection]:
    """All connections, or those of a user or provider, oldest first."""
    wanted = {'"user" = ?': user, "provider = ?": provider}
    given = {condition: value for condition, value in wanted.items() if value is not None}
    return _found(database, " AND ".join(given) or "1 = 1", *given.values())


def page(database: Database, *, after: int, limit: int, state: str | None = None, words: str = "") -> list[Connection]:
    """Connections after a number, oldest first: those in a state, and those whose user, provider, account or label has these words."""
    where, values = ["number > ?"], list[str | int]([after])
    if state is not None:
        where.append("state = ?")
        values.append(state)
    if words:
        columns = ('"user"', "provider", "account", "label")
        where.append("(" + " OR ".join(map(holding, columns)) + ")")
        values += [pattern(words)] * len(columns)
    rows = database.rows(f"SELECT {_COLUMNS} FROM connection WHERE {' AND '.join(where)} ORDER BY number LIMIT ?", (*values, limit))
    return [value(row) for row in rows]


def counted(database: Database) -> dict[str, int]:
    """How many connections are in each state."""
    return dict(database.rows("SELECT state, count(*) FROM connection GROUP BY state ORDER BY state"))


def shares_grant(database: Database, connection: Connection) -> bool:
    """Say whether another connection that is in use has the same grant: the same account there, through the same registration."""
    if not connection.provider_account:
        return False
    sql = (
        "SELECT 1 FROM connection WHERE provider = ? AND provider_account = ? AND registration = ? AND number <> ? "
        "AND state IN ('active', 'paused') LIMIT 1"
    )
    return bool(database.rows(sql, (connection.provider, connection.provider_account, connection.registration, connection.number)))


def uses_account(database: Database, provider: str, provider_account: str, registration: str | None) -> bool:
    """Say whether a connection has its grant for this account through this registration, or may have one that is the same."""
    sql = (
        "SELECT 1 FROM connection WHERE provider = ? AND provider_account = ? AND registration = ? "
        "AND state IN ('active', 'paused', 'needs_sign_in') LIMIT 1"
    )
    return bool(database.rows(sql, (provider, provider_account, registration)))


def at_accounts(database: Database, provider: str, accounts: Sequence[str]) -> list[Connection]:
    """Connections to these accounts at a provider, by the provider's own ids, or with these subscriptions.

    Those that work, and those that may again.
    """
    these = f"({', '.join('?' * len(accounts))})"
    where = (
        f"provider = ? AND (provider_account IN {these} OR number IN (SELECT connection FROM subscription WHERE id IN {these})) "
        "AND state IN ('active', 'needs_sign_in', 'paused')"
    )
    return _found(database, where, provider, *accounts, *accounts) if accounts else []


def withdrawn_from(database: Database, provider: str, accounts: Sequence[str], registration: str, at: int) -> list[Connection]:
    """Connections of these accounts through a registration that were signed in to before then, whether or not they still work."""
    these = f"({', '.join('?' * len(accounts))})"
    where = (
        f"provider = ? AND provider_account IN {these} AND registration = ? AND signed_in_at <= ? "
        "AND state NOT IN ('disconnected', 'erasing')"
    )
    return _found(database, where, provider, *accounts, registration, at) if accounts else []


def put(database: Database, signed_in: SignedIn, now: int) -> Connection:
    """Make the connection, or make the one there is active again: cursor, settings and id stay, and a pause does, too."""
    database.alone(f"user {signed_in.user}")  # an erasure sees it, or is seen
    known = of(database, signed_in.user, signed_in.provider, signed_in.account)
    columns: dict[str, Any] = {
        "registration": signed_in.registration,
        "state": "paused" if known is not None and known.state == "paused" else "active",
        "reason": "",
        "provider_account": signed_in.provider_account,
        "label": signed_in.label,
        "scopes": " ".join(signed_in.scopes),
        "meta": msgspec.json.encode(signed_in.meta).decode(),
        "signed_in_at": now,
        "changed_at": now,
    }
    if known is None:
        columns |= {"id": signed_in.id, '"user"': signed_in.user, "provider": signed_in.provider, "account": signed_in.account}
        columns |= {"created_at": now, "version": 1}
        sql = f"INSERT INTO connection ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        database.rows(sql, (*columns.values(),))
    else:
        changes = ", ".join(f"{column} = ?" for column in columns)
        sql = f"UPDATE connection SET {changes}, version = version + 1 WHERE number = ?"
        database.rows(sql, (*columns.values(), known.number))
    found = of(database, signed_in.user, signed_in.provider, signed_in.account)
    if found is None:
        raise AssertionError("a connection that was just written is there")
    return found


class StateChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Mark: a connection is in another state."""

    number: int
    state: State
    reason: str
    now: int

    def apply(self, database: Database) -> None:
        """Write it."""
        # What is being erased comes back to no other state, whoever had looked at it before.
        sql = "UPDATE connection SET state = ?, reason = ?, changed_at = ?, version = version + 1 WHERE number = ? AND state <> 'erasing'"
        database.rows(sql, (self.state, self.reason, self.now, self.number))


class StillActive(msgspec.Struct, frozen=True, kw_only=True):
    """Mark: this is of a connection that works; one that was disconnected or lost its grant meanwhile gets nothing more."""

    number: int

    def apply(self, database: Database) -> None:
        """Insist on it. Raises `LeaseLost`."""
        sql = f"SELECT number FROM connection WHERE number = ? AND state = 'active' {database.locking('FOR SHARE')}"
        if not database.rows(sql, (self.number,)):
            raise LeaseLost("the connection is not active any more")
