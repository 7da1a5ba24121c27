"""A credential in use: signed requests to a real provider on this machine, renewed through the vault over the real store."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
from aiohttp import web
from daemon.connections.world import CANARIES, NOW, PATIENCE, REFRESH, SECRET, TOKEN, Acme, Chance, Clock, seen
from msgspec.structs import replace

from oo_daemon.connections.credential import Credentials
from oo_daemon.connections.keep_alive import KeepAlive
from oo_daemon.connections.registration import Registrations
from oo_daemon.connections.session import Calls, Client
from oo_daemon.connections.token_endpoint import basic
from oo_daemon.connections.transport import AiohttpTransport
from oo_daemon.connections.uses import Uses
from oo_daemon.host import SameLoop
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import wire
from oo_daemon.ports import SECOND
from oo_daemon.registry import Registry
from oo_daemon.store import connections, credentials, schedule, uses
from oo_daemon.store.connections import Connection, SignedIn
from oo_daemon.store.credentials import CredentialRows
from oo_daemon.store.database import Database
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.storage import Storage, ThreadedStorage, open_database
from oo_sdk import Connector, ConnectorBug, OAuth2, RetryLater, Rotation, Session, Sign, SignInAgain
from oo_vault import CREDENTIAL, Context, CredentialRow, Grant, Keyring, Refresher, Secret

HOUR = 3600


@dataclass
class Provider:
    """A token endpoint that rotates, and an API that takes its latest token only."""

    good: set[str] = field(default_factory=lambda: {TOKEN})
    refresh: str = REFRESH
    renewals: int = 0
    calls: int = 0
    says: list[tuple[int, dict[str, object]]] = field(default_factory=list)  #: what the token endpoint says instead, in order
    refuses_all: bool = False
    gate: asyncio.Event | None = None
    takes: set[str] = field(default_factory=lambda: {SECRET})  #: secrets of our client

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if request.headers["Authorization"] not in {basic("our-client", secret) for secret in self.takes}:
            return web.json_response({"error": "invalid_client"}, status=401)
        self.renewals += 1
        if self.gate is not None:
            async with asyncio.timeout(PATIENCE):
                await self.gate.wait()
        if self.says:
            status, body = self.says.pop(0)
            return web.json_response(body, status=status)
        if form["grant_type"] != "refresh_token" or form["refresh_token"] != self.refresh:
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.refresh, access = f"canary-refresh-{self.renewals}", f"canary-access-{self.renewals}"
        self.good = {access}
        return web.json_response({"access_token": access, "refresh_token": self.refresh, "expires_in": HOUR, "token_type": "Bearer"})

    async def notes(self, request: web.Request) -> web.Response:
        self.calls += 1
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.refuses_all or token not in self.good:
            return web.json_response({"error": "unauthorized"}, status=401)
        return web.json_response({"notes": []})


@dataclass
class World:
    provider: Provider
    storage: Storage
    keyring: Keyring
    clock: Clock
    metrics: MemoryMetrics
    transport: AiohttpTransport
    url: str
    connector: Acme
    credentials: Credentials
    connection: Connection

    async def session(self) -> Session:
        return await self.credentials.session(self.connector, self.connection)

    async def ask(self) -> object:
        async with asyncio.timeout(PATIENCE):
            return await (await self.session()).get(f"{self.url}/notes", into=dict)

    async def row(self) -> CredentialRow:
        return await self.storage.read(credentials.read, self.connection.id)

    async def kept(self) -> tuple[str, str | None, int]:
        grant = (await self.row()).open(self.keyring)
        return grant.access_token.reveal(), grant.refresh_token.reveal() if grant.refresh_token else None, grant.token_version

    def restarted(self) -> World:
        """The same rows, with nothing remembered."""
        refresher = Refresher(rows=CredentialRows(self.storage), keyring=self.keyring, clock=self.clock, chance=Chance(), owner="next")
        return dataclasses.replace(self, credentials=replace(self.credentials, refresher=refresher))


async def _connected(storage: Storage, keyring: Keyring, *, refresh: str | None = REFRESH) -> Connection:
    def put(database: Database) -> Connection:
        connection = connections.put(
            database,
            SignedIn(
                id="c0ffee",
                user="ada",
                provider="acme",
                account="default",
                registration="acme",
                provider_account="",
                label="",
                scopes=(),
                meta={},
            ),
            NOW,
        )
        schedule.create(database, connection.number, NOW)
        place = Context(purpose=CREDENTIAL, connection="c0ffee", user="ada", provider="acme", account="default", token_version=1)
        grant = Grant(
            access_token=Secret(TOKEN),
            refresh_token=None if refresh is None else Secret(refresh),
            expires_at=NOW + HOUR * SECOND,
            obtained_at=NOW,
        )
        credentials.put(database, connection.number, 1, keyring.seal(place, grant.pack()), grant.expires_at)
        return connection

    return await storage.write(put)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        provider = Provider()
        app = web.Application()
        app.add_routes([web.post("/token", provider.token), web.get("/notes", provider.notes)])
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        place = f"127.0.0.1:{runner.addresses[0][1]}"

        storage = ThreadedStorage(open_database(tmp_path / "oo.sqlite3"), wire.encode)
        stack.push_async_callback(storage.close)
        transport = AiohttpTransport(connect_timeout=PATIENCE, read_timeout=PATIENCE, response_limit=10_000, user_agent="oo-test")
        stack.push_async_callback(transport.close)
        clock, chance, keyring, metrics = Clock(), Chance(), Keyring([bytes(range(32))]), MemoryMetrics()
        connector = Acme()
        connector.hosts = (place,)
        connector.auth = OAuth2(
            authorize=f"http://{place}/authorize",
            token=f"http://{place}/token",
            revoke=f"http://{place}/revoke",
            rotation=Rotation(rotates=True),
        )
        registry = Registry(plugins=(), connectors={"acme": connector})
        registrations = Registrations(storage=storage, keyring=keyring, registry=registry, clock=clock, public_url="https://oo.example")
        await registrations.add("acme", "our-client", [Secret(SECRET)])
        refresher = Refresher(rows=CredentialRows(storage), keyring=keyring, clock=clock, chance=chance, owner="me")
        yield World(
            provider=provider,
            storage=storage,
            keyring=keyring,
            clock=clock,
            metrics=metrics,
            transport=transport,
            url=f"http://{place}",
            connector=connector,
            credentials=Credentials(refresher=refresher, registrations=registrations, transport=transport, clock=clock, metrics=metrics),
            connection=await _connected(storage, keyring),
        )


def refreshes(metrics: MemoryMetrics) -> str:
    return "\n".join(line for line in seen(metrics).splitlines() if "refreshes" in line)


async def test_a_token_that_lives_is_used(world: World) -> None:
    """While the token lives it is used as it is."""
    assert await world.ask() == {"notes": []}
    assert (world.provider.calls, world.provider.renewals) == (1, 0)


async def test_a_token_that_has_run_out_is_renewed_unseen(world: World) -> None:
    """A connector never sees that a token ran out; the new pair is kept, and outlives the process."""
    world.clock.time += 2 * HOUR * SECOND
    assert await world.ask() == {"notes": []}
    assert (world.provider.calls, world.provider.renewals) == (1, 1)
    assert await world.kept() == ("canary-access-1", "canary-refresh-1", 2)
    assert await world.restarted().ask() == {"notes": []}
    world.clock.time += 2 * HOUR * SECOND
    assert await world.restarted().ask() == {"notes": []}
    assert await world.kept() == ("canary-access-2", "canary-refresh-2", 3)
    row = await world.row()
    assert (row.state, row.intent, row.lease_owner) == ("good", None, None)
    assert "renewed" in refreshes(world.metrics)


async def test_a_401_renews_once_and_asks_once_more(world: World) -> None:
    """A token that the provider refuses before its time is renewed once, and the request is sent once more."""
    world.provider.good = set()
    assert await world.ask() == {"notes": []}
    assert (world.provider.calls, world.provider.renewals) == (2, 1)


async def test_a_401_that_stays_ends_without_a_loop(world: World) -> None:
    """A provider that refuses the renewed token too is not asked again."""
    world.provider.refuses_all = True
    with pytest.raises(SignInAgain):
        await world.ask()
    assert (world.provider.calls, world.provider.renewals) == (2, 1)


async def test_twenty_at_once_renew_once(world: World) -> None:
    """Of twenty requests at once with a token that has run out, one renews it and all are answered."""
    world.clock.time += 2 * HOUR * SECOND
    sessions = await asyncio.gather(*(world.session() for _ in range(20)))
    async with asyncio.timeout(PATIENCE):
        answers = await asyncio.gather(*(session.get(f"{world.url}/notes", into=dict) for session in sessions))
    assert answers == [{"notes": []}] * 20
    assert (world.provider.calls, world.provider.renewals) == (20, 1)


async def test_twenty_refused_at_once_renew_once(world: World) -> None:
    """Of twenty requests that get a 401 at once, one renews the token and all are answered."""
    world.provider.good = set()
    async with asyncio.timeout(PATIENCE):
        answers = await asyncio.gather(*(world.ask() for _ in range(20)))
    assert answers == [{"notes": []}] * 20
    assert (world.provider.calls, world.provider.renewals) == (40, 1)


async def test_a_grant_that_is_dead_means_sign_in_again(world: World) -> None:
    """When the provider has ended the grant, its owner is asked; the provider is not asked again."""
    world.clock.time += 2 * HOUR * SECOND
    world.provider.refresh = "another"
    for _ in range(2):
        with pytest.raises(SignInAgain) as raised:
            await world.ask()
        assert not any(canary in seen(raised.value) for canary in CANARIES)
    assert world.provider.calls == 0
    assert world.provider.renewals == 2  # once more, since a provider that is safe to ask again may have been in a hurry
    assert (await world.row()).state == "dead"
    assert "grant_dead" in refreshes(world.metrics)


async def test_a_refused_registration_is_the_operator_s(world: World) -> None:
    """When our registration is refused, the sync waits, the grant is untouched, and works again once that is put right."""
    world.clock.time += 2 * HOUR * SECOND
    world.provider.says = [(401, {"error": "invalid_client"})]
    with pytest.raises(RetryLater, match="client secret") as raised:
        await world.ask()
    assert raised.value.after is not None
    assert raised.value.after.total_seconds() == 900
    row = await world.row()
    assert (row.state, row.intent, row.token_version) == ("good", None, 1)
    assert "client_refused" in refreshes(world.metrics)
    world.clock.time += HOUR * SECOND
    assert await world.ask() == {"notes": []}


async def test_a_provider_that_is_down_is_tried_later(world: World) -> None:
    """When the token endpoint is down, the sync comes back no earlier than asked, and then all is well."""
    world.clock.time += 2 * HOUR * SECOND
    world.provider.says = [(503, {})]
    with pytest.raises(RetryLater) as raised:
        await world.ask()
    assert raised.value.after is not None
    assert raised.value.after.total_seconds() > 0
    assert world.provider.renewals == 1
    world.clock.time += int(raised.value.after.total_seconds() + 1) * SECOND
    assert await world.ask() == {"notes": []}
    assert (await world.row()).intent is None


async def test_a_living_token_bridges_a_provider_that_is_down(world: World) -> None:
    """Near its end a token is renewed early; if that fails it is used while it lives."""
    world.clock.time += (HOUR - 100) * SECOND
    world.provider.says = [(503, {})]
    assert await world.ask() == {"notes": []}
    assert (world.provider.renewals, world.provider.calls) == (1, 1)


async def test_who_gives_up_does_not_cut_off_a_renewal(world: World) -> None:
    """A request that is cancelled while the token is renewed leaves the renewal to come to its end."""
    world.clock.time += 2 * HOUR * SECOND
    world.provider.gate = asyncio.Event()
    asked = asyncio.ensure_future(world.ask())
    async with asyncio.timeout(PATIENCE):
        while not world.provider.renewals:
            await asyncio.sleep(0.001)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    world.provider.gate.set()
    await world.credentials.refresher.finish()
    assert await world.kept() == ("canary-access-1", "canary-refresh-1", 2)


async def test_a_connection_without_credential(world: World) -> None:
    """Where the credential was deleted, its owner is asked to sign in."""
    await world.storage.write(credentials.delete, world.connection.number)
    with pytest.raises(SignInAgain):
        await world.ask()


async def test_a_connection_without_registration(world: World) -> None:
    """A connection whose registration is not named is a bug; one whose registration is gone must be signed in again."""
    with pytest.raises(ConnectorBug):
        await world.credentials.session(world.connector, replace(world.connection, registration=None))
    with pytest.raises(SignInAgain):
        await world.credentials.session(world.connector, replace(world.connection, registration="gone"))


class Open(Connector):
    """A provider that needs no sign-in."""

    id = "open"


async def test_a_connector_without_sign_in(world: World) -> None:
    """Where there is nothing to sign in to, requests go out unsigned, and signed ones are a bug."""
    connector = Open()
    connector.hosts = world.connector.hosts
    session = await world.credentials.session(connector, world.connection)
    with pytest.raises(ConnectorBug, match="NOBODY"):
        await session.get(f"{world.url}/notes")
    response = await session.request("GET", f"{world.url}/nothing", sign=Sign.NOBODY, accept=(404,))
    assert response.status == 404


async def test_nothing_on_a_connection_s_session_shows_a_secret(world: World) -> None:
    """Neither the session of a connection, nor any error that it raises, shows a token, a refresh token or our secret."""
    session = await world.session()
    await session.get(f"{world.url}/notes")
    world.provider.refuses_all = True
    with pytest.raises(SignInAgain) as refused:
        await session.get(f"{world.url}/notes")
    world.provider.says = [(500, {"echo": REFRESH})] * 2
    world.clock.time += 2 * HOUR * SECOND
    with pytest.raises(RetryLater) as later:
        await session.get(f"{world.url}/notes")
    for thing in (session, refused.value, later.value, world.connection):
        assert "canary" not in seen(thing)


# --- in use ----------------------------------------------------------------------------------------------------------


async def test_a_session_looks_at_its_row_once_a_second(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many calls in a second cost one look; a sign-in or disconnect is noticed within one; a short life is always looked at."""
    looks = 0
    read = credentials.read

    def counted(database: Database, connection: str) -> CredentialRow:
        nonlocal looks
        looks += 1
        return read(database, connection)

    monkeypatch.setattr(credentials, "read", counted)
    session = await world.session()
    for _ in range(10):
        await session.get(f"{world.url}/notes")
    assert looks == 1
    world.clock.time += SECOND
    await session.get(f"{world.url}/notes")
    assert looks == 2
    world.clock.time += (HOUR - 301) * SECOND  # its margin has not begun, but soon
    await world.storage.write(credentials.delete, world.connection.number)
    with pytest.raises(SignInAgain):
        await session.get(f"{world.url}/notes")


@pytest.mark.rows("F12")
async def test_each_use_is_counted(world: World) -> None:
    """By connection, host and hour, also a use that was refused; a request that carries nothing is none, and no token is in it."""
    counts = Uses(storage=world.storage, clock=world.clock)
    credentials_ = replace(world.credentials, used=counts.used)
    session = await credentials_.session(world.connector, world.connection)
    for _ in range(3):
        await session.get(f"{world.url}/notes")
    await session.request("GET", f"{world.url}/notes", sign=Sign.NOBODY, accept=(401,))
    await counts.write()
    world.clock.time += HOUR * SECOND
    world.provider.good.clear()
    await session.get(f"{world.url}/notes")
    found = await counts.of(world.connection.number, 0)
    assert found == await counts.of(world.connection.number, found[1].hour + 1)
    assert found[:1] == await counts.of(world.connection.number, found[1].hour + HOUR * SECOND)
    host = world.url.removeprefix("http://")
    assert [(use.host, use.uses) for use in found] == [(host, 1), (host, 3)]
    assert found[0].hour - found[1].hour == HOUR * SECOND
    world.clock.time += 91 * 24 * HOUR * SECOND
    await counts.tidy()
    assert await world.storage.read(uses.of, world.connection.number, 0) == []


async def test_uses_of_a_connection_that_is_gone(world: World) -> None:
    """What was counted for a connection that is erased meanwhile is forgotten; what the disk refused is counted with the next."""
    counts = Uses(storage=world.storage, clock=world.clock)
    counts.used(world.connection.number, "a.example")
    counts.used(world.connection.number + 1, "a.example")
    real, world.storage.write = world.storage.write, AsyncMock(side_effect=CannotStore("full"))  # type: ignore[method-assign]
    with pytest.raises(CannotStore):
        await counts.write()
    world.storage.write = real  # type: ignore[method-assign]
    counts.used(world.connection.number, "a.example")
    await counts.write()
    assert await world.storage.read(lambda database: database.rows("SELECT connection, uses FROM credential_use")) == [
        (world.connection.number, 2)
    ]


async def test_a_session_that_is_opened_with_its_first_request(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync that asks nothing costs no look at its registration; one that asks looks once, and its calls are counted."""
    looks = 0
    real = world.credentials.registrations.client

    async def client(registration: str) -> Client:
        nonlocal looks
        looks += 1
        return await real(registration)

    calls = Calls()
    async with asyncio.timeout(PATIENCE):
        monkeypatch.setattr(Registrations, "client", lambda _, registration: client(registration))
        session = world.credentials.unopened(world.connector, world.connection, calls)
        assert looks == 0
        await session.get(f"{world.url}/notes")
        await session.request("GET", f"{world.url}/notes")
    assert (calls.made, looks) == (2, 1)
    gone = world.credentials.unopened(world.connector, replace(world.connection, registration=None), calls)
    with pytest.raises(ConnectorBug, match="no registration"):
        await gone.get(f"{world.url}/notes")


@pytest.mark.rows("C13")
async def test_a_grant_that_lies_idle_is_kept_alive(world: World) -> None:
    """A month after its last token ran out a grant is renewed, once, also while paused; where the provider is down, again."""
    keep = KeepAlive(
        storage=world.storage,
        registry=Registry(plugins=(), connectors={"acme": world.connector}),
        credentials=world.credentials,
        guests=SameLoop(),
        clock=world.clock,
    )
    await world.storage.write(lambda database: database.rows("UPDATE connection SET state = 'paused'"))
    world.clock.time += (29 * 24 * HOUR) * SECOND
    await keep.tick()
    assert world.provider.renewals == 0
    world.clock.time += (2 * 24 * HOUR) * SECOND
    world.provider.says = [(500, {})]
    await keep.tick()
    world.clock.time += HOUR * SECOND
    await keep.tick()
    await keep.tick()
    assert world.provider.renewals == 2
    assert (await world.kept())[2] == 2
    await world.storage.write(lambda database: database.rows("UPDATE connection SET state = 'disconnected'"))
    world.clock.time += (40 * 24 * HOUR) * SECOND
    await keep.tick()
    assert world.provider.renewals == 2


@pytest.mark.rows("C12")
async def test_our_secret_is_changed_without_a_refused_refresh(world: World) -> None:
    """New secret added here, then at the provider, then the old one taken away there and here: every renewal succeeds."""
    provider = world.provider

    async def renewed() -> None:
        world.clock.time += HOUR * SECOND
        before = provider.renewals
        assert await world.ask() == {"notes": []}
        assert provider.renewals == before + 1

    await renewed()
    await world.credentials.registrations.add("acme", "our-client", [Secret("newer-secret"), Secret(SECRET)])
    await renewed()
    provider.takes.add("newer-secret")
    await renewed()
    provider.takes.discard(SECRET)
    await renewed()
    await world.credentials.registrations.add("acme", "our-client", [Secret("newer-secret")])
    await renewed()
