"""The schedule's clockwork: APScheduler ticks, one dispatcher claims what is due. APScheduler lives here only.

Truth is the column `next_run_at`; nothing of APScheduler's is kept. A tick that comes late or not at all loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from apscheduler.executors.base import BaseExecutor
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from oo_daemon.ports import SECOND, Chance, Clock, Metrics
from oo_daemon.store import inbox, jobs, runs, schedule
from oo_daemon.store.database import Database
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.leases import taking
from oo_daemon.store.schedule import Run
from oo_daemon.store.storage import Storage
from oo_daemon.sync.left import Left
from oo_daemon.sync.plan import SOON, backoff
from oo_sdk import Log

Job = Callable[[], Awaitable[None]]


class Ticker(Protocol):
    """Calls jobs at intervals, never one beside itself."""

    def every(self, seconds: float, job: Job, name: str) -> None:
        """Call a job at an interval."""


class SchedulerTicker:
    """APScheduler on the main loop."""

    def __init__(self) -> None:
        # In UTC: the host's own zone may be unreadable, and skips hours.
        self._scheduler = _Scheduler(timezone=UTC, executors={"default": _AtOnce()})
        self._jobs: dict[
            float, list[Callable[[], None]]
        ] = {}  #: by their interval: what comes at the same time is one job of APScheduler's
        self._under_way: dict[str, asyncio.Future[None]] = {}
        self._stopping = False

    def every(self, seconds: float, job: Job, name: str) -> None:
        """Call a job at an interval; missed calls are made up for by one, and none begins while the last is under way."""

        def call() -> None:
            if name not in self._under_way and not self._stopping:
                self._under_way[name] = work = asyncio.ensure_future(job())
                work.add_done_callback(lambda work: self._ended(name, work))

        calls = self._jobs.setdefault(seconds, [])
        calls.append(call)
        if len(calls) == 1:
            self._scheduler.shortest = min(self._scheduler.shortest, seconds)
            self._scheduler.add_job(lambda: _call(calls), _Every(seconds), coalesce=True, misfire_grace_time=None)

    def _ended(self, name: str, work: asyncio.Future[None]) -> None:
        del self._under_way[name]
        if work.cancelled() or (error := work.exception()) is None:
            return
        if isinstance(error, CannotStore):  # no fault of the job's, which comes again
            logging.getLogger(__name__).warning("the job %s waits: %s", name, error)
        else:
            logging.getLogger(__name__).error("the job %s failed", name, exc_info=error)

    def start(self) -> None:
        """Begin, inside a running loop."""
        self._scheduler.start()

    async def stop(self) -> None:
        """Call nothing more, and let calls under way end."""
        self._stopping = True
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)


def _call(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()


class _AtOnce(BaseExecutor):  # type: ignore[misc]  # APScheduler has no types
    """Calls a job's function, which only begins its work. APScheduler's own wraps each call in a task and three events."""

    def submit_job(self, job: Any, run_times: list[datetime]) -> None:
        """Call it once, however many times were missed."""
        self._do_submit_job(job, run_times)

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        job.func()


class _Every(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """An interval. Unlike APScheduler's own it does not count through what was missed: after a week's sleep that takes seconds."""

    def __init__(self, seconds: float) -> None:
        self.length = timedelta(seconds=seconds)

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """One length after the last time, or after now where that is over."""
        following = (previous or now) + self.length
        return following if following > now else now + self.length


class _Scheduler(AsyncIOScheduler):  # type: ignore[misc]  # APScheduler has no types
    """An APScheduler that goes on when the clock is set back: it plans by the wall clock, and would stand still for as long."""

    shortest = math.inf  #: interval of its jobs, in seconds

    def _start_timer(self, wait_seconds: float | None) -> None:
        self._stop_timer()
        if wait_seconds is None:
            return
        self._timeout = self._eventloop.call_later(wait_seconds, self._due)
        if wait_seconds > self.shortest + 1.0:
            for job in self.get_jobs():
                job.reschedule(job.trigger)

    def _due(self) -> None:
        """What `wakeup` does, without waking the loop in which this is called already."""
        self._start_timer(self._process_jobs())


@dataclass(slots=True, eq=False)
class Line:
    """Whether somebody waits for a hand: a run that has had its turn then lets others go first."""

    waiting: bool = False


#: Begins a claimed run, and tells its end at once to the function.
Begin = Callable[[Run, Callable[["asyncio.Future[None]"], None]], "asyncio.Future[None]"]
#: What is overdue by more than this (seconds) was missed while the daemon was down or the host asleep, or the clock was set.
MISSED = 10.0
#: What was missed is made up for within this, or sooner where it is little (seconds).
CATCH_UP = 300.0
#: Runs that are begun in one turn of the loop: everybody else waits as long as that takes.
AT_ONCE = 100
#: Seconds by which two clocks may differ before one of them was set.
_SET = 5.0
#: Rows that one step of catching up takes.
_PAGE = 2000


@dataclass(slots=True, kw_only=True, eq=False)
class Dispatcher:
    """Claims connections that are due and runs them, so many at a time."""

    storage: Storage
    clock: Clock
    metrics: Metrics
    log: Log
    owner: str  #: names this process in leases
    run: Begin
    workers: int
    lease: float  #: seconds
    chance: Chance
    remembered: int = runs.KEPT  #: runs of each connection
    line: Line = field(default_factory=Line)
    _catching_up: CatchUp = field(init=False)
    _running: dict[asyncio.Future[None], Run] = field(default_factory=dict)
    _left: Left = field(default_factory=lambda: Left(schedule.release))
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _stopping: bool = False

    def __post_init__(self) -> None:
        self._catching_up = CatchUp(storage=self.storage, clock=self.clock, chance=self.chance, log=self.log, workers=self.workers)

    @property
    def most(self) -> int:
        """Hands that one user may have at once: some are kept free for whoever comes next."""
        return max(1, self.workers - max(1, self.workers // 4))

    async def tick(self) -> None:
        """Claim what is due, as far as there are hands for it."""
        async with self._turn:  # else two at once would both count the same hands
            if self._stopping:
                return
            try:
                if self._left.any:
                    working = [run.connection for run in self._running.values()]
                    await self._left.give_back(self.storage, self.owner, self.clock.now(), working)
                if await self._catching_up.step():
                    return
                if (free := self.workers - len(self._running)) <= 0:
                    self.line.waiting = await self.storage.read(schedule.waiting, self.clock.now())
                    return
                claimed = await self.storage.write(self._claim, free)
            except CannotStore as fault:
                self._left.any = True  # the server may have made the claim, and only its answer was lost
                self.log.warning("claim_failed", reason=str(fault))
                return
            self.line.waiting = len(claimed) == free
            for place, run in enumerate(claimed):
                if self._stopping:
                    break  # `stop` gives the rest back
                work = self.run(run, self._ended)
                if not work.done():
                    self._running[work] = run
                if place % AT_ONCE == AT_ONCE - 1:
                    await _Turn()
            self.metrics.gauge("syncs_running", len(self._running))

    def _claim(self, database: Database, hands: int) -> list[Run]:
        with taking(self.clock.now, int(self.lease * SECOND)) as (now, until):
            return schedule.claim(database, self.owner, now, until, hands, self.most, self.remembered)

    def _ended(self, work: asyncio.Future[None]) -> None:
        run = self._running.pop(work, None)
        if work.cancelled() or (error := work.exception()) is None:
            return
        if isinstance(error, CannotStore) and run is not None:
            wait = backoff(run.tries, self.chance.uniform(0.0, 1.0), SOON) if run.tries > 1 else 0.0
            self._left.any, self._left.tried[run.connection] = True, self.clock.now() + math.ceil(wait * SECOND)
        else:
            # Ours, not the connector's: the lease runs out and the run is claimed again, with its try counted.
            self.log.warning("run_failed", reason=type(error).__name__)
            self.metrics.count("run_faults")

    async def stop(self, grace: float) -> None:
        """Claim nothing more, let runs finish for a while, cancel the rest and give their leases back."""
        self._stopping = True
        if self._running:
            patience = asyncio.ensure_future(self.clock.sleep(grace))
            done = asyncio.ensure_future(_all(self._running))
            await asyncio.wait({patience, done}, return_when=asyncio.FIRST_COMPLETED)
            for task in (*self._running, patience, done):
                task.cancel()
            await asyncio.gather(*self._running, patience, done, return_exceptions=True)
        try:
            await self._left.give_back(self.storage, self.owner, self.clock.now())
        except CannotStore as fault:
            self.log.warning("leases_not_released", reason=str(fault))  # they run out by themselves


@dataclass(slots=True, kw_only=True, eq=False)
class CatchUp:
    """Puts the schedule right after nobody ticked for a while, or the clock was set. A little with each tick: a start does not wait for it.

    What was missed is spread over some minutes, each connection once. What was planned by a clock that was ahead waits as long as it
    would have.
    """

    storage: Storage
    clock: Clock
    chance: Chance
    log: Log
    workers: int
    _last: tuple[int, float] | None = None  #: both clocks at the last tick
    _missed: int = 0  #: what should have run before this is spread
    _over: int = 0  #: microseconds
    _ahead: int = 0  #: by how much the clock was ahead; while its rows are gone through
    _after: int = 0

    async def step(self) -> bool:
        """Do the next bit; False when there is nothing to put right. Raises `CannotStore`."""
        now, elapsed = self.clock.now(), self.clock.monotonic()
        last = self._last
        if last is None:
            await self._look(now, await self.storage.read(schedule.latest_end) - now)
        elif abs(ahead := last[0] + int((elapsed - last[1]) * SECOND) - now) > _SET * SECOND:
            await self._look(now, ahead)
        self._last = now, elapsed  # not before: a disk that refuses is asked again
        if self._ahead:
            after = await self.storage.write(schedule.set_back, now, self._ahead, self._after, _PAGE)
            self._ahead, self._after = (self._ahead, after) if after is not None else (0, 0)
            return after is not None
        if self._missed:
            salt = int(self.chance.uniform(0, self._over))
            spread = await self.storage.write(schedule.spread, self._missed, now, self._over, salt, _PAGE)
            if spread < _PAGE:
                self._missed = 0
            return spread == _PAGE
        return False

    async def _look(self, now: int, ahead: int) -> None:
        if ahead > _SET * SECOND:
            await self.storage.write(_set_back, now, ahead)
            self._ahead, self._after = ahead, 0
            self.log.warning("clock_set_back", seconds=ahead // SECOND)
        before = now - int(MISSED * SECOND)
        missed = await self.storage.read(schedule.overdue, before)
        if missed > self.workers:
            self._missed, self._over = before, int(min(CATCH_UP, missed / self.workers) * SECOND)
            self.log.info("syncs_missed", connections=missed, over=self._over / SECOND)


def _set_back(database: Database, now: int, by: int) -> None:
    """What is still to be done besides the schedule. There is little of it."""
    jobs.set_back(database, now, by)
    inbox.set_back(database, now, by)


class _Turn:
    """One turn of the loop for everybody else; no time passes by the clock."""

    def __await__(self) -> Generator[None, None, None]:
        yield


async def _all(tasks: Iterable[asyncio.Future[None]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
