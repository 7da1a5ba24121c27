"""How much there is, and how old: what numbers are made of."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from oo_daemon.store import retention
from oo_daemon.store.accept import STREAM
from oo_daemon.store.database import Database


class Levels(msgspec.Struct, frozen=True, kw_only=True):
    """One look over the tables; times are those of the store."""

    inbox_oldest: int | None  #: when the oldest delivery arrived that is still to become events
    outbox: int  #: events that are kept
    outbox_bytes: int  #: their bytes
    outbox_oldest: int | None  #: when the oldest was accepted
    behind: Mapping[str, int]  #: events that each consumer has still to read
    unread_since: Mapping[str, int]  #: when the oldest of them was accepted
    connections: Mapping[tuple[str, str], int]  #: by provider and state
    stalest: Mapping[str, int]  #: by provider, when the active connection that waits longest was last synced to its end


def looked_at(database: Database) -> Levels:
    """Look, on one state of the database."""
    ((inbox_oldest,),) = database.rows("SELECT min(received_at) FROM delivery WHERE state = 'received'")
    ((position, events, size),) = database.rows("SELECT position, events, bytes FROM stream WHERE id = ?", (STREAM,))
    oldest = database.rows("SELECT accepted_at FROM outbox ORDER BY position LIMIT 1")
    counts = database.rows("SELECT provider, state, count(*) FROM connection GROUP BY provider, state")
    return Levels(
        inbox_oldest=inbox_oldest,
        outbox=events,
        outbox_bytes=size,
        outbox_oldest=oldest[0][0] if oldest else None,
        behind={name: position - read for name, read in database.rows("SELECT name, position FROM consumer")},
        unread_since=retention.unread_since(database),
        connections={(provider, state): count for provider, state, count in counts},
        stalest={
            provider: at for provider, state, _ in counts if state == "active" and (at := _longest_ago(database, provider)) is not None
        },
    )


def _longest_ago(database: Database, provider: str) -> int | None:
    # Of one provider after the other: for all at once the database would sort all of its connections.
    ((at,),) = database.rows(
        "SELECT min(COALESCE(s.finished_at, c.created_at)) FROM connection c JOIN schedule s ON s.connection = c.number "
        "WHERE c.provider = ? AND c.state = 'active' AND s.next_run_at IS NOT NULL",
        (provider,),
    )
    return None if at is None else int(at)
