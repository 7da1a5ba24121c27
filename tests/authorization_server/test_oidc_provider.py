"""Signing in, refreshing and giving back at panva's oidc-provider, which nobody here wrote.

It rotates refresh tokens, and ends the whole grant when one is used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import aiohttp
import pytest
from authorization_server.process import serving
from daemon.connections.world import PATIENCE, Chance, Clock
from daemon.virtual import Notes

from oo_daemon.connections.connect import Connect
from oo_daemon.connections.credential import Credentials
from oo_daemon.connections.guest import Contexts
from oo_daemon.connections.registration import Registrations
from oo_daemon.connections.token_endpoint import basic
from oo_daemon.connections.transport import AiohttpTransport, NoAnswer, NotSent, Request
from oo_daemon.host import SameLoop
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import own, wire
from oo_daemon.ports import SECOND
from oo_daemon.registry import Registry
from oo_daemon.store import connections, credentials
from oo_daemon.store.connections import Connection
from oo_daemon.store.credentials import CredentialRows
from oo_daemon.store.storage import ThreadedStorage, open_database
from oo_sdk import Connector, OAuth2, Response, RetryLater, Revoked, Rotation, Scope, SignInAgain
from oo_vault import CredentialRow, Keyring, Refresher, Secret

PUBLIC = "https://oo.example"
SECRET = "canary/secret+0123456789"
HOUR = 3600 * SECOND


class Real(Connector):
    """A connector for it."""

    id = "real"
    scopes = (Scope("openid", "Know who you are."), Scope("offline_access", "Read while you are away."))

    def __init__(self, address: str, *, rotates: bool) -> None:
        self.rotates = rotates
        self.hosts = [urlsplit(address).netloc]
        self.auth = OAuth2(
            authorize=f"{address}/auth",
            token=f"{address}/token",
            revoke=f"{address}/token/revocation",
            issuer=address,
            rotation=Rotation(rotates=rotates, reuse_kills=rotates),
            extra={"prompt": "consent"},
        )


@dataclass
class Wire:
    """The real network, which can lose what it should bring: `faults` for the next calls of the token endpoint."""

    real: AiohttpTransport
    faults: list[str] = field(default_factory=list)
    refreshed: list[str] = field(default_factory=list)  #: the refresh tokens that reached the server

    async def send(self, request: Request) -> Response:
        if not request.url.endswith("/token") or b"grant_type=refresh_token" not in (request.body or b""):
            return await self.real.send(request)
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "not sent":
            raise NotSent("no connection to the provider")
        self.refreshed.append(parse_qs((request.body or b"").decode())["refresh_token"][0])
        answer = await self.real.send(request)
        if fault == "lost":
            raise NoAnswer("the provider's answer did not arrive whole")
        return Response(status=500, headers={}, body=b"") if fault == "500 after" else answer


@dataclass
class World:
    """One connection at the server."""

    address: str
    storage: ThreadedStorage
    keyring: Keyring
    clock: Clock
    wire: Wire
    connector: Real
    registrations: Registrations
    connection: Connection
    credentials: Credentials

    async def me(self) -> object:
        """Use the credential."""
        async with asyncio.timeout(PATIENCE):
            session = await self.credentials.session(self.connector, self.connection)
            return (await session.get(f"{self.address}/me", into=dict))["sub"]

    def restart(self, owner: str = "me") -> Credentials:
        """A process that remembers nothing."""
        refresher = Refresher(rows=CredentialRows(self.storage), keyring=self.keyring, clock=self.clock, chance=Chance(), owner=owner)
        self.credentials = Credentials(
            refresher=refresher, registrations=self.registrations, transport=self.wire, clock=self.clock, metrics=MemoryMetrics()
        )
        return self.credentials

    async def row(self) -> CredentialRow:
        return await self.storage.read(credentials.read, self.connection.id)

    async def active(self) -> bool:
        """Ask the server whether the refresh token that we keep would be taken."""
        token = (await self.row()).open(self.keyring).refresh_token
        assert token is not None
        headers = {"Authorization": basic("oo", SECRET)}
        url, form = f"{self.address}/token/introspection", {"token": token.reveal()}
        async with aiohttp.ClientSession() as client, client.post(url, data=form, headers=headers) as answer:
            return bool((await answer.json())["active"])


@pytest.fixture
async def world(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Signed in with a browser, through the daemon's own sign-in."""
    rotates: bool = getattr(request, "param", True)
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(serving(redirect=f"{PUBLIC}/oauth/real/callback", secret=SECRET, rotate=rotates))
        storage = ThreadedStorage(open_database(tmp_path / "oo.sqlite3"), wire.encode)
        stack.push_async_callback(storage.close)
        real = AiohttpTransport(connect_timeout=PATIENCE, read_timeout=PATIENCE, response_limit=100_000, user_agent="oo-test")
        stack.push_async_callback(real.close)
        clock, keyring, connector = Clock(), Keyring([bytes(range(32))]), Real(address, rotates=rotates)
        registry = Registry(plugins=(), connectors={"real": connector})
        registrations = Registrations(storage=storage, keyring=keyring, registry=registry, clock=clock, public_url=PUBLIC)
        await registrations.add("real", "oo", [Secret(SECRET)])
        network = Wire(real)
        connect = Connect(
            storage=storage,
            keyring=keyring,
            registry=registry,
            registrations=registrations,
            guests=SameLoop(),
            transport=network,
            clock=clock,
            chance=Chance(),
            public_url=PUBLIC,
            link_life=900,
            flow_life=600,
            connection_event=own.connection_event,
            log=Notes(),
        )
        opened = await connect.open("real", "ada", "default")
        back = await visited(await connect.begin(opened.link, "browser"))
        await connect.finish(
            registration="real", state=back["state"], browser="browser", code=back["code"], error=back.get("error"), iss=back.get("iss")
        )
        await connect.confirm(opened.id, "browser")
        connection = await storage.read(connections.of, "ada", "real", "default")
        assert connection is not None, back
        made = World(address, storage, keyring, clock, network, connector, registrations, connection, None)  # type: ignore[arg-type]
        made.restart()
        yield made


async def visited(address: str) -> dict[str, str]:
    """Go where a browser is sent until that is our callback, and give what it says."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        while not address.startswith(PUBLIC):
            async with browser.get(address, allow_redirects=False) as page:
                assert page.status in {302, 303}, await page.text()
                address = urljoin(address, page.headers["Location"])
    return {name: value for name, (value,) in parse_qs(urlsplit(address).query).items()}


@pytest.mark.rows("C10", "C11", "D13")
async def test_the_whole_way(world: World) -> None:
    """Signed in with PKCE, used, renewed ten times with a new refresh token each time, given back: the server says so at each step."""
    assert await world.me() == "ada"
    assert world.wire.refreshed == []
    for _ in range(10):
        world.clock.time += HOUR
        assert await world.me() == "ada"
    assert len(set(world.wire.refreshed)) == 10
    assert await world.active()
    contexts = Contexts(credentials=world.credentials, clock=world.clock, log_for=lambda _, __: Notes())
    assert (await world.connector.revoke(await contexts.of(world.connector, world.connection))).revoked is Revoked.FULLY
    assert not await world.active()
    with pytest.raises(SignInAgain):
        await world.me()


@pytest.mark.rows("C10")
async def test_forty_callers_in_four_processes_refresh_once(world: World) -> None:
    """All at once on an expired token: one refresh reaches the server, all are served, and the grant lives."""
    world.clock.time += HOUR
    processes = [world.restart(f"process-{number}") for number in range(4)]

    async def ask(process: Credentials) -> object:
        session = await process.session(world.connector, world.connection)
        while True:
            try:
                return (await session.get(f"{world.address}/me", into=dict))["sub"]
            except RetryLater:  # another process has the lease for longer than one waits
                await asyncio.sleep(0)

    async with asyncio.timeout(PATIENCE):
        assert set(await asyncio.gather(*(ask(process) for process in processes for _ in range(10)))) == {"ada"}
    assert len(world.wire.refreshed) == 1
    assert await world.active()


@pytest.mark.rows("C11")
async def test_a_spent_token_is_what_it_is_about(world: World) -> None:
    """The danger is real: who sends a spent refresh token once more ends the grant, and with it the newest tokens."""
    world.clock.time += HOUR
    await world.me()
    (spent,) = world.wire.refreshed
    form, headers = {"grant_type": "refresh_token", "refresh_token": spent}, {"Authorization": basic("oo", SECRET)}
    async with aiohttp.ClientSession() as client, client.post(f"{world.address}/token", data=form, headers=headers) as answer:
        assert (answer.status, (await answer.json())["error"]) == (400, "invalid_grant")
    assert not await world.active()


@pytest.mark.rows("C11", "C12")
@pytest.mark.parametrize("fault", ["lost", "500 after", "not sent"])
@pytest.mark.parametrize("restarted", [False, True], ids=["same process", "after a restart"])
@pytest.mark.parametrize("world", [True, False], indirect=True, ids=["rotating", "not rotating"])
async def test_a_fault_loses_nothing_in_silence(world: World, fault: str, restarted: bool) -> None:
    """An answer that is lost costs a sign-in only where the server had rotated, only once nothing is left to lose, and it is said."""
    rotates = world.connector.rotates
    world.wire.faults = [fault]
    world.clock.time += HOUR - 100 * SECOND  # within the margin, and the old token still lives
    assert await world.me() == "ada"
    if restarted:
        world.restart()
    lost = rotates and fault != "not sent"
    # While the old access token works, the refresh token that may be spent is not sent again: it would end everything.
    assert await world.me() == "ada"
    if lost:
        assert len(world.wire.refreshed) == 1
    world.clock.time += 2 * HOUR
    if lost:
        with pytest.raises(SignInAgain):
            await world.me()
        assert (await world.row()).state == "dead"
        assert len(world.wire.refreshed) == 2
    else:
        assert await world.me() == "ada"
        assert (await world.row()).state == "good"
        assert await world.active()
