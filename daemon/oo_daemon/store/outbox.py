"""Reading the outbox: pages of events by position."""

from __future__ import annotations

from dataclasses import dataclass

from oo_daemon.store.accept import STREAM
from oo_daemon.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One event as it lies in the outbox."""

    position: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which events a reader wants; None: all."""

    user: str | None = None
    provider: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some events, and where the log ended when they were read."""

    events: list[Stored]
    end: Position
    more: bool  #: there were more than the page holds


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


def page(database: Database, after: int, limit: int, wanted: Filter = Filter()) -> Page:
    """Up to `limit` events after a position, in order."""
    last = end(database)
    conditions, values = _conditions(wanted)
    where = " AND ".join(["position > ?", *conditions])
    sql = f"SELECT position, body FROM outbox WHERE {where} ORDER BY position LIMIT ?"
    rows = database.rows(sql, (after, *values, limit + 1))
    events = [Stored(position=position, body=bytes(body)) for position, body in rows[:limit]]
    return Page(events=events, end=last, more=len(rows) > limit)


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
    return [Stored(position=position, body=bytes(body)) for position, body in rows], reached if reached > 1 else 0


def of_connection(database: Database, number: int, limit: int) -> list[Stored]:
    """The newest events of one connection, newest first."""
    rows = database.rows("SELECT position, body FROM outbox WHERE connection = ? ORDER BY position DESC LIMIT ?", (number, limit))
    return [Stored(position=position, body=bytes(body)) for position, body in rows]


def at(database: Database, position: int) -> Stored | None:
    """The event at a position."""
    rows = database.rows("SELECT position, body FROM outbox WHERE position = ?", (position,))
    return Stored(position=rows[0][0], body=bytes(rows[0][1])) if rows else None
