"""Connecting: the pages and redirects between a connect link and its outcome.

A link opens our page and nothing else; pressing the button spends it, ties the sign-in to this browser and leads to the provider. What
the provider sends back is handed on once and then gone from the address: the person ends on a clean page that can be loaded again, and is
asked there whether it is the right account.
Nothing that a provider or a stranger put into an address is ever shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Protocol
from urllib.parse import quote, urlsplit

from aiohttp import web

from oo_daemon.connections.connect import FlowRefused, LinkGone, Offer, Outcome
from oo_daemon.ingress import pages
from oo_daemon.ingress.asking import form_of
from oo_daemon.ingress.rate import Rate
from oo_daemon.ingress.server import GUARDS, refused
from oo_daemon.ports import Clock, moment

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Connecting(Protocol):
    """What these pages need of the hub."""

    async def offer(self, link: str) -> Offer:
        """What the link is for. Spends nothing. Raises LinkGone."""

    async def begin(self, link: str, browser: str, ticked: Collection[str] | None = None) -> str:
        """Spend the link, tie the sign-in to the browser, and give the provider's address. Raises LinkGone."""

    async def finish(self, *, registration: str, state: str, browser: str, code: str | None, error: str | None, iss: str | None) -> str:
        """Take the provider's answer, once, and give the outcome's id. Raises FlowRefused."""

    async def outcome(self, outcome_id: str, browser: str) -> Outcome:
        """How it ended, for the browser it began in. Raises FlowRefused."""

    async def confirm(self, outcome_id: str, browser: str) -> None:
        """Make the connection. Raises FlowRefused."""

    async def decline(self, outcome_id: str, browser: str) -> None:
        """Make none. Raises FlowRefused."""


def connect_routes(
    connecting: Connecting, *, public_url: str, token: Callable[[], str], clock: Clock, rate: int = 10
) -> Sequence[web.AbstractRouteDef]:
    """The routes of the public door. `token` gives 256 random bits as URL-safe text; `rate` is for one address and minute."""
    pages_ = _Connect(connecting, public_url=public_url, token=token, clock=clock, rate=rate)
    return [
        web.get("/", pages_.front),
        web.get("/style.css", pages_.style),
        web.get("/connect/outcome/{outcome}", pages_.outcome),
        web.post("/connect/outcome/{outcome}", pages_.answer),
        web.get("/connect/{link}", pages_.offer),
        web.post("/connect/{link}", pages_.begin),
        # No HEAD: whoever only looks must not spend the state.
        web.get("/oauth/{registration}/callback", pages_.finish, allow_head=False),
    ]


class _Connect:
    def __init__(self, connecting: Connecting, *, public_url: str, token: Callable[[], str], clock: Clock, rate: int) -> None:
        url = urlsplit(public_url)
        if url.scheme != "https" and url.hostname not in _LOOPBACK:
            raise ValueError(f"People cannot sign in safely at {public_url}: use an https address, or a loopback address for trying out.")
        self._connecting = connecting
        self._host = url.netloc
        self._token = token
        self._clock = clock
        self._begun, self._back = Rate(rate, clock), Rate(rate, clock)
        # A `__Host-` cookie cannot be planted by a neighbouring host name; browsers take it over https only.
        self._secure = url.scheme == "https"
        self._cookie = "__Host-oo-browser" if self._secure else "oo-browser"

    async def front(self, request: web.Request) -> web.Response:
        return _page(pages.front(host=self._host))

    async def style(self, request: web.Request) -> web.Response:
        headers = {"Cache-Control": "public, max-age=86400"}  # the pages name a version, so a new one is fetched at once
        return web.Response(body=pages.stylesheet(), content_type="text/css", charset="utf-8", headers=headers)

    async def offer(self, request: web.Request) -> web.Response:
        return await self._offer(request, cookie_missing=False)

    async def begin(self, request: web.Request) -> web.Response:
        # The cookie came with our page and is not sent from a form on another site (SameSite=Lax): without it, somebody may be pushing
        # this browser into a connection that its user never saw.
        self._begun.take(request.remote)
        browser = self._browser(request)
        if browser is None:
            return await self._offer(request, cookie_missing=True)
        ticked = [str(value) for value in (await form_of(request)).getall("scope", [])]
        try:
            provider = await self._connecting.begin(request.match_info["link"], browser, ticked)
        except LinkGone:
            return _page(pages.link_gone(), status=404)
        return _see_other(provider)

    async def finish(self, request: web.Request) -> web.Response:
        if "prefetch" in request.headers.get("Sec-Purpose", "") or "prefetch" in request.headers.get("Purpose", ""):
            raise refused(503)  # a browser that only guesses must not spend the state
        self._back.take(request.remote)
        answer = {name: request.query.getall(name, []) for name in ("state", "code", "error", "iss")}
        if any(len(values) > 1 for values in answer.values()):  # RFC 6749 section 3.1: none may come twice
            return _page(pages.flow_refused(), status=400)
        state, code, error, iss = (next(iter(values), None) for values in answer.values())
        try:
            outcome = await self._connecting.finish(
                registration=request.match_info["registration"],
                state=state or "",
                browser=self._browser(request) or "",
                code=code,
                error=error,
                iss=iss,
            )
        except FlowRefused:
            return _page(pages.flow_refused(), status=400)
        return _see_other(f"/connect/outcome/{quote(outcome, safe='')}")

    async def outcome(self, request: web.Request) -> web.Response:
        try:
            outcome = await self._connecting.outcome(request.match_info["outcome"], self._browser(request) or "")
        except FlowRefused:
            return _page(pages.flow_refused(), status=400)
        html = pages.outcome(
            provider=outcome.provider_title,
            status=outcome.status,
            reason=outcome.reason,
            label=outcome.label,
            user=outcome.user_label,
            replaces=outcome.replaces,
            withheld=outcome.withheld,
            return_to=outcome.return_to,
        )
        return _page(html)

    async def answer(self, request: web.Request) -> web.Response:
        outcome, browser = request.match_info["outcome"], self._browser(request) or ""
        said = (await form_of(request)).get("answer")
        if said not in {"yes", "no"}:
            raise refused(400)
        try:
            await (self._connecting.confirm if said == "yes" else self._connecting.decline)(outcome, browser)
        except FlowRefused:
            return _page(pages.flow_refused(), status=400)
        return _see_other(f"/connect/outcome/{quote(outcome, safe='')}")

    async def _offer(self, request: web.Request, *, cookie_missing: bool) -> web.Response:
        try:
            offer = await self._connecting.offer(request.match_info["link"])
        except LinkGone:
            return _page(pages.link_gone(), status=404)
        html = pages.offer(
            host=self._host,
            provider=offer.provider_title,
            user=offer.user_label,
            account="" if offer.account == "default" else offer.account,
            sees=[asked for asked in offer.scopes if asked.access == "read"],
            changes=[asked for asked in offer.scopes if asked.access == "write"],
            kept=offer.kept,
            expires_at=offer.expires_at,
            now=moment(self._clock.now()),
            cookie_missing=cookie_missing,
        )
        response = _page(html, status=400 if cookie_missing else 200)
        # Chromium holds form-action against the redirect as well, so 'self' alone would stop the way to the provider.
        policy = GUARDS["Content-Security-Policy"]
        response.headers["Content-Security-Policy"] = policy.replace(
            "form-action 'self'", f"form-action 'self' {_origin(offer.provider_origin)}"
        )
        if self._browser(request) is None:
            response.set_cookie(self._cookie, self._token(), path="/", secure=self._secure, httponly=True, samesite="Lax")
        return response

    def _browser(self, request: web.Request) -> str | None:
        """The value of our cookie, if it looks like one of ours."""
        value = request.cookies.get(self._cookie, "")
        return value if re.fullmatch(r"[A-Za-z0-9_-]{1,128}", value) else None


def _page(html: str, *, status: int = 200) -> web.Response:
    return web.Response(status=status, text=html, content_type="text/html")


def _see_other(location: str) -> web.Response:
    return web.Response(status=303, headers={"Location": location})


def _origin(text: str) -> str:
    """The origin, if it is nothing but one: it goes into a header where a semicolon would begin another rule."""
    if not re.fullmatch(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?", text):
        raise ValueError("A provider's origin must be a scheme, a host and a port at most: correct the connector's authorize address.")
    return text
