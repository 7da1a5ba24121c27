"""Outages, in virtual time: a provider that is down is called seldom, whoever wants to, and what a silent door has missed is fetched."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from daemon.sync.test_schedule import dispatcher
from daemon.sync.world import PROVIDER, Feed, Hub, note
from daemon.virtual import settle

from oo_daemon.connections.breaker import Breakers
from oo_daemon.connections.credential import Credentials
from oo_daemon.connections.transport import Request
from oo_daemon.ports import SECOND
from oo_daemon.store.inbox import Nudged
from oo_daemon.sync.plan import RECONCILE
from oo_sdk import Checkpoint, Connector, Context, Cursor, Event, Response, Sign, Signal

CONNECTIONS = 1000
HOUR, TICK = 3600.0, 5.0
OPEN = ("breaker_open", (("provider", PROVIDER),))


class Asks(Connector):
    """Asks its provider once with each sync."""

    id = PROVIDER
    hosts = ("api.acme.example",)

    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        await ctx.http.post("https://api.acme.example/changes", json={}, sign=Sign.NOBODY)
        yield Checkpoint({"at": (since or {"at": 0})["at"] + 1})


class Provider:
    """A provider that is down for an hour, and counts who calls it."""

    def __init__(self, hub: Hub, down_from: float, down_until: float) -> None:
        self.hub, self.down_from, self.down_until = hub, down_from, down_until
        self.failed: list[bool] = []  #: for each call in vain, whether the breaker was open by then
        self.answered = 0

    async def send(self, request: Request) -> Response:
        now = self.hub.clock.monotonic()
        if self.down_from <= now < self.down_until:
            self.failed.append(self.hub.metrics.values().get(OPEN, 0.0) == 1.0)
            return Response(status=503, headers={}, body=b"")
        self.answered += 1
        return Response(status=200, headers={"content-type": "application/json"}, body=b"{}")


@pytest.mark.rows("E6")
@pytest.mark.timeout(120)
async def test_an_hour_without_a_provider(hub: Hub) -> None:
    """A thousand connections make at most 120 calls in the hour after the breaker has opened, and go on by themselves."""
    hub.chance = cast(Any, Spread())
    for number in range(CONNECTIONS):
        await hub.connect(f"c{number}", user=f"u{number}", due=hub.clock.now() + number * 300 * SECOND // CONNECTIONS)
    provider = Provider(hub, 300.0, 300.0 + HOUR)
    breakers = Breakers(monotonic=hub.clock.monotonic, metrics=hub.metrics)
    nobody = cast(Any, None)
    credentials = Credentials(
        refresher=nobody,
        registrations=nobody,
        transport=provider,
        clock=hub.clock,
        metrics=hub.metrics,
        used=lambda *_: None,
        budgets=None,
        breakers=breakers,
    )
    sync = hub.sync(Asks())
    object.__setattr__(sync, "credentials", credentials)
    dispatch = dispatcher(hub, sync.run, workers=8)

    async def live(until: float) -> None:
        while hub.clock.monotonic() < until:
            await dispatch.tick()
            await settle()
            while dispatch.line.waiting:
                await dispatch.tick()
                await settle()
            await hub.clock.advance(TICK)

    await live(300.0)
    assert provider.answered >= CONNECTIONS * 0.99
    assert not provider.failed
    await live(300.0 + HOUR)
    assert provider.failed.count(False) <= 150, "half of the calls of a minute, which went well before"
    assert 50 <= provider.failed.count(True) <= 120, "somebody looks whether it is over, and few do"
    answered = provider.answered
    await live(300.0 + HOUR + 300.0)
    assert hub.metrics.values()[OPEN] == 0.0, "one that looked has found it well"
    assert provider.answered - answered > CONNECTIONS / 10


class Spread:
    """Chance that spreads, the same each time."""

    def __init__(self) -> None:
        self._random = random.Random(7)

    def token_bytes(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


@pytest.mark.rows("A22")
async def test_two_hours_without_pushes(hub: Hub) -> None:
    """What a provider pushed in vain for two hours is there within one cycle, once, and polls are frequent again until pushes work."""
    changes: list[Event] = []
    feed = Feed(changes, 100)
    await hub.connect()
    sync = hub.sync(feed)
    await hub.once(sync)

    async def happens(number: int, *, pushed: bool) -> None:
        changes.append(note(f"n{number}"))
        if pushed:
            mark = Nudged(connection=1, now=hub.clock.now())
            await hub.storage.write(mark.apply)
            await hub.once(sync)

    for number in range(20):  # pushes work: polls come seldom
        await happens(number, pushed=True)
        await hub.when_due(sync)
    planned = await hub.schedule()
    assert planned.next_run_at is not None
    assert planned.next_run_at - hub.clock.now() > 2 * HOUR * SECOND
    began = hub.clock.now()
    for number in range(20, 520):  # our door is shut for two hours
        await happens(number, pushed=False)
        await hub.clock.advance(2 * HOUR / 500)
    told = len(hub.told())
    assert told == 20
    await hub.when_due(sync)
    assert hub.clock.now() - began <= (RECONCILE + 300) * SECOND
    assert [subject for subject, _, _ in hub.told()] == [f"n{number}" for number in range(520)]
    planned = await hub.schedule()
    assert planned.next_run_at is not None
    assert planned.next_run_at - hub.clock.now() == 300 * SECOND
    await hub.when_due(sync)
    assert len(hub.told()) == 520
