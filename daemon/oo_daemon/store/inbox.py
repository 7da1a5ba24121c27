"""The inbox: deliveries as they arrived, until they have become events.

State: received → done | dead. A delivery is claimed with a lease and a fence, as a sync is: what was done under a claim that somebody else
has taken over is refused. Tries are counted at the claim, so that one that kills the process counts too; what only has to wait does not
count. The row outlives the body: by it a redelivery is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import msgspec

from oo_daemon.ports import SECOND
from oo_daemon.store import schedule
from oo_daemon.store.connections import Connection
from oo_daemon.store.database import Database, ForMany, Row, by_powers_of_two, holding, of_rows, pattern
from oo_daemon.store.errors import LeaseLost

State = Literal["received", "done", "dead"]

DAY = 24 * 3600 * SECOND
#: How long a redelivery is known for what it is, unless told otherwise: providers send again for days (75 hours is the
#: longest that is known), never weeks.
KEEP_IDS = 35 * DAY
#: How long the body of a delivery that is done can be looked at, unless told otherwise.
KEEP_BODIES = 7 * DAY

_PUT = (
    "INSERT INTO delivery (source, delivery_id, weak, state, reason, tries, waiting, next_try_at, fence, "
    "headers, body, received_at, traceparent) VALUES (?, ?, ?, 'received', '', 0, 0, 0, 0, ?, ?, ?, ?)"
    " ON CONFLICT (source, delivery_id) DO NOTHING"
)


@dataclass(slots=True, kw_only=True)  # not frozen, which sets each field through a function: one is made for each webhook
class Arrival:
    """One webhook body, verified."""

    source: str
    delivery_id: str  #: the sender's, else a hash
    weak: bool  #: it is a hash
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    received_at: int
    traceparent: str = ""  #: names its receipt among the traces


class Which(msgspec.Struct, frozen=True, kw_only=True):
    """Some deliveries: those that fit all of it."""

    first: int | None = None  #: number
    last: int | None = None  #: number
    source: str | None = None
    state: State | None = None

    def where(self) -> tuple[str, list[Any]]:
        """The condition, and its values."""
        given = {"number >= ?": self.first, "number <= ?": self.last, "source = ?": self.source}
        kept = {condition: value for condition, value in given.items() if value is not None}
        return " AND ".join([_in_state("state", self.state), *kept]), [*kept.values()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """One delivery in work."""

    number: int
    fence: int
    tries: int  #: how often it was claimed, this time included
    source: str
    provider: str
    connection: int | None  #: whose own address it came to; None where one address serves all users
    delivery_id: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    received_at: int
    traceparent: str = ""
    replayed: bool = False  #: it was done, or given up, before


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery as it is listed, without its body."""

    number: int
    source: str
    provider: str
    delivery_id: str
    weak: bool
    state: State
    reason: str
    tries: int
    next_try_at: int | None  #: None when nothing more is planned; 0: as soon as can be
    received_at: int
    done_at: int | None


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """How far those are that were replayed at one time."""

    total: int
    left: int  #: still to be worked on
    dead: int  #: became nothing once more

    @property
    def done(self) -> int:
        """Worked on."""
        return self.total - self.left


def _put_all(database: Database, arrivals: Sequence[Arrival]) -> list[bool] | None:
    if len(arrivals) == 1:
        return [database.changed(_PUT, _row(arrivals[0])) == 1]
    for some in by_powers_of_two(arrivals):
        if database.changed(of_rows(_PUT, len(some)), [value for arrival in some for value in _row(arrival)]) < len(some):
            return None  # some were here before, and it is not known which
    return [True] * len(arrivals)


#: Write a delivery, once; False: it was here before.
put = ForMany(_put_all)


def _row(arrival: Arrival) -> tuple[Any, ...]:
    headers = msgspec.json.encode(arrival.headers).decode()
    weak = int(arrival.weak)
    return arrival.source, arrival.delivery_id, weak, headers, arrival.body, arrival.received_at, arrival.traceparent


def claim(database: Database, owner: str, now: int, until: int, limit: int) -> list[Claimed]:
    """Claim deliveries that nobody has tried yet, oldest first. A lease that ends absurdly late does not stand: the clock was set back."""
    return _claim(database, "tries = 0", owner, now, until, limit)


def claim_again(database: Database, owner: str, now: int, until: int) -> list[Claimed]:
    """Claim one that was tried before and is due: alone, so that it takes no other with it should it end the process."""
    return _claim(database, "tries > 0", owner, now, until, 1)


def _claim(database: Database, which: str, owner: str, now: int, until: int, limit: int) -> list[Claimed]:
    due = (
        f"SELECT number FROM delivery WHERE state = 'received' AND next_try_at <= ? AND {which} "
        "AND (lease_until IS NULL OR lease_until <= ? OR lease_until > ?) ORDER BY next_try_at, number LIMIT ?"
    )
    rows = database.rows(
        "UPDATE delivery SET lease_owner = ?, lease_until = ?, fence = fence + 1, tries = tries + 1 "
        f"WHERE number {database.among(due + database.locking(' FOR UPDATE SKIP LOCKED'))} "
        "RETURNING number, fence, tries, source, (SELECT provider FROM source WHERE id = delivery.source), "
        "(SELECT connection FROM source WHERE id = delivery.source), "
        "delivery_id, headers, body, received_at, traceparent, replayed_at",
        (owner, until, now, now, until + (until - now), limit),
    )
    return [_claimed(row) for row in sorted(rows, key=lambda row: cast(int, row[0]))]  # RETURNING keeps no order


def _claimed(row: Row) -> Claimed:
    number, fence, tries, source, provider, connection, delivery_id, headers, body, received_at, traceparent, replayed_at = row
    return Claimed(
        number=number,
        fence=fence,
        tries=tries,
        source=source,
        provider=provider,
        connection=connection,
        delivery_id=delivery_id,
        headers=msgspec.json.decode(headers),
        body=bytes(body),
        received_at=received_at,
        traceparent=traceparent,
        replayed=replayed_at is not None,
    )


def put_back(database: Database, delivery: Claimed, at: int, reason: str, *, counted: bool, waiting: bool = False) -> None:
    """Try it again at that time. `waiting`: for a connection, whose sign-in makes it due. Raises `LeaseLost`."""
    _fenced(
        database,
        "next_try_at = ?, reason = ?, tries = ?, waiting = ?",
        delivery,
        at,
        reason,
        delivery.tries if counted else delivery.tries - 1,
        int(waiting),
    )


def set_back(database: Database, now: int, by: int) -> int:
    """Have what waits for its next try wait no longer because the clock was ahead by so much. Gives how many there were."""
    rows = database.rows(
        "UPDATE delivery SET next_try_at = CASE WHEN next_try_at > ? THEN next_try_at - ? ELSE 0 END "
        "WHERE state = 'received' AND next_try_at > ? RETURNING number",
        (by, by, now),
    )
    return len(rows)


def give_up(database: Database, delivery: Claimed, now: int, reason: str, *, forget: bool) -> None:
    """It is dead; `forget` drops its body, which else is kept for a replay. Raises `LeaseLost`."""
    body = "headers = '{}', body = NULL, " if forget else ""
    _fenced(database, f"{body}state = 'dead', waiting = 0, next_try_at = NULL, reason = ?, done_at = ?", delivery, reason, now)


def _in_state(column: str, state: str | None) -> str:
    """The condition for a state, or for any: in words and not as a value, so that the index of those that are dead is found."""
    if state is None:
        return "1 = 1"
    return f"{column} = '{state}'" if state in get_args(State) else "1 = 0"


def _fenced(database: Database, change: str, delivery: Claimed, *values: Any) -> None:
    """Change a delivery that is still ours, and let it go."""
    if not database.rows(
        f"UPDATE delivery SET {change}, lease_owner = NULL, lease_until = NULL "
        "WHERE number = ? AND fence = ? AND lease_owner IS NOT NULL RETURNING number",
        (*values, delivery.number, delivery.fence),
    ):
        raise LeaseLost("another has taken over this delivery")


class DeliveryDone(msgspec.Struct, frozen=True, kw_only=True):
    """Mark: what the delivery says is in the outbox, or on the schedule."""

    delivery: Claimed
    now: int

    def apply(self, database: Database) -> None:
        """Write it. Raises `LeaseLost`."""
        change = "state = 'done', waiting = 0, next_try_at = NULL, reason = '', done_at = ?"
        _fenced(database, change, self.delivery, self.now)


class Nudged(msgspec.Struct, frozen=True, kw_only=True):
    """Mark: something changed at the provider, so the connection is due.

    One whose last sync did not end well keeps its place: its next sync will see the change, and the provider may have asked us to wait.
    """

    connection: int
    now: int
    traceparent: str = ""  #: of what told us

    def apply(self, database: Database) -> None:
        """Write it."""
        planned = schedule.of(database, self.connection, self.now)
        if planned is not None and (planned.running or planned.tries == 0):
            schedule.nudge(database, self.connection, self.now, self.traceparent)


class Pushed(msgspec.Struct, frozen=True, kw_only=True):
    """Mark: a push brought events of this connection."""

    connection: int
    now: int

    def apply(self, database: Database) -> None:
        """Write it."""
        schedule.pushed(database, self.connection, self.now)


def call_up(database: Database, provider: str) -> None:
    """Make due what waits for a connection at this provider: one works from now on."""
    database.rows(
        "UPDATE delivery SET next_try_at = 0 "
        "WHERE state = 'received' AND waiting = 1 AND source IN (SELECT id FROM source WHERE provider = ?)",
        (provider,),
    )


def release(database: Database, owner: str) -> int:
    """Give back what a process of this name held when it stopped; that was no try. Gives how many there were."""
    return len(
        database.rows(
            "UPDATE delivery SET lease_owner = NULL, lease_until = NULL, tries = tries - 1 "
            "WHERE state = 'received' AND lease_owner = ? RETURNING number",
            (owner,),
        )
    )


def rescue(database: Database) -> int:
    """Free what any process held: for the start of the only daemon on a database. Their tries stay counted. Gives how many there were."""
    return len(
        database.rows(
            "UPDATE delivery SET lease_owner = NULL, lease_until = NULL "
            "WHERE state = 'received' AND lease_owner IS NOT NULL RETURNING number"
        )
    )


def depth(database: Database) -> int:
    """How many deliveries are still to become events."""
    ((waiting,),) = database.rows("SELECT count(*) FROM delivery WHERE state = 'received'")
    return int(waiting)


def listed(
    database: Database, *, state: str | None = None, source: str | None = None, number: int | None = None, limit: int = 100
) -> list[Entry]:
    """Deliveries, or those in a state or of a source, newest first."""
    conditions = [(column, value) for column, value in (("d.source", source), ("d.number", number)) if value is not None]
    where = [_in_state("d.state", state), *(f"{column} = ?" for column, _ in conditions)]
    return _entries(database, where, [value for _, value in conditions], limit)


def page(
    database: Database,
    *,
    before: int | None = None,
    limit: int,
    state: str | None = None,
    source: str | None = None,
    words: str = "",
    window: int = 50_000,
) -> tuple[list[Entry], int]:
    """Up to `limit` deliveries before a number, newest first, and where to go on backwards: 0 at the beginning.

    `words` are looked for in the id, the source and the reason. What fits is looked for in a window of numbers, so that what is seldom met
    costs no look over all of a long inbox.
    """
    if before is None:
        ((newest,),) = database.rows("SELECT COALESCE(max(number), 0) FROM delivery")
        before = newest + 1
    floor = max(before - window, 1)
    where, values = [_in_state("d.state", state), "d.number < ?", "d.number >= ?"], list[Any]([before, floor])
    if source is not None:
        where.append("d.source = ?")
        values.append(source)
    if words:
        columns = ("d.delivery_id", "d.source", "d.reason")
        where.append(f"({' OR '.join(map(holding, columns))})")
        values += [pattern(words)] * len(columns)
    found = _entries(database, where, values, limit)
    reached = found[-1].number if len(found) == limit else floor
    return found, reached if reached > 1 else 0


def _entries(database: Database, where: Sequence[str], values: Sequence[Any], limit: int) -> list[Entry]:
    rows = database.rows(
        "SELECT d.number, d.source, s.provider, d.delivery_id, d.weak, d.state, d.reason, d.tries, d.next_try_at, d.received_at, d.done_at "
        f"FROM delivery d JOIN source s ON s.id = d.source WHERE {' AND '.join(where)} ORDER BY d.number DESC LIMIT ?",
        (*values, limit),
    )
    return [
        Entry(
            number=number,
            source=source_,
            provider=provider,
            delivery_id=delivery_id,
            weak=bool(weak),
            state=cast(State, state_),
            reason=reason,
            tries=tries,
            next_try_at=next_try_at,
            received_at=received_at,
            done_at=done_at,
        )
        for number, source_, provider, delivery_id, weak, state_, reason, tries, next_try_at, received_at, done_at in rows
    ]


def shown(database: Database, number: int) -> tuple[Entry, Mapping[str, str], bytes | None] | None:
    """One delivery with its headers and its body, which is None where it was dropped."""
    rows = database.rows("SELECT headers, body FROM delivery WHERE number = ?", (number,))
    found = listed(database, number=number)
    if not rows or not found:
        return None
    headers, body = rows[0]
    return found[0], msgspec.json.decode(headers), None if body is None else bytes(body)


def replay(database: Database, which: Which, limit: int, now: int) -> list[int]:
    """Have some of these worked on once more, under their ids; gives their numbers, oldest first. Only one whose body is kept can be.

    What is being worked on, or still will be, is left alone. `now` is when the replay was asked for, by which `replayed` knows it again.
    """
    where, values = which.where()
    rows = database.rows(
        "UPDATE delivery SET state = 'received', reason = '', tries = 0, waiting = 0, next_try_at = 0, replayed_at = ?, "
        "done_at = CASE WHEN state = 'done' THEN done_at END "  # so that one that is called off is again what it was
        "WHERE number IN ("
        f"SELECT number FROM delivery WHERE {where} AND state <> 'received' AND body IS NOT NULL ORDER BY number LIMIT ?) RETURNING number",
        (now, *values, limit),
    )
    return sorted(number for (number,) in rows)


def replayed(database: Database, at: int) -> Replay:
    """How far those are that were replayed at this time and not again since."""
    counts: dict[str, int] = dict(database.rows("SELECT state, count(*) FROM delivery WHERE replayed_at = ? GROUP BY state", (at,)))
    return Replay(total=sum(counts.values()), left=counts.get("received", 0), dead=counts.get("dead", 0))


def call_off(database: Database, at: int, now: int, limit: int) -> int:
    """Take back some of those that were replayed at this time and that nobody is working on; gives how many. Each is what it was before."""
    return len(
        database.rows(
            "UPDATE delivery SET state = CASE WHEN done_at IS NULL THEN 'dead' ELSE 'done' END, waiting = 0, next_try_at = NULL, "
            "reason = CASE WHEN done_at IS NULL THEN 'its replay was called off' ELSE '' END, done_at = COALESCE(done_at, ?), "
            "replayed_at = NULL WHERE number IN (SELECT number FROM delivery WHERE replayed_at = ? AND state = 'received' "
            f"AND lease_owner IS NULL ORDER BY number LIMIT ? {database.locking('FOR UPDATE SKIP LOCKED')}) RETURNING number",
            (now, at, limit),
        )
    )


def drop(database: Database, which: Which, now: int, limit: int) -> list[int]:
    """Forget the bodies of some of these for good; gives their numbers. One that was still to become events is dead.

    The row stays, so that a redelivery is known.
    """
    where, values = which.where()
    rows = database.rows(
        "UPDATE delivery SET headers = '{}', body = NULL, waiting = 0, next_try_at = NULL, lease_owner = NULL, lease_until = NULL, "
        "fence = fence + 1, reason = CASE WHEN state = 'done' THEN '' ELSE 'it was dropped' END, done_at = COALESCE(done_at, ?), "
        "state = CASE WHEN state = 'done' THEN 'done' ELSE 'dead' END WHERE number IN ("
        f"SELECT number FROM delivery WHERE {where} AND body IS NOT NULL ORDER BY number LIMIT ?) RETURNING number",
        (now, *values, limit),
    )
    return sorted(number for (number,) in rows)


def names(database: Database) -> str:
    """True for a delivery `d` that may name a connection: its account in the body, or one of its subscriptions in a header.

    Its values come from `named`. Account ids may be parts of others: `names_account` tells.
    """
    holds = "position(? in d.body) > 0" if database.dialect == "postgresql" else "instr(d.body, ?) > 0"
    return f"{holds} OR {subscribed(database)}"


def subscribed(database: Database) -> str:
    """True for a delivery `d` with a subscription of a connection in a header; its value is the connection's number."""
    header = "position(u.id in d.headers) > 0" if database.dialect == "postgresql" else "instr(d.headers, u.id) > 0"
    return f"EXISTS (SELECT 1 FROM subscription u WHERE u.connection = ? AND {header})"


def named(connection: Connection) -> tuple[bytes, int]:
    """The values that `names` is asked with. An account without a name is named by no body: an empty text would be in every one."""
    return (connection.provider_account or "\0none\0").encode(), connection.number


def names_account(connection: Connection) -> Callable[[bytes], bool]:
    """Say of a body whether it names the connection's account whole: 12 is not named where 123 is, who is somebody else."""
    account = re.escape(connection.provider_account.encode())
    whole = re.compile(rb"(?<![0-9A-Za-z_-])" + account + rb"(?![0-9A-Za-z_-])")
    return lambda body: bool(account and whole.search(body))


def forget_bodies(database: Database, now: int, limit: int, keep: int = KEEP_BODIES) -> int:
    """Drop some bodies of deliveries that were done a while ago; gives how many."""
    return len(
        database.rows(
            "UPDATE delivery SET headers = '{}', body = NULL WHERE number IN ("
            "SELECT number FROM delivery WHERE body IS NOT NULL AND state = 'done' AND done_at <= ? ORDER BY done_at LIMIT ?) "
            "RETURNING number",
            (now - keep, limit),
        )
    )


def forget_ids(database: Database, now: int, limit: int, keep: int = KEEP_IDS) -> int:
    """Drop some deliveries, done or dead, that no sender will send again; gives how many."""
    return len(
        database.rows(
            "DELETE FROM delivery WHERE number IN ("
            "SELECT number FROM delivery WHERE state <> 'received' AND received_at <= ? ORDER BY received_at LIMIT ?) RETURNING number",
            (now - keep, limit),
        )
    )
