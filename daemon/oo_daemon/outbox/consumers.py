"""Consumers that ask: each is given one batch at a time, and says what became of it.

At least once. A batch that nobody answers for is given again when its lease ends, one event at a time until it is known which of them
stands in the way; an event that was given too often goes to the dead letters. In order: what is behind an event waits for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol

import msgspec

from oo_daemon.connections.errors import Declined
from oo_daemon.ports import SECOND, Chance, Clock, Metrics, micros
from oo_daemon.store import consumers, outbox
from oo_daemon.store.consumers import Consumer, DeadLetter, Start
from oo_daemon.store.database import Database
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.outbox import Filter, Page, Position, Stored
from oo_daemon.store.storage import Storage

#: How often a question looks again whether another reader's batch has ended, in seconds.
LOOK: Final = 0.25
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Reader(Protocol):
    """Reads pages of the outbox, and waits for what comes next."""

    @property
    def closed(self) -> bool:
        """The daemon stops: nobody is kept waiting."""

    async def page(self, after: int, limit: int, wanted: Filter, wait: float, present_until: int = 0) -> Page:
        """A page of events after a position; an empty one only after `wait` seconds."""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A batch. Without events it has no token: there was nothing to give."""

    events: Sequence[Stored]
    position: Position  #: where the consumer is once all are done
    token: str | None = None
    until: int | None = None  #: the end of the lease
    tries: int = 0  #: how often its first event was given by now
    missing: int = 0  #: events of this stretch that were erased or have expired


class Consumers(msgspec.Struct, frozen=True, kw_only=True):
    """Registers consumers, and gives them batches."""

    storage: Storage
    reader: Reader
    clock: Clock
    chance: Chance
    metrics: Metrics
    #: Tokens of leases that may be there, and whose answer was lost; by consumer.
    lost: dict[str, str] = msgspec.field(default_factory=dict)

    async def listed(self) -> tuple[list[Consumer], Position]:
        """All, by name, and where the log ends."""
        return await self.storage.read(consumers.listed_with_end)

    async def known(self, name: str) -> tuple[Consumer, Position]:
        """One, and where the log ends. Raises `Declined`."""
        known, end = await self.storage.read(lambda database: (consumers.of(database, name), outbox.end(database)))
        if known is None:
            raise _unknown(name)
        return known, end

    async def add(self, name: str, start: str, wanted: Filter, most_tries: int) -> None:
        """Register one. Raises `Declined`."""
        if not _NAME.fullmatch(name):
            raise Declined("name", f"{name!r} is no name for a consumer.", "Use up to 64 letters, digits and . _ -")
        now = self.clock.now()

        def register(database: Database) -> bool:
            return consumers.add(database, name, starting(database, start), wanted, most_tries, now)

        if not await self.storage.write(register):
            raise Declined("consumer_exists", f"There is a consumer {name}.", "Reset it, or choose another name.")

    async def remove(self, name: str) -> tuple[Consumer, Position]:
        """Forget one. Raises `Declined`."""
        known, end = await self.known(name)
        await self.storage.write(consumers.remove, name)
        return known, end

    async def reset(self, name: str, start: str) -> None:
        """Put one somewhere else. Raises `Declined`."""

        def put(database: Database) -> bool:
            if start == "here" and (known := consumers.of(database, name)):
                place = Start(position=min(known.position, outbox.end(database).number), present_until=known.present_until)
            else:
                place = starting(database, start)
            return consumers.reset(database, name, place)

        if not await self.storage.write(put):
            raise _unknown(name)

    async def take(self, name: str, limit: int, lease: float, wait: float) -> Given:
        """The next batch, leased for so many seconds; an empty one only after `wait` seconds. Raises `Declined`."""
        deadline = self.clock.monotonic() + wait
        while True:
            if (token := self.lost.get(name)) is not None:
                await self.storage.write(consumers.take_back, name, token)
                self.lost.pop(name, None)
            known, end = await self.known(name)
            _same_log(known, end)
            now, left = self.clock.now(), deadline - self.clock.monotonic()
            taken = known.free_at(now)
            if taken > now:
                if left <= 0 or self.reader.closed:
                    return Given(events=[], position=Position(epoch=end.epoch, number=known.position))
                await self.clock.sleep(min(left, LOOK, (taken - now) / SECOND))
                continue
            # After a failure one at a time, so that it is known which of them stands in the way.
            many = 1 if known.tries else limit
            page = await self.reader.page(known.position, many, known.wanted, max(left, 0.0), known.present_until)
            reached = Position(epoch=end.epoch, number=page.reached)
            if not page.events:
                await self.storage.write(consumers.advance, name, known.position, page.reached, self.clock.now())
                return Given(events=[], position=reached, missing=page.missing)
            first, last, now = page.events[0][0], page.events[-1][0], self.clock.now()
            # It was tried right behind where the consumer is: where that was erased, what comes first now was never given.
            if first == known.position + 1 and known.tries >= known.most_tries:
                words = known.reason or "whoever was given it did not answer for it"
                if await self.storage.write(consumers.give_up, name, known.position, first, words, now):
                    self.metrics.count("dead_letters", consumer=name)
                continue
            token, until = self.chance.token_bytes(16).hex(), now + int(lease * SECOND)
            try:
                tries = await self.storage.write(consumers.lease, name, known.position, first, last, token, now, until)
            except CannotStore:
                self.lost[name] = token
                raise
            if tries is not None:
                place = Position(epoch=end.epoch, number=last)
                return Given(events=page.events, position=place, token=token, until=until, tries=tries, missing=page.missing)

    async def ack(self, name: str, token: str, to: str) -> tuple[Consumer, Position]:
        """Everything up to a position is done. Raises `Declined`."""
        _, end = await self.known(name)
        place = parsed(to, end)
        if not await self.storage.write(consumers.ack, name, token, place, self.clock.now()):
            raise _lost(name)
        return await self.known(name)

    async def nack(self, name: str, token: str, at: str, delay: float, reason: str) -> tuple[Consumer, Position]:
        """The event at a position could not be taken; what lies before it is done. Raises `Declined`."""
        _, end = await self.known(name)
        place, now = parsed(at, end), self.clock.now()
        dead = await self.storage.write(consumers.nack, name, token, place, reason, now, now + int(delay * SECOND))
        if dead is None:
            raise _lost(name)
        if dead:
            self.metrics.count("dead_letters", consumer=name)
        return await self.known(name)

    async def dead_letters(self, name: str, limit: int) -> tuple[list[DeadLetter], Position]:
        """The dead letters of one, newest first. Raises `Declined`."""
        _, end = await self.known(name)
        return await self.storage.read(consumers.dead_letters, name, limit), end

    async def drop_dead_letters(self, name: str) -> int:
        """Forget them; gives how many there were. Raises `Declined`."""
        await self.known(name)
        return await self.storage.write(consumers.drop_dead_letters, name)


def starting(database: Database, start: str) -> Start:
    """Where in the log a word, a time or a position is: beginning, now, present, 2026-11-22T09:30:00Z, 1-42. Raises `Declined`."""
    end = outbox.end(database)
    match start:
        case "beginning":
            return Start()
        case "now":
            return Start(position=end.number)
        case "present":
            return Start(present_until=end.number)
    try:
        moment = datetime.fromisoformat(start)
        if moment.tzinfo is None:
            raise Declined("start", "A time needs its zone.", "Write it as 2026-11-22T09:30:00Z.")
        return Start(position=outbox.before(database, micros(moment)))
    except (ValueError, OverflowError):
        pass
    try:
        return Start(position=_held_against(Position.parse(start), end))
    except ValueError:
        raise Declined(
            "position",
            "There is no such place in the log.",
            "Say beginning, now, present, a time such as 2026-11-22T09:30:00Z, or a position that an earlier answer gave.",
        ) from None


def parsed(text: str | None, end: Position) -> int:
    """The position that a text says, held against the log. Raises `Declined`."""
    if text is None:
        return 0
    try:
        position = Position.parse(text)
    except ValueError:
        raise Declined("position", "That is no position.", "Use one that an earlier answer gave, or none for the beginning.") from None
    return _held_against(position, end)


def _held_against(position: Position, end: Position) -> int:
    if position.epoch != end.epoch or position.number > end.number:
        raise Declined(
            "position_ahead",
            f"The position {position} is ahead of the log, which ends at {end}.",
            "The database was replaced or restored: read again from the beginning.",
        )
    return position.number


def _same_log(known: Consumer, end: Position) -> None:
    if known.epoch != end.epoch:
        raise Declined(
            "log_restored",
            f"The log was restored from a backup, and {known.name} may have read what is no longer in it.",
            f"Say `oo consumers reset {known.name} --to here` to go on, or --to beginning or present to read again.",
        )


def _unknown(name: str) -> Declined:
    return Declined("unknown_consumer", f"There is no consumer {name}.", "Make it with `oo consumers add`.")


def _lost(name: str) -> Declined:
    return Declined(
        "lease_lost",
        f"This batch of {name} is no longer this reader's, or does not reach that far.",
        "Ask for the next batch; what it holds may come a second time.",
    )
