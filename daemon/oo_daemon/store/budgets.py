"""Budgets: how many calls may still be made to a provider, in token buckets that all processes share.

A process draws some tokens at once and uses them up by itself: one write for many calls. Tokens are counted in thousandths.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from oo_daemon.store.database import Database

SECOND = 1_000_000
MILLI = 1000
#: How long a bucket that nobody draws from is remembered: longer than any takes to fill.
KEPT = 2 * 24 * 3600 * SECOND
#: By how much at most the clocks of two hosts are apart; what was filled later than that is of before the clock was set back.
APART = 10 * SECOND


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """The size of a bucket, and how fast it fills."""

    burst: int  #: tokens
    rate: float  #: tokens a second


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """What a bucket gave: tokens, or how long it will be until it has one (seconds)."""

    tokens: int
    wait: float = 0.0
    left: float = 1.0  #: part of the bucket that is left


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """How much a bucket holds just now."""

    tokens: int
    closed_until: int | None  #: None: it is open


def draw(database: Database, id_: str, bucket: Bucket | None, *, want: int, reserve: float, now: Callable[[], int]) -> Drawn:
    """Draw up to so many tokens, of which a part of the bucket stays in reserve. Without a bucket only a closed door is looked at.

    The clock is read with the bucket in hand: whoever has waited for it must not go by the time before.
    """
    full = (bucket.burst if bucket else 0) * MILLI
    sql = f"SELECT tokens, filled_at, closed_until FROM budget WHERE id = ? {database.locking('FOR UPDATE')}"
    while not (rows := database.rows(sql, (id_,))):  # the first draw, or another process has just forgotten it
        database.rows(
            "INSERT INTO budget (id, tokens, filled_at, closed_until) VALUES (?, ?, ?, 0) ON CONFLICT (id) DO NOTHING", (id_, full, now())
        )
    ((tokens, filled_at, closed_until),), at = rows, now()
    if at < closed_until:
        return Drawn(tokens=0, wait=(closed_until - at) / SECOND, left=0.0)
    if bucket is None:
        return Drawn(tokens=want)
    there = min(full, tokens + int(max(at - filled_at, 0) / SECOND * bucket.rate * MILLI))
    kept = int(full * reserve)
    given = max(0, min(want, (there - kept) // MILLI))
    # What another host has filled by a clock that is ahead is not filled once more.
    filled_to = filled_at if at < filled_at <= at + APART else at
    database.rows("UPDATE budget SET tokens = ?, filled_at = ? WHERE id = ?", (there - given * MILLI, filled_to, id_))
    wait = 0.0 if given else (kept + MILLI - there) / MILLI / bucket.rate
    return Drawn(tokens=given, wait=wait, left=(there - given * MILLI) / full)


def level(database: Database, id_: str, bucket: Bucket, now: int) -> Level:
    """Look at a bucket. One that was never drawn from is full."""
    for tokens, filled_at, closed_until in database.rows("SELECT tokens, filled_at, closed_until FROM budget WHERE id = ?", (id_,)):
        there = min(bucket.burst, int(tokens / MILLI + max(now - filled_at, 0) / SECOND * bucket.rate))
        closed = closed_until if closed_until > now else None
        return Level(tokens=0 if closed else there, closed_until=closed)
    return Level(tokens=bucket.burst, closed_until=None)


def close(database: Database, id_: str, until: int, now: int) -> None:
    """Give nothing before this: the provider has said so."""
    database.rows(
        "INSERT INTO budget (id, tokens, filled_at, closed_until) VALUES (?, 0, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET closed_until = "
        "CASE WHEN budget.closed_until > excluded.closed_until THEN budget.closed_until ELSE excluded.closed_until END",
        (id_, max(until, now), until),
    )


def forget(database: Database, now: int) -> int:
    """Forget buckets that are full again. Gives how many there were."""
    rows = database.rows("DELETE FROM budget WHERE filled_at < ? AND closed_until < ? RETURNING id", (now - KEPT, now))
    return len(rows)
