"""Time and chance that a test owns: nothing passes but what the test lets pass, and the same seed gives the same world."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

from oo_daemon.ports import SECOND
from oo_daemon.store.accept import Accepted
from oo_daemon.store.database import Database
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.storage import Lane, Prepared, Storage

T = TypeVar("T")

NOW = 1_700_000_000 * SECOND
#: No test lets the loop turn more often than this before something has to happen.
TURNS = 100_000


class Stuck(AssertionError):
    """Everybody waits, and nobody for the clock."""


@dataclass
class VirtualClock:
    """The port `Clock`, for one loop. Sleepers wake in the order of their time, one after another; `shift` sets the wall clock alone."""

    start: int = NOW
    shifted: int = 0  #: microseconds by which the wall clock was set
    elapsed: int = 0  #: microseconds since the start
    _sleepers: list[tuple[int, int, asyncio.Future[None]]] = field(default_factory=list)
    _order: count[int] = field(default_factory=count)

    def now(self) -> int:
        return self.start + self.shifted + self.elapsed

    def monotonic(self) -> float:
        return self.elapsed / SECOND

    async def sleep(self, seconds: float) -> None:
        waiting = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.elapsed + max(0, round(seconds * SECOND)), next(self._order), waiting))
        await waiting

    def shift(self, seconds: float) -> None:
        """Set the wall clock, as an administrator or NTP does."""
        self.shifted += round(seconds * SECOND)

    async def advance(self, seconds: float) -> None:
        """Let time pass; whoever wakes meanwhile runs until everybody waits again."""
        end = self.elapsed + round(seconds * SECOND)
        await settle()
        while (soonest := self._soonest()) is not None and soonest <= end:
            self._wake()
            await settle()
        self.elapsed = end

    async def until(self, work: Coroutine[Any, Any, T] | asyncio.Future[T]) -> T:
        """Let time pass until this has ended. Raises `Stuck` when that would be never."""
        task = asyncio.ensure_future(work)
        await settle()
        while not task.done():
            if self._soonest() is None:
                task.cancel()
                raise Stuck("everybody waits, and nobody for the clock")
            self._wake()
            await settle()
        return task.result()

    def _soonest(self) -> int | None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def _wake(self) -> None:
        time, _, waiting = heapq.heappop(self._sleepers)
        self.elapsed = max(self.elapsed, time)
        waiting.set_result(None)


async def settle() -> None:
    """Let the loop turn until everybody on it waits. Only for loops without threads and sockets."""
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]  # no public way to ask whether anything is left to run
    for _ in range(TURNS):
        await asyncio.sleep(0)
        if not ready:
            return
    raise Stuck("the loop never comes to rest")


class SeededChance:
    """The port `Chance`: the same each time."""

    def __init__(self, seed: int = 7) -> None:
        self._random = random.Random(seed)

    def token_bytes(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


@dataclass
class FixedChance:
    """The port `Chance`, where a test wants to know the number."""

    part: float = 0.5  #: where between low and high

    def token_bytes(self, size: int) -> bytes:
        return bytes(size)

    def uniform(self, low: float, high: float) -> float:
        return low + self.part * (high - low)


@dataclass
class Notes:
    """The SDK's `Log`, kept."""

    lines: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def debug(self, event: str, **fields: Any) -> None:
        self.lines.append(("debug", event, fields))

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append(("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append(("warning", event, fields))

    def said(self, event: str) -> list[dict[str, Any]]:
        """The fields of each line of this name."""
        return [fields for _, name, fields in self.lines if name == event]


@dataclass
class Stopped:
    """A storage whose process is stopped once, just before a write, as by SIGSTOP: time passes, and others do what they do."""

    real: Storage
    meanwhile: Callable[[], Awaitable[None]]
    over: bool = False

    async def read(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        return await self.real.read(query, *args, **kwargs)

    async def write(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.over:
            self.over = True
            await self.meanwhile()
        return await self.real.write(query, *args, **kwargs)

    async def accept(self, batch: Prepared, lane: Lane = Lane.BULK) -> Accepted:
        return await self.real.accept(batch, lane)

    def on_accept(self, listener: Callable[[], None]) -> None:
        self.real.on_accept(listener)


def lost(claim: Callable[..., object]) -> Callable[..., object]:
    """A query that is made, and whose answer is lost on the way."""

    def made(database: Database, *given: Any) -> None:
        claim(database, *given)
        database.rows("COMMIT")
        database.rows("BEGIN IMMEDIATE")  # which is rolled back
        raise CannotStore("the server went away")

    return made
