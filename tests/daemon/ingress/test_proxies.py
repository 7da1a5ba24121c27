"""Behind Caddy and nginx, over TLS: bodies come through untouched, and addresses are the client's."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from ipaddress import ip_network
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from daemon.ingress.proxies import Kind, Proxy, proxied
from daemon.ingress.test_webhooks import Door, door, sign
from daemon.ingress.wire import Notebook, Open

from oo_daemon.ingress.answers import public_application
from oo_daemon.ingress.server import Listening

__all__ = ["door"]


@pytest.fixture(params=["caddy", "nginx"])
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=20)) as opened:
        yield opened


async def test_a_signed_delivery_comes_through(kind: Kind, door: Door, tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """Also a compressed one and one in chunks, each with its signature over what was sent; a forged one is the same 404."""
    assert door.listening.port is not None
    async with proxied(kind, tmp_path / "proxy", door.listening.port) as proxy:

        async def post(body: bytes, id_: str, **more: str) -> int:
            headers = {**sign(body), "X-Id": id_, **more}
            async with session.post(proxy.url + door.path, data=body, headers=headers, ssl=proxy.trust) as response:
                return response.status

        packed = gzip.compress(b'{"a": 1}' * 1000)
        assert await post(b"{}", "d1") == 200
        assert await post(packed, "d2", **{"Content-Encoding": "gzip"}) == 200
        assert await post(b"{}", "d3", **{"X-Sign": "sha256=" + "0" * 64}) == 404
        assert await post(b"{}", "d1") == 200
    kept = {each.delivery_id: each.body for each in await door.claimed()}
    assert kept == {"d1": b"{}", "d2": b'{"a": 1}' * 1000}


async def told(proxy: Proxy, session: aiohttp.ClientSession, **headers: str) -> str:
    async with session.get(f"{proxy.url}/who", headers=headers, ssl=proxy.trust) as response:
        return await response.text()


@pytest.fixture
def who(notebook: Notebook) -> web.Application:
    """Says whose request it is."""
    app = public_application(log=notebook)

    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=request.remote)

    app.add_routes([web.route("*", "/who", handler)])
    return app


async def test_the_clients_own_words_are_not_believed(
    kind: Kind, who: web.Application, open_door: Open, stack: AsyncExitStack, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """Whatever a client writes into X-Forwarded-For and Forwarded, its address is the one that the proxy sees."""
    listening: Listening = await open_door(who, trusted_proxies=[ip_network("127.0.0.1/32")])
    assert listening.port is not None
    proxy = await stack.enter_async_context(proxied(kind, tmp_path / "proxy", listening.port))
    for forged in ("198.51.100.7", "198.51.100.7, 203.0.113.9", "nonsense"):
        assert await told(proxy, session, **{"X-Forwarded-For": forged, "Forwarded": f"for={forged}"}) in {"127.0.0.1", "::1"}
