"""Consumers: named readers of the outbox, each with the position up to which it is done.

A position moves by compare-and-swap, so that it never runs backwards, also where two processes serve one consumer for a moment.
"""

from __future__ import annotations

from dataclasses import dataclass

from oo_daemon.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """How far a reader is, and what stands in its way."""

    name: str
    position: int
    tries: int  #: failures since it last moved
    reason: str  #: of the last one, for people


def of_sink(sink: str) -> str:
    """The name by which a sink is a consumer."""
    return f"sink:{sink}"


def join(database: Database, name: str, now: int) -> int:
    """The position of a consumer; a new one begins before the first event."""
    database.rows(
        "INSERT INTO consumer (name, position, tries, reason, created_at, moved_at) VALUES (?, 0, 0, '', ?, NULL) "
        "ON CONFLICT (name) DO NOTHING",
        (name, now),
    )
    ((position,),) = database.rows("SELECT position FROM consumer WHERE name = ?", (name,))
    return int(position)


def advance(database: Database, name: str, before: int, after: int, now: int) -> bool:
    """Move a consumer on; False: it is no longer where this reader began, and stays where it is."""
    rows = database.rows(
        "UPDATE consumer SET position = ?, tries = 0, reason = '', moved_at = ? WHERE name = ? AND position = ? AND position < ? "
        "RETURNING position",
        (after, now, name, before, after),
    )
    return bool(rows)


def failed(database: Database, name: str, reason: str) -> None:
    """Count a failure."""
    database.rows("UPDATE consumer SET tries = tries + 1, reason = ? WHERE name = ?", (reason, name))


def listed(database: Database) -> list[Consumer]:
    """All consumers, by name."""
    rows = database.rows("SELECT name, position, tries, reason FROM consumer ORDER BY name")
    return [Consumer(name=name, position=position, tries=tries, reason=reason) for name, position, tries, reason in rows]
