"""The stand-in of the README, over real HTTP: signing in, pages, limits, pushes, and what can go wrong."""

from __future__ import annotations

import hashlib
import hmac
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest
from aiohttp import web
from contract.lines import code

from oo_sdk.stand_in import StandIn

README = (Path(__file__).parents[2] / "plugins" / "README.md").read_text()
(PAGE,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"  # of RFC 7636, appendix B
CALLBACK = "http://127.0.0.1:9/callback"


@dataclass
class Visitor:
    """Somebody who uses it from outside."""

    sandbox: StandIn
    http: aiohttp.ClientSession
    address: str
    at: datetime = datetime(2026, 11, 26, tzinfo=UTC)
    naps: list[float] = field(default_factory=list)
    access: str = ""

    async def code(self, *, decision: str = "allow", user: str = "ada", **more: str) -> dict[str, str]:
        """Say yes, or no; gives what the app is called back with."""
        asked = {"client_id": "oo", "redirect_uri": CALLBACK, "response_type": "code", "scope": "notes.read", "state": "s"}
        pkce = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
        async with self.http.get(f"{self.address}/oauth/authorize", params=asked | pkce | more, allow_redirects=False) as answer:
            if answer.status != 200:
                return dict(parse_qsl(urlsplit(answer.headers.get("Location", "")).query))
            waiting = re.search(r'name="waiting" value="([^"]+)"', await answer.text())
        assert waiting is not None
        form = {"waiting": waiting[1], "decision": decision, "user": user}
        async with self.http.post(f"{self.address}/oauth/authorize", data=form, allow_redirects=False) as answer:
            assert answer.status == 302
            return dict(parse_qsl(urlsplit(answer.headers["Location"]).query))

    async def token(self, secret: str = "of-the-sandbox", **form: str) -> tuple[int, dict[str, Any]]:
        """Ask the token endpoint."""
        sent = {"client_id": "oo", "client_secret": secret, **form}
        async with self.http.post(f"{self.address}/oauth/token", data=sent) as answer:
            return answer.status, await answer.json()

    async def exchanged(self, code: str, verifier: str = VERIFIER) -> tuple[int, dict[str, Any]]:
        """Exchange a code."""
        return await self.token(grant_type="authorization_code", code=code, redirect_uri=CALLBACK, code_verifier=verifier)

    async def sign_in(self) -> dict[str, Any]:
        """Sign in; what is asked after that is signed."""
        _, given = await self.exchanged((await self.code())["code"])
        self.access = given["access_token"]
        return given

    async def changes(self, cursor: str = "") -> tuple[int, str, Any]:
        """Ask for a page: status, when to come again, and what was answered."""
        headers = {"Authorization": f"Bearer {self.access}"}
        async with self.http.get(f"{self.address}/v1/changes", params={"cursor": cursor}, headers=headers) as answer:
            text = await answer.text()
            try:
                told = await answer.json(content_type=None)
            except ValueError:
                told = text
            return answer.status, answer.headers.get("Retry-After", ""), told

    async def misbehave(self, name: str, **more: Any) -> int:
        """Have something go wrong."""
        async with self.http.post(f"{self.address}/sandbox/misbehave", json={"name": name, **more}) as answer:
            return answer.status


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    door = socket.create_server(("127.0.0.1", 0))
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, door).start()
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def visitor() -> AsyncIterator[Visitor]:
    """The page, run."""
    names: dict[str, Any] = {}
    exec(PAGE, names)
    sandbox: StandIn = names["oo_sandboxes"]()[0]
    async with aiohttp.ClientSession() as http:
        visitor = Visitor(sandbox, http, "")

        async def sleep(seconds: float) -> None:
            visitor.naps.append(seconds)

        sandbox.now = sandbox.authorization.now = lambda: visitor.at
        sandbox.sleep = sleep
        async with served(sandbox.app("http://sandbox.example")) as visitor.address:
            yield visitor


def test_it_is_a_page() -> None:
    """An author writes no more than a page."""
    assert code(PAGE) <= 30


async def test_signing_in(visitor: Visitor) -> None:
    """Codes work once and with their verifier, tokens run out, refresh tokens rotate, and a spent one ends the grant."""
    assert await visitor.code(decision="deny") == {"error": "access_denied", "state": "s"}
    assert await visitor.code(scope="everything") == {"error": "invalid_scope", "state": "s"}
    assert await visitor.code(response_type="token") == {"error": "invalid_request", "state": "s"}
    assert await visitor.code(redirect_uri="https://elsewhere.example/") == {}
    code = (await visitor.code())["code"]
    assert await visitor.exchanged(code, VERIFIER[::-1]) == (400, {"error": "invalid_grant"})
    assert (await visitor.token("wrong", grant_type="authorization_code", code=code))[0] == 401
    status, given = await visitor.exchanged(code)
    assert (status, given["token_type"], given["expires_in"], given["scope"]) == (200, "Bearer", 3600, "notes.read")
    visitor.access = given["access_token"]
    assert (await visitor.changes())[0] == 200
    visitor.at += timedelta(hours=1)
    assert (await visitor.changes())[0] == 401
    _, renewed = await visitor.token(grant_type="refresh_token", refresh_token=given["refresh_token"])
    visitor.access = renewed["access_token"]
    assert (await visitor.changes())[0] == 200
    assert (await visitor.token(grant_type="refresh_token", refresh_token=given["refresh_token"]))[0] == 400
    assert (await visitor.changes())[0] == 401, "a spent one that comes again ends all"
    given = await visitor.sign_in()
    form = {"client_id": "oo", "client_secret": "of-the-sandbox", "token": given["refresh_token"]}
    async with visitor.http.post(f"{visitor.address}/oauth/revoke", data=form) as answer:
        assert answer.status == 200
    assert (await visitor.changes())[0] == 401
    assert (await visitor.token(grant_type="password"))[1] == {"error": "unsupported_grant_type"}


async def test_a_code_that_comes_twice(visitor: Visitor) -> None:
    """It is refused, and what it gave ends."""
    code = (await visitor.code())["code"]
    visitor.access = (await visitor.exchanged(code))[1]["access_token"]
    assert (await visitor.exchanged(code))[0] == 400
    assert (await visitor.changes())[0] == 401
    late = (await visitor.code())["code"]
    visitor.at += timedelta(minutes=10)
    assert (await visitor.exchanged(late))[0] == 400


async def test_pages_and_limits(visitor: Visitor) -> None:
    """A list comes in pages, empty ones among them where it is told to; too many requests are refused for as long as the window lasts."""
    await visitor.sign_in()
    for empty in (False, True):
        if empty:
            await visitor.misbehave("empty_pages")
        found, cursor, pages, more = [], "", [], True
        while more:
            _, _, page = await visitor.changes(cursor)
            found += [each["id"] for each in page["changes"]]
            pages.append(len(page["changes"]))
            cursor, more = page["cursor"], page["more"]
        assert found == ["0", "1", "2", "3", "4"]
        assert pages == ([0, 2, 0, 2, 0, 1] if empty else [2, 2, 1])
    type(visitor.sandbox).limit = (12, timedelta(minutes=1))
    visitor.at += timedelta(seconds=20)
    answers = Counter([(await visitor.changes())[:2] for _ in range(4)])
    assert answers == {(200, ""): 3, (429, "40"): 1}
    visitor.at += timedelta(seconds=40)
    assert (await visitor.changes())[0] == 200
    assert visitor.sandbox.requests["GET /v1/changes"] == 14


async def test_what_can_go_wrong(visitor: Visitor) -> None:
    """Each switch does what its sentence says, for so many requests; the front page lists them."""
    await visitor.sign_in()
    for name, expected in {"status_500": (500, ""), "status_429": (429, "30"), "unauthorized": (401, "")}.items():
        assert await visitor.misbehave(name, times=1) == 200
        assert [(await visitor.changes())[:2] for _ in range(2)] == [expected, (200, "")]
    for name, begins in {"html_answer": "<h1>", "truncated_json": '{"changes'}.items():
        await visitor.misbehave(name, times=1)
        status, _, told = await visitor.changes()
        assert (status, isinstance(told, str) and told.startswith(begins)) == (200, True)
    await visitor.misbehave("unknown_fields", times=1)
    assert "of_the_future" in (await visitor.changes())[2]
    for name in ("expire_tokens", "kill_grant"):
        await visitor.sign_in()
        assert (await visitor.changes())[0] == 200
        await visitor.misbehave(name)
        assert (await visitor.changes())[0] == 401
    assert await visitor.misbehave("no such thing") == 400
    assert await visitor.misbehave("status_429", args={"seconds": "x"}) == 400
    async with visitor.http.get(visitor.address) as answer:
        front = await answer.text()
    assert all(name in front for name in (*visitor.sandbox.switches, "Ada Lovelace", "http://sandbox.example/v1"))


async def test_pushes(visitor: Visitor) -> None:
    """What is pushed is signed, comes again while it is not taken, and is lost, doubled or forged where a switch says so."""
    heard: list[bool] = []
    statuses = [503, 200]

    async def hook(request: web.Request) -> web.Response:
        made = hmac.digest(b"secret", await request.read(), hashlib.sha256).hex()
        heard.append(request.headers["X-Signature"] == f"sha256={made}")
        return web.Response(status=statuses.pop(0) if statuses else 200)

    app = web.Application()
    app.add_routes([web.post("/", hook)])
    assert await visitor.sandbox.push({"a": 1}, "d0") == []
    async with served(app) as address:
        visitor.sandbox.webhook = (f"{address}/", "secret")
        assert await visitor.sandbox.push({"a": 1}, "d1") == [503, 200]
        assert visitor.naps == [0.0, 1.0]
        for name, expected in {"drop_pushes": [], "duplicate_pushes": [200, 200], "forge_pushes": [200]}.items():
            await visitor.misbehave(name, times=1)
            assert await visitor.sandbox.push({"a": 1}, name) == expected
    assert heard == [True, True, True, True, False]
