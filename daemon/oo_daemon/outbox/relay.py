"""The relay: carries events from the outbox to sinks, each in order, at least once, and at its own pace.

Each sink is a consumer `sink:{name}` and has a task of its own: one that is slow, fails or never answers holds up nobody else. It is held
under a token that ends by itself, so that of several processes one serves it. A position moves only after the sink has taken what lies
before it. Where a sink cannot take an event, or the process ends over it, it is found out which, and that one goes to the dead letters
after some tries.

A sink whose receiver can lose what it has taken leaves tracks. It is asked for the newest of them whenever it was made ready, and while
nothing comes; where that is gone, the sink is put back to the newest one that is still there, and given the rest again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from oo_daemon.connections.errors import Declined
from oo_daemon.outbox import wire
from oo_daemon.outbox.consumers import starting
from oo_daemon.ports import SECOND, UNTRACED, Chance, Clock, Guests, Metrics, Trace
from oo_daemon.registry import Placed
from oo_daemon.store import consumers
from oo_daemon.store.consumers import Consumer, Track
from oo_daemon.store.database import Database
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.outbox import Filter, Page, Stored
from oo_daemon.store.storage import Storage
from oo_sdk import ConnectorError, Log, Outlet, RetryLater, Taken

T = TypeVar("T")

#: Seconds for which a reader waits for news before it looks again by itself.
LOOK: Final = 30.0
#: Seconds that a sink gets for one delivery or to make ready, and to let go.
LIMIT: Final = 60.0
CLOSE: Final = 5.0
#: Back-off: full jitter over a window that doubles from the base to the cap (seconds); a sink that names a time is believed up to a day.
BASE, CAP, LONGEST = 1.0, 300.0, 86_400.0
#: The cap where it is our own storage that fails: a sink is not to wait for as long again as that was away.
STORED: Final = 5.0


class Reader(Protocol):
    """Reads pages of the outbox, and waits for what comes next."""

    async def page(self, after: int, limit: int, wanted: Filter, wait: float, present_until: int = 0) -> Page:
        """A page of events after a position; an empty one only after `wait` seconds."""


class Suspects(Protocol):
    """Knows over what the process has ended."""

    def poisoned(self, item: str) -> bool:
        """Say whether it ended each time that this was worked on."""

    def suspected(self, item: str) -> bool:
        """Say whether it ended when this was worked on last."""

    def acquit(self, item: str) -> None:
        """Something was worked on again, and the process lived."""


class EndsProcess(Exception):
    """The process ended each time that this was given to the sink."""

    def __init__(self) -> None:
        super().__init__(
            "the daemon ended each time that this was given to the sink: update the sink's plugin, then `oo plugins release` it"
        )


class PositionTaken(Exception):
    """Another process serves the sink, or somebody has put it elsewhere: look again where it is."""

    def __init__(self) -> None:
        super().__init__("another process serves this sink, or it was put elsewhere")


def is_about_the_event(error: Exception) -> bool:
    """Whether a failure may be the event's, so that its tries are counted; what is not in anybody's hand here only waits."""
    return not isinstance(error, RetryLater | CannotStore | PositionTaken | Declined | OSError | TimeoutError)


@dataclass(slots=True, kw_only=True, eq=False)
class _Served:
    """One sink at work."""

    placed: Placed
    consumer: str
    token: str
    called: asyncio.Event = field(default_factory=asyncio.Event)  #: somebody paused it, or wants something given again
    known: Consumer | None = None  #: None: to be looked at anew
    ready: bool = False  #: it was opened
    failures: int = 0
    alone_until: int = 0  #: up to here one event at a time, to find out which cannot be taken
    asked_at: float = 0.0  #: when it was asked last whether it still has what it took


@dataclass(slots=True, kw_only=True, eq=False)
class Relay:
    """Serves sinks until it is stopped. Belongs to the main loop."""

    storage: Storage
    reader: Reader
    guests: Guests
    clock: Clock
    chance: Chance
    metrics: Metrics
    log: Log
    outlet: Callable[[Placed], Awaitable[Outlet]]
    suspects: Suspects
    lease: float  #: seconds for which a sink is held; it is held for longer while it is asked or waits for news
    trace: Trace = UNTRACED
    _served: dict[str, _Served] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self, sinks: Iterable[Placed]) -> None:
        """Begin to serve these sinks, each from where it was; a new one from where it is to begin."""
        for placed in sinks:
            served = _Served(placed=placed, consumer=consumers.of_sink(placed.name), token=self.chance.token_bytes(16).hex())
            self._served[placed.name] = served
            self._tasks.add(asyncio.ensure_future(self._serve(served)))

    async def stop(self) -> None:
        """Stop serving; what a sink had not finished to take, it is given again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def call(self, name: str) -> None:
        """Have a sink looked at anew, now."""
        if (served := self._served.get(name)) is not None:
            served.called.set()

    # --- one sink -----------------------------------------------------------------------------------------------------

    async def _serve(self, served: _Served) -> None:
        try:
            while True:
                try:
                    await self._turn(served)
                    served.failures = 0
                except Exception as error:
                    await self._failed(served, error)
        finally:
            await self._let_go(served)

    async def _turn(self, served: _Served) -> None:
        """Do what comes next: look where it is, wait while it is paused, give dead letters again, deliver."""
        if served.called.is_set() or served.known is None or served.known.paused:
            served.called.clear()
            served.known = await self.storage.write(self._hold, served)
            if served.known.paused:
                await self._close(served)
                await self._until_called(served, LOOK)
                served.known = None
                return
        if not served.ready:
            if self.suspects.poisoned(_item(served)):
                raise EndsProcess
            outlet = await self.outlet(served.placed)
            await self._ask(served, served.placed.sink.open(outlet))
            served.ready = True
            for says in served.placed.sink.warnings:
                self.log.warning("sink_warns", sink=served.placed.name, says=says)
            await self._look_back(served, served.known)
        if served.known is not None and not await self._again(served):
            await self._next(served, served.known)

    def _hold(self, database: Database, served: _Served) -> Consumer:
        terms, now = served.placed.terms, self.clock.now()
        wanted = Filter(user=terms.user, provider=terms.provider, type=terms.type)
        if consumers.of(database, served.consumer) is None:
            consumers.add(database, served.consumer, starting(database, terms.start), wanted, terms.tries, now)
        known = consumers.hold(database, served.consumer, wanted, terms.tries, served.token, now, now + int(self.lease * SECOND))
        if known is None:
            raise PositionTaken
        return known

    async def _next(self, served: _Served, known: Consumer) -> None:
        """Deliver what comes next, and note how far it is."""
        item = _item(served, known.position)
        many = 1 if known.position < served.alone_until or known.tries else served.placed.terms.batch or served.placed.sink.batch
        page = await self._news(served, known, many)
        if page is None:
            return
        if page.missing and known.position:
            self.log.warning("sink_missed", sink=served.placed.name, events=page.missing)
        if not page.events:
            await self._move(served, known, page.reached)
            if self.clock.monotonic() - served.asked_at >= LOOK:
                await self._look_back(served, known)
            return
        if len(page.events) > 1 and self.suspects.suspected(item):
            served.alone_until = page.events[-1][0]
            return
        if self.suspects.poisoned(item):
            await self._give_up(served, known, page.events[0], EndsProcess(), known.tries)
            return
        began = self.clock.monotonic()
        try:
            taken = await self._deliver(served, page.events, item)
        except Exception as error:
            if is_about_the_event(error) and len(page.events) > 1:
                served.alone_until = page.events[-1][0]
            elif is_about_the_event(error) and await self._gave_up(served, known, page.events[0], error):
                return
            raise
        self.metrics.observe("sink_seconds", self.clock.monotonic() - began, sink=served.placed.name)
        served.asked_at = self.clock.monotonic()
        self.metrics.count("sink_events", taken.events, sink=served.placed.name)
        to = page.reached if taken.events == len(page.events) else page.events[taken.events - 1][0]
        await self._move(served, known, to, taken.found_at)

    async def _look_back(self, served: _Served, known: Consumer) -> None:
        """Ask whether what it took is still there; where some is not, give that again."""
        served.asked_at = self.clock.monotonic()
        tracks = await self.storage.read(consumers.tracks, served.consumer)
        if not tracks or await self._has(served, tracks[-1]):
            return
        there, gone = 0, len(tracks) - 1  # what is lost is lost from the end
        while there < gone:
            middle = (there + gone) // 2
            there, gone = (middle + 1, gone) if await self._has(served, tracks[middle]) else (there, middle)
        to = tracks[max(gone - 1, 0)].position
        if await self.storage.write(consumers.put_back, served.consumer, served.token, to) is None:
            raise PositionTaken
        served.known = None
        self.metrics.count("sink_losses", sink=served.placed.name)
        self.log.warning("sink_lost", sink=served.placed.name, events=known.position - to, more=gone == 0)

    async def _has(self, served: _Served, track: Track) -> bool:
        return not track.found_at or await self._ask(served, served.placed.sink.has(track.found_at))

    async def _news(self, served: _Served, known: Consumer, many: int) -> Page | None:
        """The next page; None: somebody called meanwhile."""
        reading = asyncio.ensure_future(self.reader.page(known.position, many, known.wanted, LOOK, known.present_until))
        called, holding = asyncio.ensure_future(served.called.wait()), asyncio.ensure_future(self._hold_on(served))
        try:
            await asyncio.wait({reading, called}, return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else None
        finally:
            await _cancelled(reading, called, holding)

    async def _move(self, served: _Served, known: Consumer, to: int, found_at: str = "") -> None:
        now = self.clock.now()
        until = now + int(self.lease * SECOND)
        moved = await self.storage.write(consumers.moved, served.consumer, served.token, known.position, to, now, until, found_at)
        if moved is None:
            served.known = None
            raise PositionTaken
        served.known = moved

    async def _deliver(self, served: _Served, events: list[Stored], item: str) -> Taken:
        decoded = [wire.decode(body) for _, body in events]
        with self.trace.span("deliver", "", sink=served.placed.name, events=len(events)):
            taken = await self._ask(served, served.placed.sink.deliver(decoded), item=item)
        if taken is None:
            taken = len(events)
        if isinstance(taken, int):
            taken = Taken(events=taken, found_at="")
        if not 1 <= taken.events <= len(events):
            raise RetryLater("the sink took none of what it was given, and did not say why")
        return taken

    async def _gave_up(self, served: _Served, known: Consumer, event: Stored, error: Exception) -> bool:
        """Count a try of one event; after the last one it goes to the dead letters."""
        tries = await self.storage.write(consumers.failed, served.consumer, _words(error))
        served.known = None
        if tries < served.placed.terms.tries:
            return False
        await self._give_up(served, known, event, error, tries)
        return True

    async def _give_up(self, served: _Served, known: Consumer, event: Stored, error: Exception, tries: int) -> None:
        served.known, (position, _) = None, event
        await self.storage.write(consumers.give_up, served.consumer, known.position, position, _words(error), self.clock.now())
        self.metrics.count("dead_letters", consumer=served.consumer)
        self.log.warning("sink_gave_up", sink=served.placed.name, error=type(error).__name__, tries=tries)

    async def _again(self, served: _Served) -> bool:
        """Give the next dead letter again that somebody wants to be; False: there is none."""
        letter = await self.storage.read(consumers.wanted_again, served.consumer) if served.known and served.known.again else None
        if letter is None:
            return False
        position, body = letter
        served.known = None
        if body is None:
            await self.storage.write(consumers.keep_dead, served.consumer, position, "the event is no longer kept")
            return True
        item = _item(served, position, "letter ")
        try:
            if self.suspects.poisoned(item):
                raise EndsProcess
            await self._deliver(served, [(position, body)], item)
        except Exception as error:
            if not is_about_the_event(error):
                raise
            await self.storage.write(consumers.keep_dead, served.consumer, position, _words(error))
            return True
        self.metrics.count("sink_events", sink=served.placed.name)
        await self.storage.write(consumers.drop_dead_letter, served.consumer, position)
        return True

    # --- failures -----------------------------------------------------------------------------------------------------

    async def _failed(self, served: _Served, error: Exception) -> None:
        served.failures += 1
        pause = self._pause(error, served.failures)
        if not isinstance(error, PositionTaken):  # it is as it should be that another process serves it
            await self._tell(served, error, pause)
        await self._close(served)
        await self._until_called(served, pause)
        served.known = None

    async def _tell(self, served: _Served, error: Exception, pause: float) -> None:
        # What a guest's exception says may quote the event.
        self.log.warning("sink_waits", sink=served.placed.name, error=type(error).__name__, tries=served.failures, seconds=round(pause, 1))
        self.metrics.count("sink_failures", sink=served.placed.name)
        try:
            await self.storage.write(consumers.say, served.consumer, _words(error))
        except CannotStore as fault:
            self.log.warning("sink_state_not_stored", sink=served.placed.name, reason=str(fault))

    async def _until_called(self, served: _Served, seconds: float) -> None:
        called = asyncio.ensure_future(served.called.wait())
        patience = asyncio.ensure_future(self.clock.sleep(seconds))
        try:
            await asyncio.wait({called, patience}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancelled(called, patience)

    async def _close(self, served: _Served) -> None:
        if served.ready:
            served.ready = False
            try:
                await self._ask(served, served.placed.sink.close(), CLOSE)
            except Exception as error:  # a guest's own: it is opened anew all the same
                self.log.warning("sink_not_closed", sink=served.placed.name, error=type(error).__name__)

    async def _let_go(self, served: _Served) -> None:
        """For the end: whoever serves it next need not wait."""
        await self._close(served)
        with suppress(CannotStore):  # the hold ends by itself
            await self.storage.write(consumers.let_go, served.consumer, served.token)

    async def _ask(self, served: _Served, work: Coroutine[Any, Any, T], seconds: float = LIMIT, *, item: str = "") -> T:
        """What a sink does, in its time."""
        item = item or _item(served)
        asked = asyncio.ensure_future(self.guests.run(work, of=served.placed.sink, item=item))
        limit, holding = asyncio.ensure_future(self.clock.sleep(seconds)), asyncio.ensure_future(self._hold_on(served))
        try:
            await asyncio.wait({asked, limit}, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise RetryLater(f"the sink took longer than {seconds:g} s")
            if asked.cancelled():  # a guest may cancel itself; that must not end its task here
                raise RetryLater("the sink cancelled itself")
            return asked.result()
        finally:
            await _cancelled(asked, limit, holding)
            self.suspects.acquit(item)

    async def _hold_on(self, served: _Served) -> None:
        """Hold a sink for longer, again and again."""
        while True:
            await self.clock.sleep(self.lease / 3)
            with suppress(CannotStore):  # then it is seen when it moves whether it is still held
                await self.storage.write(consumers.hold_on, served.consumer, served.token, self.clock.now() + int(self.lease * SECOND))

    def _pause(self, error: Exception, failures: int) -> float:
        asked = error.after.total_seconds() if isinstance(error, RetryLater) and error.after else 0.0
        cap = min(LOOK, self.lease / 2) if isinstance(error, PositionTaken) else STORED if isinstance(error, CannotStore) else CAP
        window = min(cap, BASE * 2.0 ** min(failures - 1, 16))
        return max(self.chance.uniform(0.0, window), min(asked, LONGEST))


def _item(served: _Served, position: int | None = None, what: str = "") -> str:
    """What a sink works on: all by itself, or what lies after a position."""
    return f"sink {served.placed.name}" + ("" if position is None else f" {what}{position}")


def _words(error: Exception) -> str:
    """Only errors of the contract have words that are meant for the operator."""
    return str(error) if isinstance(error, ConnectorError | CannotStore | PositionTaken | EndsProcess | Declined) else type(error).__name__


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
