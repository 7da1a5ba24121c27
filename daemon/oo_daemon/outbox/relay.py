"""The relay: carries events from the outbox to sinks, each in order, at least once, and at its own pace.

Each sink is a consumer `sink:{id}` and has a task of its own: one that is slow, fails or never answers holds up nobody else. A position
moves only after the sink has taken what lies before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from oo_daemon.outbox import wire
from oo_daemon.ports import Chance, Clock, Guests, Metrics
from oo_daemon.store import consumers
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.outbox import Filter, Page
from oo_daemon.store.storage import Storage
from oo_sdk import ConnectorError, Log, RetryLater, Sink

#: Events that a sink is given at once, at most.
BATCH: Final = 100
#: Seconds for which a reader waits for news before it looks again by itself.
LOOK: Final = 30.0
#: Seconds that a sink gets for one delivery.
LIMIT: Final = 60.0
#: Back-off: full jitter over a window that doubles from the base to the cap (seconds); a sink that names a time is believed up to a day.
BASE, CAP, LONGEST = 1.0, 300.0, 86_400.0


class Reader(Protocol):
    """Reads pages of the outbox, and waits for what comes next."""

    async def page(self, after: int, limit: int, wanted: Filter, wait: float) -> Page:
        """A page of events after a position; an empty one only after `wait` seconds."""


@dataclass(slots=True, kw_only=True)
class Relay:
    """Serves sinks until it is stopped."""

    storage: Storage
    reader: Reader
    guests: Guests
    clock: Clock
    chance: Chance
    metrics: Metrics
    log: Log
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self, sinks: Iterable[Sink]) -> None:
        """Begin to serve these sinks, each from where it was; a new one from the first event."""
        self._tasks = {asyncio.ensure_future(self._serve(sink)) for sink in sinks}

    async def stop(self) -> None:
        """Stop serving; what a sink had not finished to take, it is given again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, sink: Sink) -> None:
        name = consumers.of_sink(sink.id)
        tries = 0
        while True:
            try:
                # Read anew each time: where another process serves the same sink, both go on from where the sink is.
                position = await self.storage.write(consumers.join, name, self.clock.now())
                while True:
                    position, tries = await self._next(sink, position), 0
            except Exception as error:
                tries += 1
                pause = self._pause(error, tries)
                # What a guest's exception says may quote the event.
                self.log.warning("sink_waits", sink=sink.id, error=type(error).__name__, tries=tries, seconds=round(pause, 1))
                self.metrics.count("sink_failures", sink=sink.id)
                await self._note(name, error)
                await self.clock.sleep(pause)

    async def _next(self, sink: Sink, position: int) -> int:
        """Deliver what comes next, and give the new position."""
        page = await self.reader.page(position, BATCH, Filter(), LOOK)
        if not page.events:
            return position
        await self._deliver(sink, [stored.body for stored in page.events])
        last = page.events[-1].position
        if not await self.storage.write(consumers.advance, consumers.of_sink(sink.id), position, last, self.clock.now()):
            raise PositionTaken
        self.metrics.count("sink_events", len(page.events), sink=sink.id)
        return last

    async def _deliver(self, sink: Sink, bodies: Sequence[bytes]) -> None:
        delivery = asyncio.ensure_future(self.guests.run(sink.deliver([wire.decode(body) for body in bodies]), of=sink))
        limit = asyncio.ensure_future(self.clock.sleep(LIMIT))
        try:
            await asyncio.wait({delivery, limit}, return_when=asyncio.FIRST_COMPLETED)
            if not delivery.done():
                raise RetryLater(f"the sink took longer than {LIMIT:g} s")
            if delivery.cancelled():  # a guest may cancel itself; that must not end its task here
                raise RetryLater("the sink cancelled itself")
            delivery.result()
        finally:
            for future in (delivery, limit):
                future.cancel()
            await asyncio.gather(delivery, limit, return_exceptions=True)

    async def _note(self, name: str, error: Exception) -> None:
        try:
            # Only errors of the contract have words that are meant for the operator.
            words = str(error) if isinstance(error, ConnectorError | CannotStore | PositionTaken) else type(error).__name__
            await self.storage.write(consumers.failed, name, words)
        except CannotStore as fault:
            self.log.warning("sink_state_not_stored", sink=name, reason=str(fault))

    def _pause(self, error: Exception, tries: int) -> float:
        asked = error.after.total_seconds() if isinstance(error, RetryLater) and error.after else 0.0
        window = min(CAP, BASE * 2.0 ** min(tries - 1, 16))
        return max(self.chance.uniform(0.0, window), min(asked, LONGEST))


class PositionTaken(Exception):
    """Another process has moved the sink on: go on from there."""

    def __init__(self) -> None:
        super().__init__("another process serves this sink: run only one of them")
