"""The parts list: a world, its two sides over HTTP, and what can go wrong between them."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from oo_sdk.stand_in import front
from oo_todoist.sandbox.control import PREFIX, Control
from oo_todoist.sandbox.edits import Edits
from oo_todoist.sandbox.misbehaviour import Misbehaviour
from oo_todoist.sandbox.oauth import OAuth
from oo_todoist.sandbox.people import settle
from oo_todoist.sandbox.refusals import COURTESY_SECONDS, Refusal
from oo_todoist.sandbox.rest import Rest
from oo_todoist.sandbox.spoil import instead, spoiled
from oo_todoist.sandbox.sync import Sync
from oo_todoist.sandbox.webhooks import RETRY_AFTER, Callback, Webhooks
from oo_todoist.sandbox.wire import MOST_BYTES, answer
from oo_todoist.sandbox.world import World

Json = dict[str, Any]

#: route names → the endpoint that a switch can be aimed at; every other route of the provider is "rest"
_ENDPOINTS = {
    "sync": "sync",
    "token": "token",
    "authorize": "authorize",
    "register": "metadata",
    "metadata": "metadata",
    "revoke": "revoke",
    "revoke_in_url": "revoke",
}


#: What the sandbox's own side takes.
CONTROL = {
    "GET /sandbox/state": "what is there: users, tasks, tokens, requests so far",
    "POST /sandbox/change": '<code>{"user": "ada", "commands": [{"type": "item_add", "args": {"content": "Buy milk"}}]}</code> changes '
    "something, as the person would in the app",
    "POST /sandbox/webhook": '<code>{"url": "http://127.0.0.1:8710/webhooks/…"}</code> pushes changes there; <code>GET '
    '/sandbox/deliveries</code> lists them, <code>POST /sandbox/redeliver</code> <code>{"id": …}</code> repeats one',
}


def _utcnow() -> datetime:
    return datetime.now(UTC)


def _token() -> str:
    return secrets.token_hex(20)


class TodoistSandbox:
    """A stand-in for Todoist with state, to be served by aiohttp in a process of its own.

    `seed` decides every id and the client's credentials, so that they repeat; tokens never repeat. Whoever serves it gives the
    runner a short `shutdown_timeout`: an answer that never ends would hold it up. `webhook_url` is where changes are pushed to, and
    pushed again after `webhook_retry` seconds where they were not taken.
    """

    id = "todoist"
    title = "Todoist"

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = _utcnow,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        seed: int = 1,
        token: Callable[[], str] = _token,
        expires_in: int = 3600,
        redirect_uris: Sequence[str] = (),
        misbehave: Sequence[str] = (),
        webhook_url: str = "",
        webhook_retry: float = RETRY_AFTER,
    ) -> None:
        self.world = World(now=now, seed=seed, token=token, expires_in=expires_in)
        default = self.world.add_app("oO", redirect_uris=redirect_uris)
        assert default.client_secret is not None
        self.client_id: str = default.client_id
        self.client_secret: str = default.client_secret
        settle(self.world)
        self.requests: Counter[str] = Counter()  #: answered requests on the provider's side, by "METHOD path"
        self.misbehaviour = Misbehaviour(
            {
                "forget_sync_tokens": lambda args: self.world.forget_sync_tokens(),
                "expire_tokens": lambda args: self.world.grants.expire(user_id=self._user_id(args)),
                "kill_grant": lambda args: self.world.grants.end(user_id=self._user_id(args)),
            }
        )
        for name in misbehave:
            self.misbehaviour.on(name)
        self._sleep = sleep
        self.webhooks = Webhooks(self.world, self.misbehaviour, sleep=sleep, retry_after=webhook_retry)
        if webhook_url:
            self.webhooks.callbacks[self.client_id] = Callback(url=webhook_url)

    @property
    def switches(self) -> Mapping[str, str]:
        """Give what it can do wrong: names and a sentence each."""
        return self.misbehaviour.sentences

    def settings(self, address: str) -> dict[str, str]:
        """Give the addresses that a connector needs instead of the real ones; `address` has no slash at its end."""
        return {
            "authorize": f"{address}/oauth/authorize",
            "token": f"{address}/oauth/access_token",
            "revoke": f"{address}/api/v1/revoke",
            "api": f"{address}/api/v1",
        }

    def app(self, address: str) -> web.Application:
        """Give the application that answers under an address such as http://127.0.0.1:8765."""

        async def home(request: web.Request) -> web.Response:
            shown = {**self.settings(address), "client id": self.client_id, "client secret": self.client_secret}
            people = [account.user["full_name"] for account in self.world.accounts.values()]
            return front(self.title, settings=shown, people=people, control=CONTROL, switches=self.switches)

        app = web.Application(middlewares=[self._provider], client_max_size=MOST_BYTES)
        app.cleanup_ctx.append(self.webhooks.running)
        app.add_routes([web.get("/", home)])
        app.add_routes(Control(self.world, self.misbehaviour, self.requests, self.webhooks).routes())
        app.add_routes(OAuth(self.world, self.misbehaviour, address).routes())
        app.add_routes(Sync(self.world, self.misbehaviour).routes())
        app.add_routes(Rest(self.world, self.misbehaviour).routes())
        app.add_routes(Edits(self.world).routes())
        # What came before v1 was shut down in February 2026 and answers 410 since.
        app.add_routes([web.route("*", path, _gone) for path in ("/sync/{old:.*}", "/rest/{old:.*}")])
        return app

    @web.middleware
    async def _provider(self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        """Answer the provider's side in the provider's shapes, and let it misbehave; the control side is left alone."""
        if request.path == "/" or request.path.startswith(PREFIX):
            return await handler(request)
        route = request.match_info.route
        path = route.resource.canonical if route.resource is not None else "(unknown)"
        self.requests[f"{request.method} {path}"] += 1
        endpoint = _ENDPOINTS.get(route.name or "", "rest")
        if (wrong := instead(self.misbehaviour, endpoint, self.world.now())) is not None:
            return wrong
        try:
            response = await handler(request)
        except Refusal as refusal:
            response = self._refused(refusal)
        except web.HTTPException as error:
            response = self._refused(Refusal(error.status, error.status, error.reason.upper().replace(" ", "_"), error.reason))
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
        if not isinstance(response, web.Response):
            return response
        return await spoiled(self.misbehaviour, endpoint, request, response, self._sleep)

    def _refused(self, refusal: Refusal) -> web.Response:
        """Answer with Todoist's error body; some of its errors carry an event id and a courtesy retry_after."""
        more: Json = {}
        if refusal.status in {401, 404, 429}:
            more = {"event_id": self.world.token()[:32], "retry_after": refusal.extra.get("retry_after", COURTESY_SECONDS)}
        return answer(refusal.body(**more), status=refusal.status, headers=refusal.headers)

    def _user_id(self, args: Json) -> str | None:
        """Read the user of a switch, by id or name; none means everybody."""
        if args["user"] is None:
            return None
        account = self.world.account(str(args["user"]))
        return account.id if account is not None else ""


async def _gone(request: web.Request) -> web.Response:
    raise Refusal(410, 410, "GONE", "This endpoint is deprecated. Use the unified API v1")
