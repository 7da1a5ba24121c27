"""The proxy: a product's own calls reach the provider as the user, over real sockets; the token reaches nobody."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlsplit

import aiohttp
import pytest
from aiohttp import web
from journeys.house import House
from msgspec.structs import replace

from oo_client import Refused
from oo_daemon.registry import Registry
from oo_daemon.registry import discover as discovered
from oo_daemon.store import connections
from oo_daemon.store.connections import StateChanged
from oo_sdk import ClientAuth, Connector, OAuth2, Rotation, Scope

#: Letters that an address would spell otherwise, so that both spellings are looked for.
TOKEN, REFRESH = "canary/token+{}", "canary/refresh+{}"


@dataclass
class Provider:
    """A provider that notes what reaches it, echoes what it was sent, and can refuse a token."""

    address: str = ""
    tokens: int = 0
    refused: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, dict[str, str], int]] = field(default_factory=list)
    parts: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def token(self, request: web.Request) -> web.Response:
        self.tokens += 1
        number = self.tokens
        return web.json_response({"access_token": TOKEN.format(number), "refresh_token": REFRESH.format(number), "expires_in": 3600})

    async def api(self, request: web.Request) -> web.StreamResponse:
        size = 0
        async for part in request.content.iter_any():
            size += len(part)
            self.parts.set()
        self.asked.append((request.method, request.raw_path, dict(request.headers), size))
        given = request.headers["Authorization"].removeprefix("Bearer ")
        if given in self.refused:
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        response = web.StreamResponse(status=int(request.query.get("status", 200)))
        response.headers.update({"Set-Cookie": "a=b", "X-Echo": given, "X-Rate": "7", "Connection": "X-Hop", "X-Hop": "1"})
        response.headers["Location"] = "https://elsewhere.example/"
        await response.prepare(request)
        echo = f"you sent {given} and {quote_plus(given)}".encode()
        for letter in echo:  # each in a part of its own
            await response.write(bytes([letter]))
        if "wait" in request.query:
            await self.go_on.wait()
        await response.write(b", the end")
        await response.write_eof()
        return response


class There(Connector):
    """Knows it."""

    id = "there"
    title = "There"
    scopes = (Scope("all", "See everything."),)

    def __init__(self, address: str) -> None:
        self.hosts = [urlsplit(address).netloc, "api.other.example"]
        self.auth = OAuth2(
            authorize=f"{address}/authorize",
            token=f"{address}/token",
            revoke=f"{address}/revoke",
            client_auth=ClientAuth.POST,
            rotation=Rotation(rotates=True),
        )


@dataclass
class Call:
    """What the product does."""

    house: House
    provider: Provider
    connection: str
    session: aiohttp.ClientSession

    @property
    def host(self) -> str:
        return urlsplit(self.provider.address).netloc

    def ask(self, path: str, method: str = "GET", **how: Any) -> Any:
        url = f"http://oo/v1/connections/{self.connection}/proxy/{path}"
        return self.session.request(method, url, allow_redirects=False, **how)


@pytest.fixture
async def call(house: House, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Call]:
    """A connection to that provider, made without a browser."""
    provider, app = Provider(), web.Application(client_max_size=0)
    app.add_routes([web.post("/token", provider.token), web.route("*", "/{path:.*}", provider.api)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    provider.address = f"http://127.0.0.1:{runner.addresses[0][1]}"

    def discover(**how: Any) -> Registry:
        found = discovered(**how)
        return replace(found, connectors={**found.connectors, "there": There(provider.address)})

    monkeypatch.setattr("oo_daemon.app.ground.discover", discover)
    await house.stop()
    await house.start()
    async with house.client as client, aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        await client.register(provider="there", client_id="us", client_secrets=["secret"])
        session = await client.connect(provider="there", user="ada")
        await (await browser.get(session.url)).read()
        sent = await browser.post(session.url, allow_redirects=False)
        state = dict(part.split("=") for part in urlsplit(sent.headers["Location"]).query.split("&"))["state"]
        assert house.app is not None
        back = await browser.get(f"{house.app.public_url}/oauth/there/callback?state={state}&code=c")
        await browser.post(back.url, data={"answer": "yes"})
        (connection,) = await client.connections()
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(house.folder / "oo.sock"))) as product:
        yield Call(house, provider, connection.id, product)
    provider.go_on.set()
    await runner.cleanup()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_a_call_of_the_products_own(call: Call, method: str) -> None:
    """The provider is asked as the user, spelled as the product did; its answer comes back without what is secret, however it is cut."""
    sent = {
        "Authorization": "Bearer mine",
        "Cookie": "c=1",
        "X-Mine": "1",
        "Connection": "X-Gone",
        "X-Gone": "1",
        "X-Forwarded-For": "1.1.1.1",
    }
    body = None if method in {"GET", "DELETE"} else b"hello"
    async with call.ask(f"{call.host}/a%2Fb/c%20d?x=%26&status=418", method, headers=sent, data=body) as answer:
        text = await answer.text()
        assert answer.status == 418
        assert "canary" not in text + str(answer.headers)
        assert text == f"you sent {'.' * len(TOKEN.format(1))} and {'.' * len(quote_plus(TOKEN.format(1)))}, the end"
        assert answer.headers["X-Rate"] == "7"
        assert not {"Set-Cookie", "X-Hop"} & set(answer.headers)
        assert answer.headers["Location"] == "https://elsewhere.example/", "handed back, and not followed"
    ((asked, path, headers, size),) = call.provider.asked
    assert (asked, path, size) == (method, "/a%2Fb/c%20d?x=%26&status=418", len(body or b""))
    assert headers["Authorization"] == f"Bearer {TOKEN.format(1)}"
    names = {name.lower() for name in headers}
    assert "x-mine" in names
    assert not {"cookie", "x-gone", "x-forwarded-for"} & names
    assert "canary" not in call.house.log.getvalue()


async def test_bodies_come_and_go_in_parts(call: Call) -> None:
    """What is large is at the provider before it is all here, and the answer is with the product before it is all there."""

    async def slowly() -> AsyncIterator[bytes]:
        yield b"x" * 200_000
        await call.provider.parts.wait()
        yield b"y" * 200_000

    async with asyncio.timeout(20), call.ask(f"{call.host}/up?wait=1", "POST", data=slowly()) as answer:
        assert answer.status == 200, await answer.text()
        assert await answer.content.readexactly(8) == b"you sent"
        call.provider.go_on.set()
        assert (await answer.content.read()).endswith(b", the end")
    assert call.provider.asked[0][3] == 400_000


async def test_a_refused_token_is_renewed_once(call: Call) -> None:
    """A 401 renews the credential and repeats what is small; of what is large the product is told to send it again."""
    call.provider.refused.add(TOKEN.format(1))
    async with call.ask(f"{call.host}/small", "POST", data=b"small") as answer:
        assert answer.status == 200
    assert [size for *_, size in call.provider.asked] == [5, 5]
    call.provider.refused.add(TOKEN.format(2))
    async with call.ask(f"{call.host}/large", "POST", data=io.BytesIO(b"x" * 3_000_000)) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (503, "provider")
    assert call.provider.tokens == 3
    async with call.ask(f"{call.host}/large", "POST", data=io.BytesIO(b"x" * 3_000_000)) as answer:
        assert answer.status == 200
    call.provider.refused |= {TOKEN.format(n) for n in range(9)}
    async with call.ask(f"{call.host}/small") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (409, "needs_sign_in")


@pytest.mark.rows("C8")
async def test_out_of_bounds(call: Call) -> None:
    """Neither another host, nor another port, nor anything clever in the address gets a token."""
    port = urlsplit(call.provider.address).port
    for path in (
        "evil.example/x", "127.0.0.1/x", f"127.0.0.1:{port}@evil.example/x", f"localhost:{port}/x", "https://evil.example/x",
        "/evil.example",
        "evil.example%2f" + call.host, call.host + "%40evil.example/x", call.host + ".evil.example/x", "..%2f..%2fv1/status", "?x", "%00/x",
    ):  # fmt: skip
        async with call.ask(path) as answer:
            assert answer.status in {403, 404}, path
    assert call.provider.asked == []


async def test_what_is_not_connected_is_not_asked(call: Call) -> None:
    """An unknown connection, one that is not active and a method that is not listed are refused without a call."""
    for method in ("TRACE", "OPTIONS", "PROPFIND"):
        async with call.ask(f"{call.host}/x", method) as answer:
            assert answer.status == 405
    app = call.house.app
    assert app is not None
    known = await app.storage.read(connections.by_id, call.connection)
    assert known is not None
    paused = StateChanged(number=known.number, state="paused", reason="", now=known.changed_at)
    await app.storage.write(paused.apply)
    async with call.ask(f"{call.host}/x") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (409, "not_active")
    call.connection = "nobody"
    async with call.ask(f"{call.host}/x") as answer:
        assert answer.status == 404
    assert call.provider.asked == []


async def test_the_clients_way(call: Call) -> None:
    """`client.proxy` gives what the provider answers, whatever its status, and raises what oO refuses: the two are never confused."""
    async with call.house.client as client:
        answer = await client.proxy(call.connection, "POST", f"{call.provider.address}/a%2Fb?status=418&x=%20", body=b"hello")
        assert (answer.status, answer.body[-9:], answer.headers["x-rate"]) == (418, b", the end", "7")
        assert call.provider.asked[-1][:2] == ("POST", "/a%2Fb?status=418&x=%20")
        assert call.provider.asked[-1][3] == 5
        with pytest.raises(Refused) as caught:
            await client.proxy(call.connection, "GET", "https://evil.example/")
        assert caught.value.code == "host"
