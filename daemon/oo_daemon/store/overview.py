"""What an operator sees first: how much there is, what needs a person, and what is next. One look, on one state of the database."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from oo_daemon.store import consumers, latency, outbox
from oo_daemon.store.consumers import Consumer
from oo_daemon.store.database import Database
from oo_daemon.store.latency import Took
from oo_daemon.store.outbox import Position

#: Of each list, how many are named.
FEW = 3
#: A sync that failed so often in a row is told of; the index knows this number.
FAILING = 3
HOURS = 24
HOUR = 3600 * 1_000_000


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A connection, and what is to be said of it."""

    id: str
    user: str
    provider: str
    label: str
    says: str
    at: int | None


class Hour(msgspec.Struct, frozen=True, kw_only=True):
    """What came in one hour."""

    begins_at: int
    events: int  #: that were accepted
    took: Took | None = None  #: how long deliveries took that became events; None: there was none


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """One look; times are those of the store."""

    connections: Mapping[str, int]  #: by state
    signed_out: tuple[Named, ...]  #: some whose owners must sign in again, longest first
    failing: tuple[Named, ...]  #: some whose syncs fail
    due: tuple[Named, ...]  #: the next to be synced
    waiting: int  #: deliveries that are still to become events
    waiting_since: int | None
    dead: int  #: deliveries that became nothing
    kept: int  #: events in the outbox
    end: Position
    consumers: tuple[Consumer, ...]
    hours: tuple[Hour, ...]  #: oldest first; the last one is under way


def looked_at(database: Database, now: int) -> Overview:
    """Look."""
    ((waiting, since),) = database.rows("SELECT count(*), min(received_at) FROM delivery WHERE state = 'received'")
    ((dead,),) = database.rows("SELECT count(*) FROM delivery WHERE state = 'dead'")
    end = outbox.end(database)
    first = database.rows("SELECT position FROM outbox ORDER BY position LIMIT 1")
    return Overview(
        connections=dict(database.rows("SELECT state, count(*) FROM connection GROUP BY state ORDER BY state")),
        signed_out=_named(
            database, "c.reason, c.changed_at FROM connection c WHERE c.state = 'needs_sign_in' ORDER BY c.changed_at LIMIT ?", FEW
        ),
        failing=_named(
            database,
            "COALESCE(s.detail, ''), s.finished_at FROM schedule s JOIN connection c ON c.number = s.connection "
            f"WHERE s.failed >= {FAILING} AND c.state = 'active' ORDER BY s.failed DESC LIMIT ?",
            FEW,
        ),
        due=_named(
            database,
            "'', s.next_run_at FROM schedule s JOIN connection c ON c.number = s.connection "
            "WHERE s.next_run_at IS NOT NULL AND c.state = 'active' ORDER BY s.next_run_at LIMIT ?",
            FEW,
        ),
        waiting=waiting,
        waiting_since=since,
        dead=dead,
        kept=end.number - first[0][0] + 1 if first else 0,
        end=end,
        consumers=tuple(consumers.listed(database)),
        hours=hours(database, end.number, now),
    )


def _named(database: Database, rest: str, limit: int) -> tuple[Named, ...]:
    rows = database.rows(f'SELECT c.id, c."user", c.provider, c.label, {rest}', (limit,))
    return tuple(
        Named(id=id_, user=user, provider=provider, label=label, says=says, at=at) for id_, user, provider, label, says, at in rows
    )


def hours(database: Database, end: int, now: int) -> tuple[Hour, ...]:
    """Events of the last hours, counted by positions: they grow with time, so a few looks find where each hour began."""
    begin = now - now % HOUR - (HOURS - 1) * HOUR
    times = latency.hours(database, begin)
    place, found = _first_since(database, begin, 1, end + 1), []
    for number in range(HOURS):
        until = begin + (number + 1) * HOUR
        following = end + 1 if number == HOURS - 1 else _first_since(database, until, place, end + 1)
        found.append(Hour(begins_at=until - HOUR, events=following - place, took=times.get(until - HOUR)))
        place = following
    return tuple(found)


def _first_since(database: Database, since: int, low: int, high: int) -> int:
    """The first position in the range whose event was accepted at this time or later; `high` if there is none."""
    while low < high:
        middle = (low + high) // 2
        rows = database.rows("SELECT position, accepted_at FROM outbox WHERE position >= ? ORDER BY position LIMIT 1", (middle,))
        if not rows or rows[0][1] >= since:
            high = middle
        else:
            low = rows[0][0] + 1
    return low
