"""Consumers: named readers of the outbox, each with the position up to which it is done.

A consumer has one batch at a time: leased under a token, until a moment. The position moves only for who holds the token, or by
compare-and-swap, and never backwards; only a reset moves it back. Tries are counted when a batch is leased, so that a reader that an
event kills counts too.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from oo_daemon.store import outbox
from oo_daemon.store.database import Database
from oo_daemon.store.outbox import Filter, Position

MOST_TRIES = 10
ALL = Filter()
#: Longest lease and longest hold, in microseconds: one that ends later was written before the clock was set back, and does not stand.
LONGEST = 3600 * 1_000_000
#: So long (microseconds) what a sink took can be given again where it was lost there, and one track a second is kept.
TRACKED, SECOND = 15 * 60 * 1_000_000, 1_000_000


class Consumer(msgspec.Struct, frozen=True, kw_only=True):
    """How far a reader is, and what stands in its way."""

    name: str
    position: int
    tries: int  #: how often what comes next was given to it
    reason: str  #: why it failed last, for people
    epoch: int = 1  #: of the log that it reads; another one after a restore
    present_until: int = 0  #: up to here it reads only what is still so
    wanted: Filter = ALL
    most_tries: int = MOST_TRIES
    held_until: int = 0
    token: str | None = None  #: of the batch that it has
    leased_until: int | None = None
    dead_letters: int = 0
    unread_since: int | None = None  #: when the oldest event was accepted that it has still to read
    paused: bool = False
    again: int = 0  #: dead letters that are to be given again

    def free_at(self, now: int) -> int:
        """When a batch can be given to it."""
        waits = [until for until in (self.held_until, self.leased_until if self.token else None) if until and now < until <= now + LONGEST]
        return max(waits, default=now)


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Where a consumer begins."""

    position: int = 0
    present_until: int = 0


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """Where a sink put the last of what it took."""

    position: int
    found_at: str  #: in the sink's own words; empty: there is nothing to find


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a consumer was given too often."""

    position: int
    tries: int
    reason: str
    at: int
    body: bytes | None  #: None: the event was erased or has expired


_COLUMNS = (
    'name, position, tries, reason, epoch, present_until, "user", provider, type, most_tries, held_until, token, leased_until, '
    "(SELECT count(*) FROM dead_letter d WHERE d.consumer = consumer.name), "
    "(SELECT o.accepted_at FROM outbox o WHERE o.position > consumer.position ORDER BY o.position LIMIT 1), "
    "paused, (SELECT count(*) FROM dead_letter a WHERE a.consumer = consumer.name AND a.again = 1)"
)


def of_sink(sink: str) -> str:
    """The name by which a sink is a consumer."""
    return f"sink:{sink}"


def add(database: Database, name: str, start: Start, wanted: Filter, most_tries: int, now: int) -> bool:
    """Register a consumer; False: there is one of this name."""
    rows = database.rows(
        'INSERT INTO consumer (name, epoch, position, present_until, "user", provider, type, most_tries, tries, reason, created_at) '
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, '', ?) ON CONFLICT (name) DO NOTHING RETURNING name",
        (
            name,
            outbox.end(database).epoch,
            start.position,
            start.present_until,
            wanted.user,
            wanted.provider,
            wanted.type,
            most_tries,
            now,
        ),
    )
    return bool(rows)


def known_by(database: Database, at: int) -> dict[str, int]:
    """How far the consumers are that there were by then: name → position."""
    return dict(database.rows("SELECT name, position FROM consumer WHERE created_at <= ? ORDER BY name", (at,)))


def remove(database: Database, name: str) -> Consumer | None:
    """Forget a consumer and its dead letters; gives what it was."""
    known = of(database, name)
    database.rows("DELETE FROM consumer WHERE name = ?", (name,))
    return known


def reset(database: Database, name: str, start: Start) -> bool:
    """Put a consumer somewhere else in the log as it is now; whoever has a batch loses it. False: there is none of this name."""
    rows = database.rows(
        "UPDATE consumer SET epoch = ?, position = ?, present_until = ?, tries = 0, reason = '', held_until = 0, token = NULL, "
        "leased_to = NULL, leased_until = NULL WHERE name = ? RETURNING name",
        (outbox.end(database).epoch, start.position, start.present_until, name),
    )
    database.rows("DELETE FROM track WHERE consumer = ?", (name,))
    return bool(rows)


def lease(database: Database, name: str, at: int, first: int, to: int, token: str, now: int, until: int) -> int | None:
    """Give the events from position `first` to `to` to who holds the token; gives the number of the try.

    What lies between where the consumer is and the first is not for it, and is passed over. None: it is no longer there, or another has a
    batch.
    """
    known = of(database, name)
    if known is None or known.position != at or known.free_at(now) > now:
        return None
    rows = database.rows(
        "UPDATE consumer SET position = ?, token = ?, leased_to = ?, leased_until = ?, "
        "tries = CASE WHEN position = ? THEN tries + 1 ELSE 1 END "  # of what was passed over none count
        "WHERE name = ? AND position = ? AND COALESCE(token, '') = ? RETURNING tries",
        (first - 1, token, to, until, first - 1, name, at, known.token or ""),
    )
    return int(rows[0][0]) if rows else None


def take_back(database: Database, name: str, token: str) -> None:
    """End a lease of whose batch nobody has heard: that was no try."""
    sql = "UPDATE consumer SET token = NULL, leased_to = NULL, leased_until = NULL, tries = tries - 1 WHERE name = ? AND token = ?"
    database.rows(sql, (name, token))


def ack(database: Database, name: str, token: str, to: int, now: int) -> bool:
    """Move on, up to the end of the batch at most; the batch ends there. False: the token is not that of the batch, or it ends before."""
    rows = database.rows(
        "UPDATE consumer SET position = ?, tries = 0, reason = '', moved_at = ?, token = CASE WHEN leased_to > ? THEN token END "
        "WHERE name = ? AND token = ? AND position <= ? AND leased_to >= ? RETURNING position",
        (to, now, to, name, token, to, to),
    )
    return bool(rows)


def nack(database: Database, name: str, token: str, at: int, reason: str, now: int, held_until: int) -> bool | None:
    """Give the batch back: what lies before `at` is done, the event there is held, or passed over when it was tried too often.

    True: it went to the dead letters. None: the token is not that of the batch, or it ends before.
    """
    rows = database.rows(
        # Only of the first event of a batch is it known how often it was tried.
        "UPDATE consumer SET position = ?, tries = CASE WHEN position < ? THEN 1 ELSE tries END, reason = ?, held_until = ?, "
        "token = NULL, leased_to = NULL, leased_until = NULL "
        "WHERE name = ? AND token = ? AND position < ? AND leased_to >= ? RETURNING tries, most_tries",
        (at - 1, at - 1, reason, held_until, name, token, at, at),
    )
    if not rows:
        return None
    tries, most = rows[0]
    if tries < most:
        return False
    give_up(database, name, at - 1, at, reason, now)
    return True


def give_up(database: Database, name: str, before: int, at: int, reason: str, now: int) -> bool:
    """Put the event at a position to the dead letters and pass over it; False: the consumer is no longer where this reader began."""
    rows = database.rows(
        "UPDATE consumer SET position = ?, tries = 0, reason = '', held_until = 0, token = NULL, leased_to = NULL, leased_until = NULL, "
        "moved_at = ? WHERE name = ? AND position = ? RETURNING most_tries",
        (at, now, name, before),
    )
    if not rows:
        return False
    database.rows(
        'INSERT INTO dead_letter (consumer, position, tries, reason, "at") VALUES (?, ?, ?, ?, ?) '
        'ON CONFLICT (consumer, position) DO UPDATE SET again = 0, tries = excluded.tries, reason = excluded.reason, "at" = excluded."at"',
        (name, at, rows[0][0], reason, now),
    )
    return True


def dead_letters(database: Database, name: str, limit: int) -> list[DeadLetter]:
    """The newest dead letters of a consumer, newest first, with their events where they are still kept."""
    rows = database.rows(
        'SELECT d.position, d.tries, d.reason, d."at", b.body FROM dead_letter d LEFT JOIN outbox b ON b.position = d.position '
        "WHERE d.consumer = ? ORDER BY d.position DESC LIMIT ?",
        (name, limit),
    )
    return [
        DeadLetter(position=position, tries=tries, reason=reason, at=at, body=None if body is None else bytes(body))
        for position, tries, reason, at, body in rows
    ]


def drop_dead_letters(database: Database, name: str) -> int:
    """Forget the dead letters of a consumer; gives how many there were."""
    return len(database.rows("DELETE FROM dead_letter WHERE consumer = ? RETURNING position", (name,)))


def hold(database: Database, name: str, wanted: Filter, most_tries: int, token: str, now: int, until: int) -> Consumer | None:
    """Keep a consumer for whoever has this token, which is no batch: nobody else moves it. None: another keeps it, or there is none.

    One of a log that was restored goes on where the log ends now, at most.
    """
    end = outbox.end(database)
    rows = database.rows(
        'UPDATE consumer SET token = ?, leased_to = NULL, leased_until = ?, "user" = ?, provider = ?, type = ?, most_tries = ?, epoch = ?, '
        "position = CASE WHEN position > ? THEN ? ELSE position END, "
        "present_until = CASE WHEN present_until > ? THEN ? ELSE present_until END "
        "WHERE name = ? AND (token IS NULL OR token = ? OR leased_until <= ? OR leased_until > ?) RETURNING name",
        (
            token,
            until,
            wanted.user,
            wanted.provider,
            wanted.type,
            most_tries,
            end.epoch,
            end.number,
            end.number,
            end.number,
            end.number,
            name,
            token,
            now,
            now + LONGEST,
        ),
    )
    return of(database, name) if rows else None


def moved(database: Database, name: str, token: str, before: int, to: int, now: int, until: int, found_at: str = "") -> Consumer | None:
    """Move a consumer that is kept on, and keep it until later. None: it is no longer kept, or no longer there.

    Where it says at what the last event is found, that is kept as a track.
    """
    rows = database.rows(
        "UPDATE consumer SET position = ?, tries = 0, reason = '', leased_until = ?, "
        "moved_at = CASE WHEN position < ? THEN ? ELSE moved_at END "
        "WHERE name = ? AND token = ? AND position = ? AND position <= ? RETURNING name",
        (to, until, to, now, name, token, before, to),
    )
    if rows and found_at:
        _leave_track(database, name, before, to, now, found_at)
    if rows:  # of what is older than is kept, the newest: behind it lies all that can be lost
        newest = "SELECT max(position) FROM track WHERE consumer = ? AND taken_at <= ?"
        database.rows(f"DELETE FROM track WHERE consumer = ? AND position < ({newest})", (name, name, now - TRACKED))
    return of(database, name) if rows else None


def _leave_track(database: Database, name: str, before: int, to: int, now: int, found_at: str) -> None:
    if not database.rows("SELECT position FROM track WHERE consumer = ? LIMIT 1", (name,)):
        database.rows("INSERT INTO track (consumer, position, taken_at, found_at) VALUES (?, ?, 0, '')", (name, before))
    database.rows("DELETE FROM track WHERE consumer = ? AND taken_at >= ?", (name, now // SECOND * SECOND))
    database.rows("INSERT INTO track (consumer, position, taken_at, found_at) VALUES (?, ?, ?, ?)", (name, to, now, found_at))


def tracks(database: Database, name: str) -> list[Track]:
    """The tracks of a sink, the oldest first."""
    rows = database.rows("SELECT position, found_at FROM track WHERE consumer = ? ORDER BY position", (name,))
    return [Track(position=position, found_at=found_at) for position, found_at in rows]


def put_back(database: Database, name: str, token: str, to: int) -> Consumer | None:
    """Have a sink that is kept be given again what it took behind a position. None: it is no longer kept."""
    rows = database.rows(
        "UPDATE consumer SET position = ?, tries = 0 WHERE name = ? AND token = ? AND position >= ? RETURNING name", (to, name, token, to)
    )
    if not rows:
        return None
    database.rows("DELETE FROM track WHERE consumer = ? AND position > ?", (name, to))
    return of(database, name)


def hold_on(database: Database, name: str, token: str, until: int) -> None:
    """Keep a consumer for longer, where it is kept under this token."""
    database.rows("UPDATE consumer SET leased_until = ? WHERE name = ? AND token = ?", (until, name, token))


def let_go(database: Database, name: str, token: str) -> None:
    """Keep a consumer no longer."""
    database.rows("UPDATE consumer SET token = NULL, leased_until = NULL WHERE name = ? AND token = ?", (name, token))


def rescue_sinks(database: Database) -> int:
    """Free the sinks that any process kept: for the start of the only daemon on a database. Gives how many there were."""
    sql = "UPDATE consumer SET token = NULL, leased_until = NULL WHERE token IS NOT NULL AND name LIKE 'sink:%' RETURNING name"
    return len(database.rows(sql))


def pause(database: Database, name: str, paused: bool) -> bool:
    """Have a sink wait, or go on; False: there is none of this name."""
    return bool(database.rows("UPDATE consumer SET paused = ? WHERE name = ? RETURNING name", (int(paused), name)))


def give_again(database: Database, name: str, positions: Sequence[int] | None) -> int:
    """Want some dead letters of a consumer to be given again, or all of them; gives how many."""
    places = "" if positions is None else f" AND position IN ({', '.join('?' * len(positions))})"
    sql = f"UPDATE dead_letter SET again = 1 WHERE consumer = ?{places} RETURNING position"
    return len(database.rows(sql, (name, *(positions or ()))))


def wanted_again(database: Database, name: str) -> tuple[int, bytes | None] | None:
    """The oldest dead letter that is to be given again, with its event where that is still kept."""
    rows = database.rows(
        "SELECT d.position, b.body FROM dead_letter d LEFT JOIN outbox b ON b.position = d.position "
        "WHERE d.consumer = ? AND d.again = 1 ORDER BY d.position LIMIT 1",
        (name,),
    )
    return (rows[0][0], None if rows[0][1] is None else bytes(rows[0][1])) if rows else None


def keep_dead(database: Database, name: str, position: int, reason: str) -> None:
    """It was given again in vain."""
    sql = "UPDATE dead_letter SET again = 0, tries = tries + 1, reason = ? WHERE consumer = ? AND position = ?"
    database.rows(sql, (reason, name, position))


def drop_dead_letter(database: Database, name: str, position: int) -> None:
    """It was given again, and taken."""
    database.rows("DELETE FROM dead_letter WHERE consumer = ? AND position = ?", (name, position))


def advance(database: Database, name: str, before: int, after: int, now: int) -> bool:
    """Move a consumer on; False: somebody has a batch, or it is no longer where this reader began, and stays where it is."""
    rows = database.rows(
        "UPDATE consumer SET position = ?, tries = 0, reason = '', moved_at = ?, token = NULL, leased_to = NULL, leased_until = NULL "
        "WHERE name = ? AND position = ? AND position < ? AND (token IS NULL OR leased_until <= ? OR leased_until > ?) RETURNING position",
        (after, now, name, before, after, now, now + LONGEST),
    )
    return bool(rows)


def failed(database: Database, name: str, reason: str) -> int:
    """Count a try of what comes next; gives how many there were."""
    rows = database.rows("UPDATE consumer SET tries = tries + 1, reason = ? WHERE name = ? RETURNING tries", (reason, name))
    return int(rows[0][0]) if rows else 0


def say(database: Database, name: str, reason: str) -> None:
    """Say what a consumer waits for, without counting a try."""
    database.rows("UPDATE consumer SET reason = ? WHERE name = ?", (reason, name))


def of(database: Database, name: str) -> Consumer | None:
    """The consumer of this name."""
    rows = database.rows(f"SELECT {_COLUMNS} FROM consumer WHERE name = ?", (name,))
    return _consumer(*rows[0]) if rows else None


def listed(database: Database) -> list[Consumer]:
    """All consumers, by name."""
    return [_consumer(*row) for row in database.rows(f"SELECT {_COLUMNS} FROM consumer ORDER BY name")]


def listed_with_end(database: Database) -> tuple[list[Consumer], Position]:
    """All consumers, by name, and where the log ends."""
    return listed(database), outbox.end(database)


def _consumer(
    name: str,
    position: int,
    tries: int,
    reason: str,
    epoch: int,
    present_until: int,
    user: str | None,
    provider: str | None,
    type_: str | None,
    most_tries: int,
    held_until: int,
    token: str | None,
    leased_until: int | None,
    dead: int,
    unread_since: int | None,
    paused: int,
    again: int,
) -> Consumer:
    return Consumer(
        name=name,
        position=position,
        tries=tries,
        reason=reason,
        epoch=epoch,
        present_until=present_until,
        wanted=Filter(user=user, provider=provider, type=type_),
        most_tries=most_tries,
        held_until=held_until,
        token=token,
        leased_until=leased_until,
        dead_letters=dead,
        unread_since=unread_since,
        paused=bool(paused),
        again=again,
    )
