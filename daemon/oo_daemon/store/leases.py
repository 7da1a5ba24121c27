"""Leases are taken by a clock, and a clock can go on while whoever has read it stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from oo_daemon.store.errors import CannotStore


@contextmanager
def taking(now: Callable[[], int], length: int) -> Iterator[tuple[int, int]]:
    """The time, and the end of a lease that is taken in here; the clock is read inside the transaction that takes it.

    It is read once more when the rows are locked: whoever was stopped in between (SIGSTOP, a suspended machine) would take the lease that
    another has meanwhile for one that was written before the clock was set back. Raises `CannotStore`, and nothing is taken. On SQLite the
    writer's lock keeps others out from the beginning; on PostgreSQL only rows are locked.
    """
    at = now()
    yield at, at + length
    if abs(now() - at) >= length:
        raise CannotStore("the process was stopped in the middle of a claim: the next one will do")
