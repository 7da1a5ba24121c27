"""The relay: each sink gets every event in order, at least once, whatever becomes of the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from daemon.virtual import FixedChance, Notes, VirtualClock, settle

from oo_daemon.host import SameLoop
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import relay, wire
from oo_daemon.outbox.relay import LIMIT, Relay
from oo_daemon.outbox.tail import Tail
from oo_daemon.store import connections, consumers
from oo_daemon.store.accept import Batch
from oo_daemon.store.connections import Connection, SignedIn
from oo_daemon.store.consumers import Consumer
from oo_daemon.store.database import Database, SqliteDatabase
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.storage import InlineStorage, Query, open_database
from oo_sdk import Change, Event, RetryLater, Sink
from oo_sdk.events import NormalizedEvent
from oo_sdk.vocabulary import Document

Act = Exception | Callable[[], Any] | None


@dataclass
class Scripted(Sink):
    """Keeps what it takes. Each delivery does the next act first: nothing, raise, or wait for what it gives."""

    id: str = "acme"
    acts: list[Act] = field(default_factory=list)
    given: list[list[str]] = field(default_factory=list)  #: every delivery, also one that failed
    taken: list[str] = field(default_factory=list)

    async def deliver(self, events: Sequence[NormalizedEvent]) -> None:
        self.given.append([event.subject for event in events])
        act = self.acts.pop(0) if self.acts else None
        if isinstance(act, Exception):
            raise act
        if act is not None:
            await act()
        self.taken += self.given[-1]


class Forgetful(InlineStorage):
    """Refuses the next so many writes of one query."""

    refuse: dict[object, int]

    async def write(self, query: Query[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.refuse.get(query, 0):
            self.refuse[query] -= 1
            raise CannotStore("the disk is full: free some space and try again")
        return await super().write(query, *args, **kwargs)


@dataclass
class World:
    """An outbox, and relays that read it."""

    database: SqliteDatabase
    clock: VirtualClock = field(default_factory=VirtualClock)
    chance: FixedChance = field(default_factory=FixedChance)
    log: Notes = field(default_factory=Notes)
    written: int = 0
    relays: list[Relay] = field(default_factory=list)
    refuse: dict[object, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.storage = Forgetful(self.database, wire.encode)
        self.storage.refuse = self.refuse

    def connection(self, database: Database) -> Connection:
        signed_in = {"user": "ada", "provider": "acme", "account": "default", "registration": None, "provider_account": "", "label": ""}
        return connections.of(database, "ada", "acme", "default") or connections.put(
            database,
            SignedIn(id="c1", scopes=(), meta={}, **signed_in),  # type: ignore[arg-type]  # the words above
            self.clock.now(),
        )

    async def write(self, number: int = 1) -> list[str]:
        """Put so many events into the outbox; gives their subjects."""
        names = [f"n{self.written + count}" for count in range(number)]
        self.written += number
        drafts = [wire.draft("acme", Event("note", name, Change.UPSERTED, payload=Document(title="s3cret-title"))) for name in names]
        now = self.clock.now()
        await self.storage.accept(lambda database: Batch(connection=self.connection(database), observed_at=now, drafts=drafts))
        await settle()
        return names

    def start(self, *sinks: Sink) -> Relay:
        tail = Tail(self.storage, self.clock)
        it = Relay(
            storage=self.storage,
            reader=tail,
            guests=SameLoop(),
            clock=self.clock,
            chance=self.chance,
            metrics=MemoryMetrics(),
            log=self.log,
        )
        it.start(sinks)
        self.relays.append(it)
        return it

    async def consumer(self, sink: str = "acme") -> Consumer:
        (found,) = [each for each in await self.storage.read(consumers.listed) if each.name == f"sink:{sink}"]
        return found


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """An empty outbox; relays are stopped in the end."""
    database = open_database(tmp_path / "oo.db")
    database.rows("PRAGMA synchronous = 0")  # no power is cut here
    made = World(database)
    yield made
    for each in made.relays:
        await each.stop()
    database.close()


async def test_everything_once_and_in_order(world: World) -> None:
    """A new sink begins with the first event and gets each one once, over as many deliveries as it takes, then what is new."""
    sink = Scripted()
    old = await world.write(2 * relay.BATCH + 3)
    world.start(sink)
    await settle()
    assert sink.taken == old
    assert [len(each) for each in sink.given] == [relay.BATCH, relay.BATCH, 3]
    new = await world.write()
    assert sink.taken == old + new
    assert (await world.consumer()).position == len(old) + 1


async def test_failed_deliveries_are_given_again(world: World) -> None:
    """After a failure the same events come again, each pause somewhere in a window that doubles, and nothing is passed over."""
    sink = Scripted(acts=[OSError("s3cret-host"), RuntimeError("s3cret-title"), RetryLater("the file is locked"), None])
    names = await world.write(3)
    world.start(sink)
    await settle()
    for number, pause in enumerate([0.5, 1.0, 2.0], start=1):  # the middle of 1, 2 and 4 seconds
        assert len(sink.given) == number
        await world.clock.advance(pause - 0.1)
        assert len(sink.given) == number
        await world.clock.advance(0.1)
    assert sink.given == [names] * 4
    assert sink.taken == names
    more = await world.write()
    assert sink.given[4:] == [more]


async def test_a_pause_has_a_longest(world: World) -> None:
    """However often it fails, a sink is tried again within the cap, and its back-off begins anew after a success."""
    world.chance.part = 1.0
    sink = Scripted(acts=[OSError()] * 30)
    await world.write()
    world.start(sink)
    await world.clock.advance(15 * relay.CAP)
    before = len(sink.given)
    assert before < 29
    await world.clock.advance(relay.CAP)
    assert len(sink.given) == before + 1
    await world.clock.advance(30 * relay.CAP)
    assert sink.taken == ["n0"]
    sink.acts = [OSError()]
    await world.write()
    await world.clock.advance(relay.BASE + 0.01)
    assert sink.taken == ["n0", "n1"]


@pytest.mark.parametrize(("after", "floor"), [(timedelta(minutes=10), 600.0), (timedelta(days=999), relay.LONGEST), (timedelta(-1), 0.5)])
async def test_a_time_that_the_sink_names_is_a_floor(world: World, after: timedelta, floor: float) -> None:
    """`RetryLater.after` is never undercut, up to a day, and makes nothing sooner."""
    sink = Scripted(acts=[RetryLater(after=after)])
    await world.write()
    world.start(sink)
    await world.clock.advance(floor - 0.01)
    assert len(sink.given) == 1
    await world.clock.advance(0.02)
    assert sink.taken == ["n0"]


async def test_one_sink_holds_up_no_other(world: World) -> None:
    """While one sink never answers and another fails, a third gets everything at once; the first is cut off and given the same again."""
    never = asyncio.Event()
    slow, broken, well = Scripted(id="slow", acts=[never.wait]), Scripted(id="broken", acts=[OSError()] * 9), Scripted(id="well")
    names = await world.write(2)
    world.start(slow, broken, well)
    await settle()
    assert (slow.taken, broken.taken, well.taken) == ([], [], names)
    await world.clock.advance(LIMIT + 1)
    assert slow.given == [names, names]
    assert slow.taken == names
    assert {line["error"] for line in world.log.said("sink_waits") if line["sink"] == "slow"} == {"RetryLater"}
    assert (await world.consumer("broken")).position == 0


async def test_a_sink_that_cancels_itself(world: World) -> None:
    """A guest that ends by cancelling itself is tried again like any other."""

    async def give_up() -> None:
        raise asyncio.CancelledError

    sink = Scripted(acts=[give_up])
    await world.write()
    world.start(sink)
    await world.clock.advance(1)
    assert sink.taken == ["n0"]


async def test_what_stands_in_the_way_is_shown(world: World) -> None:
    """The consumer says how often and why; only words of the contract are repeated, since others may quote events. A success clears it."""
    sink = Scripted(acts=[OSError("s3cret-host"), RetryLater("the file is locked")])
    await world.write()
    world.start(sink)
    await settle()
    assert await world.consumer() == Consumer(name="sink:acme", position=0, tries=1, reason="OSError")
    await world.clock.advance(0.6)
    assert (await world.consumer()).reason == "the file is locked"
    assert [(line["error"], line["tries"]) for line in world.log.said("sink_waits")] == [("OSError", 1), ("RetryLater", 2)]
    assert "s3cret" not in str(world.log.lines)
    await world.clock.advance(1.1)
    assert await world.consumer() == Consumer(name="sink:acme", position=1, tries=0, reason="")


async def test_it_goes_on_where_it_was(world: World) -> None:
    """After a restart a sink goes on after the last event that it took, and a new one begins with the first."""
    names = await world.write(2)
    first, second = Scripted(), Scripted()
    await _settled_and_stopped(world.start(first))
    more = await world.write(2)
    other = Scripted(id="other")
    world.start(second, other)
    await settle()
    assert (first.taken, second.taken, other.taken) == (names, more, names + more)


async def test_a_stop_in_the_middle_of_a_delivery(world: World) -> None:
    """Stopping cancels what a sink is at; since it did not finish, it is given the same events at the next start."""
    cancelled: list[bool] = []

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    sink = Scripted(acts=[linger])
    await world.write()
    await _settled_and_stopped(world.start(sink))
    assert cancelled == [True]
    assert (await world.consumer()).position == 0
    world.start(sink)
    await settle()
    assert sink.given == [["n0"], ["n0"]]


async def test_a_position_never_runs_backwards(world: World) -> None:
    """Where another process has moved the sink on meanwhile, its position stays, and this one goes on from there."""

    async def overtaken() -> None:
        await world.storage.write(consumers.advance, "sink:acme", 0, 3, world.clock.now())

    sink = Scripted(acts=[overtaken])
    await world.write()
    it = world.start(sink)
    await settle()
    await world.write(2)
    assert (await world.consumer()).position == 3
    last = await world.write()
    await world.clock.advance(2)
    assert sink.given == [["n0"], last]
    assert (await world.consumer()).position == 4
    await it.stop()
    assert not await world.storage.write(consumers.advance, "sink:acme", 4, 2, world.clock.now())


@pytest.mark.parametrize("query", [consumers.join, consumers.advance, consumers.failed], ids=lambda it: it.__name__)
async def test_a_full_disk_loses_nothing(world: World, query: object) -> None:
    """Where a position cannot be kept, the relay waits and goes on; the sink may get events twice, but misses none."""
    world.refuse[query] = 2
    sink = Scripted(acts=[OSError()])
    names = await world.write(2)
    world.start(sink)
    await world.clock.advance(30)
    assert set(sink.taken) == set(names)
    assert world.refuse[query] == (1 if query is consumers.failed else 0)
    assert (await world.consumer()).position == 2


async def _settled_and_stopped(it: Relay) -> None:
    await settle()
    await it.stop()
