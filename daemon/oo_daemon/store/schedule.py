"""The schedule: when each connection is due, and the lease of the run in progress.

A run is claimed with a lease and a fence. Every write of the run carries the fence: once another has claimed the connection, the first
one's writes are refused. Tries are counted at the claim, so that a run that kills the process counts too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

import msgspec

from oo_daemon.store import connections, runs
from oo_daemon.store.connections import Connection
from oo_daemon.store.database import Database
from oo_daemon.store.errors import Erased, LeaseLost
from oo_daemon.store.runs import Tally

#: Of what is due, how much is looked through for whose turn it is.
WINDOW = 2000


#: The connection and the fence of a run.
Place: TypeAlias = tuple[int, int]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One claimed run of one connection."""

    connection: int
    fence: int
    tries: int  #: how often it was claimed since it last ended well; 1 for the first
    cursor: Mapping[str, Any] | None
    shape: int = 1  #: of the cursor, as the connector numbers them
    unmoved: int = 0  #: runs in a row that asked the provider and left the cursor where it was
    of: Connection  #: as it was at the claim
    traceparent: str = ""  #: of what announced it, among the traces

    @property
    def place(self) -> Place:
        """What no other run has."""
        return (self.connection, self.fence)


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """What the schedule knows of a connection."""

    connection: int
    next_run_at: int | None
    cursor: Mapping[str, Any] | None
    tries: int
    running: bool
    fence: int
    started_at: int | None
    finished_at: int | None
    finished_fence: int
    outcome: str | None
    detail: str | None
    events: int
    not_before: int = 0  #: the provider asked not to be asked earlier
    unmoved: int = 0
    timetable: str | None = None  #: None: as often as all
    moved_at: int | None = None  #: the last checkpoint


def _cursor(text: str | None) -> Mapping[str, Any] | None:
    return None if text is None else msgspec.json.decode(text)


def create(database: Database, connection: int, next_run_at: int | None) -> None:
    """Put a connection on the schedule; one that is there becomes due again and keeps its cursor."""
    database.rows(
        "INSERT INTO schedule (connection, next_run_at, generation, tries, fence, finished_fence, events) VALUES (?, ?, 0, 0, 0, 0, 0) "
        f"ON CONFLICT (connection) DO UPDATE SET next_run_at = {_nudged('excluded.next_run_at')}, tries = 0, failed = 0",
        (connection, next_run_at),
    )


def begin_anew(database: Database, connection: int, now: int) -> None:
    """Forget the cursor: what it points into is another account's. A run in progress loses its lease."""
    runs.lose(database, [connection], now, "the connection became another account's")
    database.rows(
        "UPDATE schedule SET cursor = NULL, trail = NULL, fence = fence + 1, lease_owner = NULL, lease_until = NULL "
        "WHERE connection = ? RETURNING fence",
        (connection,),
    )


def _nudged(time: str) -> str:
    """When a connection that should run at this time is due: during a run, later than it began, so that `RunEnded` lets it stand."""
    return f"CASE WHEN schedule.lease_owner IS NOT NULL AND schedule.started_at >= {time} THEN schedule.started_at + 1 ELSE {time} END"


def of(database: Database, connection: int, now: int) -> Schedule | None:
    """What the schedule knows of a connection."""
    rows = database.rows(
        "SELECT next_run_at, cursor, tries, lease_until, fence, started_at, finished_at, finished_fence, outcome, detail, events, "
        "not_before, unmoved, timetable, moved_at FROM schedule WHERE connection = ?",
        (connection,),
    )
    for row in rows:
        next_run_at, cursor, tries, until, fence, started_at, finished_at, finished_fence, outcome, detail, events, floor, *more = row
        unmoved, timetable, moved_at = more
        return Schedule(
            connection=connection,
            next_run_at=next_run_at,
            cursor=_cursor(cursor),
            tries=tries,
            running=until is not None and until > now,
            fence=fence,
            started_at=started_at,
            finished_at=finished_at,
            finished_fence=finished_fence,
            outcome=outcome,
            detail=detail,
            events=events,
            not_before=floor,
            unmoved=unmoved,
            timetable=timetable,
            moved_at=moved_at,
        )
    return None


#: Nobody holds it: takes now, and the end of a lease that would be absurd.
_FREE = "(s.lease_until IS NULL OR s.lease_until <= ? OR s.lease_until > ?)"


def _due(wanted: str, besides: str = "") -> str:
    """What is due, longest first: takes now, what `_FREE` takes, and how many. CROSS JOIN keeps SQLite from beginning with all that are."""
    return (
        f"SELECT {wanted} FROM schedule s CROSS JOIN connection c "
        f"WHERE s.next_run_at <= ? AND c.number = s.connection AND {_FREE} AND c.state = 'active' {besides}"
        "ORDER BY s.next_run_at, s.connection LIMIT ?"
    )


#: What is claimed, as it is before that, with its connection behind it. This takes what `_due` takes.
_CLAIMED = "s.next_run_at, s.connection, s.fence, s.tries, s.cursor, s.shape, s.unmoved, s.traceparent"
_ALL = _due(f"{_CLAIMED}, {connections.columns('c')}")
_WHOSE = 's.connection, s.next_run_at, c."user" AS person'
_NOT_CROWDED = 'AND c."user" NOT IN (SELECT person FROM live WHERE runs >= ?) '
#: Who has how many runs under way: takes now and the end of an absurd lease.
_LIVE = (
    'SELECT c."user" AS person, count(*) AS runs FROM run r CROSS JOIN schedule s CROSS JOIN connection c '
    "WHERE r.finished_at IS NULL AND s.connection = r.connection AND c.number = r.connection "
    'AND s.lease_until > ? AND s.lease_until <= ? GROUP BY c."user"'
)
#: Whose turn it is among what is due: takes what `_LIVE` takes, what `_due` takes, with the most that one user may have under way before
#: how many are looked at, and then that most again, and how many to choose.
_TURNS = (
    f"WITH live AS ({_LIVE}), due AS ({_due(_WHOSE, _NOT_CROWDED)}), "
    "turns AS (SELECT d.connection, d.next_run_at, coalesce(l.runs, 0) + "
    "row_number() OVER (PARTITION BY d.person ORDER BY d.next_run_at, d.connection) AS turn "
    "FROM due d LEFT JOIN live l ON l.person = d.person) "
    "SELECT connection FROM turns WHERE turn <= ? ORDER BY turn, next_run_at, connection LIMIT ?"
)


def claim(database: Database, owner: str, now: int, until: int, limit: int, most: int = WINDOW, remembered: int = runs.KEPT) -> list[Run]:
    """Claim connections that are due and that nobody holds, all at once, and note their runs.

    Users take turns: first comes who has the fewest runs under way, then who is longest due; nobody gets more than `most` at once.
    A lease that ends absurdly late was written before the clock was set back: it does not stand.
    """
    absurd = until + (until - now)
    free = (now, absurd)
    found = _claimed(database, _ALL, (now, *free, limit + 1))
    if not found:
        return []
    users = Counter(run.of.user for run in found)
    # To find out whose turn it is costs several times as much as to take them as they are.
    if len(found) > limit or max(users.values()) + runs.live(database) > most:
        live: dict[str, int] = dict(database.rows(_LIVE, (now, absurd)))
        if _in_turn(found, live, limit, most):
            found = found[:limit]
        else:
            found = _claimed(database, _in_their_turns(database), (now, absurd, now, *free, most, WINDOW, most, limit, *free))
    database.alike(
        # Where somebody still has a lease, it came to no end.
        "UPDATE schedule SET lease_owner = ?, lease_until = ?, fence = fence + 1, tries = tries + 1, started_at = ?, "
        "failed = CASE WHEN lease_owner IS NULL THEN failed ELSE tries END WHERE connection = ?",
        (owner, until, now),
        [run.connection for run in found],
    )
    runs.begin(database, [run.place for run in found], now, remembered)
    return found


def _claimed(database: Database, chosen: str, values: Sequence[int]) -> list[Run]:
    """The runs that are claimed, longest due first; nobody else claims them until the commit."""
    rows = database.rows(f"{chosen} {database.locking('FOR UPDATE OF s SKIP LOCKED')}", values)
    rows.sort(key=itemgetter(0, 1))  # turns keep no order
    return [
        Run(
            connection=connection,
            fence=fence + 1,
            tries=tries + 1,
            cursor=_cursor(cursor),
            shape=shape,
            unmoved=unmoved,
            of=connections.value(of),
            traceparent=traceparent,
        )
        for _, connection, fence, tries, cursor, shape, unmoved, traceparent, *of in rows
    ]


def _in_turn(found: Sequence[Run], live: Mapping[str, int], limit: int, most: int) -> bool:
    """Say whether those longest due are those whose turn it is: all that are due, or each another person's, who has nothing under way."""
    people = [run.of.user for run in found[:limit]]
    if len(found) <= limit:
        return all(count + live.get(person, 0) <= most for person, count in Counter(people).items())
    return len(set(people)) == limit and live.keys().isdisjoint(people)


def _in_their_turns(database: Database) -> str:
    """What is claimed where people take turns: takes what `_TURNS` takes, then what `_FREE` takes."""
    return (
        f"SELECT {_CLAIMED}, {connections.columns('c')} FROM schedule s CROSS JOIN connection c "
        f"WHERE s.connection {database.among(_TURNS)} AND c.number = s.connection AND {_FREE}"
    )


def waiting(database: Database, now: int) -> bool:
    """Say whether something is due that nobody runs."""
    sql = (
        "SELECT 1 FROM schedule s JOIN connection c ON c.number = s.connection "
        "WHERE s.next_run_at <= ? AND s.lease_owner IS NULL AND c.state = 'active' LIMIT 1"
    )
    return bool(database.rows(sql, (now,)))


def overdue(database: Database, before: int) -> int:
    """How many should have run before this, and nobody holds."""
    ((count,),) = database.rows("SELECT count(*) FROM schedule WHERE next_run_at < ? AND lease_owner IS NULL", (before,))
    return int(count)


def spread(database: Database, before: int, now: int, over: int, salt: int, limit: int) -> int:
    """Have some of those that are overdue run at different times within `over`; gives how many. None is dropped, none runs twice."""
    rows = database.rows(
        "UPDATE schedule SET next_run_at = ? + (connection * 2654435761 + ?) % ? WHERE connection IN (SELECT connection FROM schedule "
        "WHERE next_run_at < ? AND lease_owner IS NULL ORDER BY next_run_at LIMIT ?) RETURNING connection",
        (now, salt, over, before, limit),
    )
    return len(rows)


def latest_end(database: Database) -> int:
    """When the last run of all ended; 0 before the first."""
    ((latest,),) = database.rows("SELECT max(finished_at) FROM schedule")
    return int(latest or 0)


def set_back(database: Database, now: int, by: int, after: int, limit: int) -> int | None:
    """Plan anew, in the order of their numbers, some connections that were planned while the clock was ahead by so much.

    Each waits as long as it would have. Gives the last number looked at; None: there are no more.
    """
    some = database.rows("SELECT connection FROM schedule WHERE connection > ? ORDER BY connection LIMIT ?", (after, limit))
    if not some:
        return None
    last = int(some[-1][0])
    database.rows(
        "UPDATE schedule SET next_run_at = next_run_at - ?, finished_at = finished_at - ?, not_before = not_before - ? "
        "WHERE connection > ? AND connection <= ? AND lease_owner IS NULL AND next_run_at > ? "
        "AND (finished_at > ? OR finished_at IS NULL)",
        (by, by, by, after, last, now, now),
    )
    return last


def heartbeat(database: Database, under_way: Iterable[Run], until: int) -> set[Place]:
    """Hold the leases of these runs longer; gives those that still had theirs."""
    return _held(
        database,
        "UPDATE schedule SET lease_until = ? WHERE connection = ? AND fence = ? AND lease_owner IS NOT NULL",
        [(until, run.connection, run.fence) for run in under_way],
    )


def due_now(database: Database, connection: int, now: int) -> int:
    """Make a connection due; gives the fence of the last claim, so that a later run can be told from it.

    Also where the provider asked us to wait: the session still keeps to that, and says so.
    """
    # One that waits already keeps its place: else those that are asked for again and again would never come to their turn.
    due = f"CASE WHEN lease_owner IS NULL AND next_run_at < ? THEN next_run_at ELSE {_nudged('?')} END"
    rows = database.rows(f"UPDATE schedule SET next_run_at = {due} WHERE connection = ? RETURNING fence", (now, now, now, connection))
    return int(rows[0][0]) if rows else 0


def nudge(database: Database, connection: int, now: int, traceparent: str = "") -> None:
    """Say that something was pushed for a connection: it is due, but not before the provider would have it."""
    floor = "CASE WHEN schedule.not_before > ? THEN schedule.not_before ELSE ? END"
    database.rows(
        f"UPDATE schedule SET next_run_at = {_nudged(f'({floor})')}, nudged_at = ?, traceparent = ?, pushed_at = ? WHERE connection = ?",
        (now, now, now, now, now, traceparent, now, connection),
    )


def pushed(database: Database, connection: int, now: int) -> None:
    """Note that pushes reach us for this connection. Seldom, since they may come many a second."""
    database.rows(
        "UPDATE schedule SET pushed_at = ? WHERE connection = ? AND (pushed_at IS NULL OR pushed_at < ?)",
        (now, connection, now - _NOTED * 1_000_000),
    )


#: Seconds for which a push need not be noted again.
_NOTED = 60


class Pushes(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the pushes of a connection."""

    heard: bool  #: ever
    announced: bool  #: the run that is under way, or what comes after it, was announced by one
    stretch: int  #: by how much its interval is longer, since they work
    timetable: str | None = None  #: when it is synced, where that is said for it alone


def holding(database: Database, under_way: Iterable[Run]) -> dict[Place, Pushes]:
    """What is known of the pushes of runs' connections; of a run that has no lease any more, nothing. They keep theirs until the commit."""
    sql = (
        "SELECT connection, fence, pushed_at, nudged_at, stretch, timetable FROM schedule "
        f"WHERE connection = ? AND fence = ? AND lease_owner IS NOT NULL {database.locking('FOR UPDATE')}"
    )
    rows = database.each(sql, [run.place for run in under_way])
    return {
        (connection, fence): Pushes(heard=pushed_at is not None, announced=nudged_at is not None, stretch=stretch, timetable=timetable)
        for connection, fence, pushed_at, nudged_at, stretch, timetable in rows
    }


def poll_again(database: Database, connection: int, at: int) -> None:
    """Have polls stand in for pushes, the first of them no later than this, unless the provider would have us wait."""
    database.rows("UPDATE schedule SET stretch = 1, pushed_at = NULL WHERE connection = ?", (connection,))
    database.rows(
        "UPDATE schedule SET next_run_at = ? WHERE connection = ? AND next_run_at > ? AND lease_owner IS NULL AND not_before <= ? "
        "AND timetable IS NULL",
        (at, connection, at, at),
    )


def set_timetable(database: Database, connection: int, timetable: str | None, next_run_at: int) -> None:
    """Say when a connection is synced from now on, and next; None: as often as all.

    One that has none planned, that runs, or that is to be tried again after trouble is planned at the end of its next run.
    """
    database.rows("UPDATE schedule SET timetable = ? WHERE connection = ?", (timetable, connection))
    database.rows(
        "UPDATE schedule SET next_run_at = CASE WHEN not_before > ? THEN not_before ELSE ? END "
        "WHERE connection = ? AND next_run_at IS NOT NULL AND lease_owner IS NULL AND tries = 0",
        (next_run_at, next_run_at, connection),
    )


def stop(database: Database, connection: int, now: int) -> None:
    """Take a connection off the schedule; a run in progress loses its lease. `create` puts it back, with its cursor."""
    runs.lose(database, [connection], now, "it was stopped")
    database.rows(
        "UPDATE schedule SET next_run_at = NULL, lease_owner = NULL, lease_until = NULL, fence = fence + 1 WHERE connection = ?",
        (connection,),
    )


def release(database: Database, owner: str, now: int, working: Collection[int], tried: Mapping[int, int]) -> int:
    """Give back what a process of this name holds and does not run: due at once, and no try. Gives how many there were.

    What was tried is due when `tried` says, and stays counted.
    """
    sql = f"SELECT connection FROM schedule WHERE lease_owner = ? {database.locking('FOR UPDATE')}"
    given = [connection for (connection,) in database.rows(sql, (owner,)) if connection not in working]
    database.many(
        "UPDATE schedule SET lease_owner = NULL, lease_until = NULL, next_run_at = ?, "
        "tries = CASE WHEN tries > 0 THEN tries - ? ELSE 0 END WHERE connection = ?",
        [(tried.get(connection, now), int(connection not in tried), connection) for connection in given],
    )
    runs.lose(database, given, now, "the daemon gave it back before its end was stored")
    return len(given)


def rescue(database: Database, now: int) -> int:
    """Free what any process held: for the start of the only daemon on a database, when whoever held a lease is dead.

    Gives how many there were. What they ran is still due, with its try counted.
    """
    sql = "UPDATE schedule SET lease_owner = NULL, lease_until = NULL, failed = tries WHERE lease_owner IS NOT NULL RETURNING connection"
    held = [connection for (connection,) in database.rows(sql)]
    runs.lose(database, held, now, "the daemon ended before it did")
    return len(held)


def _held(database: Database, sql: str, parameters: Iterable[Sequence[Any]]) -> set[Place]:
    """Execute an update that asks for the fence, for each of the parameters; gives the runs that it met."""
    return {(connection, fence) for connection, fence in database.each(f"{sql} RETURNING connection, fence", parameters)}


def _fenced(database: Database, sql: str, run: Run, *values: Any) -> None:
    """Execute an update that ends in the run's connection and fence, and insist that it met the row."""
    if not _held(database, sql, [(*values, run.connection, run.fence)]):
        raise LeaseLost("another run has taken over this connection")


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Mark: these events are of a run that still holds its lease."""

    run: Run

    def apply(self, database: Database) -> None:
        """Insist on the fence."""
        sql = "SELECT connection FROM schedule WHERE connection = ? AND fence = ? AND lease_owner IS NOT NULL"
        if not database.rows(f"{sql} {database.locking('FOR SHARE')}", (self.run.connection, self.run.fence)):
            raise LeaseLost("another run has taken over this connection")


class ListingBegun(msgspec.Struct, frozen=True, kw_only=True):
    """Mark: a full listing begins; what it shows carries a new generation."""

    run: Run
    now: int

    def apply(self, database: Database) -> None:
        """Write it."""
        _fenced(
            database,
            "UPDATE schedule SET generation = generation + 1, listing_at = ? "
            "WHERE connection = ? AND fence = ? AND lease_owner IS NOT NULL",
            self.run,
            self.now,
        )


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """Mark: the listing under way has shown all that there is of these types."""

    run: Run
    types: Sequence[str]

    def apply(self, database: Database) -> None:
        """Write it. Another mark of the batch insists on the fence."""
        known = listings(database, self.run.connection)
        if known.begun_at is not None:
            listed = {**known.of, **dict.fromkeys(self.types, known.begun_at)}
            sql = "UPDATE schedule SET listed = ? WHERE connection = ?"
            database.rows(sql, (msgspec.json.encode(listed).decode(), self.run.connection))


class Listings(msgspec.Struct, frozen=True, kw_only=True):
    """When the full listings of a connection began."""

    begun_at: int | None = None  #: the last of them, whether it has come to its end or not
    of: Mapping[str, int] = msgspec.field(default_factory=dict)  #: type → the last one that has shown all of it


def listings(database: Database, connection: int) -> Listings:
    """The listings of a connection; of one without a schedule, none."""
    for begun_at, listed in database.rows("SELECT listing_at, listed FROM schedule WHERE connection = ?", (connection,)):
        return Listings(begun_at=begun_at, of={} if listed is None else msgspec.json.decode(listed, type=dict[str, int]))
    return Listings()


class SetAside(msgspec.Struct, frozen=True, kw_only=True):
    """Mark: these subjects were shown and could not be read: they are there, whatever a listing does not tell of them."""

    run: Run
    subjects: Sequence[str]

    def apply(self, database: Database) -> None:
        """Write it. Another mark of the batch insists on the fence."""
        database.many(
            'UPDATE object SET generation = (SELECT generation FROM schedule WHERE connection = ?) WHERE connection = ? AND "key" = ?',
            [(self.run.connection, self.run.connection, subject) for subject in self.subjects],
        )


#: Of the places of the last while so many are remembered, at most about.
TRAIL = 10


def place_of(database: Database, run: Run, overlap: int) -> Mapping[str, Any] | None:
    """Where a run begins that goes over the last while (microseconds) before its cursor again; at the earliest the oldest place known.

    Raises `Erased`.
    """
    rows = database.rows("SELECT trail, moved_at FROM schedule WHERE connection = ?", (run.connection,))
    if not rows:
        raise Erased("the connection is gone")
    ((text, moved_at),) = rows
    trail = [step for step in _trail(text) if step.shape == run.shape]
    old = [step for step in trail if step.at <= (moved_at or 0) - overlap]
    return old[-1].cursor if old else trail[0].cursor if trail else run.cursor


class _Step(msgspec.Struct, frozen=True, array_like=True):
    """A place that a connection had come to."""

    at: int
    shape: int
    cursor: dict[str, Any]


def _trail(text: str | None) -> list[_Step]:
    return [] if text is None else msgspec.json.decode(text, type=list[_Step])


class Trailed(msgspec.Struct, frozen=True, kw_only=True):
    """Mark: the places of the last while are remembered, since the next run begins so much before this one's cursor."""

    run: Run
    cursor: Mapping[str, Any]
    shape: int
    now: int
    overlap: int  #: microseconds

    def apply(self, database: Database) -> None:
        """Write it. Another mark of the batch insists on the fence."""
        ((text,),) = database.rows("SELECT trail FROM schedule WHERE connection = ?", (self.run.connection,))
        trail = _trail(text)
        if not trail or trail[-1].at <= self.now - self.overlap // TRAIL:
            trail.append(_Step(self.now, self.shape, dict(self.cursor)))
        old = [step for step in trail if step.at <= self.now - self.overlap]
        kept = [*old[-1:], *trail[len(old) :]]
        database.rows("UPDATE schedule SET trail = ? WHERE connection = ?", (msgspec.json.encode(kept).decode(), self.run.connection))


class CursorMoved(msgspec.Struct, frozen=True, kw_only=True):
    """Mark: everything before this cursor is in the outbox. None: start from the beginning next time."""

    run: Run
    cursor: Mapping[str, Any] | None
    shape: int = 1
    now: int | None = None

    def apply(self, database: Database) -> None:
        """Write it."""
        text = None if self.cursor is None else msgspec.json.encode(self.cursor).decode()
        _fenced(
            database,
            "UPDATE schedule SET cursor = ?, shape = ?, moved_at = ? WHERE connection = ? AND fence = ? AND lease_owner IS NOT NULL",
            self.run,
            text,
            self.shape,
            self.now,
        )
        if text is None:
            database.rows("UPDATE schedule SET trail = NULL WHERE connection = ?", (self.run.connection,))


class RunEnded(msgspec.Struct, frozen=True, kw_only=True):
    """Mark: a run is over; the lease is free, the next run is planned, and the log has it."""

    run: Run
    now: int
    next_run_at: int | None
    outcome: str
    detail: str
    tally: Tally
    keep_tries: bool  #: it did not end well: the count goes on
    not_before: int = 0  #: the provider asked not to be asked earlier
    unmoved: int = 0
    stretch: int = 1

    def apply(self, database: Database) -> None:
        """Write it."""
        if not holding(database, [self.run]):
            raise LeaseLost("another run has taken over this connection")
        end(database, [self])


def end(database: Database, ended: Sequence[RunEnded]) -> None:
    """End runs that were found to hold their leases."""
    database.many(
        # Somebody may have asked for another sync meanwhile: then it is due later than this run began, and that stands.
        "UPDATE schedule SET lease_owner = NULL, lease_until = NULL, finished_at = ?, finished_fence = fence, "
        "next_run_at = CASE WHEN next_run_at > started_at THEN next_run_at ELSE ? END, outcome = ?, detail = ?, events = ?, "
        "tries = ?, failed = ?, not_before = ?, unmoved = ?, stretch = ?, "
        "nudged_at = CASE WHEN nudged_at > started_at THEN nudged_at END, "
        "traceparent = CASE WHEN nudged_at > started_at THEN traceparent ELSE '' END "
        "WHERE connection = ? AND fence = ? AND lease_owner IS NOT NULL",
        [
            (
                mark.now,
                mark.next_run_at,
                mark.outcome,
                mark.detail,
                mark.tally.events,
                *[mark.run.tries if mark.keep_tries else 0] * 2,
                mark.not_before,
                mark.unmoved,
                mark.stretch,
                *mark.run.place,
            )
            for mark in ended
        ],
    )
    runs.end(
        database,
        [runs.Ended(mark.now, mark.outcome, mark.detail, mark.next_run_at, *mark.tally, *mark.run.place) for mark in ended],
    )
