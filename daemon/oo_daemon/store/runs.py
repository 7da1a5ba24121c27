"""The run log: the last runs of each connection, also those that nobody ended. A ring of slots, so that it is bounded without tidying."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from oo_daemon.store.database import Database

#: Runs of one connection that are remembered, unless another number is given.
KEPT = 50


class Tally(NamedTuple):
    """What a run came to, in numbers."""

    calls: int = 0  #: requests to the provider
    bytes: int = 0  #: of answers
    pages: int = 0  #: checkpoints
    events: int = 0
    unreadable: int = 0  #: items that were set aside


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    connection: str  #: the random id
    started_at: int
    finished_at: int | None  #: None: it has not ended
    outcome: str  #: "running" until then; "lost" where its process died
    detail: str
    next_run_at: int | None  #: as it was planned at the end
    tally: Tally


def live(database: Database) -> int:
    """How many have not ended."""
    ((count,),) = database.rows("SELECT count(*) FROM run WHERE finished_at IS NULL")
    return int(count)


def begin(database: Database, runs: Sequence[tuple[int, int]], now: int, kept: int = KEPT) -> None:
    """Note runs that were just claimed, by connection and fence. What was under way there before is lost, and the oldest is forgotten."""
    under_way = {connection for (connection,) in database.rows("SELECT connection FROM run WHERE finished_at IS NULL")}
    if lost := [connection for connection, _ in runs if connection in under_way]:
        lose(database, lost, now, "the daemon ended before it did")
    database.many(
        "INSERT INTO run (connection, slot, fence, started_at, outcome, detail, calls, bytes, pages, events, unreadable) "
        "VALUES (?, ?, ?, ?, 'running', '', 0, 0, 0, 0, 0) ON CONFLICT (connection, slot) DO UPDATE SET fence = excluded.fence, "
        "started_at = excluded.started_at, finished_at = NULL, outcome = 'running', detail = '', next_run_at = NULL, "
        "calls = 0, bytes = 0, pages = 0, events = 0, unreadable = 0",
        [(connection, fence % kept, fence, now) for connection, fence in runs],
    )


class Ended(NamedTuple):
    """How a run ended, as `end` writes it: what the log is told, then which run it is."""

    now: int
    outcome: str
    detail: str
    next_run_at: int | None
    calls: int
    bytes: int
    pages: int
    events: int
    unreadable: int
    connection: int
    fence: int


def end(database: Database, ended: Iterable[Ended]) -> None:
    """Note how runs ended."""
    database.many(
        "UPDATE run SET finished_at = ?, outcome = ?, detail = ?, next_run_at = ?, calls = ?, bytes = ?, pages = ?, events = ?, "
        "unreadable = ? WHERE connection = ? AND finished_at IS NULL AND fence = ?",
        ended,
    )


def trim(database: Database, kept: int) -> int:
    """Forget what more there is than is to be remembered: for the start, since the number may have been another. Gives how many."""
    return len(database.rows("DELETE FROM run WHERE slot >= ? AND finished_at IS NOT NULL RETURNING slot", (kept,)))


def lose(database: Database, connections: Iterable[int], now: int, reason: str) -> None:
    """Note that the runs under way of these connections came to no end."""
    database.many(
        "UPDATE run SET finished_at = ?, outcome = 'lost', detail = ? WHERE connection = ? AND finished_at IS NULL",
        [(now, reason, connection) for connection in connections],
    )


def listed(database: Database, *, connection: int | None = None, limit: int = 100) -> list[Logged]:
    """The newest runs, of one connection or of all, newest first."""
    where, values = ("r.connection = ?", (connection,)) if connection is not None else ("1 = 1", ())
    rows = database.rows(
        "SELECT c.id, r.started_at, r.finished_at, r.outcome, r.detail, r.next_run_at, r.calls, r.bytes, r.pages, r.events, r.unreadable "
        f"FROM run r JOIN connection c ON c.number = r.connection WHERE {where} "
        "ORDER BY r.started_at DESC, r.connection, r.fence DESC LIMIT ?",
        (*values, limit),
    )
    return [
        Logged(
            connection=id_,
            started_at=started_at,
            finished_at=finished_at,
            outcome=outcome,
            detail=detail,
            next_run_at=next_run_at,
            tally=Tally(calls=calls, bytes=bytes_, pages=pages, events=events, unreadable=unreadable),
        )
        for id_, started_at, finished_at, outcome, detail, next_run_at, calls, bytes_, pages, events, unreadable in rows
    ]
