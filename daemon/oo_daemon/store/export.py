"""Everything that is kept of a user, read for handing it out."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from oo_daemon.store import connections
from oo_daemon.store.database import Database, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What is small; the events are read one stretch after the other."""

    connections: Sequence[Mapping[str, Any]]
    deliveries: Sequence[Mapping[str, Any]]
    runs: Sequence[Mapping[str, Any]]
    actions: Sequence[Mapping[str, Any]]
    uploads: Sequence[Mapping[str, Any]]
    uses: Sequence[Mapping[str, Any]]


def of_user(database: Database, user: str) -> Held:
    """Read it, on one state of the database."""
    known = connections.listed(database, user=user)
    deliveries: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    actions: list[dict[str, Any]] = []
    uploads: list[dict[str, Any]] = []
    uses: list[dict[str, Any]] = []
    for connection in known:
        deliveries += _named(database, connection.id, _DELIVERIES, (connection.number, *_names(database, connection)))
        runs += _named(database, connection.id, _RUNS, (connection.number,))
        actions += _named(database, connection.id, _ACTIONS, (connection.number,))
        uploads += _named(database, connection.id, _UPLOADS, (connection.number,))
        uses += _named(database, connection.id, _USES, (connection.number,))
    return Held(
        connections=[
            {
                "connection": each.id,
                "user": each.user,
                "provider": each.provider,
                "account": each.account,
                "state": each.state,
                "label": each.label,
                "account_at_provider": each.provider_account,
                "allowed": list(each.scopes),
                "meta": each.meta,
                "created_at": each.created_at,
                "changed_at": each.changed_at,
            }
            for each in known
        ],
        deliveries=deliveries,
        runs=runs,
        actions=actions,
        uploads=uploads,
        uses=uses,
    )


def events(database: Database, user: str, after: int, limit: int) -> list[tuple[int, bytes]]:
    """Some events of a user after a position, as (position, bytes)."""
    rows = database.rows(
        'SELECT position, body FROM outbox WHERE "user" = ? AND position > ? ORDER BY position LIMIT ?', (user, after, limit)
    )
    return [(position, bytes(body)) for position, body in rows]


#: Of a connection's own source, or of a provider's where the body names the account.
_DELIVERIES = (
    "SELECT d.delivery_id, s.provider, d.state, d.received_at, d.done_at, d.headers, d.body "
    "FROM delivery d JOIN source s ON s.id = d.source "
    "WHERE d.body IS NOT NULL AND (s.connection = ? OR (s.provider = ? AND {holds})) ORDER BY d.number",
    ("delivery_id", "provider", "state", "received_at", "done_at", "headers", "body"),
)
_RUNS = (
    "SELECT started_at, finished_at, outcome, detail, calls, bytes, pages, events, unreadable FROM run "
    "WHERE connection = ? ORDER BY started_at",
    ("started_at", "finished_at", "outcome", "detail", "calls", "bytes", "pages", "events", "unreadable"),
)
_ACTIONS = (
    "SELECT id, body, state, result, reason, created_at, finished_at FROM job WHERE connection = ? AND kind = 'act' ORDER BY number",
    ("id", "body", "state", "result", "reason", "created_at", "finished_at"),
)
_UPLOADS = (
    "SELECT name, state, reason, size, events, created_at, began_at, finished_at FROM upload WHERE connection = ? ORDER BY created_at, id",
    ("name", "state", "reason", "size", "events", "created_at", "began_at", "finished_at"),
)
_USES = ("SELECT hour, host, uses FROM credential_use WHERE connection = ? ORDER BY hour, host", ("hour", "host", "uses"))


def _names(database: Database, connection: connections.Connection) -> tuple[Any, ...]:
    # An account without a name is named by no body: an empty text would be in every one.
    return connection.provider, (connection.provider_account or "\0none\0").encode()


def _named(database: Database, id_: str, query: tuple[str, Sequence[str]], values: Sequence[Any]) -> list[dict[str, Any]]:
    sql, names = query
    holds = "position(? in d.body) > 0" if database.dialect == "postgresql" else "instr(d.body, ?) > 0"
    return [{"connection": id_, **_shown(names, row)} for row in database.rows(sql.replace("{holds}", holds), values)]


def _shown(names: Sequence[str], row: Row) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, value in zip(names, row, strict=True):
        if name in {"headers", "result"} or (name == "body" and isinstance(value, str)):
            shown[name] = None if value is None else msgspec.json.decode(value)
        elif isinstance(value, bytes | memoryview):
            text = bytes(value)
            try:
                shown[name] = text.decode()
            except UnicodeDecodeError:
                shown[f"{name}_base64"] = base64.b64encode(text).decode()
        else:
            shown[name] = value
    return shown
