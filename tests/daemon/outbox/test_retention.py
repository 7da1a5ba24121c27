"""Retention: what nobody needs goes, in small steps; what is still so stays; nobody dead is waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from daemon.outbox.test_consumers import asking
from daemon.outbox.test_relay import Losing, World
from daemon.virtual import settle
from msgspec.structs import replace

from oo_daemon.ops.health import ConsumersRead
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import own, wire
from oo_daemon.outbox.retention import Keep, Retention, why
from oo_daemon.ports import SECOND
from oo_daemon.store import consumers, erasures, outbox
from oo_daemon.store.accept import Batch
from oo_daemon.store.outbox import Filter
from oo_daemon.store.retention import Old, drop, held
from oo_daemon.store.storage import open_database
from oo_sdk import Change, Event
from oo_sdk.vocabulary import Document

DAY = 86_400.0
KEEP = Keep(read=14 * DAY, unread=30 * DAY, tombstones=90 * DAY, size=10**9)
OLD = Old(position=5, size=100, accepted_at=0, still_so=False, gone=False, dead=False)


@pytest.mark.rows("B9")
@pytest.mark.parametrize(
    ("changed", "days", "read", "reason"),
    [
        ({}, 13.9, 9, None),
        ({}, 14, 9, "read"),
        ({}, 14, 4, None),  # somebody has still to read it
        ({}, 29.9, 4, None),
        ({}, 30, 4, "unread"),
        ({"dead": True}, 29.9, 9, None),
        ({"dead": True}, 30, 9, "unread"),
        ({"still_so": True}, 999, 9, None),
        ({"gone": True}, 89.9, 9, None),
        ({"gone": True}, 90, 4, "tombstone"),
    ],
)
def test_when_an_event_goes(changed: dict[str, bool], days: float, read: int, reason: str | None) -> None:
    """Old and read by all, or older than anybody is waited for; what something is stays, and that something is gone for longest."""
    event = replace(OLD, **changed)
    assert why(event, now=int(days * DAY * SECOND), read=read, bytes_=100, keep=KEEP) == reason


@pytest.mark.rows("B20")
async def test_what_a_sink_took_lately_is_held(world: World) -> None:
    """However short retention is, what a sink has taken stays for a quarter of an hour, so that it can be given again; then it goes."""
    kept, sink = Kept(world, read=0, unread=DAY), Losing()
    it = world.start(sink)
    for subject in ("1", "2", "3"):
        await occur(world, subject)
    await settle()
    assert (await world.consumer()).position == 3
    assert await kept.after(14 / 1440) == [1, 2, 3]
    await occur(world, "4")
    await settle()
    assert await kept.after(2 / 1440) == [4]
    await world.clock.advance(3600)
    assert await kept.after(0) == []
    await it.stop()


@pytest.mark.parametrize(
    ("changed", "reason"), [({}, "size"), ({"still_so": True}, None), ({"gone": True}, None), ({"dead": True}, "size")]
)
def test_what_goes_where_there_is_no_room(changed: dict[str, bool], reason: str | None) -> None:
    """Beyond the size whatever may go at all goes, read or not."""
    event = replace(OLD, **changed)
    assert why(event, now=1, read=0, bytes_=10**9 + 1, keep=KEEP) == reason
    assert why(event, now=1, read=0, bytes_=10**9, keep=KEEP) is None


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """An empty outbox."""
    database = open_database(tmp_path / "oo.db")
    database.rows("PRAGMA synchronous = 0")  # no power is cut here
    yield World(database)
    database.close()


class Kept:
    """Retention over a world, and what it did."""

    def __init__(self, world: World, **keep: Any) -> None:
        self.world, self.metrics = world, MemoryMetrics()
        self.left: list[int] = []  #: events kept at each checkpoint
        self.it = Retention(
            storage=world.storage,
            checkpoint=self.checkpoint,
            clock=world.clock,
            metrics=self.metrics,
            log=world.log,
            keep=replace(KEEP, **keep),
        )

    async def checkpoint(self) -> None:
        self.left.append(held(self.world.database).events)

    async def after(self, days: float) -> list[int]:
        """The positions that are kept after so many days more."""
        await self.world.clock.advance(days * DAY)
        await self.it.tick()
        counted = held(self.world.database)
        rows = self.world.database.rows("SELECT position, length(body) FROM outbox ORDER BY position")
        assert (counted.events, counted.bytes) == (len(rows), sum(size for _, size in rows))  # what is counted along is so
        return [position for position, _ in rows]

    def expired(self, kind: str) -> float:
        return self.metrics.values().get(("events_expired_total", (("kind", kind),)), 0)


async def say(world: World, subject: str, text: str | None, *, name: str = "note") -> None:
    """A note changes, or is gone."""
    change = Change.UPSERTED if text else Change.DELETED
    await tell(world, Event(name, subject, change, payload=Document(title=text) if text else None))


async def occur(world: World, subject: str) -> None:
    await tell(world, Event("seen", subject, Change.OCCURRED, payload=Document(title="x" * 500)))


async def tell(world: World, event: Event) -> None:
    draft, now = wire.draft("acme", event), world.clock.now()
    await world.storage.accept(lambda database: Batch(connection=world.connection(database), observed_at=now, drafts=[draft]))


async def read(world: World, name: str, upto: int) -> None:
    """A consumer has read up to a position."""
    known = consumers.of(world.database, name)
    assert known is not None
    assert await world.storage.write(consumers.advance, name, known.position, upto, world.clock.now())


@pytest.mark.rows("B9")
async def test_a_consumer_is_waited_for_but_not_for_ever(world: World) -> None:
    """What all have read goes after two weeks, what one has still to read after thirty days; what something is now stays throughout."""
    kept, it = Kept(world), asking(world)
    await it.add("quick", "beginning", Filter(), 10)
    await it.add("dead", "beginning", Filter(), 10)
    for subject in ("1", "2", "3"):
        await occur(world, subject)
    await say(world, "n", "old")
    await say(world, "n", "new")
    await read(world, "quick", 5)
    await read(world, "dead", 1)
    assert await kept.after(13.9) == [1, 2, 3, 4, 5]
    assert await kept.after(0.2) == [2, 3, 4, 5]
    assert await kept.after(15.8) == [2, 3, 4, 5]
    assert await kept.after(0.2) == [5]
    assert (kept.expired("read"), kept.expired("unread")) == (1, 3)
    assert world.log.said("events_expired_early") == [{"unread": 3, "size": 0, "events": 3}]
    given = await it.take("dead", 10, 60, 0)
    assert ([event[0] for event in given.events], given.missing) == ([5], 3)  # the gap is told


@pytest.mark.rows("F6")
async def test_the_word_that_somebody_was_erased_is_waited_for(world: World) -> None:
    """A consumer that was off for forty days is given it, also where nothing else of that time is left; after ninety it is gone."""
    kept, it = Kept(world), asking(world)
    await it.add("off", "beginning", Filter(), 10)
    await occur(world, "1")
    now = world.clock.now()
    draft = own.erased_event("user", "ada", "e1", now)
    await world.storage.accept(lambda database: Batch(connection=world.connection(database), observed_at=now, drafts=[draft]))
    assert await kept.after(40) == [2]
    given = await it.take("off", 10, 60, 0)
    assert [wire.decode(event[1]).type for event in given.events if event[1]] == ["user.erased"]
    assert await kept.after(49.5) == [2]
    assert await kept.after(0.8) == []


@pytest.mark.rows("B9")
async def test_a_dead_consumer_is_told_of_at_half_time(world: World) -> None:
    """From half of the longest time on the health says who does not read, and what is going to be lost."""
    look = ConsumersRead(storage=world.storage, clock=world.clock, unread=30 * DAY, size=10**9)
    await asking(world).add("backend", "beginning", Filter(), 10)
    await occur(world, "1")
    await world.clock.advance(14.9 * DAY)
    assert (await look()).well
    await world.clock.advance(0.2 * DAY)
    finding = await look()
    assert (finding.well, finding.warning) == (False, True)
    assert "backend has not read for 15.1 days, and what it does not read within 30.0 is lost to it" in finding.says
    await read(world, "backend", 1)
    assert (await look()).well
    assert "more than retention.size" in (await replace(look, size=100)()).says


@pytest.mark.rows("B6", "B9")
async def test_the_present_state_outlives_its_history(world: World) -> None:
    """However old: a consumer of the present state is given each thing as it is; and what was forgotten is not told again."""
    kept, it = Kept(world), asking(world)
    for subject in ("a", "b", "c"):
        await say(world, subject, "first")
    await say(world, "a", "second")
    await say(world, "b", None)
    assert await kept.after(60) == [3, 4, 5]
    await it.add("new", "present", Filter(), 10)
    given = await it.take("new", 10, 60, 0)
    assert ([event[0] for event in given.events], given.missing) == ([3, 4], 0)
    await say(world, "a", "second")  # the same again: the index knows
    assert (await world.storage.read(outbox.end)).number == 5
    assert await kept.after(31) == [3, 4]
    assert kept.expired("tombstone") == 1
    await say(world, "c", "third")
    assert await kept.after(14.1) == [4, 6]  # what was spared once is looked at again


async def test_what_is_too_much_goes_oldest_first(world: World) -> None:
    """Beyond the size the oldest go until there is room, whoever has still to read them; never what something is now."""
    kept, it = Kept(world, size=3000), asking(world)
    await it.add("slow", "beginning", Filter(), 10)
    await say(world, "n", "stays")
    for subject in range(8):
        await occur(world, str(subject))
    left = await kept.after(0)
    assert left[0] == 1
    assert left[1:] == list(range(left[1], 10))
    assert 2000 < held(world.database).bytes <= 3000
    assert kept.expired("size") == 9 - len(left)
    assert (await it.take("slow", 10, 60, 0)).missing == 9 - len(left)


async def test_small_steps_with_checkpoints(world: World) -> None:
    """No transaction lets go of more than a hundred, and the log is moved into the file after each."""
    kept = Kept(world)
    await world.write(1)
    draft = [wire.draft("acme", Event("seen", str(number), Change.OCCURRED, payload=Document(title="x"))) for number in range(250)]
    now = world.clock.now()
    await world.storage.accept(lambda database: Batch(connection=world.connection(database), observed_at=now, drafts=draft))
    assert await kept.after(14.1) == [1]
    assert kept.left == [151, 51, 1]


@pytest.mark.rows("B5")
async def test_positions_are_not_used_again_after_retention(world: World) -> None:
    """The newest event may go: the next one has a position of its own."""
    kept = Kept(world)
    await occur(world, "1")
    await occur(world, "2")
    assert await kept.after(14.1) == []
    await occur(world, "3")
    assert await kept.after(0) == [3]


async def test_a_full_disk_only_delays(world: World) -> None:
    """What the disk refuses is let go of with the next tick."""
    kept = Kept(world)
    await occur(world, "1")
    world.refuse[drop] = 1
    assert await kept.after(14.1) == [1]
    assert len(world.log.said("retention_waits")) == 1
    assert await kept.after(0) == []


async def test_erased_events_are_counted_out(world: World) -> None:
    """What an erasure takes is no longer counted either."""
    await say(world, "n", "a")
    await occur(world, "1")
    of, now = [world.connection(world.database)], world.clock.now()
    await world.storage.write(erasures.begin, id_="e", kind="user", user="ada", of=of, job_ids=["j"], now=now)
    while await world.storage.write(erasures.erase_some, "e", 1):
        pass
    assert (held(world.database).events, held(world.database).bytes) == (0, 0)
    assert await Kept(world).after(0) == []
