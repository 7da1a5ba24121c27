"""Connections: one user's link to one provider, one row per (user, provider, account)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec

from oo_daemon.store.database import Database
from oo_daemon.store.models import ConnectionRow

State = Literal["active", "needs_sign_in", "paused", "revoking", "disconnected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Who is linked to what. `number` is the store's own; `id` is random and what others see."""

    number: int
    id: str
    user: str
    provider: str
    account: str
    registration: str | None
    state: State
    reason: str  #: why it is not active, for people
    provider_account: str  #: the provider's own id of the account
    label: str  #: how the person knows the account
    scopes: tuple[str, ...]
    meta: Mapping[str, Any]
    created_at: int
    changed_at: int
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
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


def _value(row: ConnectionRow) -> Connection:
    return Connection(
        number=row.number,
        id=row.id,
        user=row.user,
        provider=row.provider,
        account=row.account,
        registration=row.registration,
        state=cast(State, row.state),
        reason=row.reason,
        provider_account=row.provider_account,
        label=row.label,
        scopes=tuple(row.scopes.split()),
        meta=msgspec.json.decode(row.meta),
        created_at=row.created_at,
        changed_at=row.changed_at,
        version=row.version,
    )


def by_id(database: Database, id_: str) -> Connection | None:
    """The connection with this random id."""
    row = ConnectionRow.select().where(ConnectionRow.id == id_).first(database)
    return _value(row) if row else None


def by_number(database: Database, number: int) -> Connection | None:
    """The connection with the store's own number."""
    row = ConnectionRow.select().where(ConnectionRow.number == number).first(database)
    return _value(row) if row else None


def of(database: Database, user: str, provider: str, account: str) -> Connection | None:
    """The connection of this user's account at this provider."""
    row = (
        ConnectionRow.select()
        .where(ConnectionRow.user == user, ConnectionRow.provider == provider, ConnectionRow.account == account)
        .first(database)
    )
    return _value(row) if row else None


def listed(database: Database, *, user: str | None = None, provider: str | None = None) -> list[Connection]:
    """All connections, or those of a user or provider, oldest first."""
    query = ConnectionRow.select().order_by(ConnectionRow.number)
    if user is not None:
        query = query.where(ConnectionRow.user == user)
    if provider is not None:
        query = query.where(ConnectionRow.provider == provider)
    return [_value(row) for row in query.execute(database)]


def counted(database: Database) -> dict[str, int]:
    """How many connections are in each state."""
    return dict(database.rows("SELECT state, count(*) FROM connection GROUP BY state ORDER BY state"))


def put(database: Database, signed_in: SignedIn, now: int) -> Connection:
    """Make the connection, or make the one there is active again: cursor, settings and id stay."""
    known = of(database, signed_in.user, signed_in.provider, signed_in.account)
    columns: dict[str, Any] = {
        "registration": signed_in.registration,
        "state": "active",
        "reason": "",
        "provider_account": signed_in.provider_account,
        "label": signed_in.label,
        "scopes": " ".join(signed_in.scopes),
        "meta": msgspec.json.encode(signed_in.meta).decode(),
        "changed_at": now,
    }
    if known is None:
        key = {"id": signed_in.id, "user": signed_in.user, "provider": signed_in.provider, "account": signed_in.account}
        ConnectionRow.insert(**key, **columns, created_at=now, version=1).execute(database)
    else:
        changed = ConnectionRow.update(**columns, version=ConnectionRow.version + 1)
        changed.where(ConnectionRow.number == known.number).execute(database)
    found = of(database, signed_in.user, signed_in.provider, signed_in.account)
    if found is None:
        raise AssertionError("a connection that was just written is there")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged:
    """Mark: a connection is in another state."""

    number: int
    state: State
    reason: str
    now: int

    def apply(self, database: Database) -> None:
        """Write it."""
        change = {"state": self.state, "reason": self.reason, "changed_at": self.now}
        ConnectionRow.update(**change, version=ConnectionRow.version + 1).where(ConnectionRow.number == self.number).execute(database)
