"""Intake: where deliveries become events, or a sync that comes soon.

Truth is the inbox. What dies in the middle is claimed again, and the object index swallows the repeat; so a delivery may be worked on more
than once, but what it says is told once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace

from oo_daemon.connections.guest import sentence
from oo_daemon.ports import SECOND, UNTRACED, Chance, Clock, Guests, Metrics, Trace, micros, moment
from oo_daemon.registry import Registry
from oo_daemon.store import connections, inbox, sources
from oo_daemon.store.accept import OCCURRED, Batch, Draft, Mark
from oo_daemon.store.connections import Connection, StillActive
from oo_daemon.store.database import Database
from oo_daemon.store.errors import CannotStore, LeaseLost
from oo_daemon.store.inbox import Claimed, DeliveryDone, Nudged, Pushed
from oo_daemon.store.leases import taking
from oo_daemon.store.storage import Lane, Storage
from oo_daemon.sync.plan import backoff
from oo_daemon.sync.taken import MakeDraft
from oo_sdk import Connector, ConnectorBug, ConnectorError, Delivery, Event, Hears, Log, Nudge, RetryLater, Unreadable, Withdrawn

T = TypeVar("T")

#: Tries of a delivery, the first included.
TRIES = 5
#: How long a delivery waits for its connection, in seconds, and how often it is looked at meanwhile; a sign-in calls it up at once.
WAITS, LOOKS = 24 * 3600.0, 900.0
#: Deliveries claimed at once, and events in one commit.
CLAIM, BATCH = 32, 500
#: Seconds that a connector has for one answer.
ANSWER_WITHIN = 10.0
#: Seconds until what could not be stored is tried again.
STORE_AGAIN = 5.0
#: Rows that one tidying transaction takes.
TIDY = 100


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What it says is kept."""

    nudged: bool = False


class Awaiting(msgspec.Struct, frozen=True, kw_only=True):
    """There is no connection yet, or none that works, for all that it says."""

    reason: str


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """It went wrong, and may go better another time."""

    reason: str
    after: float | None = None  #: seconds before which it would not


class Senseless(msgspec.Struct, frozen=True, kw_only=True):
    """The connector says that it cannot be read."""

    reason: str


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a connector makes of a delivery."""

    drafts: Sequence[Draft] = ()
    nudge: bool = False
    withdrawn: Withdrawn | None = None


Outcome: TypeAlias = Told | Awaiting | Failed | Senseless


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """Try it later."""

    at: int
    reason: str
    counted: bool = True
    waiting: bool = False  #: for a connection


class Dead(msgspec.Struct, frozen=True, kw_only=True):
    """Try it no more."""

    reason: str
    forget: bool = False  #: nobody will ask for its body


def next_step(outcome: Awaiting | Failed | Senseless, *, tries: int, received_at: int, now: int, spread: float) -> Again | Dead:
    """Say what happens to a delivery that did not become events. Touches nothing.

    `tries` counts those so far; `spread` is a random number between 0 and 1.
    """
    match outcome:
        case Senseless(reason=reason):
            return Dead(reason=reason)
        case Awaiting(reason=reason):
            waited = max(now - received_at, 0) / SECOND
            if waited >= WAITS:
                return Dead(reason=reason, forget=True)
            return Again(at=_in(min(max(waited, 1.0), LOOKS, WAITS - waited), now), reason=reason, counted=False, waiting=True)
        case Failed(reason=reason) if tries >= TRIES:
            return Dead(reason=reason)
        case Failed(reason=reason, after=after):
            return Again(at=_in(max(backoff(tries, spread), after or 0.0), now), reason=reason)


def _in(seconds: float, now: int) -> int:
    return now + math.ceil(seconds * SECOND)


class _TookTooLong(Exception):
    """A connector did not answer in time."""


@dataclass(slots=True, kw_only=True, eq=False)
class Intake:
    """Works through the inbox, one round at a time. Belongs to the main loop."""

    storage: Storage
    registry: Registry
    guests: Guests
    clock: Clock
    chance: Chance
    metrics: Metrics
    log: Log
    owner: str  #: names this process in leases
    lease: float  #: seconds
    make_draft: MakeDraft
    nudged: Callable[[], Awaitable[None]]  #: called when connections have become due
    withdrawn: Callable[[Connection], Awaitable[object]]  #: erases a connection whose access the person has taken back
    keep_bodies: int = inbox.KEEP_BODIES  #: microseconds
    keep_ids: int = inbox.KEEP_IDS
    poisoned: Callable[[str], bool] = lambda item: False  #: says of "delivery {number}" that it ended the process each time
    trace: Trace = UNTRACED
    took: Callable[[int], None] = lambda received_at: None  #: hears of each delivery that is in the outbox, and when it had arrived
    _left: bool = False  #: we may hold deliveries that nobody works on: what was claimed, or done with, could not be stored
    _working: asyncio.Task[None] | None = None
    _again: bool = False
    _stopping: bool = False

    def wake(self) -> None:
        """Say that something arrived."""
        self._again = True
        if self._working is None and not self._stopping:
            self._working = asyncio.ensure_future(self._work())
            self._working.add_done_callback(self._ended)

    async def tick(self) -> None:
        """Work through what is due."""
        self.wake()
        if self._working is not None:
            await asyncio.wait({self._working})
        try:
            self.metrics.gauge("inbox_depth", await self.storage.read(inbox.depth))
        except CannotStore as fault:
            self.log.warning("inbox_not_counted", reason=str(fault))

    async def tidy(self) -> None:
        """Forget the bodies, and later the ids, of what is done."""
        for forget, keep in ((inbox.forget_bodies, self.keep_bodies), (inbox.forget_ids, self.keep_ids)):
            while await self.storage.write(forget, self.clock.now(), TIDY, keep) == TIDY:
                pass

    async def stop(self, grace: float) -> None:
        """Claim nothing more, let what is in work end for a while, and give the rest back."""
        self._stopping = True
        if self._working is not None:
            working, patience = self._working, asyncio.ensure_future(self.clock.sleep(grace))
            await asyncio.wait({working, patience}, return_when=asyncio.FIRST_COMPLETED)
            await _cancelled(working, patience)
        try:
            await self.storage.write(inbox.release, self.owner)
        except CannotStore as fault:
            self.log.warning("leases_not_released", reason=str(fault))  # they run out by themselves

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._working = None
        if not task.cancelled() and task.exception() is not None:
            self.log.warning("intake_failed", error=type(task.exception()).__name__)
            self.metrics.count("intake_faults")
        elif self._again:
            self.wake()

    async def _work(self) -> None:
        while self._again:
            self._again = False
            try:
                while not self._stopping and await self._round():
                    pass
            except CannotStore as fault:
                self._left = True  # the server may have made the claim, and only its answer was lost
                self.log.warning("claim_failed", reason=str(fault))

    async def _round(self) -> bool:
        """Claim some and work on them; False when nothing was due.

        What failed before comes after what is new, and one by one: should it end the process, it takes nothing else with it.
        """
        if self._left:
            await self.storage.write(inbox.release, self.owner)  # else they would wait until their leases run out
            self._left = False
        claimed = await self.storage.write(self._claim)
        if not claimed:
            return False
        by_source: dict[str, list[Claimed]] = {}
        for delivery in claimed:
            by_source.setdefault(delivery.source, []).append(delivery)
        if any(await asyncio.gather(*map(self._in_turn, by_source.values()))):
            await self.nudged()
        return not self._left  # with the next tick: nothing can be stored now

    def _claim(self, database: Database) -> list[Claimed]:
        with taking(self.clock.now, int(self.lease * SECOND)) as (now, until):
            return inbox.claim(database, self.owner, now, until, CLAIM) or inbox.claim_again(database, self.owner, now, until)

    async def _in_turn(self, deliveries: Sequence[Claimed]) -> bool:
        """Work on deliveries of one source in the order in which they arrived; True: some connection became due."""
        nudged, held_up = False, False
        for delivery in deliveries:
            if held_up or self._stopping:
                # The others of this round do not wait for a connector that answers nobody.
                await self._put_back(delivery, 0)
                continue
            try:
                with self.trace.span("intake", delivery.traceparent, provider=delivery.provider):
                    nudged |= await self._take(delivery)
            except _TookTooLong:
                held_up = True
            except LeaseLost:
                self.log.warning("delivery_lost_lease", provider=delivery.provider)
            except CannotStore as fault:
                self.log.warning("delivery_not_stored", provider=delivery.provider, reason=str(fault))
                await self._put_back(delivery, _in(STORE_AGAIN, self.clock.now()))
            except Exception as error:
                # Ours, not the connector's: the lease runs out and it is claimed again, with its try counted.
                self.log.warning("delivery_fault", provider=delivery.provider, error=type(error).__name__)
                self.metrics.count("intake_faults")
        return nudged

    async def _put_back(self, delivery: Claimed, at: int) -> None:
        """Give it back, as if it had not been tried; where that cannot be stored, it is given back with the next round."""
        try:
            await self.storage.write(inbox.put_back, delivery, at, "", counted=False)
        except (CannotStore, LeaseLost):
            self._left = True
            self.log.warning("delivery_not_put_back", provider=delivery.provider)

    async def _take(self, delivery: Claimed) -> bool:
        late = False
        try:
            outcome = await self._turn(delivery)
        except _TookTooLong:
            late, outcome = True, Failed(reason=f"the connector did not answer within {ANSWER_WITHIN:.0f} s")
        if isinstance(outcome, Told):
            self._count(delivery, "done")
            if not (outcome.nudged or delivery.replayed):  # one says nothing by itself, the other lay here before
                self.took(delivery.received_at)
            return outcome.nudged
        await self._not_told(delivery, outcome)
        if late:
            raise _TookTooLong
        return False

    async def _not_told(self, delivery: Claimed, outcome: Awaiting | Failed | Senseless) -> None:
        now = self.clock.now()
        step = next_step(outcome, tries=delivery.tries, received_at=delivery.received_at, now=now, spread=self.chance.uniform(0.0, 1.0))
        match step:
            case Again(waiting=waiting):
                await self.storage.write(inbox.put_back, delivery, step.at, step.reason, counted=step.counted, waiting=waiting)
                self._count(delivery, "waits" if waiting else "again")
            case Dead():
                await self.storage.write(inbox.give_up, delivery, now, step.reason, forget=step.forget)
                self._count(delivery, "dead")
                self.log.warning("delivery_dead", provider=delivery.provider, tries=delivery.tries, reason=step.reason)

    def _count(self, delivery: Claimed, outcome: str) -> None:
        self.metrics.count("deliveries", provider=delivery.provider, outcome=outcome)
        self.trace.note(outcome=outcome)

    async def _turn(self, delivery: Claimed) -> Outcome:
        """Turn it into events. Raises `LeaseLost`, `CannotStore`, and `_TookTooLong`."""
        connector = self.registry.connectors.get(delivery.provider)
        if delivery.tries > TRIES:
            return Failed(reason="it was tried often, and the daemon ended each time before it was done")
        if self.poisoned(_item(delivery)):
            return Senseless(reason="the daemon ended each time that it was worked on: update the connector, and replay it")
        if not isinstance(connector, Hears):
            return Failed(reason=f"the connector {delivery.provider} is not loaded, or takes no webhooks: see `oo plugins`")
        try:
            accounts: list[str] = []
            own = None if delivery.connection is None else await self.storage.read(connections.by_number, delivery.connection)
            told = arrived(delivery, own)
            if own is not None:
                if own.state in {"revoking", "disconnected"}:
                    return Senseless(reason="its connection was disconnected")
                there = [own]
            else:
                accounts = await self._ask(_routed(connector, told), connector, _item(delivery))
                if not accounts:
                    return await self._done(delivery)
                there = await self.storage.read(connections.at_accounts, delivery.provider, accounts)
            if not there:
                return Awaiting(reason="no connection")
            said = await self._ask(self._read(connector, delivery, told), connector, _item(delivery))
            if said.withdrawn is not None:
                return await self._withdraw(delivery, said.withdrawn, accounts)
            active = [connection for connection in there if connection.state == "active"]
            if not active:
                return Awaiting(reason="no connection that works")
        except (LeaseLost, CannotStore, _TookTooLong):
            raise
        except Unreadable as error:
            return Senseless(reason=sentence(error))
        except RetryLater as error:
            return Failed(reason=sentence(error), after=error.after.total_seconds() if isinstance(error.after, timedelta) else None)
        except Exception as error:  # a guest's own: whatever it raises, the rest goes on
            return Failed(reason=sentence(error))
        return await self._tell(delivery, there, said.drafts, said.nudge)

    async def rehearse(self, connection: Connection, headers: Mapping[str, str], body: bytes, id_: str) -> list[Draft]:
        """What a delivery to a connection's own address would become. Nothing is kept.

        Raises `ConnectorError`; a connector that takes too long is a `ConnectorBug`.
        """
        connector = self.registry.connectors.get(connection.provider)
        if not isinstance(connector, Hears):
            raise ConnectorBug(f"the connector {connection.provider} is not loaded, or takes no webhooks: see `oo plugins`")
        now = self.clock.now()
        delivery = Claimed(
            number=0,
            fence=0,
            tries=1,
            source="",
            provider=connection.provider,
            connection=connection.number,
            delivery_id=id_,
            headers=headers,
            body=body,
            received_at=now,
        )
        try:
            said = await self._ask(self._read(connector, delivery, arrived(delivery, connection)), connector)
        except _TookTooLong:
            raise ConnectorBug(f"the connector did not answer within {ANSWER_WITHIN:.0f} s") from None
        except (ConnectorError, CannotStore):
            raise
        except Exception as error:  # a guest's own
            raise ConnectorBug(sentence(error)) from None
        return list(said.drafts)

    async def _read(self, connector: Connector, delivery: Claimed, told: Delivery) -> Said:
        """What the connector makes of it. Runs on the guests' loop."""
        assert isinstance(connector, Hears)
        drafts, nudge, withdrawn = list[Draft](), False, None
        keep_until = delivery.received_at + self.keep_ids
        for item in _several(await connector.read(told)):
            match item:
                case Event():
                    draft = self.make_draft(connector, item)
                    drafts.append(replace(draft, keep_key_until=keep_until) if draft.change == OCCURRED else draft)
                case Nudge():
                    nudge = True
                case Withdrawn(at=at) if at is None or (isinstance(at, datetime) and at.tzinfo is not None):
                    withdrawn = item
                case Withdrawn():
                    raise ConnectorBug("when the access was taken back must be a datetime with a zone")
                case _:
                    raise ConnectorBug(f"{delivery.provider} read a {type(item).__name__}, which is no news")
        return Said(drafts=drafts, nudge=nudge, withdrawn=withdrawn)

    async def _withdraw(self, delivery: Claimed, withdrawn: Withdrawn, accounts: Sequence[str]) -> Outcome:
        """Have the connections erased from which the person took our access back, through the registration that was told so.

        Repeated, it finds what is left to be erased; a connection that was signed in to since is another decision of theirs.
        """
        source = await self.storage.read(sources.by_id, delivery.source)
        if source is None or source.registration is None:
            return Senseless(reason="nobody gave access to this address that could be taken back")
        at = delivery.received_at if withdrawn.at is None else min(micros(withdrawn.at), delivery.received_at)
        for connection in await self.storage.read(connections.withdrawn_from, delivery.provider, accounts, source.registration, at):
            self.log.info("access_withdrawn", provider=delivery.provider)
            self.metrics.count("withdrawals", provider=delivery.provider)
            await self.withdrawn(connection)
        return await self._done(delivery)

    async def _tell(self, delivery: Claimed, there: Sequence[Connection], drafts: Sequence[Draft], nudge: bool) -> Outcome:
        """Write the events to each connection that works, and the mark with the last of them.

        Events for one that does not work yet are waited for, and told to the others now: that they hear them again changes nothing.
        A nudge is not: whoever signs in is synced anyway.
        """
        active = [connection for connection in there if connection.state == "active"]
        whole = not drafts or len(active) == len(there)
        now = self.clock.now()
        for place, connection in enumerate(active, start=1):
            groups = [drafts[start : start + BATCH] for start in range(0, len(drafts), BATCH)] or [()]
            for number, group in enumerate(groups, start=1):
                marks: list[Mark] = [StillActive(number=connection.number)]
                if group:
                    marks.append(Pushed(connection=connection.number, now=now))
                if nudge:
                    marks.append(Nudged(connection=connection.number, now=now, traceparent=self.trace.here()))
                if whole and place == len(active) and number == len(groups):
                    marks.append(DeliveryDone(delivery=delivery, now=now))
                batch = Batch(connection=connection, observed_at=now, drafts=group, marks=marks, pushed=True)
                accepted = await self.storage.accept(batch, Lane.INGEST)
                if accepted.events:
                    self.metrics.count("events_accepted", accepted.events, provider=delivery.provider)
        return Told(nudged=nudge) if whole else Awaiting(reason="no connection that works")

    async def _done(self, delivery: Claimed) -> Told:
        """It is for nobody."""
        done = DeliveryDone(delivery=delivery, now=self.clock.now())

        def write(database: Database) -> None:
            done.apply(database)

        await self.storage.write(write)
        return Told()

    async def _ask(self, work: Coroutine[Any, Any, T], connector: Hears, item: str = "") -> T:
        """What a connector answers, in its time."""
        asked = asyncio.ensure_future(self.guests.run(work, of=connector, item=item))
        patience = asyncio.ensure_future(self.clock.sleep(ANSWER_WITHIN))
        try:
            await asyncio.wait({asked, patience}, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise _TookTooLong
            return asked.result()
        finally:
            await _cancelled(asked, patience)


def _item(delivery: Claimed) -> str:
    """What it is called where strikes are counted."""
    return f"delivery {delivery.number}"


def arrived(delivery: Claimed, own: Connection | None) -> Delivery:
    """A delivery as its connector sees it; `own` is the connection to whose own address it came."""
    return Delivery(
        id=delivery.delivery_id,
        headers=MappingProxyType(dict(delivery.headers)),
        body=delivery.body,
        received_at=moment(delivery.received_at),
        meta=MappingProxyType(dict(own.meta) if own else {}),
    )


async def _routed(connector: Hears, told: Delivery) -> list[str]:
    """The accounts that the connector names, each once. Runs on the guests' loop."""
    accounts = list(dict.fromkeys(_several(await connector.route(told))))
    if not all(isinstance(account, str) and account for account in accounts):
        raise ConnectorBug("route gave an account id that is empty or no text")
    return accounts


def _several(given: Iterable[T]) -> Iterable[T]:
    """What a connector gave, if it is a list of things. Raises `ConnectorBug`."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ConnectorBug(f"the connector answered with a {type(given).__name__}, and not with a list")
    return given


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
