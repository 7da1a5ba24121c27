"""Events of oO itself: what happened to a connection, and what became of an action."""

from __future__ import annotations

from collections.abc import Mapping

from oo_daemon.outbox import wire
from oo_daemon.store.accept import OCCURRED, Draft
from oo_daemon.store.connections import Connection
from oo_daemon.store.jobs import Job
from oo_sdk import Change, Event
from oo_sdk.vocabulary import Record


def connection_event(connection: Connection, what: str, at: int, **fields: str) -> Draft:
    """`connection.{what}`, once for each version of the connection's row."""
    return _event("connection", what, connection.id, f"{connection.id} {connection.version}", at, fields)


def action_event(job: Job, what: str, at: int, *, subject: str = "", reason: str = "") -> Draft:
    """`action.{what}`, once for each action, without its arguments. `subject` is the provider's id of what was changed or made."""
    fields = {"name": str(job.body["name"]), "key": job.key, "subject": subject, "reason": reason}
    return _event("action", what, job.id, f"{job.id} {job.created_at}", at, fields)


def erased_event(about: str, subject: str, erasure: str, at: int) -> Draft:
    """`user.erased` or `connection.erased`: whoever has copies of what came before is to erase them, too."""
    return _event(about, "erased", subject, erasure, at, {"erasure": erasure})


def _event(about: str, what: str, subject: str, key: str, at: int, fields: Mapping[str, str]) -> Draft:
    record = Record()
    record.fields.update({name: text for name, text in fields.items() if text})
    told = wire.draft(about, Event(what, subject, Change.OCCURRED, payload=record))
    return Draft(
        type=told.type,
        key=key,
        subject=subject,
        change=OCCURRED,
        digest=told.digest,
        at=at,
        payload_type=told.payload_type,
        payload=told.payload,
    )
