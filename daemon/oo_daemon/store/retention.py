"""What the outbox holds no longer than it must: looking for events that may go, and letting go of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from oo_daemon.store.accept import STREAM
from oo_daemon.store.database import Database
from oo_daemon.store.outbox import STILL_SO

#: True for the word that something is gone, as long as it is: that of an object, or of everything of somebody.
GONE = (
    "(outbox.type IN ('user.erased', 'connection.erased') OR (SELECT 1 FROM object g WHERE g.connection = outbox.connection "
    'AND g.type = outbox.type AND g."key" = outbox."key" AND g.position = outbox.position AND g.change = 2) IS NOT NULL)'
)
#: Up to where a consumer has what it needs: what came before its present state, it is not given.
READ = "CASE WHEN present_until > position THEN present_until ELSE position END"
#: What lies behind it, a sink took so lately that it may have to be given again.
HELD = "(SELECT min(t.position) FROM track t WHERE t.consumer = consumer.name HAVING count(*) > 1)"


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """How much the outbox holds, and how far it was read."""

    end: int
    events: int
    bytes: int
    read: int  #: every consumer has what lies up to here, and no sink can lose it; without any, the end


class Old(msgspec.Struct, frozen=True, kw_only=True):
    """One event that may have to go."""

    position: int
    size: int
    accepted_at: int
    still_so: bool  #: it says what its object is
    gone: bool  #: it says that something is gone
    dead: bool  #: it is among somebody's dead letters


def held(database: Database) -> Held:
    """How much there is."""
    ((end, events, size),) = database.rows("SELECT position, events, bytes FROM stream WHERE id = ?", (STREAM,))
    ((read,),) = database.rows(f"SELECT min(CASE WHEN {HELD} < {READ} THEN {HELD} ELSE {READ} END) FROM consumer")
    return Held(end=end, events=events, bytes=size, read=end if read is None else min(read, end))


def oldest(database: Database, after: int, to: int, limit: int) -> list[Old]:
    """Events after a position, up to another, in order."""
    rows = database.rows(
        f"SELECT position, length(body), accepted_at, {STILL_SO}, {GONE}, "
        "EXISTS (SELECT 1 FROM dead_letter d WHERE d.position = outbox.position) "
        "FROM outbox WHERE position > ? AND position <= ? ORDER BY position LIMIT ?",
        (after, to, limit),
    )
    return [
        Old(position=position, size=size, accepted_at=at, still_so=bool(still), gone=bool(gone), dead=bool(dead))
        for position, size, at, still, gone, dead in rows
    ]


def drop(database: Database, positions: Sequence[int]) -> None:
    """Let go of the events at these positions. The index keeps what they were the same by."""
    places = ", ".join("?" * len(positions))
    let_go(
        database, [size for (size,) in database.rows(f"DELETE FROM outbox WHERE position IN ({places}) RETURNING length(body)", positions)]
    )


def let_go(database: Database, sizes: Sequence[int]) -> None:
    """Count events of these sizes as no longer there."""
    database.rows("UPDATE stream SET events = events - ?, bytes = bytes - ? WHERE id = ?", (len(sizes), sum(sizes), STREAM))


def unread_since(database: Database) -> Mapping[str, int]:
    """By consumer that has something to read, when the oldest of it was accepted."""
    rows = database.rows(
        f"SELECT name, (SELECT o.accepted_at FROM outbox o WHERE o.position > c.here ORDER BY o.position LIMIT 1) "
        f"FROM (SELECT name, {READ} AS here FROM consumer) c ORDER BY name"
    )
    return {name: at for name, at in rows if at is not None}
