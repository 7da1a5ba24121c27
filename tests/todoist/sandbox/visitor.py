"""Somebody who uses the sandbox from outside: a browser, an app's backend and the person at the provider."""

from __future__ import annotations

import re
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiohttp import ClientResponse, ClientSession, ClientTimeout, web

from oo_todoist.sandbox import TodoistSandbox

Json = dict[str, Any]

CALLBACK = "http://127.0.0.1:9999/oauth/todoist/callback"
ALL = "data:read_write,data:delete,project:delete"


class Clock:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)  # a Monday

    def __call__(self) -> datetime:
        return self.at

    def forward(self, **by: float) -> None:
        self.at += timedelta(**by)


class Visitor:
    """One sandbox, and requests to it."""

    def __init__(self, sandbox: TodoistSandbox, clock: Clock, session: ClientSession, address: str, naps: list[float]) -> None:
        self.sandbox = sandbox
        self.clock = clock
        self.http = session
        self.address = address
        self.naps = naps
        self.access = ""
        self.uuids = 0

    async def visit(self, method: str, path: str, **sent: Any) -> ClientResponse:
        answer = await self.http.request(method, self.address + path, **sent)
        await answer.read()
        return answer

    async def ask(self, **query: str) -> ClientResponse:
        """Open the authorize page; None of the defaults is sent when its value is empty."""
        asked = {
            "client_id": self.sandbox.client_id,
            "scope": "data:read_write",
            "state": "s",
            "redirect_uri": CALLBACK,
            **query,
        }
        query = {name: value for name, value in asked.items() if value}
        return await self.visit("GET", "/oauth/authorize", params=query, allow_redirects=False)

    async def decide(self, page: ClientResponse, decision: str = "allow", user: str = "Ada") -> dict[str, str]:
        """Fill in the consent form as a browser does; gives the query that the app is called back with."""
        text = await page.text()
        form = re.search(r'<form method="post" action="([^"]+)">', text)
        hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]+)">', text)
        option = re.search(rf'<option value="([^"]+)">{user}</option>', text)
        assert form is not None
        assert option is not None
        data = {**{name: unescape(value) for name, value in hidden}, "user": option[1], "decision": decision}
        back = await self.visit("POST", form[1], data=data, allow_redirects=False)
        assert back.status == 303, await back.text()
        return called(back)

    async def code(self, scope: str = "data:read_write", user: str = "Ada", **query: str) -> str:
        return (await self.decide(await self.ask(scope=scope, **query), user=user))["code"]

    async def token(self, json: bool = False, **args: str) -> tuple[int, Json]:
        """Post to the token endpoint with the app's credentials."""
        body = {"client_id": self.sandbox.client_id, "client_secret": self.sandbox.client_secret, **args}
        sent: Json = {"json": body} if json else {"data": body}
        answer = await self.visit("POST", "/oauth/access_token", **sent)
        return answer.status, await answer.json()

    async def sign_in(self, scope: str = ALL, user: str = "Ada") -> Json:
        """Connect a user; their access token is used from then on."""
        status, tokens = await self.token(code=await self.code(scope, user))
        assert status == 200, tokens
        self.access = tokens["access_token"]
        return tokens

    async def refresh(self, refresh_token: str) -> tuple[int, Json]:
        return await self.token(grant_type="refresh_token", refresh_token=refresh_token)

    async def api(self, method: str, path: str, **sent: Any) -> tuple[int, Any]:
        answer = await self.raw(method, path, **sent)
        return answer.status, await answer.json()

    async def raw(self, method: str, path: str, **sent: Any) -> ClientResponse:
        answer = await self.open(method, path, **sent)
        await answer.read()
        return answer

    async def open(self, method: str, path: str, **sent: Any) -> ClientResponse:
        """Get an answer whose body is still to come."""
        headers = {"Authorization": f"Bearer {self.access}", **sent.pop("headers", {})}
        return await self.http.request(method, f"{self.address}/api/v1/{path}", headers=headers, **sent)

    async def read(self, since: str = "*", kinds: Sequence[str] = ("all",)) -> Json:
        status, answer = await self.api("POST", "sync", json={"sync_token": since, "resource_types": list(kinds)})
        assert status == 200, answer
        assert isinstance(answer, dict)
        return answer

    def command(self, type_: str, temp_id: str | None = None, **args: Any) -> Json:
        self.uuids += 1
        return {"type": type_, "uuid": f"uuid-{self.uuids}", "args": args, **({"temp_id": temp_id} if temp_id else {})}

    async def do(self, *commands: Json) -> Json:
        status, answer = await self.api("POST", "sync", json={"commands": list(commands)})
        assert status == 200, answer
        assert isinstance(answer, dict)
        return answer

    async def one(self, type_: str, **args: Any) -> Any:
        """Execute one command; gives the id it made, or "ok", or the error."""
        command = self.command(type_, "made", **args)
        answer = await self.do(command)
        return answer["temp_id_mapping"].get("made", answer["sync_status"][command["uuid"]])

    async def control(self, method: str, path: str, **sent: Any) -> Any:
        answer = await self.visit(method, f"/sandbox/{path}", **sent)
        return (await answer.json()) if answer.status == 200 else (answer.status, await answer.text())

    def basic(self) -> dict[str, str]:
        pair = f"{self.sandbox.client_id}:{self.sandbox.client_secret}".encode()
        return {"Authorization": f"Basic {b64encode(pair).decode()}"}


def called(back: ClientResponse) -> dict[str, str]:
    """Give the query of the address that a redirect goes to."""
    assert back.headers["Location"].startswith(CALLBACK)
    return {name: values[0] for name, values in parse_qs(urlsplit(back.headers["Location"]).query).items()}


@asynccontextmanager
async def visiting(**options: Any) -> AsyncIterator[Visitor]:
    """Serve a fresh sandbox on a free port of the loopback."""
    clock, naps = Clock(), list[float]()

    async def nap(seconds: float) -> None:
        naps.append(seconds)

    sandbox = TodoistSandbox(now=clock, sleep=nap, **options)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        runner = web.AppRunner(sandbox.app(address), shutdown_timeout=1)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        try:
            async with ClientSession(timeout=ClientTimeout(total=20)) as session:
                yield Visitor(sandbox, clock, session, address, naps)
        finally:
            await runner.cleanup()
