"""Uploads: the files that people hand in, from the ticket to the summary.

State: awaited → queued → running → done | failed; until it has ended, somebody may cancel it. An import that died is queued again and goes
on from its cursor. What was read and what was told of it are written with the cursor, so that they agree with it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import msgspec

from oo_daemon.store.accept import STREAM
from oo_daemon.store.database import Database, Row
from oo_daemon.store.errors import LeaseLost

Ending = Literal["done", "failed", "cancelled"]
State = Literal["awaited", "queued", "running", "done", "failed", "cancelled"]


class Kind(msgspec.Struct, omit_defaults=True):
    """What a file holds of one type of event."""

    records: int = 0
    events: int = 0  #: of them new; known once the import has ended
    months: dict[str, int] = {}  #: "2024-11" → records that began in it


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """One imported file."""

    id: str
    connection: int
    state: State
    reason: str  #: why it failed, for the person
    name: str  #: as the person calls the file
    size: int | None  #: bytes; None until it is known
    received: int  #: bytes that are at its place
    place: str  #: where the file lies: one of several hosts' folders
    cursor: Mapping[str, Any] | None  #: the last checkpoint
    done: int  #: bytes of the file that were read
    kinds: Mapping[str, Kind]  #: by type
    events: int  #: new ones
    tries: int  #: how often it was begun since its last checkpoint
    expires_at: int  #: when the ticket ends, unless the file is here by then
    created_at: int
    began_at: int | None
    finished_at: int | None

    @property
    def records(self) -> int:
        """How many were read."""
        return sum(kind.records for kind in self.kinds.values())

    @property
    def ended(self) -> bool:
        """Nothing more will come of it."""
        return self.state in {"done", "failed", "cancelled"}


_COLUMNS = (
    'id, connection, state, reason, name, size, received, place, "cursor", done, summary, events, tries, '
    "expires_at, created_at, began_at, finished_at"
)


def _value(row: Row) -> Upload:
    (
        id_,
        connection,
        state,
        reason,
        name,
        size,
        received,
        place,
        cursor,
        done,
        summary,
        events,
        tries,
        expires_at,
        created,
        began,
        finished,
    ) = row
    return Upload(
        id=id_,
        connection=connection,
        state=state,
        reason=reason,
        name=name,
        size=size,
        received=received,
        place=place,
        cursor=None if cursor is None else msgspec.json.decode(cursor),
        done=done,
        kinds=msgspec.json.decode(summary, type=dict[str, Kind]),
        events=events,
        tries=tries,
        expires_at=expires_at,
        created_at=created,
        began_at=began,
        finished_at=finished,
    )


def _found(database: Database, where: str, *values: object) -> list[Upload]:
    return [_value(row) for row in database.rows(f"SELECT {_COLUMNS} FROM upload WHERE {where}", values)]


def add(
    database: Database, *, id_: str, connection: int, ticket_hash: bytes, expires_at: int, name: str, size: int | None, now: int
) -> None:
    """Await a file."""
    database.rows(
        "INSERT INTO upload (id, connection, ticket_hash, expires_at, state, reason, name, size, received, done, summary, events, tries, "
        "created_at) VALUES (?, ?, ?, ?, 'awaited', '', ?, ?, 0, 0, '{}', 0, 0, ?)",
        (id_, connection, ticket_hash, expires_at, name, size, now),
    )


def by_id(database: Database, id_: str) -> Upload | None:
    """The upload with this id."""
    return next(iter(_found(database, "id = ?", id_)), None)


def by_ticket(database: Database, ticket_hash: bytes) -> Upload | None:
    """The upload that a ticket is for."""
    return next(iter(_found(database, "ticket_hash = ?", ticket_hash)), None)


def listed(database: Database, *, user: str | None = None, limit: int = 100) -> list[Upload]:
    """The latest, of all or of one user, newest first."""
    if user is None:
        return _found(database, "1 = 1 ORDER BY created_at DESC, id LIMIT ?", limit)
    of = 'connection IN (SELECT number FROM connection WHERE "user" = ?)'
    return _found(database, f"{of} ORDER BY created_at DESC, id LIMIT ?", user, limit)


def unfinished(database: Database) -> list[Upload]:
    """Those of which something may still come."""
    return _found(database, "state IN ('awaited', 'queued', 'running') ORDER BY created_at, id")


def described(database: Database, id_: str, name: str, size: int | None) -> bool:
    """Note how the file is called and how large it is, as long as nothing of it is here."""
    sql = "UPDATE upload SET name = ?, size = ? WHERE id = ? AND state = 'awaited' AND received = 0 RETURNING 1"
    return bool(database.rows(sql, (name, size, id_)))


def received(database: Database, id_: str, so_far: int, place: str) -> bool:
    """Note how much of the file is where; False where it is not awaited any more."""
    sql = "UPDATE upload SET received = ?, place = ? WHERE id = ? AND state = 'awaited' RETURNING 1"
    return bool(database.rows(sql, (so_far, place, id_)))


def queue(database: Database, id_: str) -> bool:
    """The file is here, whole."""
    sql = "UPDATE upload SET state = 'queued', size = received WHERE id = ? AND state = 'awaited' RETURNING 1"
    return bool(database.rows(sql, (id_,)))


def rescue(database: Database, place: str, id_: str | None = None) -> int:
    """Queue again what lies at a place and ran in a process that is gone, all or one; gives how many there were."""
    which, values = ("place = ?", (place,)) if id_ is None else ("place = ? AND id = ?", (place, id_))
    return len(database.rows(f"UPDATE upload SET state = 'queued' WHERE state = 'running' AND {which} RETURNING 1", values))


def adopt(database: Database, place: str) -> None:
    """Say where files lie that have no place yet: the database was copied from that of a daemon alone, whose folder this is."""
    database.rows("UPDATE upload SET place = ? WHERE place = '' AND state IN ('awaited', 'queued', 'running')", (place,))


def put_back(database: Database, place: str, reading: Collection[str]) -> int:
    """Queue again what is under way at a place and not read: it could not go on for no fault of its own. Gives how many there were."""
    running = database.rows("SELECT id FROM upload WHERE state = 'running' AND place = ?", (place,))
    left = [(id_,) for (id_,) in running if id_ not in reading]
    sql = "UPDATE upload SET state = 'queued', tries = CASE WHEN tries > 0 THEN tries - 1 ELSE 0 END WHERE id = ? AND state = 'running'"
    database.many(sql, left)
    return len(left)


def claim(database: Database, place: str, now: int, most: int) -> Upload | None:
    """Begin the oldest at a place that is queued, one of each user at a time and `most` of all there."""
    sql = (
        "UPDATE upload SET state = 'running', tries = tries + 1, began_at = COALESCE(began_at, ?), "
        "after_position = COALESCE(after_position, (SELECT position FROM stream WHERE id = ?)) "
        "WHERE id = (SELECT u.id FROM upload u JOIN connection c ON c.number = u.connection WHERE u.state = 'queued' "
        "AND u.place = ? AND (SELECT count(*) FROM upload WHERE state = 'running' AND place = ?) < ? AND NOT EXISTS ("
        'SELECT 1 FROM upload r JOIN connection d ON d.number = r.connection WHERE r.state = \'running\' AND d."user" = c."user") '
        f"ORDER BY u.created_at, u.id LIMIT 1) AND state = 'queued' RETURNING {_COLUMNS}"
    )
    rows = database.rows(sql, (now, STREAM, place, place, most))
    return _value(rows[0]) if rows else None


def end(database: Database, id_: str, state: Ending, reason: str, now: int) -> bool:
    """End it, unless it has ended; False where it had."""
    sql = (
        'UPDATE upload SET state = ?, reason = ?, finished_at = ?, "cursor" = NULL '
        "WHERE id = ? AND state IN ('awaited', 'queued', 'running') RETURNING 1"
    )
    return bool(database.rows(sql, (state, reason, now, id_)))


def new_events(database: Database, id_: str) -> dict[str, int]:
    """How many events came into the outbox with it, by type: counted there, so that no crash can make it wrong."""
    sql = (
        "SELECT o.type, count(*) FROM upload u JOIN outbox o ON o.connection = u.connection AND o.position > u.after_position "
        "WHERE u.id = ? GROUP BY o.type"
    )
    return dict(database.rows(sql, (id_,)))


def summed(database: Database, id_: str, kinds: Mapping[str, Kind], events: int) -> None:
    """Write the summary."""
    database.rows("UPDATE upload SET summary = ?, events = ? WHERE id = ?", (msgspec.json.encode(kinds).decode(), events, id_))


class StillRunning(msgspec.Struct, frozen=True, kw_only=True):
    """Mark: this is of an import that nobody has cancelled."""

    upload: str

    def apply(self, database: Database) -> None:
        """Insist on it. Raises `LeaseLost`."""
        sql = f"SELECT 1 FROM upload WHERE id = ? AND state = 'running' {database.locking('FOR SHARE')}"
        if not database.rows(sql, (self.upload,)):
            raise LeaseLost("the import was cancelled")


class Advanced(msgspec.Struct, frozen=True, kw_only=True):
    """Mark: everything up to a checkpoint is in. `cursor` is None at the end of the file."""

    upload: str
    cursor: Mapping[str, Any] | None
    done: int
    kinds: Mapping[str, Kind]
    events: int

    def apply(self, database: Database) -> None:
        """Write it. Raises `LeaseLost`."""
        rows = database.rows(
            "UPDATE upload SET \"cursor\" = ?, done = ?, summary = ?, events = ?, tries = 1 WHERE id = ? AND state = 'running' RETURNING 1",
            (
                None if self.cursor is None else msgspec.json.encode(self.cursor).decode(),
                self.done,
                msgspec.json.encode(self.kinds).decode(),
                self.events,
                self.upload,
            ),
        )
        if not rows:
            raise LeaseLost("the import was cancelled")
