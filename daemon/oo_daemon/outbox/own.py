"""Events of oO itself: what happened to a connection."""

from __future__ import annotations

from oo_daemon.outbox import wire
from oo_daemon.store.accept import OCCURRED, Draft
from oo_daemon.store.connections import Connection
from oo_sdk import Change, Event
from oo_sdk.vocabulary import Record


def connection_event(connection: Connection, what: str, at: int, **fields: str) -> Draft:
    """`connection.{what}`, once for each version of the connection's row."""
    record = Record()
    record.fields.update(fields)
    told = wire.draft("connection", Event(what, connection.id, Change.OCCURRED, payload=record))
    return Draft(
        type=told.type,
        key=f"{connection.id} {connection.version}",
        subject=connection.id,
        change=OCCURRED,
        digest=told.digest,
        at=at,
        payload_type=told.payload_type,
        payload=told.payload,
    )
