"""The schedule's clockwork: APScheduler ticks, one dispatcher claims what is due. APScheduler lives here only.

Truth is the column `next_run_at`; nothing of APScheduler's is kept. A tick that comes late or not at all loses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from oo_daemon.ports import SECOND, Clock, Metrics
from oo_daemon.store import schedule
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.schedule import Run
from oo_daemon.store.storage import Storage
from oo_sdk import Log

Job = Callable[[], Awaitable[None]]


class Ticker(Protocol):
    """Calls jobs at intervals, never one beside itself."""

    def every(self, seconds: float, job: Job, name: str) -> None:
        """Call a job at an interval."""


class SchedulerTicker:
    """APScheduler on the main loop."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler()
        self._under_way: set[asyncio.Future[None]] = set()

    def every(self, seconds: float, job: Job, name: str) -> None:
        """Call a job at an interval; missed calls are made up for by one."""

        async def call() -> None:
            # Shielded, because APScheduler's shutdown cancels its own calls in the middle of whatever they do.
            work = asyncio.ensure_future(job())
            self._under_way.add(work)
            work.add_done_callback(self._under_way.discard)
            with suppress(asyncio.CancelledError):
                await asyncio.shield(work)

        self._scheduler.add_job(call, "interval", seconds=seconds, id=name, max_instances=1, coalesce=True, misfire_grace_time=None)

    def start(self) -> None:
        """Begin, inside a running loop."""
        self._scheduler.start()

    async def stop(self) -> None:
        """Call nothing more, and let calls under way end."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        await asyncio.gather(*self._under_way, return_exceptions=True)


@dataclass(slots=True, kw_only=True)
class Dispatcher:
    """Claims connections that are due and runs them, so many at a time."""

    storage: Storage
    clock: Clock
    metrics: Metrics
    log: Log
    owner: str  #: names this process in leases
    run: Callable[[Run], Awaitable[None]]
    workers: int
    lease: float  #: seconds
    _running: set[asyncio.Task[None]] = field(default_factory=set)
    _stopping: bool = False

    async def tick(self) -> None:
        """Claim what is due, as far as there are hands for it."""
        free = self.workers - len(self._running)
        if free <= 0 or self._stopping:
            return
        now = self.clock.now()
        try:
            runs = await self.storage.write(schedule.claim, self.owner, now, now + int(self.lease * SECOND), free)
        except CannotStore as fault:
            self.log.warning("claim_failed", reason=str(fault))
            return
        for run in runs:
            task = asyncio.ensure_future(self._guarded(run))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        self.metrics.gauge("syncs_running", len(self._running))

    async def _guarded(self, run: Run) -> None:
        try:
            await self.run(run)
        except Exception as error:
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
        await self.storage.write(schedule.release, self.owner, self.clock.now())


async def _all(tasks: set[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
