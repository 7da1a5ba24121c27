"""The worker: does jobs at once where it can, tries again later where it must, and gives up after a day.

Truth is the table of jobs; a process that dies in the middle loses nothing but a try.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from oo_daemon.connections.guest import LogFor
from oo_daemon.ports import SECOND, Chance, Clock, Metrics
from oo_daemon.store import connections, jobs
from oo_daemon.store.accept import Batch
from oo_daemon.store.connections import Connection
from oo_daemon.store.database import Database
from oo_daemon.store.errors import CannotStore, LeaseLost
from oo_daemon.store.jobs import Ended, Job, JobEnded, Kind, Later
from oo_daemon.store.leases import taking
from oo_daemon.store.storage import Lane, Storage
from oo_daemon.sync.left import Left
from oo_sdk import Log

T = TypeVar("T")

#: Back-off: full jitter over a window that doubles from the base to the cap (seconds). Somebody waits: the first tries come soon.
BASE, CAP = 1.0, 3600.0
#: How long a job is tried, in seconds.
LIMIT = 24 * 3600.0
#: Seconds for which a lease outlives the longest try.
_SPARE = 30.0


def next_try(*, created_at: int, now: int, tries: int, after: float | None, spread: float) -> int | None:
    """When a job that was not done is tried again; None when its time is over.

    `tries` counts those so far; `after` is what the provider asks for, in seconds; `spread` is a random number between 0 and 1.
    """
    wait = max(spread * min(CAP, BASE * 2.0 ** min(tries - 1, 16)), after or 0.0)
    at = now + math.ceil(wait * SECOND)
    return at if at <= created_at + int(LIMIT * SECOND) else None


class Handler(Protocol):
    """Does the jobs of one kind."""

    async def attempt(self, job: Job, connection: Connection) -> Ended | Later:
        """Try once."""

    def give_up(self, job: Job, connection: Connection, reason: str) -> Ended:
        """Say how a job ends that was tried long enough."""


@dataclass(slots=True, kw_only=True, eq=False)
class Worker:
    """Claims jobs that are due and does them, so many at a time. Belongs to the main loop."""

    storage: Storage
    clock: Clock
    chance: Chance
    metrics: Metrics
    log: Log
    log_for: LogFor
    owner: str  #: names this process in leases
    handlers: Mapping[Kind, Handler]
    workers: int
    attempt_limit: float = 120.0  #: seconds that one try may take
    _running: dict[asyncio.Task[None], int] = field(default_factory=dict)  #: and which job each of them does
    _left: Left = field(default_factory=lambda: Left(jobs.release))
    _waking: set[asyncio.Task[None]] = field(default_factory=set)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _stopping: bool = False

    def wake(self) -> None:
        """Look for jobs now, and not only with the next tick."""
        if not self._stopping:
            task = asyncio.ensure_future(self.tick())
            self._waking.add(task)
            task.add_done_callback(self._waking.discard)

    async def tick(self) -> None:
        """Claim what is due, as far as there are hands for it."""
        async with self._turn:
            if self._stopping:
                return
            try:
                if self._left.any:
                    working = [number for task, number in self._running.items() if not task.done()]
                    await self._left.give_back(self.storage, self.owner, self.clock.now(), working)
                if (free := self.workers - len(self._running)) <= 0:
                    return
                claimed = await self.storage.write(self._claim, free)
            except CannotStore as fault:
                self._left.any = True  # the server may have made the claim, and only its answer was lost
                self.log.warning("claim_failed", reason=str(fault))
                return
            if self._stopping:
                return  # `stop` gives them back
            for job in claimed:
                task = asyncio.ensure_future(self._guarded(job))
                self._running[task] = job.number
                task.add_done_callback(self._ended)

    def _claim(self, database: Database, hands: int) -> list[Job]:
        with taking(self.clock.now, int((self.attempt_limit + _SPARE) * SECOND)) as (now, until):
            return jobs.claim(database, self.owner, now, until, hands)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self.wake()  # the connection's next job may have waited for this one

    async def _guarded(self, job: Job) -> None:
        try:
            await self._work(job)
        except LeaseLost:
            self.log.warning("job_lost_lease", kind=job.kind)
        except CannotStore as fault:
            self._left.any = True
            self.log.warning("job_not_stored", kind=job.kind, reason=str(fault))
        except Exception as error:
            # Ours, not the connector's: the lease runs out and the job is claimed again, with its try counted.
            self.log.warning("job_fault", kind=job.kind, reason=type(error).__name__)
            self.metrics.count("job_faults", kind=job.kind)

    async def _work(self, job: Job) -> None:
        connection = await self.storage.read(connections.by_number, job.connection)
        if connection is None:
            return
        handler = self.handlers[job.kind]
        came = await self._attempt(handler, job, connection)
        try:
            await self._store(came, handler, job, connection)
        except CannotStore:
            self._left.tried[job.number] = self._again_at(job, came) or self.clock.now()
            raise

    def _again_at(self, job: Job, came: Ended | Later) -> int | None:
        after = came.after if isinstance(came, Later) else None
        spread = self.chance.uniform(0.0, 1.0)
        return next_try(created_at=job.created_at, now=self.clock.now(), tries=job.tries, after=after, spread=spread)

    async def _store(self, came: Ended | Later, handler: Handler, job: Job, connection: Connection) -> None:
        now = self.clock.now()
        log = self.log_for(connection.id, connection.provider)
        if isinstance(came, Later):
            again = self._again_at(job, came)
            if again is not None:
                await self.storage.write(jobs.put_off, job, again, came.reason)
                log.info("job_put_off", kind=job.kind, tries=job.tries, reason=came.reason)
                return
            came = handler.give_up(job, connection, came.reason)
        marks = (JobEnded(job=job, ended=came, now=now), *came.marks)
        await self.storage.accept(Batch(connection=connection, observed_at=now, drafts=came.drafts, marks=marks), Lane.INGEST)
        self.metrics.count("jobs", kind=job.kind, provider=connection.provider, state=came.state)
        log.info("job_ended", kind=job.kind, state=came.state, tries=job.tries, reason=came.reason)

    async def _attempt(self, handler: Handler, job: Job, connection: Connection) -> Ended | Later:
        if job.tries > 1 and self.clock.now() > job.created_at + int(LIMIT * SECOND):
            # Not once more: it may be what kills the process each time.
            return handler.give_up(job, connection, job.reason or "it was not done within a day")
        return await _within(handler.attempt(job, connection), self.attempt_limit, self.clock) or Later(
            reason=f"it took longer than {self.attempt_limit:.0f} s"
        )

    async def stop(self, grace: float) -> None:
        """Claim nothing more, let jobs finish for a while, cancel the rest and give their leases back."""
        self._stopping = True
        async with self._turn:  # a claim under way is the last one
            pass
        if self._running:
            await _within(_all(self._running), grace, self.clock)  # which cancels those that are not done then
        await _all({*self._running, *self._waking})
        try:
            await self._left.give_back(self.storage, self.owner, self.clock.now())
        except CannotStore as fault:
            self.log.warning("leases_not_released", reason=str(fault))  # they run out by themselves


async def _within(work: Awaitable[T], seconds: float, clock: Clock) -> T | None:
    """What it gives, or None when it was cut off after so many seconds."""
    task, limit = asyncio.ensure_future(work), asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({task, limit}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        limit.cancel()
        await asyncio.gather(task, limit, return_exceptions=True)


async def _all(tasks: Iterable[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
