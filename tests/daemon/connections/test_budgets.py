"""Budgets and breakers: no more calls than a provider allows, and few while it is down."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from daemon.store.world import signed_in
from daemon.virtual import VirtualClock

from oo_daemon.connections.breaker import OPEN, Breaker
from oo_daemon.connections.budgets import DOOR, Budgets, bucket
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.ports import SECOND
from oo_daemon.store import budgets as store_budgets
from oo_daemon.store import connections
from oo_daemon.store.connections import Connection
from oo_daemon.store.storage import InlineStorage, open_database
from oo_sdk import Connector, QuotaSpent, RateLimit


class Acme(Connector):
    id = "acme"
    limits: tuple[RateLimit, ...] = (RateLimit(60, per="minute"),)


class Shared(Connector):
    id = "acme"
    limits = (RateLimit(100, per="minute", of="client"), RateLimit(80, per="minute"))


@dataclass
class Strict:
    """A provider that counts calls in a window that slides, and says 429 to one too many."""

    clock: VirtualClock
    calls: int
    seconds: float
    taken: deque[float] = field(default_factory=deque)
    asked: int = 0
    refused: int = 0

    def ask(self) -> bool:
        now = self.clock.monotonic()
        while self.taken and self.taken[0] <= now - self.seconds:
            self.taken.popleft()
        self.asked += 1
        if len(self.taken) >= self.calls:
            self.refused += 1
            return False
        self.taken.append(now)
        return True


@dataclass
class World:
    storage: InlineStorage
    clock: VirtualClock
    provider: Strict

    def budgets(self) -> Budgets:
        return Budgets(storage=self.storage, clock=self.clock, metrics=MemoryMetrics())

    async def connect(self, name: str, user: str) -> Connection:
        return await self.storage.write(connections.put, signed_in(name, user=user), self.clock.now())

    async def caller(self, budgets: Budgets, connector: Connector, connection: Connection, *, waited_for: bool = False) -> None:
        """Call as fast as the budget lets it."""
        while True:
            try:
                await budgets.take(connector, connection, waited_for=waited_for)
            except QuotaSpent as spent:
                await self.clock.sleep(max(0.1, spent.until.timestamp() - self.clock.now() / SECOND))
                continue
            if not self.provider.ask():
                await budgets.refused(connector, connection, timedelta(seconds=5))
            await self.clock.sleep(0.01)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = VirtualClock()
    database = open_database(tmp_path / "oo.sqlite3")
    yield World(InlineStorage(database, lambda *_: lambda *_: b""), clock, Strict(clock, 60, 60.0))
    database.close()


async def _run(world: World, tasks: list[asyncio.Task[None]], seconds: float) -> None:
    await world.clock.advance(seconds)
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.rows("E7")
@pytest.mark.parametrize("processes", [1, 3])
async def test_a_strict_provider_never_says_no(world: World, processes: int) -> None:
    """However fast processes would call, a provider that counts strictly hardly ever refuses, and after five minutes never.

    Most of its limit is used.
    """
    connection = await world.connect("c1", "ada")
    tasks = [asyncio.ensure_future(world.caller(world.budgets(), Acme(), connection)) for _ in range(processes)]
    await world.clock.advance(300)
    refused = world.provider.refused
    assert refused <= world.provider.asked * 0.01
    assert world.provider.asked >= 0.6 * 60 * 5
    await _run(world, tasks, 300)
    assert world.provider.refused == refused
    assert world.provider.asked >= 0.6 * 60 * 10


@pytest.mark.rows("E7")
async def test_users_share_what_our_registration_may(world: World) -> None:
    """What a provider allows to our registration is shared by all its users, and each keeps to a limit of its own."""
    world.provider = Strict(world.clock, 100, 60.0)
    budgets = world.budgets()
    tasks = [asyncio.ensure_future(world.caller(budgets, Shared(), await world.connect(f"c{number}", f"u{number}"))) for number in range(5)]
    await _run(world, tasks, 180)
    assert world.provider.refused <= world.provider.asked * 0.01
    assert world.provider.asked >= 180


@pytest.mark.rows("E7")
async def test_somebody_who_waits_need_not(world: World) -> None:
    """While polls use all that they may, a call that somebody waits for goes through at once."""
    budgets, connection = world.budgets(), await world.connect("c1", "ada")
    polls = asyncio.ensure_future(world.caller(budgets, Acme(), connection))
    await world.clock.advance(100)
    other = world.budgets()
    before = world.clock.monotonic()
    await world.clock.until(other.take(Acme(), connection, waited_for=True))
    assert world.clock.monotonic() == before
    await _run(world, [polls], 0)


async def test_a_refusal_holds_for_everybody_and_outlives_the_process(world: World) -> None:
    """Once a provider has said how long to wait nobody calls before, be it another process; also where it declares no limit."""

    class Unlimited(Connector):
        id = "acme"

    connection, other = await world.connect("c1", "ada"), await world.connect("c2", "bob")
    for connector in (Acme(), Unlimited()):
        await world.budgets().refused(connector, connection, timedelta(seconds=100))
        with pytest.raises(QuotaSpent) as spent:
            await world.budgets().take(connector, connection, waited_for=True)
        assert spent.value.until.timestamp() >= world.clock.now() / SECOND + 100
        await world.budgets().take(connector, other, waited_for=False)
        await world.clock.advance(100.1)
        await world.clock.until(world.budgets().take(connector, connection, waited_for=True))


@pytest.mark.parametrize("calls", [1, 2, 4, 10, 60, 450, 10_000])
def test_a_bucket_keeps_to_its_limit(calls: int) -> None:
    """A full bucket and what fills in during a period come to no more than is allowed, and to at least half of it."""
    size = bucket(RateLimit(calls, per="minute"))
    most = size.burst + size.rate * 60
    assert most < calls + 1
    assert size.rate * 60 >= calls / 2


# --- breakers --------------------------------------------------------------------------------------------------------


@pytest.mark.rows("E6")
def test_an_outage_of_an_hour() -> None:
    """While a provider is down for an hour and a thousand connections want to call it, it is called once a minute."""
    breaker, made = Breaker(), 0
    for second in range(3600):
        for _ in range(10):
            if not breaker.wait(second):
                made += 1
                breaker.heard(None if second % 2 else 503, second)
    assert made <= 20 + 60
    while breaker.wait(3600):
        assert breaker.wait(3700) == 0
        breaker.heard(200, 3700)
        break
    assert not breaker.is_open


@pytest.mark.rows("E6")
@pytest.mark.parametrize("status", [401, 403, 429, 404, 200])
def test_what_is_no_outage(status: int) -> None:
    """What a provider refuses, or does not have, does not keep others from calling it."""
    breaker = Breaker()
    for second in range(100):
        breaker.heard(status, second * 0.1)
    assert not breaker.is_open


def test_half_of_twenty() -> None:
    """It takes twenty calls within a minute, half of them failures; one call at a time looks whether it is over."""
    breaker = Breaker()
    for number in range(19):
        breaker.heard(500, number)
    assert not breaker.is_open
    breaker.heard(200, 19)
    assert breaker.is_open
    assert breaker.wait(20) == OPEN - 1
    assert breaker.wait(80) == 0
    assert breaker.wait(80) == OPEN, "the probe is under way"
    slow = Breaker()
    for number in range(100):
        slow.heard(500, number * 10)
    assert not slow.is_open


# --- what is left ----------------------------------------------------------------------------------------------------


@pytest.mark.rows("E7")
async def test_what_is_left_is_shown(world: World) -> None:
    """Of each limit: as many calls as may be made at once now, and until when the provider wants none."""
    connection = await world.connect("c1", "ada")
    budgets = world.budgets()
    (person,) = await budgets.left(Acme(), connection)
    assert (person.limit.calls, person.left, person.burst, person.closed_until) == (60, 15, 15, None)
    for _ in range(5):
        await budgets.take(Acme(), connection, waited_for=True)
    assert [each.left for each in await budgets.left(Acme(), connection)] == [10]
    await world.clock.advance(3600)
    assert [each.left for each in await budgets.left(Acme(), connection)] == [15]
    await budgets.refused(Acme(), connection, timedelta(seconds=100))
    (person,) = await budgets.left(Acme(), connection)
    assert (person.left, person.closed_until) == (0, world.clock.now() + 100 * SECOND)
    assert [each.limit.of for each in await budgets.left(Shared(), connection)] == ["client", "user"]
    assert await budgets.left(Connector(), connection) == []


@pytest.mark.rows("E7", "H6")
async def test_the_emptiest_is_measured(world: World) -> None:
    """The number is that of whoever has least; where nobody calls any more it is whole again."""
    ada, bob = await world.connect("c1", "ada"), await world.connect("c2", "bob")
    metrics = MemoryMetrics()
    budgets = Budgets(storage=world.storage, clock=world.clock, metrics=metrics)
    for _ in range(12):
        await budgets.take(Acme(), ada, waited_for=True)
    await budgets.take(Acme(), bob, waited_for=True)
    await budgets.tell()
    series = ("budget_left_ratio", (("kind", "user"), ("provider", "acme")))
    assert metrics.values()[series] == 0.2
    await budgets.tell()
    assert metrics.values()[series] == 1.0


async def test_without_a_limit_the_door_is_looked_at_once_a_second(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls to a provider that declares no limit do not each ask the database; what another process was told is kept to within a second."""

    class Unlimited(Connector):
        id = "acme"

    looks = 0
    draw = store_budgets.draw

    def look(*given: Any, **more: Any) -> Any:
        nonlocal looks
        looks += 1
        return draw(*given, **more)

    monkeypatch.setattr(store_budgets, "draw", look)
    connection, budgets = await world.connect("c1", "ada"), world.budgets()
    for _ in range(1000):
        await budgets.take(Unlimited(), connection, waited_for=False)
    assert looks == 1
    await world.budgets().refused(Unlimited(), connection, timedelta(seconds=100))
    await world.clock.advance(DOOR + 0.1)
    with pytest.raises(QuotaSpent):
        await budgets.take(Unlimited(), connection, waited_for=False)
