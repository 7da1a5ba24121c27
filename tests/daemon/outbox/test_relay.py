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

from oo_daemon.connections.guest import GuestClock
from oo_daemon.host import SameLoop
from oo_daemon.ops.health import SinksTake
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import relay, wire
from oo_daemon.outbox.relay import LIMIT, Relay
from oo_daemon.outbox.tail import Tail
from oo_daemon.registry import Placed, Registry, Terms
from oo_daemon.store import connections, consumers
from oo_daemon.store.accept import Batch
from oo_daemon.store.connections import Connection, SignedIn
from oo_daemon.store.consumers import Consumer, Start
from oo_daemon.store.database import Database, SqliteDatabase
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.storage import InlineStorage, Query, Storage, open_database
from oo_daemon.strikes import MOST, Strikes
from oo_sdk import Change, Event, Outlet, Response, RetryLater, Sink, Taken, Unreadable
from oo_sdk.events import NormalizedEvent
from oo_sdk.vocabulary import Document

Act = Exception | Callable[[], Any] | None
LEASE = 60.0


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
        key = getattr(query, "__func__", query)
        if self.refuse.get(key, 0):
            self.refuse[key] -= 1
            raise CannotStore("the disk is full: free some space and try again")
        return await super().write(query, *args, **kwargs)


class Nowhere:
    """HTTP that no sink here needs."""

    async def post(self, url: str, body: bytes, headers: Any) -> Response:
        raise AssertionError("it is not asked for")


async def outlet(placed: Placed) -> Outlet:
    return Outlet(name=placed.name, http=Nowhere(), clock=GuestClock(VirtualClock()), log=Notes())


@dataclass
class Writing:
    """An outbox that events come into."""

    storage: Storage
    clock: VirtualClock = field(default_factory=VirtualClock)
    written: int = 0

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
        return names


@dataclass
class World:
    """An outbox, and relays that read it."""

    database: SqliteDatabase
    clock: VirtualClock = field(default_factory=VirtualClock)
    chance: FixedChance = field(default_factory=FixedChance)
    log: Notes = field(default_factory=Notes)
    relays: list[Relay] = field(default_factory=list)
    refuse: dict[object, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.strikes = Strikes(self.database.path.parent, self.clock)
        self.storage = Forgetful(self.database, wire.encode)
        self.storage.refuse = self.refuse
        self.writing = Writing(self.storage, self.clock)

    def connection(self, database: Database) -> Connection:
        return self.writing.connection(database)

    @property
    def written(self) -> int:
        return self.writing.written

    async def write(self, number: int = 1) -> list[str]:
        """Put so many events into the outbox, and let everybody hear of it; gives their subjects."""
        names = await self.writing.write(number)
        await settle()
        return names

    def start(self, *sinks: Sink, **terms: Any) -> Relay:
        tail = Tail(self.storage, self.clock)
        it = Relay(
            storage=self.storage,
            reader=tail,
            guests=SameLoop(),
            clock=self.clock,
            chance=self.chance,
            metrics=MemoryMetrics(),
            log=self.log,
            outlet=outlet,
            suspects=self.strikes,
            lease=LEASE,
        )
        it.start(Placed(name=sink.id, sink=sink, terms=Terms(**terms)) for sink in sinks)
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
    old = await world.write(2 * Sink.batch + 3)
    world.start(sink)
    await settle()
    assert sink.taken == old
    assert [len(each) for each in sink.given] == [Sink.batch, Sink.batch, 3]
    new = await world.write()
    assert sink.taken == old + new
    assert (await world.consumer()).position == len(old) + 1


async def test_failed_deliveries_are_given_again(world: World) -> None:
    """After a failure the same events come again, each pause somewhere in a window that doubles, and nothing is passed over."""
    sink = Scripted(acts=[OSError("s3cret-host"), TimeoutError("s3cret-title"), RetryLater("the file is locked"), None])
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
    known = await world.consumer()
    assert (known.position, known.tries, known.reason) == (0, 0, "OSError")
    await world.clock.advance(0.6)
    assert (await world.consumer()).reason == "the file is locked"
    assert [(line["error"], line["tries"]) for line in world.log.said("sink_waits")] == [("OSError", 1), ("RetryLater", 2)]
    assert "s3cret" not in str(world.log.lines)
    await world.clock.advance(1.1)
    known = await world.consumer()
    assert (known.position, known.tries, known.reason) == (1, 0, "")


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
        await world.storage.write(consumers.reset, "sink:acme", Start(position=3))

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


async def test_storage_that_was_away_for_long_is_not_waited_for_as_long_again(world: World) -> None:
    """As soon as it is there again, a sink goes on within seconds."""
    world.chance.part = 1.0
    sink = Scripted()
    await world.write()
    world.refuse[Relay._hold] = 60
    world.start(sink)
    await world.clock.advance(200)
    del world.refuse[Relay._hold]
    assert sink.given == []
    await world.clock.advance(relay.STORED)
    assert sink.taken == ["n0"]


@pytest.mark.parametrize("query", [Relay._hold, consumers.moved, consumers.say], ids=lambda it: it.__name__)
async def test_a_full_disk_loses_nothing(world: World, query: object) -> None:
    """Where a position cannot be kept, the relay waits and goes on; the sink may get events twice, but misses none."""
    world.refuse[query] = 2
    sink = Scripted(acts=[OSError()])
    names = await world.write(2)
    world.start(sink)
    await world.clock.advance(30)
    assert set(sink.taken) == set(names)
    assert world.refuse[query] == (1 if query is consumers.say else 0)
    assert (await world.consumer()).position == 2


# --- what a sink cannot take ---------------------------------------------------------------------------------------------


@dataclass
class Picky(Scripted):
    """Cannot take some."""

    refused: set[str] = field(default_factory=set)
    error: Callable[[], Exception] = lambda: Unreadable("the receiver answered 422")

    async def deliver(self, events: Sequence[NormalizedEvent]) -> None:
        if self.refused & {event.subject for event in events}:
            self.given.append([event.subject for event in events])
            raise self.error()
        await super().deliver(events)


@pytest.mark.rows("B7")
@pytest.mark.parametrize("error", [lambda: Unreadable("the receiver answered 422"), lambda: KeyError("s3cret-title")])
async def test_what_it_cannot_take_goes_to_the_dead_letters(world: World, error: Callable[[], Exception]) -> None:
    """It is found out which event it is; that one is tried so many times, then set aside, and the rest goes on in order."""
    sink = Picky(refused={"n2"}, error=error)
    names = await world.write(5)
    world.start(sink, tries=3)
    await world.clock.advance(60)
    assert sink.taken == [name for name in names if name != "n2"]
    assert [each for each in sink.given if "n2" in each] == [names, ["n2"], ["n2"], ["n2"]]
    (letter,) = await world.storage.read(consumers.dead_letters, "sink:acme", 9)
    assert (letter.position, letter.tries) == (3, 3)
    assert "s3cret" not in letter.reason
    known = await world.consumer()
    assert (known.position, known.reason, known.dead_letters) == (5, "", 1)
    more = await world.write(3)
    assert sink.given[-1] == more  # together again


@pytest.mark.parametrize("error", [lambda: RetryLater("the receiver answered 503"), lambda: OSError("gone"), lambda: TimeoutError()])
async def test_what_is_not_about_the_event_only_waits(world: World, error: Callable[[], Exception]) -> None:
    """A receiver that is away for days costs no event: everything waits, and nothing goes to the dead letters."""
    sink = Picky(refused={"n1"}, error=error)
    names = await world.write(3)
    world.start(sink, tries=1)
    await world.clock.advance(3 * 86_400)
    known = await world.consumer()
    assert (known.position, known.tries, known.dead_letters) == (0, 0, 0)
    assert known.reason
    sink.refused.clear()
    await world.clock.advance(relay.CAP)
    assert sink.taken == names


async def test_it_may_take_a_part(world: World) -> None:
    """A sink that took only the first of them says how many, and goes on with the next; one that took none must say why."""

    class Some(Scripted):
        async def deliver(self, events: Sequence[NormalizedEvent]) -> int:  # type: ignore[override]  # as a sink may
            await super().deliver(events[:2])
            return 2 if len(events) > 1 else 0

    sink = Some()
    names = await world.write(5)
    world.start(sink)
    await settle()
    assert sink.taken == names
    assert (await world.consumer()).reason.startswith("the sink took none")


async def test_dead_letters_are_given_again_when_wanted(world: World) -> None:
    """Those that are wanted, one by one; what is taken is no dead letter any more, what is not stays one."""
    sink = Picky(refused={"n0", "n1"})
    await world.write(3)
    it = world.start(sink, tries=1)
    await world.clock.advance(10)
    assert (sink.taken, (await world.consumer()).dead_letters) == (["n2"], 2)
    sink.refused = {"n1"}
    assert await world.storage.write(consumers.give_again, "sink:acme", None) == 2
    it.call("acme")
    await settle()
    assert sink.taken == ["n2", "n0"]
    (letter,) = await world.storage.read(consumers.dead_letters, "sink:acme", 9)
    assert (letter.position, letter.tries) == (2, 2)
    await world.write()
    assert sink.taken == ["n2", "n0", "n3"]


# --- what a receiver loses ------------------------------------------------------------------------------------------------


@dataclass
class Losing(Scripted):
    """Its receiver may lose the end of what it took; `taken` is what it has now."""

    warnings: Sequence[str] = ()
    asked: int = 0

    async def open(self, outlet: Outlet) -> None:
        self.warnings = ("it syncs too seldom",)

    async def deliver(self, events: Sequence[NormalizedEvent]) -> Taken:  # type: ignore[override]  # the other says nothing
        await super().deliver(events)
        return Taken(events=len(events), found_at=f"{len(self.taken)} {self.taken[-1]}")

    async def has(self, found_at: str) -> bool:
        self.asked += 1
        count, _, name = found_at.partition(" ")
        return self.taken[int(count) - 1 : int(count)] == [name]


@pytest.mark.rows("B20")
@pytest.mark.parametrize("left", [0, 1, 5, 11, 12])
@pytest.mark.parametrize("noticed", ["at its failure", "while nothing comes", "at the next start"])
async def test_what_a_receiver_lost_is_given_again(world: World, left: int, noticed: str) -> None:
    """Whatever it lost within a quarter of an hour it has again, in order, with little twice; one that lost nothing is given nothing."""
    sink = Losing()
    it = world.start(sink, batch=1)
    for _ in range(12):
        await world.write()
        await world.clock.advance(60)
    before = len(sink.given)
    del sink.taken[left:]
    if noticed == "at its failure":
        sink.acts = [RetryLater("the connection broke")]
        await world.write()
        await world.clock.advance(3)
    elif noticed == "while nothing comes":
        await world.clock.advance(2 * relay.LOOK + 1)
    else:
        await _settled_and_stopped(it)
        world.start(sink, batch=1)
        await settle()
    names = [f"n{number}" for number in range(world.written)]
    assert sink.taken == names
    more = 2 if noticed == "at its failure" else 0
    assert len(sink.given) - before == 12 - left + more
    assert [line["events"] for line in world.log.said("sink_lost")] == ([12 - left] if left < 12 else [])
    assert not any(line["more"] for line in world.log.said("sink_lost"))
    assert world.log.said("sink_warns")[0] == {"sink": "acme", "says": "it syncs too seldom"}


@pytest.mark.rows("B20")
async def test_more_was_lost_than_is_held(world: World) -> None:
    """Beyond a quarter of an hour it is given again from there on, and it is said that this is not all; that is asked once."""
    sink = Losing()
    world.start(sink)
    for _ in range(40):
        await world.write()
        await world.clock.advance(60)
    tracks = await world.storage.read(consumers.tracks, "sink:acme")
    assert len(tracks) == 15
    del sink.taken[3:]
    sink.acts = [RetryLater("the connection broke")]
    await world.write()
    await world.clock.advance(3)
    assert [line["more"] for line in world.log.said("sink_lost")] == [True]
    assert sink.taken[3:] == [f"n{number}" for number in range(tracks[0].position, 41)]
    await world.clock.advance(600)
    assert len(world.log.said("sink_lost")) == 1


async def test_tracks_are_few(world: World) -> None:
    """However much it takes, a sink has a track a second, and when it has been quiet for long only the newest; another sink has none."""
    sink, other = Losing(), Scripted(id="other")
    world.start(sink, other, batch=1)
    await world.write(50)
    await world.clock.advance(1)
    await world.write(50)
    assert [track.position for track in await world.storage.read(consumers.tracks, "sink:acme")] == [0, 50, 100]
    await world.clock.advance(3600)
    assert [track.position for track in await world.storage.read(consumers.tracks, "sink:acme")] == [100]
    assert await world.storage.read(consumers.tracks, "sink:other") == []
    await world.storage.write(consumers.reset, "sink:acme", Start())
    assert await world.storage.read(consumers.tracks, "sink:acme") == []


async def test_only_who_serves_a_sink_puts_it_back(world: World) -> None:
    """Without the token, or forward, nothing moves."""
    sink = Losing()
    world.start(sink)
    await world.write(3)
    token = (await world.consumer()).token or ""
    assert await world.storage.write(consumers.put_back, "sink:acme", "another", 0) is None
    assert await world.storage.write(consumers.put_back, "sink:acme", token, 4) is None
    back = await world.storage.write(consumers.put_back, "sink:acme", token, 1)
    assert back is not None
    assert back.position == 1


# --- what an operator says -----------------------------------------------------------------------------------------------


async def test_a_pause(world: World) -> None:
    """A sink that is paused is given nothing, also after a restart, until it is resumed; then it goes on where it was."""
    sink = Scripted()
    it = world.start(sink)
    first = await world.write()
    await world.storage.write(consumers.pause, "sink:acme", True)
    it.call("acme")
    await settle()
    second = await world.write(2)
    await world.clock.advance(3600)
    assert sink.taken == first
    await _settled_and_stopped(it)
    it = world.start(sink)
    await world.clock.advance(3600)
    assert sink.taken == first
    await world.storage.write(consumers.pause, "sink:acme", False)
    it.call("acme")
    await settle()
    assert sink.taken == first + second


async def test_where_it_begins_and_what_it_wants(world: World) -> None:
    """A new sink begins where its table says, and is given what its table says; what cannot be understood is said, and waits."""
    old = await world.write(2)
    now, all_, nobodys, odd = Scripted(id="now"), Scripted(id="all"), Scripted(id="nobodys"), Scripted(id="odd")
    world.start(now, start="now")
    world.start(all_, user="ada", batch=1)
    world.start(nobodys, user="nobody")
    world.start(odd, start="tomorrow")
    await settle()
    new = await world.write(1)
    assert (now.taken, all_.given, nobodys.taken, odd.taken) == (new, [[name] for name in old + new], [], [])
    await world.clock.advance(relay.LOOK + 1)
    assert (await world.consumer("nobodys")).position == 3
    assert {line["error"] for line in world.log.said("sink_waits")} == {"Declined"}


def another(world: World, sink: Sink) -> Relay:
    """The relay of another process, for the same sink."""
    other = Relay(
        storage=world.storage,
        reader=Tail(world.storage, world.clock),
        guests=SameLoop(),
        clock=world.clock,
        chance=Other(),
        metrics=MemoryMetrics(),
        log=world.log,
        outlet=outlet,
        suspects=world.strikes,
        lease=LEASE,
    )
    world.relays.append(other)
    other.start([Placed(name="acme", sink=sink)])
    return other


def ended_over(world: World, item: str, times: int = 1) -> None:
    """The process ended while a sink worked on this."""
    for _ in range(times):
        world.strikes.give("acme-oo/acme", "ended", item)


@pytest.mark.rows("B7", "H10")
async def test_what_the_process_ended_over_once_is_given_one_by_one(world: World) -> None:
    """After one end each event of that delivery comes alone; when all are taken nothing is left against any of them."""
    ended_over(world, "sink acme 0")
    names = await world.write(3)
    sink = Scripted()
    world.start(sink)
    await settle()
    assert sink.given == [[name] for name in names]
    assert world.strikes.counted() == {}
    more = await world.write(3)
    assert sink.given[3:] == [more]


@pytest.mark.rows("B7", "H10")
async def test_what_the_process_ends_over_each_time_is_a_dead_letter(world: World) -> None:
    """It is not given again, says why, and holds up nothing; a replay waits for the plugin to be released."""
    sink, names = Scripted(), await world.write()
    await _settled_and_stopped(world.start(sink))
    ended_over(world, "sink acme 1", times=3)
    names += await world.write(2)
    it = world.start(sink)
    await settle()
    assert sink.taken == [names[0], names[2]]
    (letter,) = await world.storage.read(consumers.dead_letters, "sink:acme", 10)
    assert letter.reason.startswith("the daemon ended each time that this was given to the sink: update the sink's plugin")
    world.strikes.release("acme")
    ended_over(world, f"sink acme letter {letter.position}", times=3)
    await world.storage.write(consumers.give_again, "sink:acme", None)
    it.call("acme")
    await settle()
    assert (await world.consumer()).dead_letters == 1
    world.strikes.release("acme")
    await world.storage.write(consumers.give_again, "sink:acme", None)
    it.call("acme")
    await settle()
    assert sink.taken == [names[0], names[2], names[1]]
    assert (await world.consumer()).dead_letters == 0


@pytest.mark.rows("H10")
async def test_a_sink_that_ends_the_process_when_it_is_opened(world: World) -> None:
    """It is not opened again and waits with its reason until its plugin is released; others go on."""
    ended_over(world, "sink acme", times=3)
    names = await world.write()
    sink, other = Scripted(), Scripted(id="other")
    it = world.start(sink, other)
    await settle()
    assert (sink.taken, other.taken) == ([], names)
    assert (await world.consumer()).reason.startswith("the daemon ended each time")
    world.strikes.release("acme")
    it.call("acme")
    await settle()
    assert sink.taken == names


@pytest.mark.rows("H10")
async def test_who_kills_the_process_from_outside_sets_no_sink_aside(world: World) -> None:
    """A kill over each of many deliveries, with the sink well in between, is nobody's fault, however often that happens."""
    sink = Scripted()
    world.start(sink)
    for number in range(2 * MOST):
        ended_over(world, f"sink acme {number}")
        ended_over(world, "sink acme")
        await world.write()
        await _settled_and_stopped(world.relays[-1])
        world.start(sink)
        await settle()
    assert len(sink.taken) == 2 * MOST
    assert (world.strikes.aside, world.strikes.counted()) == ({}, {})


async def test_one_process_serves_it(world: World) -> None:
    """Of two relays one delivers; when that one stops the other goes on, and each event is given once."""
    one, two = Scripted(), Scripted()
    first = world.start(one)
    await settle()
    world.chance.part = 0.0
    another(world, two)
    names = await world.write(2)
    assert (one.taken, two.taken) == (names, [])
    await _settled_and_stopped(first)
    await world.clock.advance(2 * relay.CAP)
    more = await world.write(2)
    assert (one.taken, two.taken) == (names, more)


async def test_a_slow_delivery_is_not_given_to_another(world: World) -> None:
    """While a sink is asked it stays with its process; when that dies, another has it soon after its lease."""
    never = asyncio.Event()
    one, two = Scripted(acts=[never.wait, never.wait]), Scripted()
    first = world.start(one)
    await world.write()
    assert len(one.given) == 1
    another(world, two)
    await world.clock.advance(2 * LIMIT - 2)
    assert (len(one.given), two.given) == (2, [])
    for task in first._tasks:  # it dies: nothing is let go of
        task.cancel()
    world.refuse[consumers.let_go] = 1
    await asyncio.gather(*first._tasks, return_exceptions=True)
    await world.clock.advance(LEASE + LEASE / 2)
    assert two.taken == ["n0"]
    assert [line["error"] for line in world.log.said("sink_waits")] == ["RetryLater"]  # of the one that served it


async def test_a_sink_that_has_nothing_to_do_stays_where_it_is(world: World) -> None:
    """It is held while it waits for news, for however short a lease; what comes then goes to the same process."""
    one, two = Scripted(), Scripted()
    world.start(one).lease = 6.0
    another(world, two).lease = 6.0
    await world.clock.advance(10 * relay.LOOK + 5)
    names = await world.write()
    await world.clock.advance(1)
    assert (one.taken, two.taken) == (names, [])


async def test_the_health_says_what_is_with_sinks(world: World) -> None:
    """One that waits, one that is paused, dead letters and a table that does not fit are each worth a word, and nothing more."""
    well, away, odd = Scripted(id="well"), Scripted(id="away", acts=[RetryLater("it answered 503")] * 9), Picky(id="odd", refused={"n0"})
    names = {"well": well, "away": away, "odd": odd}
    placed = {name: Placed(name=name, sink=sink) for name, sink in names.items()}
    look = SinksTake(storage=world.storage, registry=Registry(plugins=(), sinks=placed))
    await world.write()
    world.start(well, away)
    world.start(odd, tries=1)
    await settle()
    await world.storage.write(consumers.pause, "sink:well", True)
    finding = await look()
    assert (finding.well, finding.warning) == (False, True)
    assert finding.says == "away waits (it answered 503); well is paused; odd has dead letters: 1: see `oo sinks list`"
    wrong = SinksTake(storage=world.storage, registry=Registry(plugins=(), sinks_aside={"crm": "it is wrong"}))
    assert (await wrong()).says == "crm does not run: see `oo sinks list`"
    assert (await SinksTake(storage=world.storage, registry=Registry(plugins=()))()).well


class Other(FixedChance):
    """Another process's."""

    def token_bytes(self, size: int) -> bytes:
        return b"x" * size


async def _settled_and_stopped(it: Relay) -> None:
    await settle()
    await it.stop()
