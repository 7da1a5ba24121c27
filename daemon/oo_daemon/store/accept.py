"""The waist: the one function through which events enter the outbox.

One transaction writes the outbox rows and the mark (a cursor moved, a connection changed). Everything before it may be repeated: the object
index swallows what is already known. Everything after it reads the outbox.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain, islice, repeat
from typing import Protocol, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace

from oo_daemon.store.database import Database
from oo_daemon.store.errors import Erased
from oo_daemon.store.schedule import Listings, listings
from oo_daemon.store.values import (
    DAY_KEY,
    DELETED,
    OCCURRED,
    UPSERTED,
    Connection,
    Day,
    Draft,
    Encoded,
    event_id,
    event_ids,
    tombstone_digest,
)

__all__ = [
    "DAY_KEY",
    "DELETED",
    "OCCURRED",
    "UPSERTED",
    "Accepted",
    "Batch",
    "Day",
    "Draft",
    "Encode",
    "Encoded",
    "Mark",
    "Sweep",
    "accept",
    "event_id",
    "event_ids",
    "known_days",
    "tombstone_digest",
]

T = TypeVar("T")

STREAM = 0
#: Keys in one look-up. SQLite takes 32,766 parameters, PostgreSQL 65,535.
LOOK_UP = (1, 8, 64, 128, 256, 500)
#: (connection, observed at) → what makes bytes of the events of one batch, which have those in common.
Encode: TypeAlias = Callable[[Connection, int], Encoded]


class Mark(Protocol):
    """What is committed together with events. Applied first; raises to refuse the whole transaction."""

    def apply(self, database: Database) -> None:
        """Write it."""


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """End of a full listing: objects of these types that it did not show are gone. At most `limit` at once."""

    types: tuple[str, ...]
    within: tuple[str, ...] = ()  #: it showed only those whose key begins with one of these; none: all
    limit: int = 500


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction accepts."""

    connection: Connection
    observed_at: int
    drafts: Sequence[Draft] = ()
    days: Sequence[Day] = ()
    marks: Sequence[Mark] = ()
    sweep: Sweep | None = None
    pushed: bool = False  #: by the provider, perhaps late
    erasing: bool = False  #: by the erasure itself, which alone may still speak of a connection that is being erased


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    events: int
    last_position: int | None
    swept: int = 0


class _Known(msgspec.Struct):
    """A row of the object index."""

    revision: int
    change: int
    digest: bytes
    version: str
    order: int | None
    position: int
    generation: int


@dataclass(slots=True, eq=False)
class _Outcome:
    """Rows to write, in the order in which they came."""

    events: list[tuple[Draft, int]] = field(default_factory=list)
    objects: dict[tuple[str, str], _Known] = field(default_factory=dict)  #: changed index rows
    occurrences: list[tuple[bytes, int | None]] = field(default_factory=list)


_INTO_OUTBOX = 'INSERT INTO outbox (position, stream, connection, "user", type, "key", body, accepted_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)'


def accept(database: Database, batch: Batch, encode: Encode) -> Accepted:
    """Write the events that say something new, and the marks. Run it inside a transaction.

    Raises `LeaseLost` when a mark refuses, `Erased` when the connection is gone or going.
    """
    number = batch.connection.number
    _hold(database, batch)
    for mark in batch.marks:
        mark.apply(database)
    happened = _happen(database, batch)
    if not batch.drafts and batch.sweep is None:
        return Accepted(events=len(happened), last_position=happened[-1] if happened else None)
    generation = _generation(database, number)
    known = listings(database, number) if batch.pushed else Listings()
    drafts = [draft for draft in batch.drafts if not _before(draft, known.of.get(draft.type))] if known.of else batch.drafts
    positions = [*happened, *_emit(database, batch, drafts, generation, known.begun_at, encode)]
    swept = _gone(database, number, batch.sweep, generation) if batch.sweep else []  # the batch's own drafts show objects, too
    positions += _emit(database, batch, swept, generation, None, encode)
    return Accepted(events=len(positions), last_position=positions[-1] if positions else None, swept=len(swept))


def _hold(database: Database, batch: Batch) -> None:
    """Keep other batches of this connection waiting until the commit: they decide by what this one writes."""
    # Not for those who only refer to it: a claim notes its run while it has what this batch may need next, the connection's schedule.
    sql = f"SELECT state FROM connection WHERE number = ? {database.locking('FOR NO KEY UPDATE')}"
    rows = database.rows(sql, (batch.connection.number,))
    if not rows:
        raise Erased("the connection is gone")
    if rows[0][0] == "erasing" and not batch.erasing and (batch.drafts or batch.days or batch.sweep):
        raise Erased("the connection is being erased")


def _generation(database: Database, number: int) -> int:
    rows = database.rows("SELECT generation FROM schedule WHERE connection = ?", (number,))
    return int(rows[0][0]) if rows else 0


def _before(draft: Draft, listing: int | None) -> bool:
    """It changed before a listing began, which shows what became of it."""
    return listing is not None and draft.at is not None and draft.at < listing and draft.change != OCCURRED


def _emit(database: Database, batch: Batch, drafts: Sequence[Draft], generation: int, listing: int | None, encode: Encode) -> range:
    """Write the drafts that say something new to the outbox, and all that they say to the index; gives the new positions."""
    number = batch.connection.number
    outcome, of = _decide(database, number, generation, listing, drafts), batch.connection.id
    encoded = encode(batch.connection, batch.observed_at)
    bodies = [encoded(draft, event_id(of, draft.type, draft.key, revision), revision) for draft, revision in outcome.events]
    positions = _take_positions(database, len(bodies), sum(map(len, bodies))) if bodies else range(0)
    rows = []
    for position, (draft, _), body in zip(positions, outcome.events, bodies, strict=True):
        key = None if draft.change == OCCURRED else draft.key
        if key is not None:
            outcome.objects[draft.type, draft.key].position = position
        rows.append((position, STREAM, number, batch.connection.user, draft.type, key, body, batch.observed_at))
    _write_index(database, number, outcome)
    if rows:
        database.many(_INTO_OUTBOX, rows)
    return positions


def _happen(database: Database, batch: Batch) -> range:
    """Write what its days did not know yet to the outbox, and its keys to the days; gives the new positions."""
    if not batch.days:
        return range(0)
    number, user, at = batch.connection.number, batch.connection.user, batch.observed_at
    known = _keys_of(database, number, batch.days)
    changed: dict[tuple[str, int], bytes] = {}
    new: list[tuple[str, Sequence[bytes]]] = []
    for day in batch.days:
        of = day.type, day.day
        keys, events = _news(known.get(of, b""), day)
        if events:
            known[of] = changed[of] = known.get(of, b"") + keys
            new.append((day.type, events))
    if not new:
        return range(0)
    positions = _take_positions(database, sum(len(events) for _, events in new), sum(len(body) for _, events in new for body in events))
    places, rows = iter(positions), []
    for type_, events in new:
        mine = islice(places, len(events))
        rows.append(zip(mine, repeat(STREAM), repeat(number), repeat(user), repeat(type_), repeat(None), events, repeat(at)))
    database.many(
        'INSERT INTO occurrence_day (connection, type, day, "keys") VALUES (?, ?, ?, ?) '
        'ON CONFLICT (connection, type, day) DO UPDATE SET "keys" = excluded."keys"',
        [(number, type_, day, keys) for (type_, day), keys in changed.items()],
    )
    database.many(_INTO_OUTBOX, chain.from_iterable(rows))
    return positions


def _news(known: bytes, day: Day) -> tuple[bytes, Sequence[bytes]]:
    """Keys and events of a day of which nothing was known."""
    # As numbers, without a step of ours for each: mostly all of a batch are new, and none is in it twice.
    met, told = set(array("q", known)), array("q", day.keys)
    fresh = set(told)
    if len(fresh) == len(told) and met.isdisjoint(fresh):
        return day.keys, day.events
    keys, events = bytearray(), []
    for place, (key, event) in enumerate(zip(told, day.events, strict=True)):
        if key not in met:
            met.add(key)
            keys += day.keys[place * DAY_KEY : (place + 1) * DAY_KEY]
            events.append(event)
    return bytes(keys), events


def _take_positions(database: Database, count: int, size: int) -> range:
    """A block of positions that nobody else has; the row stays locked until the commit, so blocks become visible in order."""
    sql = "UPDATE stream SET position = position + ?, events = events + ?, bytes = bytes + ? WHERE id = ? RETURNING position"
    ((last,),) = database.rows(sql, (count, count, size, STREAM))
    return range(last - count + 1, last + 1)


def _decide(database: Database, number: int, generation: int, listing: int | None, drafts: Sequence[Draft]) -> _Outcome:
    """Hold each draft against the index; a later draft of the same object sees what an earlier one of the batch did.

    What is from before the `listing` under way is not shown by it: if it does not come there, too, it is gone.
    """
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
        shown = generation if not _before(draft, listing) else before.generation if before else generation - 1
        after = _next(before, draft, shown)
        if after is None or (before is not None and after == before):
            continue
        if after.revision > (before.revision if before else 0):
            outcome.events.append((draft, after.revision))
        known[place] = outcome.objects[place] = after
    return outcome


def _next(before: _Known | None, draft: Draft, generation: int) -> _Known | None:
    """The index row after this draft; None: still none. A higher revision means an event."""
    if before is None:
        if draft.change == DELETED and draft.order is None:
            return None  # never seen, and gone: nobody was told of it
        revision = 0 if draft.change == DELETED else 1  # a tombstone ahead of its object is kept, so that the older state stays out
        return _Known(revision, draft.change, draft.digest, draft.version, draft.order, 0, generation)
    if draft.order is not None and before.order is not None and draft.order < before.order:
        # What it says is out of date; but a listing that shows the object shows that it is there.
        return before if draft.change == DELETED else replace(before, generation=generation)
    same = draft.change == before.change and (
        draft.change == DELETED or draft.digest == before.digest or (draft.version != "" and draft.version == before.version)
    )
    order = before.order if draft.order is None else draft.order
    if same:
        return replace(before, digest=draft.digest, version=draft.version or before.version, order=order, generation=generation)
    return _Known(before.revision + 1, draft.change, draft.digest, draft.version, order, before.position, generation)


def _look_up(database: Database, number: int, drafts: Sequence[Draft]) -> dict[tuple[str, str], _Known]:
    by_type: dict[str, list[str]] = {}
    for draft in drafts:
        by_type.setdefault(draft.type, []).append(draft.key)
    known = {}
    for type_, keys in by_type.items():
        for some in _groups(keys):
            sql = (
                'SELECT "key", revision, change, digest, version, ordinal, position, generation '
                f'FROM object WHERE connection = ? AND type = ? AND "key" IN ({_places(some)})'
            )
            for key, revision, change, digest, version, order, position, generation in database.rows(sql, (number, type_, *some)):
                known[type_, key] = _Known(revision, change, bytes(digest), version, order, position, generation)
    return known


def _met_before(database: Database, number: int, drafts: Sequence[Draft]) -> set[bytes]:
    met: set[bytes] = set()
    for some in _groups([_occurrence_key(draft) for draft in drafts]):
        sql = f'SELECT "key" FROM occurrence WHERE connection = ? AND "key" IN ({_places(some)})'
        met.update(bytes(key) for (key,) in database.rows(sql, (number, *some)))
    return met


def _keys_of(database: Database, number: int, days: Sequence[Day]) -> dict[tuple[str, int], bytes]:
    """The keys that are known of these days."""
    found: dict[tuple[str, int], bytes] = {}
    of: dict[str, list[int]] = {}
    for day in days:
        of.setdefault(day.type, []).append(day.day)
    for type_, wanted in of.items():
        for some in _groups(wanted):
            sql = f'SELECT day, "keys" FROM occurrence_day WHERE connection = ? AND type = ? AND day IN ({_places(some)})'
            found.update({(type_, day): bytes(keys) for day, keys in database.rows(sql, (number, type_, *some))})
    return found


def known_days(database: Database, number: int, type_: str, first: int, most: int) -> tuple[dict[int, bytes], int | None]:
    """The keys of the days from `first` on, about `most` bytes of them; and where that stopped, None: there are no more."""
    sql = 'SELECT day, length("keys") FROM occurrence_day WHERE connection = ? AND type = ? AND day >= ? ORDER BY day LIMIT 1000'
    sizes = database.rows(sql, (number, type_, first))
    end, so_far = None if len(sizes) < 1000 else sizes[-1][0], 0
    for day, size in sizes:
        so_far += size
        if so_far > most and day > first:
            end = day
            break
    sql = f'SELECT day, "keys" FROM occurrence_day WHERE connection = ? AND type = ? AND day >= ? {"" if end is None else "AND day < ?"}'
    rows = database.rows(sql, (number, type_, first) if end is None else (number, type_, first, end))
    return {day: bytes(keys) for day, keys in rows}, end


def _groups(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    """Keys in groups of a few sizes, filled up with repeats: with few statement texts, each is prepared once."""
    for start in range(0, len(keys), LOOK_UP[-1]):
        some = keys[start : start + LOOK_UP[-1]]
        size = next(size for size in LOOK_UP if size >= len(some))
        yield some if len(some) == size else [*some, *[some[-1]] * (size - len(some))]


def _places(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


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


def _gone(database: Database, number: int, sweep: Sweep, generation: int) -> list[Draft]:
    """Tombstones for what a finished listing did not show."""
    begins = " OR ".join('substr("key", 1, CAST(? AS INTEGER)) = ?' for _ in sweep.within) or "1 = 1"  # not LIKE: a key may hold % and _
    parts = [value for text in sweep.within for value in (len(text), text)]
    gone = database.rows(
        f'SELECT type, "key" FROM object WHERE connection = ? AND type IN ({_places(sweep.types)}) AND generation < ? AND change = ? '
        f'AND ({begins}) ORDER BY type, "key" LIMIT ?',
        (number, *sweep.types, generation, UPSERTED, *parts, sweep.limit),
    )
    return [Draft(type=type_, key=key, subject=key, change=DELETED, digest=tombstone_digest()) for type_, key in gone]
