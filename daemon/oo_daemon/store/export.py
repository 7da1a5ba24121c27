"""Everything that is kept of a user, read for handing it out."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from oo_daemon.store import connections, inbox
from oo_daemon.store.connections import Connection
from oo_daemon.store.database import Database

#: Every table that is handed out, and under which name. A test holds this against the schema.
HANDED_OUT: Mapping[str, str] = {
    "connection": "connections",
    "schedule": "connections",
    "subscription": "connections",
    "outbox": "events",
    "delivery": "deliveries",
    "run": "runs",
    "job": "actions",
    "upload": "uploads",
    "credential_use": "uses",
}
#: What is kept of a person, and not handed out.
LEFT_OUT: Mapping[str, str] = {
    "credential": "the access itself: sealed, and shown to nobody",
    "object": "digests and numbers, to tell what is new; what they are of is in the events",
    "occurrence": "likewise",
    "occurrence_day": "likewise",
    "source": "addresses that webhooks are posted to, with their secrets",
    "flow": "sign-ins under way; gone within a day",
    "visit": "visits to their own page; gone within an hour or two",
    "subscriber": "when subscriptions are looked at next",
    "audit": "what administrators did; of a user only a random id is in it",
    "audit_subject": "which random id stands for whom",
    "consumer": "readers are the operator's, also one that reads the events of one user only",
    "erasure": "receipts: whose they are is not kept once they are done",
    "erasure_part": "likewise",
}


class Held(msgspec.Struct, frozen=True, kw_only=True):
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
        deliveries += _deliveries(database, connection)
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
                **_place(database, each.number),
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


def _place(database: Database, number: int) -> dict[str, Any]:
    """How far a connection was read, and what its provider pushes."""
    cursors = database.rows("SELECT cursor FROM schedule WHERE connection = ?", (number,))
    topics = database.rows("SELECT topic FROM subscription WHERE connection = ? AND state <> 'ended' ORDER BY topic", (number,))
    return {
        "cursor": msgspec.json.decode(cursors[0][0]) if cursors and cursors[0][0] else None,
        "pushes": [topic for (topic,) in topics],
    }


def events(database: Database, user: str, after: int, limit: int) -> list[tuple[int, bytes]]:
    """Some events of a user after a position, as (position, bytes)."""
    rows = database.rows(
        'SELECT position, body FROM outbox WHERE "user" = ? AND position > ? ORDER BY position LIMIT ?', (user, after, limit)
    )
    return [(position, bytes(body)) for position, body in rows]


#: Of a connection's own source, or of a provider's where the body names the account.
_DELIVERIES = (
    "SELECT s.connection = ? OR {subscribed}, d.delivery_id, s.provider, d.state, d.received_at, d.done_at, d.headers, d.body "
    "FROM delivery d JOIN source s ON s.id = d.source "
    "WHERE d.body IS NOT NULL AND (s.connection = ? OR (s.provider = ? AND ({names}))) ORDER BY d.number",
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


def _named(database: Database, id_: str, query: tuple[str, Sequence[str]], values: Sequence[Any]) -> list[dict[str, Any]]:
    sql, names = query
    return [{"connection": id_, **_shown(names, row)} for row in database.rows(sql, values)]


def _deliveries(database: Database, connection: Connection) -> list[dict[str, Any]]:
    sql, names = _DELIVERIES
    rows = database.rows(
        sql.format(subscribed=inbox.subscribed(database), names=inbox.names(database)),
        (connection.number, connection.number, connection.number, connection.provider, *inbox.named(connection)),
    )
    named = inbox.names_account(connection)
    return [{"connection": connection.id, **_shown(names, row)} for own, *row in rows if own or named(bytes(row[-1]))]


def _shown(names: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
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
