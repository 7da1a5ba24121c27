"""One run of one connection: fetch signals, hand them to `Taken`, and plan the next run from what it came to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from oo_daemon.connections.credential import Credentials
from oo_daemon.connections.guest import GuestClock, LogFor, sentence
from oo_daemon.ports import SECOND, UNTRACED, Chance, Clock, Guests, Metrics, Trace, micros, moment
from oo_daemon.registry import Registry
from oo_daemon.store import connections, schedule
from oo_daemon.store.accept import Batch, Draft, Mark
from oo_daemon.store.connections import Connection, StateChanged
from oo_daemon.store.database import Database
from oo_daemon.store.errors import CannotStore, LeaseLost
from oo_daemon.store.schedule import CursorMoved, Run, RunEnded
from oo_daemon.store.storage import Storage
from oo_daemon.sync import plan
from oo_daemon.sync.schedule import Line
from oo_daemon.sync.taken import MakeDraft, Taken, overlap_of
from oo_daemon.sync.timetable import Cron, Every, kept, next_time
from oo_sdk import (
    ApiRetired,
    Checkpoint,
    Connector,
    Context,
    Cursor,
    CursorExpired,
    QuotaSpent,
    RetryLater,
    Signal,
    SignInAgain,
)

#: (connection, what, at, fields) → an event of ours about a connection.
ConnectionEvent = Callable[..., Draft]


class GaveWay(Exception):
    """The run has had its turn, and others wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may use."""

    batch: int = 500
    lease: float = 60.0  #: seconds
    heartbeat: float = 15.0  #: seconds
    run_limit: float = 600.0  #: seconds
    turn: float = 5.0  #: seconds after which a run that is at a checkpoint lets others go first
    interval: float = 300.0  #: seconds between syncs of a connection
    first_fetch_days: int = 0  #: how far back a first fetch goes; 0: everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """What a run needs."""

    storage: Storage
    registry: Registry
    credentials: Credentials
    guests: Guests
    clock: Clock
    chance: Chance
    metrics: Metrics
    log_for: LogFor
    limits: Limits
    make_draft: MakeDraft
    connection_event: ConnectionEvent
    line: Line = field(default_factory=Line)
    trace: Trace = UNTRACED

    async def run(self, run: Run) -> None:
        """Run one claimed connection to its end: what goes wrong becomes its outcome."""
        connection = run.of
        if connection is None:
            return  # it was being erased when it was claimed
        began, log = self.clock.monotonic(), self.log_for(connection.id, connection.provider)
        connector = self.registry.connectors.get(connection.provider)
        taken = Taken(
            storage=self.storage,
            clock=self.clock,
            metrics=self.metrics,
            make_draft=self.make_draft,
            batch=self.limits.batch,
            run=run,
            connection=connection,
            connector=connector or Connector(),
            log=log,
        )
        try:
            with self.trace.span("sync", run.traceparent, provider=connection.provider):
                if connector is None:
                    outcome: plan.Outcome = plan.Broken(reason=f"the connector {connection.provider} is not loaded: see `oo plugins`")
                else:
                    outcome = await self._outcome(taken, began)
                await self._end(taken, outcome)
        except LeaseLost:
            log.warning("sync_lost_lease")
        except CannotStore as fault:
            log.warning("sync_end_not_stored", reason=str(fault))  # the lease runs out and the run is claimed again
        self.metrics.observe("sync_seconds", self.clock.monotonic() - began, provider=connection.provider)

    async def _outcome(self, taken: Taken, began: float) -> plan.Outcome:
        """What the run came to. Raises `LeaseLost` when another run has taken over."""
        work = asyncio.ensure_future(self.guests.run(self._fetch(taken, began), of=taken.connector))
        watch = asyncio.ensure_future(self._watch(taken.run))
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            # The watch ends well when the time is up, and badly when the lease is lost or the database refuses.
            ended = work if work.done() else watch if watch.exception() else None
        finally:
            await _cancel(work, watch)
        if ended is not None:
            return _meaning(ended)
        if taken.moved:
            return plan.CutShort()
        # Going on at once would end in the same place.
        seconds = f"{self.limits.run_limit:.0f} s"
        return plan.Later(reason=f"the sync was cut after {seconds} without a checkpoint: tell the connector's author if that goes on")

    async def _watch(self, run: Run) -> None:
        """Hold the lease, as long as the guests' loop turns, until the run's time is up."""
        left = self.limits.run_limit
        while left > 0:
            nap = min(self.limits.heartbeat, left)
            await self.clock.sleep(nap)
            left -= nap
            if left > 0:
                await self.guests.run(_turn())
                await self.storage.write(schedule.heartbeat, run, self.clock.now() + int(self.limits.lease * SECOND))

    async def _fetch(self, taken: Taken, began: float) -> None:
        """Take signals as they come. Runs on the guests' loop. Raises `GaveWay` after a checkpoint."""
        connection, connector, days = taken.connection, taken.connector, self.limits.first_fetch_days
        context = Context(
            http=await self.credentials.session(connector, connection, calls=taken.calls),
            meta=connection.meta,
            scopes=frozenset(connection.scopes),
            # From when it was connected: a listing years later must still know what was told before.
            first_fetch_from=moment(connection.created_at) - timedelta(days=days) if days else None,
            clock=GuestClock(self.clock),
            log=taken.log,
        )
        taken.begin(await self._since(connector, taken.run))
        signals = aiter(connector.fetch_signals(context, taken.since))
        try:
            while await self._page(taken, signals):
                if self.line.waiting and self.clock.monotonic() - began >= self.limits.turn:
                    raise GaveWay
        finally:
            try:
                await taken.keep()
            finally:
                await _close(signals)

    async def _page(self, taken: Taken, signals: AsyncIterator[Signal]) -> bool:
        """Take signals up to the next checkpoint; False: there are no more."""
        with self.trace.span("page", provider=taken.connection.provider):
            async for signal in signals:
                await taken.take(signal)
                if isinstance(signal, Checkpoint):
                    return True
            return False

    async def _since(self, connector: Connector, run: Run) -> Cursor | None:
        """Where to go on from, in the shape that the connector has today; a while before that, where the connector would have it so."""
        if run.cursor is not None and run.shape != connector.cursor_shape:
            return connector.migrate_cursor(run.cursor, run.shape)
        if run.cursor is not None and (overlap := overlap_of(connector)):
            return await self.storage.read(schedule.place_of, run, overlap)
        return run.cursor

    async def _end(self, taken: Taken, outcome: plan.Outcome) -> None:
        connection, run, now, spread = taken.connection, taken.run, self.clock.now(), self.chance.uniform(0.0, 1.0)
        motion = plan.Motion(
            asked=bool(taken.calls.made or taken.events or taken.open_end),
            moved=taken.moved,
            news=bool(taken.events or taken.open_end),
            listed=taken.listing,
        )
        unmoved = plan.unmoved(run.unmoved, outcome, motion)
        if unmoved >= plan.STALLED and unmoved > run.unmoved:
            outcome = plan.Stalled(runs=unmoved)

        interval, stretch, due = self.limits.interval, 1, None

        def step(outcome: plan.Outcome) -> plan.Step:
            return plan.next_step(outcome, tries=run.tries, now=now, interval=interval * stretch, spread=spread, due=due)

        planned = step(outcome)

        def last(database: Database) -> Batch:
            nonlocal planned, interval, stretch, due
            pushes, stretch = schedule.pushes(database, run.connection), 1
            match kept(pushes.timetable):
                case Every(seconds=seconds):
                    interval = seconds
                case Cron() as cron:
                    due = next_time(cron, now)
            if isinstance(outcome, plan.Done) and pushes.timetable is None:
                stretch = plan.stretched(
                    pushes.stretch,
                    heard=pushes.heard,
                    announced=pushes.announced,
                    news=taken.events > 0,
                    interval=self.limits.interval,
                )
            planned = step(outcome)
            if planned.sign_in and _changed(database, connection):
                # Its owner has signed in again, or is leaving: what this run says is of the grant before.
                planned = step(plan.Later(reason="the connection was changed during the sync"))
            return self._last(taken, planned, unmoved, stretch, now)

        await self.storage.accept(last)
        self.metrics.count("syncs", provider=connection.provider, outcome=planned.outcome)
        self.trace.note(outcome=planned.outcome, events=taken.events)
        if taken.events or planned.detail or planned.outcome != "done":  # else it is no news, and in the run log
            taken.log.info("sync_ended", outcome=planned.outcome, events=taken.events, detail=_detail(taken, planned))

    def _last(self, taken: Taken, step: plan.Step, unmoved: int, stretch: int, now: int) -> Batch:
        """The batch that ends the run."""
        connection = taken.connection
        ended = RunEnded(
            run=taken.run,
            now=now,
            next_run_at=step.run_at,
            outcome=step.outcome,
            detail=_detail(taken, step),
            tally=taken.tally,
            keep_tries=step.keep_tries,
            not_before=step.not_before,
            unmoved=unmoved,
            stretch=stretch,
        )
        marks: list[Mark] = [CursorMoved(run=taken.run, cursor=None)] if step.forget_cursor else []
        marks.append(ended)
        drafts: tuple[Draft, ...] = ()
        if step.sign_in:
            marks.append(StateChanged(number=connection.number, state="needs_sign_in", reason=step.detail, now=now))
            drafts = (self.connection_event(connection, "needs_sign_in", now, reason=step.detail),)
        return Batch(connection=connection, observed_at=now, drafts=drafts, marks=tuple(marks))


def _changed(database: Database, connection: Connection) -> bool:
    current = connections.by_number(database, connection.number)
    return current is not None and current.version != connection.version


def _detail(taken: Taken, step: plan.Step) -> str:
    """What people read of the run."""
    return "; ".join(filter(None, [step.detail, taken.aside()]))


async def _turn() -> None:
    """Nothing: what runs it shows that it turns."""


def _meaning(work: asyncio.Future[None]) -> plan.Outcome:
    """An ended run's outcome, from the error's name. Raises `LeaseLost` when another run has taken over."""
    if work.cancelled():
        return plan.Later(reason="the sync was cancelled")
    match work.exception():
        case None:
            return plan.Done()
        case LeaseLost() as lost:
            raise lost
        case GaveWay():
            return plan.CutShort()
        case SignInAgain() as error:
            return plan.SignedOut(reason=sentence(error))
        case RetryLater(after=timedelta() as after) as error:
            return plan.Later(reason=sentence(error), after=after.total_seconds())
        case RetryLater() as error:
            return plan.Later(reason=sentence(error))
        case QuotaSpent(until=datetime() as until) as error:
            return plan.QuotaUsed(reason=sentence(error), until=micros(until if until.tzinfo else until.replace(tzinfo=UTC)))
        case CursorExpired() as error:
            return plan.LostPlace(reason=sentence(error) or "the provider no longer knows where we left off")
        case ApiRetired() as error:
            return plan.Retired(reason=f"{sentence(error)}: a newer version of the connector is needed")
        case CannotStore() as error:
            return plan.Later(reason=sentence(error))
        case error:
            return plan.Broken(reason=sentence(error))  # type: ignore[arg-type]  # of any other kind of error, too, it tells the kind


async def _close(signals: object) -> None:
    close: Callable[[], Awaitable[None]] | None = getattr(signals, "aclose", None)
    if close is not None:
        with suppress(Exception):  # what the run came to is known already
            await close()


async def _cancel(*tasks: asyncio.Future[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
