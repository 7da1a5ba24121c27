"""Acme, a provider that nobody has heard of: OAuth with PKCE and rotation-free refresh, a change feed, an account, and webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

Json = dict[str, Any]

CLIENT, SECRET, WEBHOOK_SECRET = "oo-at-acme", "acme-client-secret-0001", "acme-webhook-secret-0001"
ACCOUNT = "acme-user-7"
NAME, KEY = "ada", "acme-key-0001"
WHEN = "2026-11-22T09:30:00Z"
#: Changes that one page of the feed holds.
PAGE = 2


@dataclass(kw_only=True)
class Acme:
    """What it knows. Tokens that are not listed are refused."""

    feed: list[Json] = field(default_factory=list)
    access: dict[str, str] = field(default_factory=dict)  #: access token → its refresh token
    refresh: set[str] = field(default_factory=set)
    codes: dict[str, Json] = field(default_factory=dict)
    revoked: list[str] = field(default_factory=list)  #: hints, in the order in which tokens were given back
    asked: Counter[str] = field(default_factory=Counter)
    key: str = KEY
    epoch: int = 1  #: cursors of an earlier one are forgotten

    def note(self, id_: str, title: str, *, deleted: bool = False) -> None:
        """Somebody changes a note."""
        self.feed.append({"id": id_, "etag": f"v{len(self.feed)}", "title": title, "changed_at": WHEN, "deleted": deleted, "colour": "red"})

    def app(self) -> web.Application:
        """Its servers."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/oauth/authorize", self._authorize),
                web.post("/oauth/token", self._token),
                web.post("/oauth/revoke", self._revoke),
                web.get("/v1/changes", self._changes),
                web.get("/v1/me", self._me),
            ]
        )
        return app

    async def remove_app(self, url: str) -> int:
        """The person removes our app here: every token ends, and we are told."""
        self.access.clear()
        self.refresh.clear()
        return await self._post(url, "d-removed", {"message": "app_removed", "text": "", "sent_at": datetime.now(UTC).isoformat()})

    async def push(self, url: str, delivery: str, text: str, *, secret: str = WEBHOOK_SECRET) -> int:
        """Send a webhook; gives the status of the answer."""
        return await self._post(url, delivery, {"message": f"m-{text}", "text": text, "sent_at": WHEN}, secret=secret)

    async def _post(self, url: str, delivery: str, told: dict[str, str], *, secret: str = WEBHOOK_SECRET) -> int:
        body = json.dumps({"account": ACCOUNT, **told}).encode()
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {"X-Acme-Signature": f"sha256={signature}", "X-Acme-Delivery": delivery, "Content-Type": "application/json"}
        async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
            return answer.status

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = request.query
        assert (asked["response_type"], asked["client_id"], asked["code_challenge_method"]) == ("code", CLIENT, "S256")
        code = secrets.token_urlsafe()
        self.codes[code] = {"challenge": asked["code_challenge"], "redirect_uri": asked["redirect_uri"], "scope": asked["scope"]}
        raise web.HTTPFound(f"{asked['redirect_uri']}?code={code}&state={asked['state']}")

    async def _token(self, request: web.Request) -> web.Response:
        self._client(request)
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked[f"token {form['grant_type']}"] += 1
        if form["grant_type"] == "refresh_token":
            spent = form["refresh_token"]
            if spent not in self.refresh:
                return web.json_response({"error": "invalid_grant"}, status=400)
            return self._grant(spent)
        known = self.codes.pop(form["code"], None)
        proof = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        if known is None or proof != known["challenge"] or form["redirect_uri"] != known["redirect_uri"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        refresh = secrets.token_urlsafe()
        self.refresh.add(refresh)
        return self._grant(refresh, scope=known["scope"])

    def _grant(self, refresh: str, **more: str) -> web.Response:
        access = secrets.token_urlsafe()
        self.access[access] = refresh
        return web.json_response({"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 3600, **more})

    async def _revoke(self, request: web.Request) -> web.Response:
        """RFC 7009: whatever the token is, the answer is 200."""
        self._client(request)
        form = await request.post()
        self.revoked.append(str(form["token_type_hint"]))
        token = str(form["token"])
        self.access = {access: refresh for access, refresh in self.access.items() if token not in (access, refresh)}
        self.refresh.discard(token)
        return web.Response()

    async def _changes(self, request: web.Request) -> web.Response:
        self._user(request)
        epoch, _, place = request.query.get("cursor", f"{self.epoch}-0").partition("-")
        if int(epoch) != self.epoch:
            raise web.HTTPGone
        end = min(int(place) + PAGE, len(self.feed))
        page = {"changes": self.feed[int(place) : end], "cursor": f"{self.epoch}-{end}", "more": end < len(self.feed)}
        return web.json_response(page)

    async def _me(self, request: web.Request) -> web.Response:
        self._user(request)
        return web.json_response({"id": ACCOUNT, "email": "ada@acme.example"})

    def _client(self, request: web.Request) -> None:
        assert request.headers["Authorization"] == f"Basic {base64.b64encode(f'{CLIENT}:{SECRET}'.encode()).decode()}"

    def _user(self, request: web.Request) -> None:
        self.asked[request.path] += 1
        if request.headers.get("Authorization") == f"Basic {base64.b64encode(f'{NAME}:{self.key}'.encode()).decode()}":
            return
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.access:
            raise web.HTTPUnauthorized


@asynccontextmanager
async def served(acme: Acme, door: socket.socket) -> AsyncIterator[None]:
    """Serve it at a place that is already its own."""
    runner = web.AppRunner(acme.app(), shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, door).start()
    try:
        yield
    finally:
        await runner.cleanup()
