"""One run of one connection: fetch signals, hand them to `Taken`, and plan the next run from what it came to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import compress
from typing import NamedTuple

import msgspec

from oo_daemon.connections.credential import Credentials
from oo_daemon.connections.guest import GuestClock, LogFor, sentence
from oo_daemon.ports import SECOND, UNTRACED, Chance, Clock, Guests, Metrics, Trace, micros, moment
from oo_daemon.registry import Registry
from oo_daemon.store import connections, schedule
from oo_daemon.store.accept import Batch, Draft, Mark
from oo_daemon.store.connections import Connection, StateChanged
from oo_daemon.store.database import Database
from oo_daemon.store.errors import CannotStore, LeaseLost
from oo_daemon.store.schedule import CursorMoved, Pushes, Run, RunEnded
from oo_daemon.store.storage import Storage
from oo_daemon.sync import plan
from oo_daemon.sync.schedule import Line
from oo_daemon.sync.taken import MakeDraft, Means, Taken, overlap_of
from oo_daemon.sync.timetable import Cron, Every, kept, next_time
from oo_sdk import (
    ApiRetired,
    Checkpoint,
    Connector,
    Context,
    Cursor,
    CursorExpired,
    Event,
    QuotaSpent,
    RetryLater,
    Signal,
    SignInAgain,
)

#: Hears that a run is over.
Told = Callable[["asyncio.Future[None]"], object]
#: Shortest wait between two looks at the runs under way (seconds).
BLINK = 0.001
#: (connection, what, at, fields) → an event of ours about a connection.
ConnectionEvent = Callable[..., Draft]


class GaveWay(Exception):
    """The run has had its turn, and others wait."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one run may use."""

    batch: int = 500
    lease: float = 60.0  #: seconds
    heartbeat: float = 15.0  #: seconds
    run_limit: float = 600.0  #: seconds
    turn: float = 5.0  #: seconds after which a run that is at a checkpoint lets others go first
    interval: float = 300.0  #: seconds between syncs of a connection
    first_fetch_days: int = 0  #: how far back a first fetch goes; 0: everything


class UnderWay(asyncio.Future[None]):
    """A run under way: done when its end is written. Who cancels it ends it without an outcome; it is done when its connector has ended."""

    def __init__(self, taken: Taken, began: float, beat: float, told: Told) -> None:
        super().__init__()
        self.taken = taken
        self.began = began  #: by the clock that only grows, as the next
        self.beat = beat  #: when its lease is to be renewed
        self.cut: plan.Outcome | LeaseLost | TimeUp | None = None  #: why we ended it
        self.left = False  #: it was cancelled
        self.stop: Callable[[], object] | None = None  #: cancels its connector; None: that has ended
        self._told = told

    def cancel(self, msg: object = None) -> bool:
        """End it without an outcome; False: its end is being written."""
        if self.stop is None:
            return False
        self.left = True
        self.stop()
        return True

    def over(self, fault: BaseException | None = None) -> None:
        """Tell whoever waits."""
        if self.left:
            super().cancel()
        elif fault is not None:
            self.set_exception(fault)
        elif not self.done():
            self.set_result(None)
        self._told(self)


class TimeUp:
    """It has run as long as one run may."""


class _Ending(NamedTuple):
    """A run that has an outcome, on the way into the store."""

    run: UnderWay
    outcome: plan.Outcome
    unmoved: int
    now: int
    spread: float


@dataclass(slots=True, kw_only=True, eq=False)
class Sync:
    """What a run needs, and the runs under way."""

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
    poisoned: Callable[[str], bool] = lambda item: False  #: says of "connection {number}" that its syncs ended the process each time
    _guest_clock: GuestClock = field(init=False)
    _means: Means = field(init=False)
    _under_way: dict[UnderWay, None] = field(default_factory=dict)
    _watching: asyncio.Task[None] | None = None
    _endings: list[_Ending] = field(default_factory=list)  #: that are written together
    _writing: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._guest_clock = GuestClock(self.clock)
        self._means = Means(
            storage=self.storage, clock=self.clock, metrics=self.metrics, make_draft=self.make_draft, batch=self.limits.batch
        )

    def run(self, run: Run, told: Told = lambda over: None) -> asyncio.Future[None]:
        """Begin a claimed run: what goes wrong becomes its outcome. `told` hears at once when it is over, others in the turn after that.

        What many runs need alike is done for all of them at once.
        """
        connection, began = run.of, self.clock.monotonic()
        connector = self.registry.connectors.get(connection.provider)
        taken = Taken(self._means, run, connector or Connector(), self.log_for(connection.id, connection.provider))
        under_way = UnderWay(taken, began, began + self.limits.heartbeat, told)
        if connector is None:
            self._end(under_way, plan.Broken(reason=f"the connector {connection.provider} is not loaded: see `oo plugins`"))
            return under_way
        if self.poisoned(item := f"connection {connection.number}"):
            self._end(under_way, plan.Broken(reason=_POISONED))
            return under_way
        self._under_way[under_way] = None
        if self._watching is None:
            self._watching = asyncio.ensure_future(self._watch())
        work = self._fetch(taken, began) if self.trace is UNTRACED else self._traced(taken, began)
        under_way.stop = self.guests.begin(work, lambda error: self._ended(under_way, error), of=connector, item=item)
        return under_way

    def _ended(self, run: UnderWay, error: BaseException | None) -> None:
        """The connector has ended."""
        run.stop = None
        del self._under_way[run]
        match run.cut or error:
            case _ if run.left:
                run.over()
            case LeaseLost():
                self._lost([run])
            case TimeUp():
                self._end(run, _cut_short(run.taken, self.limits.run_limit))
            case None | BaseException():
                self._end(run, _meaning(error))
            case outcome:
                self._end(run, outcome)

    async def _watch(self) -> None:
        """Hold the leases of runs that take long, as long as the guests' loop turns, and end those whose time is up."""
        beat, limit = self.limits.heartbeat, self.limits.run_limit
        while going := [run for run in self._under_way if run.cut is None]:
            now = self.clock.monotonic()
            # Never less than a blink: a clock that rounds could wake us just before the time, again and again.
            await self.clock.sleep(max(BLINK, min(min(run.beat, run.began + limit) for run in going) - now))
            now = self.clock.monotonic()
            for run in [run for run in self._under_way if now >= run.began + limit]:
                self._cut(run, TimeUp())
            due = [run for run in self._under_way if run.cut is None and now >= run.beat]
            if not due:
                continue
            await self.guests.run(_turn())
            try:
                until = self.clock.now() + int(self.limits.lease * SECOND)
                held = await self.storage.write(schedule.heartbeat, [run.taken.run for run in due], until)
            except CannotStore as fault:
                for run in due:
                    self._cut(run, plan.Later(reason=sentence(fault), ours=True))
                continue
            for run in due:
                run.beat = self.clock.monotonic() + beat
                if run.taken.run.place not in held:
                    self._cut(run, LeaseLost("another run has taken over this connection"))
        self._watching = None

    def _cut(self, run: UnderWay, why: plan.Outcome | LeaseLost | TimeUp) -> None:
        """End a run that does not end by itself; one that has ended meanwhile keeps its outcome."""
        if run.stop is not None and run.cut is None:
            run.cut = why
            run.stop()

    async def _traced(self, taken: Taken, began: float) -> None:
        """Fetch as one stretch of the traces."""
        error: BaseException | None = None
        with self.trace.span("sync", taken.run.traceparent, provider=taken.connection.provider):
            try:
                await self._fetch(taken, began)
            except BaseException as fault:
                error = fault
            self.trace.note(outcome=plan.word(_meaning(error)), events=taken.events)
        if error is not None:
            raise error

    async def _fetch(self, taken: Taken, began: float) -> None:
        """Take signals as they come. Runs on the guests' loop. Raises `GaveWay` after a checkpoint."""
        connection, connector, days = taken.connection, taken.connector, self.limits.first_fetch_days
        context = Context(
            http=self.credentials.unopened(connector, connection, taken.calls),
            meta=connection.meta,
            scopes=frozenset(connection.scopes),
            # From when it was connected: a listing years later must still know what was told before.
            first_fetch_from=moment(connection.created_at) - timedelta(days=days) if days else None,
            clock=self._guest_clock,
            log=taken.log,
        )
        if taken.run.cursor is not None:
            taken.begin(await self._since(connector, taken.run, taken.run.cursor))
        page = self._page if self.trace is UNTRACED else self._traced_page
        signals = aiter(connector.fetch_signals(context, taken.since))
        try:
            while await page(taken, signals):
                if self.line.waiting and self.clock.monotonic() - began >= self.limits.turn:
                    raise GaveWay
        finally:
            try:
                if taken.drafts:
                    await taken.keep()
            finally:
                if getattr(signals, "ag_frame", signals) is not None:  # else it has ended by itself
                    await _close(signals)

    async def _page(self, taken: Taken, signals: AsyncIterator[Signal]) -> bool:
        """Take signals up to the next checkpoint; False: there are no more."""
        async for signal in signals:
            if isinstance(signal, Event):  # as almost all are: a coroutine for each would cost as much as its bytes
                if taken.is_full_with(signal):
                    await taken.keep()
                continue
            await taken.take(signal)
            if isinstance(signal, Checkpoint):
                return True
        return False

    async def _traced_page(self, taken: Taken, signals: AsyncIterator[Signal]) -> bool:
        """Likewise, as one stretch of the traces."""
        with self.trace.span("page", provider=taken.connection.provider):
            return await self._page(taken, signals)

    async def _since(self, connector: Connector, run: Run, cursor: Cursor) -> Cursor | None:
        """Where to go on from, in the shape that the connector has today; a while before that, where the connector would have it so."""
        if run.shape != connector.cursor_shape:
            return connector.migrate_cursor(cursor, run.shape)
        if overlap := overlap_of(connector):
            return await self.storage.read(schedule.place_of, run, overlap)
        return cursor

    def _end(self, run: UnderWay, outcome: plan.Outcome) -> None:
        """Write how a run ended, together with others that end in the same turn of the loop."""
        taken = run.taken
        motion = plan.Motion(
            asked=bool(taken.calls.made or taken.events or taken.open_end),
            moved=taken.moved,
            news=bool(taken.events or taken.open_end),
            listed=taken.listing,
        )
        unmoved = plan.unmoved(taken.run.unmoved, outcome, motion)
        if unmoved >= plan.STALLED and unmoved > taken.run.unmoved:
            outcome = plan.Stalled(runs=unmoved)
        self._endings.append(_Ending(run, outcome, unmoved, self.clock.now(), self.chance.uniform(0.0, 1.0)))
        if len(self._endings) == 1:
            asyncio.get_running_loop().call_soon(self._write_endings)

    def _write_endings(self) -> None:
        endings, self._endings = self._endings, []
        alone = [isinstance(ending.outcome, plan.SignedOut | plan.LostPlace) for ending in endings]
        together = [ending for ending, by_itself in zip(endings, alone, strict=True) if not by_itself]
        for some in [together, *([ending] for ending in compress(endings, alone))]:
            task = asyncio.ensure_future(self._write(some) if some is together else self._write_alone(*some))
            self._writing.add(task)
            task.add_done_callback(partial(self._written, some))

    def _written(self, endings: Sequence[_Ending], task: asyncio.Task[None]) -> None:
        self._writing.discard(task)
        for run in [ending.run for ending in endings if not ending.run.done()]:  # it was cancelled before it began
            run.left = True
            run.over()

    async def _write(self, endings: Sequence[_Ending]) -> None:
        """Write ends that change nothing but the schedule."""

        def write(database: Database) -> list[plan.Step | None]:
            known = schedule.holding(database, [ending.run.taken.run for ending in endings])
            steps, marks = list[plan.Step | None](), list[RunEnded]()
            for ending in endings:
                if (pushes := known.get(ending.run.taken.run.place)) is None:
                    steps.append(None)
                    continue
                step, stretch = self._step(ending, pushes)
                steps.append(step)
                marks.append(_mark(ending, step, stretch))
            schedule.end(database, marks)
            return steps

        try:
            steps = await self.storage.write(write)
        except CannotStore as fault:
            self._not_stored([ending.run for ending in endings], fault)
        except BaseException as fault:
            if isinstance(fault, Exception) and len(endings) > 1:  # what the store does not take of one must not keep it from the others
                for ending in endings:
                    await self._write([ending])
            else:
                for ending in endings:
                    ending.run.over(fault)
        else:
            self._stored([(ending.run, step) for ending, step in zip(endings, steps, strict=True) if step is not None])
            self._lost([ending.run for ending, step in zip(endings, steps, strict=True) if step is None])

    async def _write_alone(self, ending: _Ending) -> None:
        """Write an end that changes more."""
        planned: plan.Step

        def last(database: Database) -> Batch:
            nonlocal planned
            connection = ending.run.taken.connection
            pushes = schedule.holding(database, [ending.run.taken.run]).get(ending.run.taken.run.place, _NO_PUSHES)
            planned, stretch = self._step(ending, pushes)
            if planned.sign_in and _changed(database, connection):
                # Its owner has signed in again, or is leaving: what this run says is of the grant before.
                later = plan.Later(reason="the connection was changed during the sync")
                planned, stretch = self._step(ending._replace(outcome=later), pushes)
            return self._last(ending, planned, stretch)

        try:
            await self.storage.accept(last)
        except LeaseLost:
            self._lost([ending.run])
        except CannotStore as fault:
            self._not_stored([ending.run], fault)
        except BaseException as fault:
            ending.run.over(fault)
        else:
            self._stored([(ending.run, planned)])

    def _step(self, ending: _Ending, pushes: Pushes) -> tuple[plan.Step, int]:
        """What happens to the connection now, and by how much its interval is longer."""
        interval, stretch, due = self.limits.interval, 1, None
        match kept(pushes.timetable):
            case Every(seconds=seconds):
                interval = seconds
            case Cron() as cron:
                due = next_time(cron, ending.now)
        if isinstance(ending.outcome, plan.Done) and pushes.timetable is None:
            stretch = plan.stretched(
                pushes.stretch,
                heard=pushes.heard,
                announced=pushes.announced,
                news=ending.run.taken.events > 0,
                interval=self.limits.interval,
            )
        step = plan.next_step(
            ending.outcome, tries=ending.run.taken.run.tries, now=ending.now, interval=interval * stretch, spread=ending.spread, due=due
        )
        return step, stretch

    def _last(self, ending: _Ending, step: plan.Step, stretch: int) -> Batch:
        """The batch that ends the run."""
        run, connection = ending.run.taken.run, ending.run.taken.connection
        marks: list[Mark] = [CursorMoved(run=run, cursor=None)] if step.forget_cursor else []
        marks.append(_mark(ending, step, stretch))
        drafts: tuple[Draft, ...] = ()
        if step.sign_in:
            marks.append(StateChanged(number=connection.number, state="needs_sign_in", reason=step.detail, now=ending.now))
            drafts = (self.connection_event(connection, "needs_sign_in", ending.now, reason=step.detail),)
        return Batch(connection=connection, observed_at=ending.now, drafts=drafts, marks=tuple(marks))

    def _stored(self, ended: Sequence[tuple[UnderWay, plan.Step]]) -> None:
        outcomes = Counter((run.taken.connection.provider, step.outcome) for run, step in ended)
        for (provider, outcome), count in outcomes.items():
            self.metrics.count("syncs", count, provider=provider, outcome=outcome)
        for run, step in ended:
            if run.taken.events or step.detail or step.outcome != "done":  # else it is no news, and in the run log
                run.taken.log.info("sync_ended", outcome=step.outcome, events=run.taken.events, detail=_detail(run.taken, step))
        self._over([run for run, _ in ended])

    def _lost(self, runs: Sequence[UnderWay]) -> None:
        for run in runs:
            run.taken.log.warning("sync_lost_lease")
        self._over(runs)

    def _not_stored(self, runs: Sequence[UnderWay], fault: CannotStore) -> None:
        for run in runs:
            run.taken.log.warning("sync_end_not_stored", reason=str(fault))
        self._over(runs, fault)  # whoever has claimed them gives them back

    def _over(self, runs: Sequence[UnderWay], fault: CannotStore | None = None) -> None:
        now, took = self.clock.monotonic(), dict[str, list[float]]()
        for run in runs:
            took.setdefault(run.taken.connection.provider, []).append(now - run.began)
        for provider, seconds in took.items():
            self.metrics.observe("sync_seconds", *seconds, provider=provider)
        for run in runs:
            run.over(fault)


_POISONED = "the daemon ended each time that it was synced: update the connector, then `oo plugins release` it"
_DONE = plan.Done()
_NO_PUSHES = Pushes(heard=False, announced=False, stretch=1)


def _mark(ending: _Ending, step: plan.Step, stretch: int) -> RunEnded:
    return RunEnded(
        run=ending.run.taken.run,
        now=ending.now,
        next_run_at=step.run_at,
        outcome=step.outcome,
        detail=_detail(ending.run.taken, step),
        tally=ending.run.taken.tally,
        keep_tries=step.keep_tries,
        not_before=step.not_before,
        unmoved=ending.unmoved,
        stretch=stretch,
    )


def _cut_short(taken: Taken, limit: float) -> plan.Outcome:
    """A run whose time was up."""
    if taken.moved:
        return plan.CutShort()
    # Going on at once would end in the same place.
    return plan.Later(reason=f"the sync was cut after {limit:.0f} s without a checkpoint: tell the connector's author if that goes on")


def _changed(database: Database, connection: Connection) -> bool:
    current = connections.by_number(database, connection.number)
    return current is not None and current.version != connection.version


def _detail(taken: Taken, step: plan.Step) -> str:
    """What people read of the run."""
    return "; ".join(filter(None, [step.detail, taken.aside()])) if taken.unreadable else step.detail


async def _turn() -> None:
    """Nothing: what runs it shows that it turns."""


def _meaning(error: BaseException | None) -> plan.Outcome:
    """An ended run's outcome, from the error's name."""
    match error:
        case None:
            return _DONE
        case asyncio.CancelledError():
            return plan.Later(reason="the sync was cancelled")
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
            return plan.Later(reason=sentence(error), ours=True)
        case error:
            return plan.Broken(reason=sentence(error))  # type: ignore[arg-type]  # of any other kind of error, too, it tells the kind


async def _close(signals: object) -> None:
    close: Callable[[], Awaitable[None]] | None = getattr(signals, "aclose", None)
    if close is not None:
        with suppress(Exception):  # what the run came to is known already
            await close()
