"""The waist: the one function through which events enter the outbox.

One transaction writes the outbox rows and the mark (a cursor moved, a connection changed). Everything before it may be repeated: the object
index swallows what is already known. Everything after it reads the outbox.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Protocol, TypeAlias

from oo_daemon.store.connections import Connection
from oo_daemon.store.database import Database

UPSERTED, DELETED, OCCURRED = 1, 2, 3
STREAM = 0
#: Keys in one look-up: SQLite takes 32,766 parameters, PostgreSQL 65,535.
LOOK_UP = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An event before it has a revision, an id and a position."""

    type: str
    key: str  #: what it is the same by, within connection and type
    subject: str  #: the provider's id of the thing; the key, where it can change
    change: int
    digest: bytes  #: of change and payload: an equal one is no change
    at: int | None = None  #: when it happened, as the provider says
    version: str = ""
    order: int | None = None
    payload_type: str = ""  #: type URL
    payload: bytes = b""
    keep_key_until: int | None = None  #: for OCCURRED; None: as long as the connection lives


#: (connection, draft, event id, revision, observed at) → the event as bytes.
Encode: TypeAlias = Callable[[Connection, Draft, str, int, int], bytes]


class Mark(Protocol):
    """What is committed together with events. Applied first; raises to refuse the whole transaction."""

    def apply(self, database: Database) -> None:
        """Write it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """End of a full listing: objects of these types that it did not show are gone. At most `limit` at once."""

    types: tuple[str, ...]
    limit: int = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one transaction accepts."""

    connection: Connection
    observed_at: int
    drafts: Sequence[Draft] = ()
    marks: Sequence[Mark] = ()
    sweep: Sweep | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What came of it."""

    events: int
    last_position: int | None
    swept: int = 0


@dataclass(slots=True)
class _Known:
    revision: int
    change: int
    digest: bytes
    version: str
    order: int | None
    position: int
    generation: int


@dataclass(slots=True)
class _Outcome:
    """Rows to write, in the order in which they came."""

    events: list[tuple[Draft, int]] = field(default_factory=list)
    objects: dict[tuple[str, str], _Known] = field(default_factory=dict)  #: changed index rows
    occurrences: list[tuple[bytes, int | None]] = field(default_factory=list)


def event_id(connection: str, type_: str, key: str, revision: int) -> str:
    """The id of an event: the same data twice gives the same id, on any machine, for as long as the connection lives."""
    hasher = blake2b(digest_size=16)
    for part in (connection, type_, key, str(revision)):
        data = part.encode()
        hasher.update(len(data).to_bytes(4) + data)
    return hasher.hexdigest()


def accept(database: Database, batch: Batch, encode: Encode) -> Accepted:
    """Write the events that say something new, and the marks. Run it inside a transaction."""
    number = batch.connection.number
    for mark in batch.marks:
        mark.apply(database)
    generation = _generation(database, number)
    drafts = list(batch.drafts)
    swept = _sweep(database, number, batch.sweep, generation, batch.observed_at) if batch.sweep else []
    outcome = _decide(database, number, generation, drafts + swept)
    if not outcome.events:
        _write_index(database, number, outcome)
        return Accepted(events=0, last_position=None, swept=len(swept))
    last = _take_positions(database, len(outcome.events))
    first = last - len(outcome.events) + 1
    rows = []
    for position, (draft, revision) in enumerate(outcome.events, first):
        known = outcome.objects.get((draft.type, draft.key))
        if known is not None:
            known.position = position
        identity = event_id(batch.connection.id, draft.type, draft.key, revision)
        body = encode(batch.connection, draft, identity, revision, batch.observed_at)
        rows.append((position, STREAM, number, batch.connection.user, draft.type, body, batch.observed_at))
    _write_index(database, number, outcome)
    database.many('INSERT INTO outbox (position, stream, connection, "user", type, body, accepted_at) VALUES (?, ?, ?, ?, ?, ?, ?)', rows)
    return Accepted(events=len(rows), last_position=last, swept=len(swept))


def _generation(database: Database, number: int) -> int:
    rows = database.rows("SELECT generation FROM schedule WHERE connection = ?", (number,))
    return int(rows[0][0]) if rows else 0


def _take_positions(database: Database, count: int) -> int:
    """The last of a block of positions that nobody else has; the row stays locked until the commit, so blocks become visible in order."""
    ((position,),) = database.rows("UPDATE stream SET position = position + ? WHERE id = ? RETURNING position", (count, STREAM))
    return int(position)


def _decide(database: Database, number: int, generation: int, drafts: Sequence[Draft]) -> _Outcome:
    """Hold each draft against the index; a later draft of the same object sees what an earlier one of the batch did."""
    outcome = _Outcome()
    known = _look_up(database, number, [draft for draft in drafts if draft.change != OCCURRED])
    met = _met_before(database, number, [draft for draft in drafts if draft.change == OCCURRED])
    for draft in drafts:
        if draft.change == OCCURRED:
            key = _occurrence_key(draft)
            if key not in met:
                met.add(key)
                outcome.occurrences.append((key, draft.keep_key_until))
                outcome.events.append((draft, 1))
            continue
        place = (draft.type, draft.key)
        before = known.get(place)
        after = _next(before, draft, generation)
        if after is None:
            continue
        if after.revision and (before is None or after.revision > before.revision):
            outcome.events.append((draft, after.revision))
        known[place] = outcome.objects[place] = after
    return outcome


def _next(before: _Known | None, draft: Draft, generation: int) -> _Known | None:
    """The index row after this draft; None: nothing to write. A higher revision means an event."""
    if before is None:
        if draft.change == DELETED and draft.order is None:
            return None  # never seen, and gone: nobody was told of it
        revision = 0 if draft.change == DELETED else 1  # a tombstone ahead of its object is kept, so that the older state stays out
        return _Known(revision, draft.change, draft.digest, draft.version, draft.order, 0, generation)
    if draft.order is not None and before.order is not None and draft.order < before.order:
        return None
    same_version = bool(draft.version) and draft.version == before.version and draft.change == before.change
    same = same_version or draft.digest == before.digest
    order = draft.order if draft.order is not None else before.order
    if same:
        seen = (draft.digest, draft.version or before.version, order, generation)
        if seen == (before.digest, before.version, before.order, before.generation):
            return None
        return _Known(before.revision, before.change, draft.digest, draft.version or before.version, order, before.position, generation)
    if before.revision == 0 and draft.change == DELETED:
        return replace(before, digest=draft.digest, version=draft.version, order=order)
    return _Known(before.revision + 1, draft.change, draft.digest, draft.version, order, before.position, generation)


def _look_up(database: Database, number: int, drafts: Sequence[Draft]) -> dict[tuple[str, str], _Known]:
    by_type: dict[str, list[str]] = {}
    for draft in drafts:
        by_type.setdefault(draft.type, []).append(draft.key)
    known = {}
    for type_, keys in by_type.items():
        for start in range(0, len(keys), LOOK_UP):
            some = keys[start : start + LOOK_UP]
            some += some[-1:] * (LOOK_UP - len(some)) if len(some) > 1 else []  # one statement text: it is prepared once
            sql = (
                'SELECT "key", revision, change, digest, version, ordinal, position, generation '
                f'FROM object WHERE connection = ? AND type = ? AND "key" IN ({", ".join("?" * len(some))})'
            )
            for key, revision, change, digest, version, order, position, gen in database.rows(sql, (number, type_, *some)):
                known[type_, key] = _Known(revision, change, bytes(digest), version, order, position, gen)
    return known


def _met_before(database: Database, number: int, drafts: Sequence[Draft]) -> set[bytes]:
    keys = [_occurrence_key(draft) for draft in drafts]
    met: set[bytes] = set()
    for start in range(0, len(keys), LOOK_UP):
        some = keys[start : start + LOOK_UP]
        some += some[-1:] * (LOOK_UP - len(some)) if len(some) > 1 else []
        sql = f'SELECT "key" FROM occurrence WHERE connection = ? AND "key" IN ({", ".join("?" * len(some))})'
        met.update(bytes(key) for (key,) in database.rows(sql, (number, *some)))
    return met


def _occurrence_key(draft: Draft) -> bytes:
    return blake2b(len(draft.type).to_bytes(4) + f"{draft.type}{draft.key}".encode(), digest_size=16).digest()


def _write_index(database: Database, number: int, outcome: _Outcome) -> None:
    if outcome.objects:
        database.many(
            'INSERT INTO object (connection, type, "key", revision, change, digest, version, ordinal, position, generation) '
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            'ON CONFLICT (connection, type, "key") DO UPDATE SET revision = excluded.revision, change = excluded.change, '
            "digest = excluded.digest, version = excluded.version, ordinal = excluded.ordinal, position = excluded.position, "
            "generation = excluded.generation",
            [
                (number, type_, key, row.revision, row.change, row.digest, row.version, row.order, row.position, row.generation)
                for (type_, key), row in outcome.objects.items()
            ],
        )
    if outcome.occurrences:
        database.many(
            'INSERT INTO occurrence (connection, "key", keep_until) VALUES (?, ?, ?)',
            [(number, key, until) for key, until in outcome.occurrences],
        )


def _sweep(database: Database, number: int, sweep: Sweep, generation: int, now: int) -> list[Draft]:
    """Tombstones for what a finished listing did not show."""
    marks = ", ".join("?" * len(sweep.types))
    gone = database.rows(
        f'SELECT type, "key" FROM object WHERE connection = ? AND type IN ({marks}) AND generation < ? AND change = ? '
        'ORDER BY type, "key" LIMIT ?',
        (number, *sweep.types, generation, UPSERTED, sweep.limit),
    )
    return [Draft(type=type_, key=key, subject=key, change=DELETED, digest=tombstone_digest()) for type_, key in gone]


def tombstone_digest() -> bytes:
    """The digest of every deletion: one deletion after another is no change."""
    return blake2b(bytes([DELETED]), digest_size=16).digest()
