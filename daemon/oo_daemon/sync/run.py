"""One run of one connection: fetch signals, write events in batches, move the cursor, and plan the next run.

Events commit in batches with the cursor unmoved; the last batch before a checkpoint carries its cursor. A crash repeats at most what lies
behind the last checkpoint, and the object index swallows the repeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from oo_daemon.connections.credential import Credentials
from oo_daemon.ports import SECOND, Chance, Clock, Guests, Metrics, micros, moment
from oo_daemon.registry import Registry
from oo_daemon.store import connections, schedule
from oo_daemon.store.accept import Batch, Draft, Mark, Sweep
from oo_daemon.store.connections import Connection, StateChanged
from oo_daemon.store.errors import CannotStore, LeaseLost
from oo_daemon.store.schedule import CursorMoved, Held, ListingBegun, Run, RunEnded
from oo_daemon.store.storage import Storage
from oo_daemon.sync import plan
from oo_sdk import (
    ApiRetired,
    Checkpoint,
    Connector,
    ConnectorBug,
    Context,
    CursorExpired,
    Event,
    Listing,
    Log,
    QuotaSpent,
    RetryLater,
    SignInAgain,
    Unreadable,
)
from oo_vault import VaultError

#: (connector id, event) → the event as the waist takes it.
MakeDraft = Callable[[str, Event], Draft]
#: (connection, what, at, fields) → an event of ours about a connection.
ConnectionEvent = Callable[..., Draft]


class LogFor(Protocol):
    """Gives the logger for one connection: its id is in it only as a tag."""

    def __call__(self, connection: str, provider: str) -> Log:
        """The logger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may use."""

    batch: int = 500
    lease: float = 60.0  #: seconds
    heartbeat: float = 15.0  #: seconds
    run_limit: float = 600.0  #: seconds
    interval: float = 300.0  #: seconds between syncs of a connection
    first_fetch_days: int = 0  #: how far back a first fetch goes; 0: everything


@dataclass(frozen=True, slots=True)
class _GuestClock:
    """The clock as connectors see it."""

    clock: Clock

    def now(self) -> datetime:
        return moment(self.clock.now())

    def monotonic(self) -> float:
        return self.clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)


@dataclass(slots=True)
class _Tally:
    events: int = 0
    unreadable: int = 0


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
    on_end: list[Callable[[int], None]] = field(default_factory=list)  #: called with the connection's number after each run

    async def run(self, run: Run) -> None:
        """Run one claimed connection to its end. Raises nothing but cancellation: what goes wrong becomes its outcome."""
        connection = await self.storage.read(connections.by_number, run.connection)
        if connection is None:
            return
        log = self.log_for(connection.id, connection.provider)
        tally = _Tally()
        began = self.clock.monotonic()
        outcome = await self._outcome(run, connection, tally, log)
        if outcome is None:
            log.warning("sync_lost_lease")
            return
        try:
            await self._end(run, connection, outcome, tally, log)
        except LeaseLost:
            log.warning("sync_lost_lease")
        except CannotStore as fault:
            log.warning("sync_end_not_stored", reason=str(fault))  # the lease runs out and the run is claimed again
        self.metrics.observe("sync_seconds", self.clock.monotonic() - began, provider=connection.provider)
        for listener in self.on_end:
            listener(connection.number)

    async def _outcome(self, run: Run, connection: Connection, tally: _Tally, log: Log) -> plan.Outcome | None:
        """What the run came to; None: another run has taken over."""
        connector = self.registry.connectors.get(connection.provider)
        if connector is None:
            return plan.Broken(reason=f"the connector {connection.provider} is not loaded: see `oo plugins`")
        heartbeat = asyncio.ensure_future(self._heartbeat(run))
        work = asyncio.ensure_future(self.guests.run(self._fetch(run, connection, connector, tally, log)))
        limit = asyncio.ensure_future(self.clock.sleep(self.limits.run_limit))
        try:
            await asyncio.wait({work, heartbeat, limit}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return _meaning(work)
            if heartbeat.done():
                return None if isinstance(heartbeat.exception(), LeaseLost) else _meaning(heartbeat)
            return plan.CutShort()
        finally:
            await _cancel(work, heartbeat, limit)

    async def _heartbeat(self, run: Run) -> None:
        while True:
            await self.clock.sleep(self.limits.heartbeat)
            await self.storage.write(schedule.heartbeat, run, self.clock.now() + int(self.limits.lease * SECOND))

    async def _fetch(self, run: Run, connection: Connection, connector: Connector, tally: _Tally, log: Log) -> None:
        """Take signals as they come. Runs on the guests' loop."""
        session = await self.credentials.session(connector, connection)
        days = self.limits.first_fetch_days
        context = Context(
            http=session,
            meta=connection.meta,
            scopes=frozenset(connection.scopes),
            # From when it was connected: a listing years later must still know what was told before.
            first_fetch_from=moment(connection.created_at) - timedelta(days=days) if days else None,
            clock=_GuestClock(self.clock),
            log=log,
        )
        drafts: list[Draft] = []

        async def flush(mark: Mark) -> None:
            await self._accept(connection, drafts, mark, tally)
            drafts.clear()

        signals = connector.fetch_signals(context, run.cursor)
        try:
            async for signal in signals:
                match signal:
                    case Event():
                        drafts.append(self.make_draft(connector.id, signal))
                        if len(drafts) >= self.limits.batch:
                            await flush(Held(run=run))
                    case Checkpoint(cursor=cursor, listed=listed):
                        if listed:
                            await flush(Held(run=run))
                            await self._sweep(run, connection, tuple(f"{connector.id}.{name}" for name in listed), tally)
                        await flush(CursorMoved(run=run, cursor=cursor))
                    case Listing():
                        await flush(ListingBegun(run=run))
                    case Unreadable():
                        tally.unreadable += 1
                        self.metrics.count("items_unreadable", provider=connector.id)
                        log.warning("item_unreadable", reason=str(signal))
                    case _:
                        raise ConnectorBug(f"{connector.id} yielded a {type(signal).__name__}, which is no signal")
        finally:
            await _close(signals)
            if drafts:
                await flush(Held(run=run))

    async def _accept(self, connection: Connection, drafts: list[Draft], mark: Mark, tally: _Tally) -> None:
        accepted = await self.storage.accept(
            Batch(connection=connection, observed_at=self.clock.now(), drafts=tuple(drafts), marks=(mark,))
        )
        self._counted(connection, accepted.events, tally)

    async def _sweep(self, run: Run, connection: Connection, types: tuple[str, ...], tally: _Tally) -> None:
        sweep = Sweep(types=types, limit=self.limits.batch)
        while True:
            accepted = await self.storage.accept(
                Batch(connection=connection, observed_at=self.clock.now(), marks=(Held(run=run),), sweep=sweep)
            )
            self._counted(connection, accepted.events, tally)
            if accepted.swept < sweep.limit:
                return

    def _counted(self, connection: Connection, events: int, tally: _Tally) -> None:
        tally.events += events
        if events:
            self.metrics.count("events_accepted", events, provider=connection.provider)

    async def _end(self, run: Run, connection: Connection, outcome: plan.Outcome, tally: _Tally, log: Log) -> None:
        now = self.clock.now()
        step = plan.next_step(outcome, tries=run.tries, now=now, interval=self.limits.interval, spread=self.chance.uniform(0.0, 1.0))
        detail = step.detail
        if tally.unreadable:
            detail = f"{detail + '; ' if detail else ''}{tally.unreadable} items could not be read and were set aside"
        marks: list[Mark] = [CursorMoved(run=run, cursor=None)] if step.forget_cursor else []
        marks.append(
            RunEnded(
                run=run,
                now=now,
                next_run_at=step.run_at,
                outcome=step.outcome,
                detail=detail,
                events=tally.events,
                keep_tries=step.keep_tries,
            )
        )
        drafts: tuple[Draft, ...] = ()
        if step.sign_in:
            marks.append(StateChanged(number=connection.number, state="needs_sign_in", reason=step.detail, now=now))
            drafts = (self.connection_event(connection, "needs_sign_in", now, reason=step.detail),)
        await self.storage.accept(Batch(connection=connection, observed_at=now, drafts=drafts, marks=tuple(marks)))
        self.metrics.count("syncs", provider=connection.provider, outcome=step.outcome)
        log.info("sync_ended", outcome=step.outcome, events=tally.events, detail=detail)


def _meaning(work: asyncio.Future[None]) -> plan.Outcome | None:
    """An ended run's outcome, from the error's name."""
    if work.cancelled():
        return plan.Later(reason="the run was cancelled")
    match work.exception():
        case None:
            return plan.Done()
        case LeaseLost():
            return None
        case SignInAgain() as error:
            return plan.SignedOut(reason=str(error))
        case RetryLater() as error:
            return plan.Later(reason=str(error), after=error.after.total_seconds() if error.after else None)
        case QuotaSpent() as error:
            until = error.until if error.until.tzinfo else error.until.replace(tzinfo=UTC)
            return plan.QuotaUsed(reason=str(error), until=micros(until))
        case CursorExpired() as error:
            return plan.LostPlace(reason=str(error) or "the provider no longer knows where we left off")
        case ApiRetired() as error:
            return plan.Retired(reason=f"{error}: a newer version of the connector is needed")
        case CannotStore() as error:
            return plan.Later(reason=str(error))
        case ConnectorBug() | VaultError() as error:
            return plan.Broken(reason=str(error))
        case error:
            # A guest's own exception may quote what it was working on: only its kind is told.
            return plan.Broken(reason=f"the connector failed with {type(error).__name__}")


async def _close(signals: object) -> None:
    close: Callable[[], Awaitable[None]] | None = getattr(signals, "aclose", None)
    if close is not None:
        await close()


async def _cancel(*tasks: asyncio.Future[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
