"""One run of one connection: fetch signals, write events in batches, move the cursor, and plan the next run.

Events commit in batches with the cursor unmoved; the last batch before a checkpoint carries its cursor. A crash repeats at most what lies
behind the last checkpoint, and the object index swallows the repeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from oo_daemon.connections.credential import Credentials
from oo_daemon.connections.guest import GuestClock, LogFor, sentence
from oo_daemon.ports import SECOND, Chance, Clock, Guests, Metrics, micros, moment
from oo_daemon.registry import Registry
from oo_daemon.store import connections, schedule
from oo_daemon.store.accept import Accepted, Batch, Draft, Mark, Sweep
from oo_daemon.store.connections import Connection, StateChanged
from oo_daemon.store.database import Database
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
    Signal,
    SignInAgain,
    Unreadable,
)

#: A batch is committed early when its payloads come to this (bytes): memory, and the writer's time, are shared.
HEAVY = 4 * 1024 * 1024
#: Largest cursor (bytes of JSON).
LARGEST_CURSOR = 64 * 1024
#: Parts that one checkpoint may say were listed.
MOST_PARTS = 100
#: How many unreadable items of a run the log names; all are counted.
NAMED = 5

#: (connector id, event) → the event as the waist takes it. Raises `ConnectorBug`, and `Unreadable` for one to set aside.
MakeDraft = Callable[[str, Event], Draft]
#: (connection, what, at, fields) → an event of ours about a connection.
ConnectionEvent = Callable[..., Draft]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may use."""

    batch: int = 500
    lease: float = 60.0  #: seconds
    heartbeat: float = 15.0  #: seconds
    run_limit: float = 600.0  #: seconds
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

    async def run(self, run: Run) -> None:
        """Run one claimed connection to its end: what goes wrong becomes its outcome.

        Raises `CannotStore` where not even the connection can be read.
        """
        connection = await self.storage.read(connections.by_number, run.connection)
        if connection is None:
            return  # erased since the claim
        began = self.clock.monotonic()
        taken = _Taken(sync=self, run=run, connection=connection, log=self.log_for(connection.id, connection.provider))
        try:
            outcome = await self._outcome(taken)
            await self._end(taken, outcome)
        except LeaseLost:
            taken.log.warning("sync_lost_lease")
        except CannotStore as fault:
            taken.log.warning("sync_end_not_stored", reason=str(fault))  # the lease runs out and the run is claimed again
        self.metrics.observe("sync_seconds", self.clock.monotonic() - began, provider=connection.provider)

    async def _outcome(self, taken: _Taken) -> plan.Outcome:
        """What the run came to. Raises `LeaseLost` when another run has taken over."""
        provider = taken.connection.provider
        connector = self.registry.connectors.get(provider)
        if connector is None:
            return plan.Broken(reason=f"the connector {provider} is not loaded: see `oo plugins`")
        heartbeat = asyncio.ensure_future(self._heartbeat(taken.run))
        work = asyncio.ensure_future(self.guests.run(self._fetch(taken, connector)))
        limit = asyncio.ensure_future(self.clock.sleep(self.limits.run_limit))
        try:
            await asyncio.wait({work, heartbeat, limit}, return_when=asyncio.FIRST_COMPLETED)
            ended = next((task for task in (work, heartbeat) if task.done()), None)
        finally:
            await _cancel(work, heartbeat, limit)
        if ended is not None:
            return _meaning(ended)
        if taken.moved:
            return plan.CutShort()
        # Going on at once would end in the same place.
        seconds = f"{self.limits.run_limit:.0f} s"
        return plan.Later(reason=f"the sync was cut after {seconds} without a checkpoint: tell the connector's author if that goes on")

    async def _heartbeat(self, run: Run) -> None:
        while True:
            await self.clock.sleep(self.limits.heartbeat)
            await self.storage.write(schedule.heartbeat, run, self.clock.now() + int(self.limits.lease * SECOND))

    async def _fetch(self, taken: _Taken, connector: Connector) -> None:
        """Take signals as they come. Runs on the guests' loop."""
        connection, days = taken.connection, self.limits.first_fetch_days
        context = Context(
            http=await self.credentials.session(connector, connection),
            meta=connection.meta,
            scopes=frozenset(connection.scopes),
            # From when it was connected: a listing years later must still know what was told before.
            first_fetch_from=moment(connection.created_at) - timedelta(days=days) if days else None,
            clock=GuestClock(self.clock),
            log=taken.log,
        )
        signals = connector.fetch_signals(context, taken.run.cursor)
        try:
            async for signal in signals:
                await taken.take(signal)
        finally:
            try:
                await taken.keep()
            finally:
                await _close(signals)

    async def _end(self, taken: _Taken, outcome: plan.Outcome) -> None:
        connection, now, spread = taken.connection, self.clock.now(), self.chance.uniform(0.0, 1.0)

        def step(outcome: plan.Outcome) -> plan.Step:
            return plan.next_step(outcome, tries=taken.run.tries, now=now, interval=self.limits.interval, spread=spread)

        planned = step(outcome)

        def last(database: Database) -> Batch:
            nonlocal planned
            planned = step(outcome)
            current = connections.by_number(database, connection.number)
            if planned.sign_in and current is not None and current.version != connection.version:
                # Its owner has signed in again, or is leaving: what this run says is of the grant before.
                planned = step(plan.Later(reason="the connection was changed during the sync"))
            return taken.last(planned, now)

        await self.storage.accept(last)
        self.metrics.count("syncs", provider=connection.provider, outcome=planned.outcome)
        taken.log.info("sync_ended", outcome=planned.outcome, events=taken.events, detail=taken.detail(planned))


@dataclass(slots=True, kw_only=True)
class _Taken:
    """What one run has taken: events on their way to the waist, and what will be said of the run."""

    sync: Sync
    run: Run
    connection: Connection
    log: Log
    drafts: list[Draft] = field(default_factory=list)
    weight: int = 0  #: bytes of the drafts' payloads
    events: int = 0
    unreadable: int = 0
    moved: bool = False  #: the cursor is further on than at the beginning
    listing: bool = False
    kept_back: set[str] = field(default_factory=set)  #: types of which the listing has an event that could not be kept

    async def take(self, signal: Signal) -> None:
        """Take one signal. Raises `ConnectorBug`, `LeaseLost` and `CannotStore`."""
        match signal:
            case Event():
                await self._take_event(signal)
            case Checkpoint(cursor=cursor, listed=listed, within=within):
                place = _plain(cursor)
                if listed:
                    await self._sweep(listed, within)
                await self._commit(CursorMoved(run=self.run, cursor=place))
                self.moved = True
            case Listing():
                await self.keep()  # what came before it is no part of it
                await self._commit(ListingBegun(run=self.run))
                self.listing = True
                self.kept_back.clear()
            case Unreadable():
                self._set_aside(signal)
            case _:
                raise ConnectorBug(f"{self.connection.provider} yielded a {type(signal).__name__}, which is no signal")

    async def keep(self) -> None:
        """Commit what was taken since the last checkpoint, the cursor unmoved."""
        if self.drafts:
            await self._commit(Held(run=self.run))

    async def _take_event(self, event: Event) -> None:
        try:
            draft = self.sync.make_draft(self.connection.provider, event)
        except Unreadable as item:
            self._set_aside(item)
            self.kept_back.add(self._type(event.name))
            return
        self.drafts.append(draft)
        self.weight += len(draft.payload)
        if len(self.drafts) >= self.sync.limits.batch or self.weight >= HEAVY:
            await self.keep()

    def _set_aside(self, item: Unreadable) -> None:
        self.unreadable += 1
        self.sync.metrics.count("items_unreadable", provider=self.connection.provider)
        if self.unreadable <= NAMED:
            self.log.warning("item_unreadable", reason=sentence(item))

    async def _sweep(self, listed: tuple[str, ...], within: tuple[str, ...]) -> None:
        """End a listing: what it did not show is gone, except of types of which it showed more than could be kept."""
        if isinstance(listed, str) or not all(isinstance(name, str) for name in listed):
            raise ConnectorBug("a checkpoint's `listed` must be a tuple of names")
        if isinstance(within, str) or not all(isinstance(text, str) and text for text in within) or len(within) > MOST_PARTS:
            raise ConnectorBug(f"a checkpoint's `within` must be a tuple of at most {MOST_PARTS} texts, none of them empty")
        if not self.listing and self.run.cursor is None:
            raise ConnectorBug("a checkpoint says what was listed, but no Listing() came before it")
        await self.keep()
        types = tuple(type_ for type_ in map(self._type, listed) if type_ not in self.kept_back)
        sweep = Sweep(types=types, within=tuple(within), limit=self.sync.limits.batch)
        while types and (await self._commit(Held(run=self.run), sweep)).swept == sweep.limit:
            pass

    async def _commit(self, mark: Mark, sweep: Sweep | None = None) -> Accepted:
        batch = Batch(connection=self.connection, observed_at=self.sync.clock.now(), drafts=tuple(self.drafts), marks=(mark,), sweep=sweep)
        accepted = await self.sync.storage.accept(batch)
        self.drafts.clear()
        self.weight = 0
        self.events += accepted.events
        if accepted.events:
            self.sync.metrics.count("events_accepted", accepted.events, provider=self.connection.provider)
        return accepted

    def _type(self, name: str) -> str:
        return f"{self.connection.provider}.{name}"

    def detail(self, step: plan.Step) -> str:
        """What people read of the run."""
        aside = f"{self.unreadable} items could not be read and were set aside" if self.unreadable else ""
        return "; ".join(filter(None, [step.detail, aside]))

    def last(self, step: plan.Step, now: int) -> Batch:
        """The batch that ends the run."""
        ended = RunEnded(
            run=self.run,
            now=now,
            next_run_at=step.run_at,
            outcome=step.outcome,
            detail=self.detail(step),
            events=self.events,
            keep_tries=step.keep_tries,
        )
        marks: list[Mark] = [CursorMoved(run=self.run, cursor=None)] if step.forget_cursor else []
        marks.append(ended)
        drafts: tuple[Draft, ...] = ()
        if step.sign_in:
            marks.append(StateChanged(number=self.connection.number, state="needs_sign_in", reason=step.detail, now=now))
            drafts = (self.sync.connection_event(self.connection, "needs_sign_in", now, reason=step.detail),)
        return Batch(connection=self.connection, observed_at=now, drafts=drafts, marks=tuple(marks))


def _plain(cursor: Mapping[str, Any]) -> Mapping[str, Any]:
    """The cursor as it will come back. Raises `ConnectorBug` where it could not be kept."""
    if not isinstance(cursor, Mapping):
        raise ConnectorBug(f"a cursor must be a JSON object, not a {type(cursor).__name__}")
    try:
        text = msgspec.json.encode(cursor)
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise ConnectorBug("a cursor must be a JSON object: it holds something that JSON does not know") from None
    if len(text) > LARGEST_CURSOR:
        raise ConnectorBug(f"a cursor may have {LARGEST_CURSOR // 1024} KiB, and this one has {len(text) // 1024}")
    plain: Mapping[str, Any] = msgspec.json.decode(text)
    return plain


def _meaning(work: asyncio.Future[None]) -> plan.Outcome:
    """An ended run's outcome, from the error's name. Raises `LeaseLost` when another run has taken over."""
    if work.cancelled():
        return plan.Later(reason="the sync was cancelled")
    match work.exception():
        case None:
            return plan.Done()
        case LeaseLost() as lost:
            raise lost
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
