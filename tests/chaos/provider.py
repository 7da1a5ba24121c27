"""The provider of the fire: it writes down who asked for what, and when."""

from __future__ import annotations

import secrets
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

CLIENT, SECRET, WEBHOOK_SECRET = "oo-at-fire", "fire-client-secret", "a-webhook-secret-of-fire"
#: Seconds that an access token lives, and for which a spent refresh token is answered as it was before: answers get lost.
LIFE, AGAIN = 8, 30.0
#: Lines that one page of a feed holds.
PAGE = 40


@dataclass(slots=True)
class Spent:
    """A refresh token that was exchanged, and for what."""

    at: float
    grant: dict[str, Any]


@dataclass(kw_only=True)
class Provider:
    """Feeds by account, and tokens."""

    feeds: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    calls: list[float] = field(default_factory=list)  #: when the API was called
    shown: Counter[str] = field(default_factory=Counter)  #: refresh token → how often it was shown here
    rotations: Counter[str] = field(default_factory=Counter)  #: refresh token → how many it was exchanged for
    refused: int = 0  #: spent tokens that were shown too late
    _access: dict[str, tuple[str, float]] = field(default_factory=dict)  #: → account, and until when
    _refresh: dict[str, str] = field(default_factory=dict)  #: that holds → account
    _spent: dict[str, Spent] = field(default_factory=dict)
    _codes: dict[str, str] = field(default_factory=dict)

    def app(self) -> web.Application:
        """Its server."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/authorize", self._authorize),
                web.post("/token", self._token),
                web.get("/me", self._me),
                web.get("/feed", self._feed),
            ]
        )
        return app

    def change(self, account: str, note: str, title: str) -> None:
        """A note is something else from now on."""
        self.feeds[account].append((note, title))

    async def _authorize(self, request: web.Request) -> web.Response:
        code, account = secrets.token_urlsafe(), f"account-{len(self._codes)}"
        self._codes[code] = account
        raise web.HTTPFound(f"{request.query['redirect_uri']}?code={code}&state={request.query['state']}")

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        if form["grant_type"] == "authorization_code":
            return web.json_response(self._grant(self._codes[form["code"]]))
        token, now = form["refresh_token"], time.monotonic()
        self.shown[token] += 1
        if (spent := self._spent.get(token)) is not None and now - spent.at < AGAIN:
            return web.json_response(spent.grant)
        account = self._refresh.pop(token, None)
        if account is None:
            self.refused += 1
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.rotations[token] += 1
        self._spent[token] = Spent(now, self._grant(account))
        return web.json_response(self._spent[token].grant)

    def _grant(self, account: str) -> dict[str, Any]:
        access, refresh = secrets.token_urlsafe(), secrets.token_urlsafe()
        self._access[access], self._refresh[refresh] = (account, time.monotonic() + LIFE), account
        return {"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": LIFE, "scope": "read"}

    async def _me(self, request: web.Request) -> web.Response:
        return web.json_response({"id": self._account(request)})

    async def _feed(self, request: web.Request) -> web.Response:
        self.calls.append(time.monotonic())
        feed, after = self.feeds[self._account(request)], int(request.query["after"])
        lines = feed[after : after + PAGE]
        return web.json_response({"lines": lines, "read": after + len(lines), "more": after + len(lines) < len(feed)})

    def _account(self, request: web.Request) -> str:
        account, until = self._access.get(request.headers.get("Authorization", "").removeprefix("Bearer "), ("", 0.0))
        if time.monotonic() >= until:
            raise web.HTTPUnauthorized
        return account
