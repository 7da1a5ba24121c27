"""Somebody who uses the sandbox from outside, over HTTP: a browser, an app's backend, and the person at Google."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from aiohttp import ClientResponse, ClientSession, ClientTimeout, web
from oo_google_calendar.sandbox import GoogleCalendarSandbox

Json = dict[str, Any]

CALLBACK = "http://127.0.0.1:9999/oauth/google_calendar/callback"
SCOPES = "https://www.googleapis.com/auth/"
ALL = ("calendar",)


@dataclass
class Clock:
    """A clock that moves only when told to."""

    at: datetime = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)  # a Monday

    def __call__(self) -> datetime:
        return self.at

    def forward(self, **by: float) -> None:
        self.at += timedelta(**by)


@dataclass
class Visitor:
    """One sandbox, and requests to it."""

    sandbox: GoogleCalendarSandbox
    clock: Clock
    http: ClientSession
    address: str
    naps: list[float]
    access: str = ""
    refresh: str = ""

    async def visit(self, method: str, path: str, **sent: Any) -> ClientResponse:
        answer = await self.http.request(method, self.address + path, **sent)
        await answer.read()
        return answer

    async def ask(self, *scopes: str, **query: str) -> ClientResponse:
        """Open the consent page; a parameter that is given empty is left out."""
        asked = {
            "client_id": self.sandbox.client_id,
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "scope": " ".join(SCOPES + scope for scope in scopes),
            "state": "s",
            "access_type": "offline",
            **query,
        }
        sent = {name: text for name, text in asked.items() if text}
        return await self.visit("GET", "/o/oauth2/v2/auth", params=sent, allow_redirects=False)

    async def decide(self, page: ClientResponse, decision: str = "allow", user: str = "Ada Lovelace", untick: str = "") -> dict[str, str]:
        """Fill in the form as a browser does; gives the query that the app is called back with."""
        text = await page.text()
        form = re.search(r'<form method="post" action="([^"]+)">', text)
        option = re.search(rf'<option value="([^"]+)">{user}</option>', text)
        assert form is not None
        assert option is not None
        hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]+)">', text)
        boxes = [name for name in re.findall(r'<input type="checkbox" name="([^"]+)"', text) if name != untick]
        data = {**{name: unescape(value) for name, value in hidden}, **dict.fromkeys(boxes, "on"), "user": option[1], "decision": decision}
        back = await self.visit("POST", form[1], data=data, allow_redirects=False)
        assert back.status == 302, await back.text()
        assert back.headers["Location"].startswith(CALLBACK)
        return dict(parse_qsl(urlsplit(back.headers["Location"]).query))

    async def token(self, **form: str) -> tuple[int, Json]:
        """Post to the token endpoint with the app's credentials."""
        data = {"client_id": self.sandbox.client_id, "client_secret": self.sandbox.client_secret, **form}
        answer = await self.visit("POST", "/token", data=data)
        return answer.status, await answer.json()

    async def sign_in(self, *scopes: str, user: str = "Ada Lovelace") -> Json:
        """Connect somebody; their access token is used from then on."""
        called = await self.decide(await self.ask(*(scopes or ALL), prompt="consent"), user=user)
        status, given = await self.token(grant_type="authorization_code", code=called["code"], redirect_uri=CALLBACK)
        assert status == 200, given
        self.access, self.refresh = given["access_token"], given["refresh_token"]
        return given

    async def api(self, method: str, path: str, json: Any = None, **query: str) -> tuple[int, Any]:
        """Ask the API as whoever is signed in."""
        headers = {"Authorization": f"Bearer {self.access}"}
        answer = await self.visit(method, f"/calendar/v3/{path}", headers=headers, json=json, params=query)
        return answer.status, (await answer.json()) if await answer.read() else None

    async def add(self, title: str = "Lunch", **more: Any) -> Json:
        """Add an entry of an hour."""
        times = {"start": {"dateTime": "2026-11-26T12:00:00Z"}, "end": {"dateTime": "2026-11-26T13:00:00Z"}}
        status, made = await self.api("POST", "calendars/primary/events", {"summary": title, **times, **more})
        assert status == 200, made
        assert isinstance(made, dict)
        return made

    async def control(self, method: str, path: str, **sent: Any) -> Any:
        answer = await self.visit(method, f"/sandbox/{path}", **sent)
        return (await answer.json()) if answer.status == 200 else (answer.status, await answer.text())

    async def misbehave(self, name: str, times: int | None = None, **args: Any) -> None:
        """Switch something on."""
        answer = await self.visit("POST", "/sandbox/misbehave", json={"name": name, "times": times, "args": args})
        assert answer.status == 200, await answer.text()


@asynccontextmanager
async def visiting(**options: Any) -> AsyncIterator[Visitor]:
    """Serve a fresh sandbox on a free port of the loopback."""
    clock, naps = Clock(), list[float]()

    async def nap(seconds: float) -> None:
        naps.append(seconds)

    sandbox = GoogleCalendarSandbox(now=clock, sleep=nap, **options)
    async with serving(sandbox) as address, ClientSession(timeout=ClientTimeout(total=20)) as session:
        yield Visitor(sandbox, clock, session, address, naps)


@asynccontextmanager
async def serving(sandbox: GoogleCalendarSandbox) -> AsyncIterator[str]:
    """Serve a sandbox; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        address = f"http://127.0.0.1:{door.getsockname()[1]}"
        runner = web.AppRunner(sandbox.app(address), shutdown_timeout=0.5)
        await runner.setup()
        await web.SockSite(runner, door).start()
        try:
            yield address
        finally:
            await runner.cleanup()


@dataclass
class Receiver:
    """An app's backend that is called by pushes; answers with the prepared statuses first, and 200 from then on."""

    url: str
    statuses: list[int] = field(default_factory=list)
    calls: list[tuple[dict[str, str], bytes]] = field(default_factory=list)  #: headers and body of each
    called: asyncio.Event = field(default_factory=asyncio.Event)

    def told(self, name: str) -> list[str]:
        """One header of each call."""
        return [headers[f"X-Goog-{name}"] for headers, _ in self.calls]

    async def take(self, request: web.Request) -> web.Response:
        """Take one push."""
        self.calls.append((dict(request.headers), await request.read()))
        self.called.set()
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Serve a receiver on a free port of the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        receiver = Receiver(f"http://127.0.0.1:{door.getsockname()[1]}/webhooks/google_calendar")
        app = web.Application()
        app.router.add_post("/webhooks/google_calendar", receiver.take)
        runner = web.AppRunner(app, shutdown_timeout=0.5)
        await runner.setup()
        await web.SockSite(runner, door).start()
        try:
            yield receiver
        finally:
            await runner.cleanup()
