"""Jobs: what the hub has promised to do at a provider and does until it is done: actions, and giving grants back.

A job is claimed like a run of the schedule: with a lease and a fence, its tries counted at the claim. Jobs of one connection are done
one after another, in the order in which they were asked for: what waits for its next try keeps those behind it waiting.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import msgspec

from oo_daemon.store.accept import Draft, Mark
from oo_daemon.store.database import Database, Row
from oo_daemon.store.errors import Erased, LeaseLost

Kind = Literal["act", "revoke"]
Outcome = Literal["done", "failed"]
State = Literal["queued", Outcome]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job. `number` is the store's own and says the order; `id` is what others see."""

    number: int
    id: str
    kind: Kind
    connection: int
    connection_id: str  #: the random id
    key: str  #: unique within kind and connection
    body: Mapping[str, Any]  #: what to do; its shape is the kind's own
    state: State
    result: Mapping[str, Any] | None  #: likewise; None before the end, and where it came to nothing
    reason: str  #: why it failed or is tried again, for people
    tries: int
    next_try_at: int | None  #: None once it has ended
    fence: int
    created_at: int
    finished_at: int | None


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What a job came to: committed in one transaction with the events and marks that belong to it."""

    state: Outcome
    result: Mapping[str, Any] | None = None
    reason: str = ""
    drafts: Sequence[Draft] = ()
    marks: Sequence[Mark] = ()


class Later(msgspec.Struct, frozen=True, kw_only=True):
    """A job was not done, and is to be tried again."""

    reason: str
    after: float | None = None  #: seconds that the provider asks for


_JOBS = (
    'SELECT j.number, j.id, j.kind, j.connection, c.id, j."key", j.body, j.state, j.result, j.reason, j.tries, j.next_try_at, j.fence, '
    "j.created_at, j.finished_at FROM job j JOIN connection c ON c.number = j.connection"
)
_END = "next_try_at = NULL, lease_owner = NULL, lease_until = NULL"


def _value(row: Row) -> Job:
    number, id_, kind, connection, of, key, body, state, result, reason, tries, next_try_at, fence, created_at, finished_at = row
    return Job(
        number=number,
        id=id_,
        kind=kind,
        connection=connection,
        connection_id=of,
        key=key,
        body=msgspec.json.decode(body),
        state=state,
        result=None if result is None else msgspec.json.decode(result),
        reason=reason,
        tries=tries,
        next_try_at=next_try_at,
        fence=fence,
        created_at=created_at,
        finished_at=finished_at,
    )


def _text(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def put(database: Database, *, id_: str, kind: Kind, connection: int, key: str, body: Mapping[str, Any], now: int) -> Job:
    """Queue a job, due at once; or give the one that is there under this key, whatever became of it."""
    database.rows(
        'INSERT INTO job (id, kind, connection, "key", body, state, reason, tries, next_try_at, fence, created_at) '
        "VALUES (?, ?, ?, ?, ?, 'queued', '', 0, ?, 0, ?) ON CONFLICT (kind, connection, \"key\") DO NOTHING",
        (id_, kind, connection, key, _text(body), now, now),
    )
    found = by_key(database, kind, connection, key)
    if found is None:
        raise Erased("the connection is gone, and with it the job that was there")
    return found


def by_id(database: Database, id_: str) -> Job | None:
    """The job with this id."""
    rows = database.rows(f"{_JOBS} WHERE j.id = ?", (id_,))
    return _value(rows[0]) if rows else None


def by_key(database: Database, kind: Kind, connection: int, key: str) -> Job | None:
    """The job with this key."""
    rows = database.rows(f'{_JOBS} WHERE j.kind = ? AND j.connection = ? AND j."key" = ?', (kind, connection, key))
    return _value(rows[0]) if rows else None


def latest(database: Database, kind: Kind, connection: int) -> Job | None:
    """The newest job of a kind that a connection has."""
    rows = database.rows(f"{_JOBS} WHERE j.kind = ? AND j.connection = ? ORDER BY j.number DESC LIMIT 1", (kind, connection))
    return _value(rows[0]) if rows else None


def newest(database: Database, kind: Kind, connection: int, limit: int) -> list[Job]:
    """The newest jobs of a kind that a connection has, newest first."""
    rows = database.rows(f"{_JOBS} WHERE j.kind = ? AND j.connection = ? ORDER BY j.number DESC LIMIT ?", (kind, connection, limit))
    return [_value(row) for row in rows]


def claim(database: Database, owner: str, now: int, until: int, limit: int) -> list[Job]:
    """Claim jobs that are due, that nobody holds and that no older one of their connection keeps waiting; the longest due first.

    A lease that ends absurdly late was written before the clock was set back: it does not stand either.
    """
    due = (
        "SELECT j.number FROM job j WHERE j.next_try_at <= ? "
        "AND (j.lease_until IS NULL OR j.lease_until <= ? OR j.lease_until > ?) AND NOT EXISTS "
        "(SELECT 1 FROM job o WHERE o.connection = j.connection AND o.next_try_at IS NOT NULL AND o.number < j.number) "
        "ORDER BY j.next_try_at, j.number LIMIT ?"
    )
    claimed = database.rows(
        "UPDATE job SET lease_owner = ?, lease_until = ?, fence = fence + 1, tries = tries + 1, tried_at = ? "
        f"WHERE number {database.among(due + database.locking(' FOR UPDATE OF j SKIP LOCKED'))} RETURNING next_try_at, number",
        (owner, until, now, now, now, until + (until - now), limit),
    )
    # RETURNING keeps no order.
    return [_value(row) for _, number in sorted(claimed) for row in database.rows(f"{_JOBS} WHERE j.number = ?", (number,))]


def put_off(database: Database, job: Job, next_try_at: int, reason: str) -> None:
    """Free a claimed job until its next try. Raises `LeaseLost`."""
    sql = "UPDATE job SET next_try_at = ?, reason = ?, lease_owner = NULL, lease_until = NULL"
    _fenced(database, sql, job, next_try_at, reason)


def set_back(database: Database, now: int, by: int) -> int:
    """Plan anew what was planned while the clock was ahead by so much: each waits as long as it would have. Gives how many there were."""
    rows = database.rows(
        "UPDATE job SET next_try_at = next_try_at - ?, tried_at = tried_at - ?, "
        "created_at = CASE WHEN created_at > ? THEN created_at - ? ELSE created_at END "
        "WHERE next_try_at > ? AND COALESCE(tried_at, created_at) > ? RETURNING number",
        (by, by, now, by, now, now),
    )
    return len(rows)


def fail(database: Database, kind: Kind, connection: int, reason: str, now: int) -> list[Job]:
    """End all jobs of a kind that a connection still has, also one that is held: whoever holds it will find its lease lost."""
    ended = database.rows(
        f"UPDATE job SET state = 'failed', reason = ?, finished_at = ?, fence = fence + 1, {_END} "
        "WHERE kind = ? AND connection = ? AND state = 'queued' RETURNING number",
        (reason, now, kind, connection),
    )
    return [_value(row) for (number,) in sorted(ended) for row in database.rows(f"{_JOBS} WHERE j.number = ?", (number,))]


def release(database: Database, owner: str, now: int, working: Collection[int], tried: Mapping[int, int]) -> int:
    """Give back what a process of this name holds and does not work on: due at once, and no try. Gives how many there were.

    What was tried is due when `tried` says, and stays counted.
    """
    sql = f"SELECT number FROM job WHERE lease_owner = ? {database.locking('FOR UPDATE')}"
    given = [number for (number,) in database.rows(sql, (owner,)) if number not in working]
    database.many(
        "UPDATE job SET lease_owner = NULL, lease_until = NULL, next_try_at = ?, "
        "tries = CASE WHEN tries > 0 THEN tries - ? ELSE 0 END WHERE number = ?",
        [(tried.get(number, now), int(number not in tried), number) for number in given],
    )
    return len(given)


def rescue(database: Database) -> int:
    """Free what any process held, as `schedule.rescue` does: for the start of the only daemon on a database. Gives how many there were."""
    return len(database.rows("UPDATE job SET lease_owner = NULL, lease_until = NULL WHERE lease_owner IS NOT NULL RETURNING number"))


def forget(database: Database, kind: Kind, before: int) -> int:
    """Forget jobs of a kind that ended before this. Gives how many there were."""
    return len(database.rows("DELETE FROM job WHERE kind = ? AND finished_at < ? RETURNING number", (kind, before)))


def _fenced(database: Database, sql: str, job: Job, *values: Any) -> None:
    """Execute an update of a job that nobody has claimed or ended since, and insist that it met the row."""
    sql = f"{sql} WHERE number = ? AND fence = ? AND state = 'queued' RETURNING number"
    if not database.rows(sql, (*values, job.number, job.fence)):
        raise LeaseLost("the job was taken over, or ended by something else")


class JobEnded(msgspec.Struct, frozen=True, kw_only=True):
    """Mark: a job has come to its end. Refused where somebody else has claimed or ended it."""

    job: Job
    ended: Ended
    now: int

    def apply(self, database: Database) -> None:
        """Write it."""
        sql = f"UPDATE job SET state = ?, result = ?, reason = ?, finished_at = ?, {_END}"
        _fenced(database, sql, self.job, self.ended.state, _text(self.ended.result), self.ended.reason, self.now)
