"""Consumers that ask: nothing lost, in order, given again when nobody answers, and what fails too often set aside."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import postgresql
import pytest
from daemon.outbox.test_relay import World, Writing
from daemon.virtual import FixedChance, lost, settle
from hypothesis import Phase, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from oo_daemon.connections.errors import Declined
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import wire
from oo_daemon.outbox.consumers import Consumers, Given
from oo_daemon.outbox.tail import Tail
from oo_daemon.store import consumers
from oo_daemon.store.accept import Batch
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.outbox import Filter
from oo_daemon.store.pool import PooledStorage
from oo_daemon.store.postgresql import PostgresqlDatabase
from oo_daemon.store.storage import InlineStorage, Storage, open_database
from oo_sdk import Change, Event
from oo_sdk.vocabulary import Document

ALL = Filter()
LEASE, MOST_TRIES = 60.0, 3
#: Steps of the state machine, at least, where it finds nothing; on a server each takes four times as long.
STEPS, STEPS_ON_A_SERVER = [int(os.environ.get("OO_TEST_CONSUMER_STEPS", usual)) for usual in ("800", "200")]


class Counted(FixedChance):
    """Another token each time."""

    made = 0

    def token_bytes(self, size: int) -> bytes:
        self.made += 1
        return self.made.to_bytes(size)


def asking(world: World | Writing) -> Consumers:
    reader = Tail(world.storage, world.clock)
    return Consumers(storage=world.storage, reader=reader, clock=world.clock, chance=Counted(), metrics=MemoryMetrics())


@pytest.fixture
async def world(tmp_path: Path) -> Any:
    """An empty outbox."""
    database = open_database(tmp_path / "oo.db")
    database.rows("PRAGMA synchronous = 0")  # no power is cut here
    yield World(database)
    database.close()


def numbers(given: Given) -> list[int]:
    return [event[0] for event in given.events]


@pytest.mark.rows("B7")
async def test_a_late_answer_is_refused(world: World) -> None:
    """One batch at a time; when its lease ends it is given again, one event at a time, and the first reader's answer no longer counts."""
    it = asking(world)
    await world.write(3)
    await it.add("a", "beginning", ALL, 10)
    first = await it.take("a", 10, LEASE, 0)
    assert numbers(first) == [1, 2, 3]
    assert numbers(await it.take("a", 10, LEASE, 0)) == []
    await world.clock.advance(LEASE)
    second = await it.take("a", 10, LEASE, 0)
    assert (numbers(second), second.tries) == ([1], 2)
    assert first.token
    assert second.token
    with pytest.raises(Declined, match="no longer"):
        await it.ack("a", first.token, "1-1")
    with pytest.raises(Declined, match="ahead of the log"):
        await it.ack("a", second.token, "1-9")
    assert (await it.ack("a", second.token, "1-1"))[0].position == 1
    with pytest.raises(Declined, match="no longer"):
        await it.ack("a", second.token, "1-1")


@pytest.mark.rows("B7")
async def test_what_nobody_answered_for_comes_again_at_once(world: World) -> None:
    """A reader that waits while another has died gets its batch within a second of the end of the lease."""
    it = asking(world)
    await world.write(1)
    await it.add("a", "beginning", ALL, 10)
    assert numbers(await it.take("a", 1, LEASE, 0)) == [1]
    began = world.clock.monotonic()
    again = await world.clock.until(asyncio.ensure_future(it.take("a", 1, LEASE, 2 * LEASE)))
    assert numbers(again) == [1]
    assert LEASE <= world.clock.monotonic() - began <= LEASE + 1


@pytest.mark.rows("B7")
async def test_a_lease_whose_answer_was_lost_holds_nothing_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has made it, and no reader has heard of the batch: it is given with the next question, whole, and that was no try."""
    it = asking(world)
    await world.write(3)
    await it.add("a", "beginning", ALL, 10)
    with monkeypatch.context() as away:
        away.setattr(consumers, "lease", lost(consumers.lease))
        with pytest.raises(CannotStore):
            await it.take("a", 10, LEASE, 0)
    assert (await it.known("a"))[0].token is not None
    given = await it.take("a", 10, LEASE, 0)
    assert (numbers(given), given.tries) == ([1, 2, 3], 1)
    assert numbers(await it.take("a", 10, LEASE, 0)) == []


@pytest.mark.rows("B7")
async def test_what_fails_too_often_is_set_aside(world: World) -> None:
    """The consumer is held for the delay, what lies before is done, and after so many tries the event goes to the dead letters."""
    it = asking(world)
    await world.write(3)
    await it.add("a", "beginning", ALL, 2)
    given = await it.take("a", 10, LEASE, 0)
    assert given.token
    known, _ = await it.nack("a", given.token, "1-2", 5, "too odd")
    assert (known.position, known.tries) == (1, 1)
    assert numbers(await it.take("a", 10, LEASE, 0)) == []
    await world.clock.advance(5)
    given = await it.take("a", 10, LEASE, 0)
    assert (numbers(given), given.tries) == ([2], 2)
    assert given.token
    known, _ = await it.nack("a", given.token, "1-2", 0, "too odd")
    assert (known.position, known.tries, known.dead_letters) == (2, 0, 1)
    ((letter,), _) = await it.dead_letters("a", 10)
    assert (letter.position, letter.tries, letter.reason) == (2, 2, "too odd")
    assert numbers(await it.take("a", 10, LEASE, 0)) == [3]


async def test_an_event_that_kills_its_reader_is_set_aside(world: World) -> None:
    """Tries are counted when a batch is given: one that nobody ever answers for is passed over in the end."""
    it = asking(world)
    await world.write(2)
    await it.add("a", "beginning", ALL, 3)
    for _ in range(3):
        assert numbers(await it.take("a", 1, LEASE, 0)) == [1]
        await world.clock.advance(LEASE)
    assert numbers(await it.take("a", 1, LEASE, 0)) == [2]
    assert (await it.known("a"))[0].dead_letters == 1


@pytest.mark.rows("B7")
async def test_tries_of_what_was_erased_count_for_nothing_else(world: World) -> None:
    """An event that was erased while somebody had it leaves no tries behind: what comes next is given, and not set aside untried."""
    it = asking(world)
    await world.write(3)
    await it.add("a", "beginning", ALL, 1)
    assert numbers(await it.take("a", 1, LEASE, 0)) == [1]
    await world.clock.advance(LEASE)
    world.database.rows("DELETE FROM outbox WHERE position = 1")
    given = await it.take("a", 1, LEASE, 0)
    assert (numbers(given), given.tries, given.missing) == ([2], 1, 1)
    assert (await it.known("a"))[0].dead_letters == 0
    await world.clock.advance(LEASE)
    assert numbers(await it.take("a", 1, LEASE, 0)) == [3], "the second was given once, as often as it may be"
    assert (await it.known("a"))[0].dead_letters == 1


@pytest.mark.rows("B7", "B9")
async def test_a_lease_that_ended_holds_nothing_up(world: World) -> None:
    """Where nothing is left to give after it, the consumer goes on to the end of the log, and the late answer is refused."""
    it = asking(world)
    await world.write(1)
    await it.add("a", "beginning", Filter(type="acme.note"), 10)
    given = await it.take("a", 1, LEASE, 0)
    world.database.rows("DELETE FROM outbox WHERE position = 1")
    world.database.rows("UPDATE stream SET position = 5")
    assert numbers(await it.take("a", 1, LEASE, 0)) == []
    assert (await it.known("a"))[0].position == 0, "somebody has it"
    await world.clock.advance(LEASE)
    assert numbers(await it.take("a", 1, LEASE, 0)) == []
    known, _ = await it.known("a")
    assert (known.position, known.tries, known.token) == (5, 0, None)
    with pytest.raises(Declined, match="no longer"):
        await it.ack("a", given.token or "", "1-5")


async def test_it_starts_where_it_is_told(world: World) -> None:
    """At the beginning, now, a position, a time, or what is still so: the newest of each object that is not gone, then what is new."""
    it = asking(world)
    await world.write(2)
    await world.clock.advance(10)

    async def say(subject: str, text: str | None) -> None:
        change = Change.UPSERTED if text else Change.DELETED
        draft = wire.draft("acme", Event("note", subject, change, payload=Document(title=text) if text else None))
        now = world.clock.now()
        await world.storage.accept(lambda database: Batch(connection=world.connection(database), observed_at=now, drafts=[draft]))

    await say("n0", "other")  # 3, in the place of 1
    await say("n1", None)  # 4, in the place of 2
    for name, start, found in [
        ("beginning", "beginning", [1, 2, 3, 4]),
        ("now", "now", []),
        ("present", "present", [3]),
        ("position", "1-2", [3, 4]),
        ("time", "2023-11-14T22:13:25+00:00", [3, 4]),
    ]:
        await it.add(name, start, ALL, 10)
        assert numbers(await it.take(name, 10, LEASE, 0)) == found, name
    await say("n2", "new")
    given = await it.take("now", 10, LEASE, 0)
    assert numbers(given) == [5]
    for odd, says in [
        ("tomorrow", "Say beginning, now, present, a time"),
        ("1-99", "ahead of the log"),
        ("2023-11-14T22:13:25", "needs its zone"),
        ("0001-01-01T00:00:00+23:59", "Say beginning, now"),
    ]:
        with pytest.raises(Declined, match=says):
            await it.add("odd", odd, ALL, 10)


async def test_what_no_consumer_may_be(world: World) -> None:
    """A name that is none, one that is taken, one that nobody has; and an answer without its token: each is said in a sentence."""
    it = asking(world)
    await world.write(1)
    await it.add("a", "beginning", ALL, 3)
    for asked, says in [
        (it.add("no name", "now", ALL, 3), "is no name for a consumer"),
        (it.add("a", "now", ALL, 3), "There is a consumer a"),
        (it.known("b"), "no consumer b"),
        (it.reset("b", "now"), "no consumer b"),
        (it.remove("b"), "no consumer b"),
        (it.take("b", 1, LEASE, 0), "no consumer b"),
        (it.nack("a", "made up", "1-1", 0, "why not"), "a"),
        (it.ack("a", "made up", "1-1"), "a"),
    ]:
        with pytest.raises(Declined, match=says):
            await asked
    assert (await it.known("a"))[0].position == 0
    await it.remove("a")
    assert (await it.listed())[0] == []


@pytest.mark.rows("B17")
async def test_gaps_and_a_restored_log_are_told(world: World) -> None:
    """A batch says how many events of its stretch are gone; after a restore a consumer is given nothing until it is told to go on."""
    it = asking(world)
    await world.write(5)
    world.database.rows("DELETE FROM outbox WHERE position IN (1, 2, 4)")
    await it.add("a", "beginning", ALL, 10)
    given = await it.take("a", 10, LEASE, 0)
    assert (numbers(given), given.missing) == ([3, 5], 3)
    world.database.rows("UPDATE stream SET epoch = 2")
    with pytest.raises(Declined, match="reset a --to here"):
        await it.take("a", 10, LEASE, 0)
    await it.reset("a", "here")
    assert numbers(await it.take("a", 10, LEASE, 0)) == [3, 5]


@pytest.mark.rows("B17")
@pytest.mark.parametrize("to", ["here", "present"])
async def test_a_consumer_that_is_ahead_of_a_restored_log(world: World, to: str) -> None:
    """One that had read 500 more than the backup has is refused, and not kept waiting until the log is as long again."""
    it = asking(world)
    for _ in range(6):
        await world.write(100)
    await it.add("a", "1-600", ALL, 10)
    world.database.rows("DELETE FROM outbox WHERE position > 100")
    world.database.rows("UPDATE stream SET epoch = 2, position = 100")
    for ask in (it.take("a", 10, LEASE, 3600), it.reset("a", "1-600"), it.reset("a", "2-600")):
        with pytest.raises(Declined, match=r"restored|ahead"):
            await ask
    await it.reset("a", to)
    await world.write(1)
    given = await it.take("a", 1000, LEASE, 0)
    assert numbers(given) == ([101] if to == "here" else [*range(1, 102)])


async def test_a_question_waits_for_news(world: World) -> None:
    """A waiting question is answered when an event comes, and what is not for it is passed over."""
    it = asking(world)
    await it.add("a", "beginning", Filter(type="acme.note"), 10)
    await it.add("b", "beginning", Filter(user="nobody"), 10)
    waiting = asyncio.ensure_future(it.take("a", 10, LEASE, 20))
    await settle()
    await world.write()
    assert numbers(await world.clock.until(waiting)) == [1]
    assert numbers(await it.take("b", 10, LEASE, 0)) == []
    assert (await it.known("b"))[0].position == 1


class Readers(RuleBasedStateMachine):
    """Readers that come, crash, answer late and refuse, against a plain list of what is still to be read."""

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[Storage]]) -> None:
        super().__init__()
        self.loop, self.stack = asyncio.new_event_loop(), AsyncExitStack()
        self.run(self.open(opened))

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    async def open(self, opened: Callable[[], AbstractAsyncContextManager[Storage]]) -> None:
        self.world = Writing(await self.stack.enter_async_context(opened()))
        self.it = asking(self.world)
        await self.it.add("a", "beginning", ALL, MOST_TRIES)
        self.written, self.done = 0, 0  #: the reference: events 1 to `written`, of which `done` are answered for
        self.dead: set[int] = set()
        self.tries = 0  #: how often the event behind `done` was given
        self.token, self.ends = "", 0.0
        self.held: list[int] = []
        self.old: list[str] = []
        self.serial = 0

    @rule(count=some.integers(1, 5))
    def write(self, count: int) -> None:
        """Events come."""
        self.run(self.world.write(count))
        self.written += count

    @rule(limit=some.integers(1, 4), readers=some.integers(1, 3))
    def take(self, limit: int, readers: int) -> None:
        """Readers ask, several at the same time."""

        async def ask() -> list[Given]:
            asked = await asyncio.gather(*(self.it.take("a", limit, LEASE, 0) for _ in range(readers)))
            return [given for given in asked if given.token is not None]

        answered = self.run(ask())
        known = self.run(self.it.known("a"))[0]
        passed = set(range(self.done + 1, known.position + 1))
        if passed:
            assert (len(passed), self.tries) == (1, MOST_TRIES)
            self.tries = 0
        assert known.dead_letters == len(self.dead | passed)
        self.dead |= passed
        self.done = known.position
        if not answered:
            return
        (given,) = answered  # never two at once
        assert self.world.clock.monotonic() >= self.ends
        self.tries += 1
        assert given.tries == self.tries
        assert numbers(given) == list(range(self.done + 1, self.done + 1 + len(given.events)))  # in order, without a hole
        if self.token:
            self.old.append(self.token)
        self.token, self.held, self.ends = given.token, numbers(given), self.world.clock.monotonic() + LEASE

    @rule(upto=some.integers(0, 3))
    def ack(self, upto: int) -> None:
        """A reader answers for some."""
        if not self.held:
            return
        at = self.held[min(upto, len(self.held) - 1)]
        self.run(self.it.ack("a", self.token, f"1-{at}"))
        self.done, self.tries = at, 0
        self.held = [number for number in self.held if number > at]
        if not self.held:
            self.ends = 0.0

    @rule(which=some.integers(0, 3))
    def nack(self, which: int) -> None:
        """A reader cannot take one."""
        if not self.held:
            return
        at = self.held[min(which, len(self.held) - 1)]
        known, _ = self.run(self.it.nack("a", self.token, f"1-{at}", 1, "odd"))
        if at > self.done + 1:  # of those further on it is not known whether they were tried
            self.tries = 1
        if dead := self.tries == MOST_TRIES:
            self.dead.add(at)
            self.tries = 0
        assert known.position == (at if dead else at - 1)
        self.done, self.held, self.ends = known.position, [], 0.0

    @rule(seconds=some.sampled_from([1, 30, 61]))
    def wait(self, seconds: int) -> None:
        """Time passes; a reader may have died."""
        self.run(self.world.clock.advance(seconds))

    @rule(place=some.sampled_from(["beginning", "now", "here"]))
    def reset(self, place: str) -> None:
        """An operator puts the consumer somewhere else; whoever has a batch loses it."""
        self.run(self.it.reset("a", place))
        self.done = {"beginning": 0, "now": self.written, "here": self.done}[place]
        if self.token:
            self.old.append(self.token)
        self.token, self.held, self.ends, self.tries = "", [], 0.0, 0

    @rule(which=some.integers(0, 5))
    def late(self, which: int) -> None:
        """A reader that lost its batch answers."""
        stale = [token for token in self.old if token != self.token]
        if stale:
            with pytest.raises(Declined):
                self.run(self.it.ack("a", stale[which % len(stale)], f"1-{self.done}"))

    @invariant()
    def is_where_the_reference_is(self) -> None:
        """The position is what was answered for or set aside."""
        known = self.run(self.it.known("a"))[0]
        assert (known.position, known.dead_letters) == (self.done, len(self.dead))

    def teardown(self) -> None:
        """Read to the end: everything is given once more or was done."""
        self.run(self.world.clock.advance(3600))
        while (given := self.run(self.it.take("a", 100, LEASE, 0))).token:
            self.run(self.it.ack("a", given.token, str(given.position)))
        assert self.run(self.it.known("a"))[0].position == self.written
        self.run(self.stack.aclose())
        self.loop.close()


@asynccontextmanager
async def in_a_file() -> AsyncIterator[Storage]:
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(Path(folder) / "oo.db")
        database.rows("PRAGMA synchronous = 0")  # no power is cut here
        yield InlineStorage(database, wire.encode)
        database.close()


def on_a_server(database: PostgresqlDatabase) -> Callable[[], AbstractAsyncContextManager[Storage]]:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Storage]:
        storage = PooledStorage(database, wire.encode)
        try:
            yield storage
        finally:
            await storage.close()
            database.connect()
            postgresql.empty(database)

    return opened


def _held_against_a_reference(opened: Callable[[], AbstractAsyncContextManager[Storage]], steps: int, phases: Sequence[Phase]) -> None:
    class There(Readers):
        def __init__(self) -> None:
            super().__init__(opened)

    wanted = settings(max_examples=steps // 40, stateful_step_count=40, deadline=None, phases=phases)
    run_state_machine_as_test(There, settings=wanted)


@pytest.mark.rows("B7", "B8")
@pytest.mark.timeout(60 + STEPS / 10)
def test_readers_against_a_reference() -> None:
    """Whatever readers do: nothing is lost, everything is in order, one reader at a time."""
    _held_against_a_reference(in_a_file, STEPS, list(Phase))


@pytest.mark.rows("B7")
async def test_one_of_those_who_ask_at_once_gets_the_batch(shared: PostgresqlDatabase) -> None:
    """However many readers are answered at the same time, each batch has one of them."""
    async with on_a_server(shared)() as storage:
        world = Writing(storage)
        it = asking(world)
        await world.write(100)
        await it.add("a", "beginning", ALL, MOST_TRIES)
        for number in range(100):
            answers = await asyncio.gather(*(it.take("a", 1, LEASE, 0) for _ in range(4)))
            (given,) = (each for each in answers if each.token is not None)
            assert numbers(given) == [number + 1]
            await it.ack("a", given.token or "", str(given.position))


@pytest.mark.rows("B7", "B8")
@pytest.mark.timeout(60 + STEPS_ON_A_SERVER / 10)
def test_readers_of_a_server_against_a_reference(shared: PostgresqlDatabase) -> None:
    """The same on PostgreSQL, where readers that ask at the same time are answered at the same time."""
    # What fails for what was under way at once does not do so again in fewer steps.
    _held_against_a_reference(on_a_server(shared), STEPS_ON_A_SERVER, [Phase.generate])
