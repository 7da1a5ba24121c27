"""Subscriptions, over the real store on a virtual clock, at a provider that lets them expire."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from daemon.connections.world import Acme
from daemon.sync.world import Hub, Sessions
from daemon.virtual import SeededChance

from oo_daemon.connections.credential import Credentials
from oo_daemon.connections.guest import Contexts
from oo_daemon.connections.registration import Registrations
from oo_daemon.connections.sources import Sources
from oo_daemon.connections.subscriptions import EVERY, Subscriptions, reachable
from oo_daemon.host import SameLoop
from oo_daemon.ops.health import SubscriptionsStand
from oo_daemon.outbox import own, wire
from oo_daemon.ports import SECOND, moment
from oo_daemon.registry import Registry
from oo_daemon.store import connections, schedule, subscriptions
from oo_daemon.store.connections import Connection, SignedIn
from oo_daemon.store.database import Database
from oo_daemon.store.storage import InlineStorage, open_database
from oo_sdk import Address, Context, Delivery, News, Nudge, RetryLater, Scheme, Subscription
from oo_sdk.schemes import SCHEMES
from oo_vault import Keyring, Secret

LIFE = timedelta(days=7)
HOUR, DAY = 3600.0, 86_400.0


@dataclass
class Provider:
    """What stands at the provider: address id → topic and end."""

    hub: Hub
    standing: dict[str, Subscription] = field(default_factory=dict)
    topics: list[str] = field(default_factory=lambda: ["work", "home"])
    addresses: list[Address] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)  #: parts of their lives after which they were renewed
    refuses: bool = False
    loses_answers: int = 0  #: it subscribes, and the answer does not arrive
    in_place: bool = False

    def live(self) -> list[str]:
        now = moment(self.hub.clock.now())
        return sorted(each.topic for each in self.standing.values() if each.expires_at and each.expires_at > now)


class Calls(Acme):
    """Acme, which calls back."""

    webhooks: Scheme | None = SCHEMES["google-channel"]

    def __init__(self, provider: Provider) -> None:
        self.provider = provider

    async def route(self, delivery: Delivery) -> Sequence[str]:
        return [delivery.headers["x-goog-channel-id"]]

    async def read(self, delivery: Delivery) -> Sequence[News]:
        return [Nudge()]

    async def topics(self, ctx: Context) -> Sequence[str]:
        return self.provider.topics

    async def subscribe(self, ctx: Context, topic: str, address: Address) -> Subscription:
        if self.provider.refuses:
            raise RetryLater("not now")
        made = Subscription(id=address.id, topic=topic, handle=f"there-{address.id}", expires_at=ctx.clock.now() + LIFE)
        self.provider.standing[made.id] = made
        self.provider.addresses.append(address)
        if self.provider.loses_answers:
            self.provider.loses_answers -= 1
            raise RetryLater("the answer was lost")
        return made

    async def renew(self, ctx: Context, standing: Subscription, address: Address) -> Subscription:
        assert standing.expires_at is not None
        self.provider.ages.append(1 - (standing.expires_at - ctx.clock.now()) / LIFE)
        if self.provider.in_place:
            kept = Subscription(id=standing.id, topic=standing.topic, handle=standing.handle, expires_at=ctx.clock.now() + LIFE)
            self.provider.standing[kept.id] = kept
            return kept
        return await self.subscribe(ctx, standing.topic, address)

    async def unsubscribe(self, ctx: Context, standing: Subscription, address: Address) -> None:
        self.provider.standing.pop(standing.id, None)


@dataclass
class World:
    hub: Hub
    provider: Provider
    connector: Calls
    subscribing: Subscriptions

    async def pass_(self, seconds: float, step: float = HOUR) -> None:
        """Let time pass, with a look every so often."""
        for _ in range(int(seconds / step)):
            await self.hub.clock.advance(step)
            await self.subscribing.tick()

    async def signed_in(self) -> Connection:
        signed_in = SignedIn(
            id="c1",
            user="ada",
            provider="acme",
            account="default",
            registration="acme",
            provider_account="acc-1",
            label="",
            scopes=("notes.read",),
            meta={},
        )

        def put(database: Database) -> Connection:
            connection = connections.put(database, signed_in, self.hub.clock.now())
            schedule.create(database, connection.number, self.hub.clock.now())
            return connection

        return await self.hub.storage.write(put)

    def rows(self) -> list[tuple[str, str]]:
        return [(topic, state) for topic, state in self.hub.database.rows("SELECT topic, state FROM subscription ORDER BY topic, state")]

    async def says(self) -> str:
        return (await SubscriptionsStand(storage=self.hub.storage)()).says


@pytest.fixture
async def world(tmp_path: Path, empty: Path) -> World:
    database = open_database(Path(shutil.copy(empty, tmp_path / "oo.db")))
    database.rows("PRAGMA synchronous = 0")  # no power is cut here
    hub = Hub(storage=InlineStorage(database, wire.encode))
    provider = Provider(hub)
    connector = Calls(provider)
    return World(hub, provider, connector, await a_room(hub, connector, "https://oo.example"))


async def a_room(hub: Hub, connector: Calls, public_url: str) -> Subscriptions:
    registry = Registry(plugins=(), connectors={"acme": connector})
    keyring = Keyring([bytes(range(32))])
    registrations = Registrations(storage=hub.storage, keyring=keyring, registry=registry, clock=hub.clock, public_url=public_url)
    chance = SeededChance()
    sources = Sources(
        storage=hub.storage,
        keyring=keyring,
        registry=registry,
        registrations=registrations,
        clock=hub.clock,
        chance=chance,
        public_url=public_url,
        connection_event=own.connection_event,
    )
    await sources.keep(await registrations.add("acme", "our-client", [Secret("client-secret")]))
    return Subscriptions(
        storage=hub.storage,
        registry=registry,
        sources=sources,
        contexts=Contexts(credentials=cast(Credentials, Sessions()), clock=hub.clock, log_for=lambda connection, provider: hub.log),
        guests=SameLoop(),
        clock=hub.clock,
        chance=chance,
        metrics=hub.metrics,
        log=hub.log,
        public_url=public_url,
        interval=300.0,
    )


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with nothing in it, to be copied."""
    path = tmp_path_factory.mktemp("subscriptions") / "empty.db"
    open_database(path).close()
    return path


async def test_what_a_connection_has_is_subscribed_to(world: World) -> None:
    """After the sign-in, at our address and with its secret; a push finds the connection by the id that it carries."""
    connection = await world.signed_in()
    await world.pass_(EVERY, EVERY)
    assert world.provider.live() == ["home", "work"]
    address = world.provider.addresses[0]
    source = world.subscribing.sources.of("acme")
    assert source is not None
    assert address.url == source.url
    assert source.held(world.hub.clock.now()) == [address.secret.encode()]
    assert address.secret not in repr(address)
    found = await world.hub.storage.read(connections.at_accounts, "acme", [address.id])
    assert [each.number for each in found] == [connection.number]


@pytest.mark.rows("A23")
@pytest.mark.parametrize("in_place", [True, False])
async def test_for_sixty_days_none_expires(world: World, *, in_place: bool) -> None:
    """Each is renewed once half of its life is over, in place or by another; what was replaced is gone."""
    world.provider.in_place = in_place
    await world.signed_in()
    await world.pass_(HOUR)
    for _ in range(60 * 24):
        await world.pass_(HOUR)
        assert world.provider.live() == ["home", "work"]
        assert len(world.provider.standing) == 2
    assert len(world.provider.ages) == 2 * 17
    assert all(0.5 <= age < 0.5 + 1.01 * HOUR / LIFE.total_seconds() for age in world.provider.ages)
    assert world.rows().count(("work", "standing")) == 1
    assert len(world.rows()) <= 4, "what has ended is forgotten"


@pytest.mark.rows("A23")
async def test_a_renewal_that_fails_alarms_and_polls_stand_in(world: World) -> None:
    """A line in the log, a number and a warning; the next poll is soon, and polls do not thin out; when it works again all that is over."""
    connection = await world.signed_in()
    await world.pass_(HOUR)
    far = world.hub.clock.now() + int(30 * DAY) * SECOND
    world.hub.database.rows("UPDATE schedule SET next_run_at = ?, stretch = 72, pushed_at = 1", (far,))
    world.provider.refuses = True
    await world.pass_(3.5 * DAY)
    assert world.hub.log.said("subscription_failed")[0]["reason"] == "not now"
    assert world.hub.metrics.values()["subscription_failures_total", (("provider", "acme"),)] >= 1
    assert await world.says() == "connections without pushes, polled in their place: 1 at acme"
    assert world.hub.database.rows("SELECT pushed_at, stretch FROM schedule") == [(None, 1)]
    planned = await world.hub.schedule(connection.number)
    assert planned.next_run_at is not None
    assert planned.next_run_at <= world.hub.clock.now() + 300 * SECOND
    await world.pass_(5 * DAY)
    assert world.provider.live() == []
    world.provider.refuses = False
    await world.pass_(2 * HOUR)
    assert world.provider.live() == ["home", "work"]
    assert await world.says() == ""


async def test_orphans_are_ended(world: World) -> None:
    """One whose answer was lost is ended when the next is made; of a topic that is no more, within a day."""
    world.provider.loses_answers = 1
    await world.signed_in()
    await world.pass_(HOUR)
    assert len(world.provider.standing) == 1
    await world.pass_(2 * HOUR)
    assert len(world.provider.standing) == 2
    assert world.provider.live() == ["home", "work"]
    world.provider.topics.remove("home")
    await world.pass_(DAY + HOUR)
    assert world.provider.live() == ["work"]


async def test_a_connection_that_ends_is_unsubscribed(world: World) -> None:
    """All that stands is ended at the provider; asked again there is nothing to do."""
    connection = await world.signed_in()
    await world.pass_(HOUR)
    assert await world.subscribing.end(world.connector, connection)
    assert world.provider.standing == {}
    assert {state for _, state in world.rows()} == {"ended"}
    assert await world.subscribing.end(world.connector, connection)


async def test_only_where_we_can_be_reached(world: World) -> None:
    """Providers push over TLS; plain HTTP is for sandboxes on this machine."""
    await world.signed_in()
    world.subscribing.public_url = "http://oo.example"
    await world.pass_(HOUR)
    assert world.provider.standing == {}
    assert [reachable(url) for url in ("https://oo.example", "http://127.0.0.1:8710", "http://[::1]:1", "http://10.0.0.1")] == [
        True,
        True,
        True,
        False,
    ]
    assert await world.hub.storage.read(subscriptions.of, 1) == []
