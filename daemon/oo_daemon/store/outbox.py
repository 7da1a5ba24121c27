"""Reading the outbox: pages of events by position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import msgspec

from oo_daemon.store.accept import STREAM
from oo_daemon.store.database import Database, Row


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """A place in the outbox. Callers see it as an opaque text; a restored older database has a higher epoch."""

    epoch: int
    number: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.number}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read the text form. Raises ValueError."""
        epoch, dash, number = text.partition("-")
        if not (dash and all(part.isascii() and part.isdigit() and len(part) < 19 for part in (epoch, number))):  # less than 2**63
            raise ValueError("a position looks like 1-42")
        return cls(epoch=int(epoch), number=int(number))


#: One event as it lies in the outbox: its position and its bytes. A bare row, since readers take hundreds of thousands in a second: one
#: with names is another object for each, which the garbage collector has to look at, and reading costs 1.6 times as much.
Stored: TypeAlias = tuple[int, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which events a reader wants; None: all."""

    user: str | None = None
    provider: str | None = None
    type: str | None = None


#: Bytes of events that are read at once, about: so few events are in a page where they are large on average, and so few pages in a look.
AT_ONCE: Final = 2 * 1024 * 1024
#: Positions past which a look takes up no further page.
AHEAD: Final = 2_000
#: Of so many events one is asked how large they are: asking each would cost as much as what the look saves.
SAMPLE: Final = 7

#: True for an event that still says what its object is: the newest of an object that is not gone.
# One look by the key for each, not EXISTS: of that PostgreSQL makes a table of all objects first.
STILL_SO: Final = (
    '((SELECT 1 FROM object o WHERE o.connection = outbox.connection AND o.type = outbox.type AND o."key" = outbox."key" '
    "AND o.position = outbox.position AND o.change = 1) IS NOT NULL)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some events, and where the log ended when they were read."""

    events: list[Stored]
    end: Position
    more: bool  #: there were more than the page holds
    missing: int = 0  #: events of this stretch that were erased or have expired
    reached: int = 0  #: the position to go on from; it passes over what did not fit


def _stored(rows: list[Row]) -> list[Stored]:
    return cast("list[Stored]", rows)


def end(database: Database) -> Position:
    """The newest position."""
    ((epoch, position),) = database.rows("SELECT epoch, position FROM stream WHERE id = ?", (STREAM,))
    return Position(epoch=epoch, number=position)


def _conditions(wanted: Filter) -> tuple[list[str], list[str]]:
    given = {
        '"user" = ?': wanted.user,
        "type = ?": wanted.type,
        # Asked of each row: a list of connections would be read along their index, and all that it finds be sorted.
        "EXISTS (SELECT 1 FROM connection c WHERE c.number = outbox.connection AND c.provider = ?)": wanted.provider,
    }
    kept = {condition: value for condition, value in given.items() if value is not None}
    return [*kept], [*kept.values()]


def page(database: Database, after: int, limit: int, wanted: Filter = Filter(), present_until: int = 0) -> Page:
    """Up to `limit` events after a position, in order; up to `present_until` only those that are still so. Fewer where events are large."""
    last, fits = _log(database)
    return _page(database, after, min(limit, fits), wanted, present_until, last)


def pages(database: Database, after: int, limit: int, wanted: Filter = Filter()) -> list[Page]:
    """The pages after a position, one after the other, of one state of the log: as many as are well held at once."""
    last, fits = _log(database)
    found, size, reached = list[Page](), 0, after
    while True:
        found.append(_page(database, reached, min(limit, fits), wanted, 0, last))
        size += SAMPLE * sum(len(body) for _, body in found[-1].events[::SAMPLE])
        reached = found[-1].reached
        if not found[-1].more or reached - after >= AHEAD or size >= AT_ONCE:
            return found


def _log(database: Database) -> tuple[Position, int]:
    """Where the log ends; and how many of its events, as large as they are on average, are read at once."""
    ((epoch, position, events, size),) = database.rows("SELECT epoch, position, events, bytes FROM stream WHERE id = ?", (STREAM,))
    return Position(epoch=epoch, number=position), max(AT_ONCE * max(events, 1) // max(size, 1), 1)


def _page(database: Database, after: int, limit: int, wanted: Filter, present_until: int, last: Position) -> Page:
    conditions, texts = _conditions(wanted)
    values: list[str | int] = [*texts]
    compacted = after < present_until
    if compacted:
        conditions.append(f"(position > ? OR {STILL_SO})")
        values.append(present_until)
    where = " AND ".join(["position > ?", *conditions])
    sql = f"SELECT position, body FROM outbox WHERE {where} ORDER BY position LIMIT ?"
    events = _stored(database.rows(sql, (after, *values, limit + 1)))
    if more := len(events) > limit:
        events.pop()
    reached = max(after, events[-1][0] if events else 0, 0 if more else last.number)
    missing = 0 if compacted else reached - after - (_kept(database, after, reached) if conditions else len(events))
    return Page(events=events, end=last, more=more, missing=missing, reached=reached)


def _kept(database: Database, after: int, to: int) -> int:
    ((count,),) = database.rows("SELECT count(*) FROM outbox WHERE position > ? AND position <= ?", (after, to))
    return int(count)


def before(database: Database, moment: int) -> int:
    """The position before the first event that was accepted at that moment or later.

    Found by halving, since events are in the order of their time (but for a clock that was set back).
    """
    low, high = 0, end(database).number
    while low < high:
        middle = (low + high + 1) // 2
        rows = database.rows("SELECT position, accepted_at FROM outbox WHERE position >= ? ORDER BY position LIMIT 1", (middle,))
        if rows and rows[0][1] < moment:
            low = rows[0][0]
        else:
            high = middle - 1
    return low


def latest(database: Database, before: int, limit: int, wanted: Filter = Filter(), *, window: int = 50_000) -> tuple[list[Stored], int]:
    """Up to `limit` events before a position, newest first, and where to go on backwards: 0 at the beginning.

    What fits is looked for in a window of positions, so that what is seldom met costs no look over all of a long log.
    """
    floor = max(before - window, 1)
    conditions, values = _conditions(wanted)
    where = " AND ".join(["position < ?", "position >= ?", *conditions])
    sql = f"SELECT position, body FROM outbox WHERE {where} ORDER BY position DESC LIMIT ?"
    rows = database.rows(sql, (before, floor, *values, limit))
    reached = rows[-1][0] if len(rows) == limit else floor
    return _stored(rows), reached if reached > 1 else 0


def of_connection(database: Database, number: int, limit: int) -> list[Stored]:
    """The newest events of one connection, newest first."""
    rows = database.rows("SELECT position, body FROM outbox WHERE connection = ? ORDER BY position DESC LIMIT ?", (number, limit))
    return _stored(rows)


def at(database: Database, position: int) -> Stored | None:
    """The event at a position."""
    rows = database.rows("SELECT position, body FROM outbox WHERE position = ?", (position,))
    return _stored(rows)[0] if rows else None
