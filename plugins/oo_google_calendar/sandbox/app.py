"""The parts list: a world, its provider over HTTP, and who sends its pushes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from aiohttp import ClientError, ClientSession, ClientTimeout, web

from oo_google_calendar.sandbox.channels import Channels, Push
from oo_google_calendar.sandbox.consent import Consent
from oo_google_calendar.sandbox.control import Control
from oo_google_calendar.sandbox.edits import Edits
from oo_google_calendar.sandbox.misbehaviour import Misbehaviour
from oo_google_calendar.sandbox.people import settle
from oo_google_calendar.sandbox.provider import Provider
from oo_google_calendar.sandbox.wire import Asked
from oo_google_calendar.sandbox.world import World
from oo_sdk.stand_in import front

Json = dict[str, Any]

#: Statuses that a push was taken with, and those after which it is sent again; any other loses it.
TAKEN, AGAIN = {102, 200, 201, 202, 204}, {500, 502, 503, 504}
#: Seconds before each further attempt.
BACKOFF = (1.0, 4.0, 16.0, 64.0)
PATIENCE = 10.0


#: What the sandbox's own side takes.
CONTROL = {
    "GET /sandbox/state": "what is there: people, calendars, entries, channels, tokens, requests so far",
    "POST /sandbox/change": '<code>{"user": "ada", "method": "POST", "path": "calendars/primary/events", "body": {…}}</code> changes '
    "something, as the person would",
    "GET /sandbox/pushes": "what was pushed, with the status of each attempt",
}


def _utcnow() -> datetime:
    return datetime.now(UTC)


def _token() -> str:
    return secrets.token_urlsafe(40)


class GoogleCalendarSandbox:
    """A stand-in for Google Calendar with state, to be served by aiohttp in a process of its own.

    `seed` decides every id and the client's credentials, so that they repeat; tokens never repeat. In `testing` refresh tokens end after
    seven days.
    """

    id = "google_calendar"
    title = "Google Calendar"

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = _utcnow,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        seed: int = 1,
        token: Callable[[], str] = _token,
        expires_in: int = 3600,
        testing: bool = False,
        redirect_uris: Sequence[str] = (),
    ) -> None:
        self.world = World(now=now, seed=seed, token=token, expires_in=expires_in, testing=testing)
        client = self.world.add_client("oO", tuple(redirect_uris))
        self.client_id: str = client.id
        self.client_secret: str = client.secret
        self.misbehaviour = Misbehaviour(
            {
                "forget_sync_tokens": lambda args: self.world.forget_sync_tokens(),
                "expire_tokens": lambda args: self.world.grants.expire(self._email(args)),
                "kill_grant": lambda args: self.world.grants.end(self._email(args)),
            }
        )
        self.edits = Edits(self.world, self.misbehaviour)
        self.channels = Channels(self.world, self.misbehaviour)
        self.provider = Provider(self.world, self.misbehaviour, self.channels)
        settle(self.world, self.edits)
        self._sleep = sleep
        self._under_way: set[asyncio.Task[None]] = set()

    @property
    def switches(self) -> Mapping[str, str]:
        """Give what it can do wrong: names and a sentence each."""
        return self.misbehaviour.sentences

    def settings(self, address: str) -> dict[str, str]:
        """Give the addresses that a connector needs instead of the real ones; `address` has no slash at its end."""
        return {
            "authorize": f"{address}/o/oauth2/v2/auth",
            "token": f"{address}/token",
            "revoke": f"{address}/revoke",
            "issuer": address,
            "api": f"{address}/calendar/v3",
        }

    def app(self, address: str) -> web.Application:
        """Give the application that answers under an address such as http://127.0.0.1:8765."""

        async def home(request: web.Request) -> web.Response:
            shown = {**self.settings(address), "client id": self.client_id, "client secret": self.client_secret}
            people = [person.name for person in self.world.people.values()]
            return front(self.title, settings=shown, people=people, control=CONTROL, switches=self.switches)

        self.provider.api.address = address
        control = Control(self.world, self.misbehaviour, self.provider, self.channels)
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.cleanup_ctx.append(self._pushing)
        app.add_routes([web.get("/", home), *control.routes(), *Consent(self.world).routes()])
        app.add_routes([web.route("*", "/{path:(calendar/v3/.*|token|revoke)}", self._answer)])
        return app

    async def settled(self) -> None:
        """Wait until every push so far was taken, given up or dropped."""
        while self.channels.waiting or self._under_way:
            await asyncio.gather(*self._under_way)
            await asyncio.sleep(0)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """Answer as the provider, and spoil the answer where a switch says so."""
        asked = Asked(
            method=request.method,
            path=tuple(unquote(part) for part in request.raw_path.partition("?")[0].strip("/").split("/")),
            query=dict(request.query),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.read(),
        )
        answer = self.provider.answer(asked)
        headers = {**answer.headers}
        kind = headers.pop("Content-Type", "application/json")
        body = answer.body.encode() if isinstance(answer.body, str) else answer.encoded()
        if asked.path[:1] == ("calendar",):
            for name, args in self.misbehaviour.taken("after", "api"):
                if name == "slow_answer":
                    await self._sleep(args["seconds"])
                elif name == "drop_connection" and request.transport is not None:
                    request.transport.abort()
                elif name == "truncated_json":
                    body = body[: len(body) // 2]
        if answer.status in {204, 304}:
            return web.Response(status=answer.status, headers=headers)
        return web.Response(status=answer.status, body=body, headers=headers, content_type=kind)

    async def _pushing(self, app: web.Application) -> AsyncIterator[None]:
        """Send pushes while the application runs (an aiohttp cleanup context)."""
        waits = asyncio.Event()
        self.channels.call = waits.set
        async with ClientSession(timeout=ClientTimeout(total=PATIENCE)) as http:

            async def push() -> None:
                while True:
                    for each in self.channels.take():
                        task = asyncio.create_task(self._send(http, each))
                        self._under_way.add(task)
                        task.add_done_callback(self._under_way.discard)
                    await waits.wait()
                    waits.clear()

            pushing = asyncio.create_task(push())
            yield
            ending = [pushing, *self._under_way]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    async def _send(self, http: ClientSession, push: Push) -> None:
        """Post it, and again while it is answered with one of four faults."""
        for wait in (0.0, *BACKOFF):
            if wait:
                await self._sleep(wait)
            try:
                async with http.post(push.address, headers=push.headers, allow_redirects=False) as answer:
                    push.attempts.append(answer.status)
            except (ClientError, TimeoutError, ValueError) as wrong:
                push.attempts.append(type(wrong).__name__)
                push.state = "failed"
                return
            if push.attempts[-1] not in AGAIN:
                push.state = "delivered" if push.attempts[-1] in TAKEN else "failed"
                return
        push.state = "failed"

    def _email(self, args: Json) -> str | None:
        """Read the person of a switch, by address or name; none means everybody."""
        if args["user"] is None:
            return None
        person = self.world.person(str(args["user"]))
        return person.email if person is not None else ""
