"""How long deliveries took from the door to the outbox: counted by hour, in stretches of time that grow by the root of two.

So a day is some hundred rows, however much comes, and the middle and the slowest are known to within a fifth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from oo_daemon.store.database import Database

HOUR = 3_600_000_000  #: microseconds
#: The shortest that is told apart, in seconds.
LEAST = 0.001


class Took(msgspec.Struct, frozen=True, kw_only=True):
    """How long those of some time took, in seconds: no more than that."""

    deliveries: int
    half: float  #: of them
    most: float  #: 99 of 100


def stretch(seconds: float) -> int:
    """The stretch that a time falls into.

    >>> [stretch(seconds) for seconds in (0, 0.001, 0.002, 0.003, 1)]
    [0, 0, 2, 4, 20]
    """
    return math.ceil(2 * math.log2(max(seconds, LEAST) / LEAST))


def end(of: int) -> float:
    """The longest time in a stretch, in seconds."""
    return float(LEAST * 2 ** (of / 2))


def add(database: Database, counted: Mapping[tuple[int, int], int]) -> None:
    """Count deliveries, by hour and stretch."""
    database.many(
        "INSERT INTO latency (hour, stretch, deliveries) VALUES (?, ?, ?) "
        "ON CONFLICT (hour, stretch) DO UPDATE SET deliveries = latency.deliveries + excluded.deliveries",
        [(hour, stretch_, deliveries) for (hour, stretch_), deliveries in sorted(counted.items())],
    )


def hours(database: Database, since: int) -> dict[int, Took]:
    """How long those took that were done in each hour from then on; hours in which none was are left out."""
    counted: dict[int, list[tuple[int, int]]] = {}
    for hour, stretch_, deliveries in database.rows(
        "SELECT hour, stretch, deliveries FROM latency WHERE hour >= ? ORDER BY hour, stretch", (since,)
    ):
        counted.setdefault(hour, []).append((stretch_, deliveries))
    return {hour: took(found) for hour, found in counted.items()}


def took(counted: Sequence[tuple[int, int]]) -> Took:
    """What stretches and how many fell into each come to; they are in order, and there are some.

    >>> took([(0, 50), (4, 49), (20, 1)])
    Took(deliveries=100, half=0.001, most=0.004)
    """
    deliveries = sum(count for _, count in counted)
    return Took(deliveries=deliveries, half=_within(counted, deliveries / 2), most=_within(counted, deliveries * 0.99))


def _within(counted: Sequence[tuple[int, int]], share: float) -> float:
    sum_ = 0
    for stretch_, count in counted:
        sum_ += count
        if sum_ >= share:
            return end(stretch_)
    return end(counted[-1][0])


def forget(database: Database, before: int) -> int:
    """Forget hours before this; gives how many rows there were."""
    return len(database.rows("DELETE FROM latency WHERE hour < ? RETURNING hour", (before,)))
