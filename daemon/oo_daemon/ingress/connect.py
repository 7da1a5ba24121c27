"""Connecting: the pages and redirects between a connect link and its outcome.

A link opens our page and nothing else; pressing the button spends it, ties the sign-in to this browser and leads to the provider. What
the provider sends back is handed on once and then gone from the address: the person ends on a clean page that can be loaded again, and is
asked there whether it is the right account.
Where the operator wants it, the person proves before anything else who they are: at the issuer, or by a ticket of the product's.
Nothing that a provider or a stranger put into an address is ever shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol
from urllib.parse import quote, urlsplit

from aiohttp import web

from oo_daemon.connections.connect import FlowRefused, KeyNotTaken, LinkGone, NotNow, NotTheirs, Offer, Outcome, ProofNeeded
from oo_daemon.identity.person import CannotTell, NotSignedIn, NotVouched, Person
from oo_daemon.ingress import pages
from oo_daemon.ingress.asking import form_of
from oo_daemon.ingress.rate import Rate
from oo_daemon.ingress.server import GUARDS, refused
from oo_daemon.ports import Clock, moment
from oo_sdk import KeyField

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Connecting(Protocol):
    """What these pages need of the hub."""

    async def offer(self, link: str, browser: str = "") -> Offer:
        """What the link is for. Spends nothing. Raises LinkGone."""

    async def prove(self, link: str, browser: str, how: str, user: str, session: str | None = None) -> None:
        """The person in this browser is this user. Raises LinkGone and NotTheirs."""

    async def begin(self, link: str, browser: str, ticked: Collection[str] | None = None) -> str:
        """Spend the link, tie the sign-in to the browser, and give the provider's address. Raises LinkGone, ProofNeeded and NotNow."""

    async def begin_device(self, link: str, browser: str, ticked: Collection[str] | None = None) -> str:
        """Get a code for the person, and give the outcome's id. Raises LinkGone, ProofNeeded and NotNow."""

    async def enter(self, link: str, browser: str, values: Mapping[str, str], ticked: Collection[str] | None = None) -> str:
        """Take a key, and give the outcome's id. Raises LinkGone, ProofNeeded and KeyNotTaken."""

    async def finish(self, *, registration: str, state: str, browser: str, code: str | None, error: str | None, iss: str | None) -> str:
        """Take the provider's answer, once, and give the outcome's id. Raises FlowRefused."""

    async def outcome(self, outcome_id: str, browser: str) -> Outcome:
        """How it ended, for the browser it began in. Raises FlowRefused."""

    async def confirm(self, outcome_id: str, browser: str) -> None:
        """Make the connection. Raises FlowRefused."""

    async def decline(self, outcome_id: str, browser: str) -> None:
        """Make none. Raises FlowRefused."""


class ReadsTickets(Protocol):
    """Reads tickets of the product's."""

    def read(self, text: str) -> Ticket:
        """Raises NotVouched."""


class Ticket(Protocol):
    """What a ticket says."""

    @property
    def user(self) -> str:
        """Who is in this browser."""

    @property
    def session(self) -> str:
        """The connect session it is for."""


class SignsIn(Protocol):
    """Has people sign in at the issuer."""

    @property
    def host(self) -> str:
        """Where, as they are told."""

    async def origin(self) -> str:
        """Where the button leads. Raises CannotTell."""

    async def begin(self, redirect_uri: str, *, purpose: str, carried: str = "") -> Begun:
        """Begin. Raises CannotTell."""

    async def finish(self, kept: str, answer: Mapping[str, str], *, purpose: str) -> tuple[Person, str]:
        """Who has signed in, and what was carried. Raises NotSignedIn, NotVouched and CannotTell."""


class Begun(Protocol):
    """A sign-in that begins."""

    @property
    def address(self) -> str:
        """Where the browser goes."""

    @property
    def kept(self) -> str:
        """What it keeps until it is back."""


def connect_routes(
    connecting: Connecting,
    *,
    public_url: str,
    token: Callable[[], str],
    clock: Clock,
    rate: int = 10,
    sign_in: SignsIn | None = None,
    tickets: ReadsTickets | None = None,
) -> Sequence[web.AbstractRouteDef]:
    """The routes of the public door. `token` gives 256 random bits as URL-safe text; `rate` is for one address and minute."""
    pages_ = _Connect(connecting, public_url=public_url, token=token, clock=clock, rate=rate, sign_in=sign_in, tickets=tickets)
    return [
        web.get("/", pages_.front),
        web.get("/style.css", pages_.style),
        web.get("/connect/outcome/{outcome}", pages_.outcome),
        web.post("/connect/outcome/{outcome}", pages_.answer),
        web.get("/connect/{link}", pages_.offer),
        web.post("/connect/{link}", pages_.begin),
        web.post("/connect/{link}/sign-in", pages_.sign_in),
        web.get("/identity/callback", pages_.signed_in, allow_head=False),
        # No HEAD: whoever only looks must not spend the state.
        web.get("/oauth/{registration}/callback", pages_.finish, allow_head=False),
    ]


class _Connect:
    def __init__(
        self,
        connecting: Connecting,
        *,
        public_url: str,
        token: Callable[[], str],
        clock: Clock,
        rate: int,
        sign_in: SignsIn | None,
        tickets: ReadsTickets | None,
    ) -> None:
        url = urlsplit(public_url)
        if url.scheme != "https" and url.hostname not in _LOOPBACK:
            raise ValueError(f"People cannot sign in safely at {public_url}: use an https address, or a loopback address for trying out.")
        self._connecting = connecting
        self._host = url.netloc
        self._at_issuer, self._tickets = sign_in, tickets
        self._back_from_issuer = f"{public_url}/identity/callback"
        self._token = token
        self._clock = clock
        self._begun, self._back = Rate(rate, clock), Rate(rate, clock)
        # A `__Host-` cookie cannot be planted by a neighbouring host name; browsers take it over https only.
        self._secure = url.scheme == "https"
        self._cookie = "__Host-oo-browser" if self._secure else "oo-browser"
        self._kept = "__Host-oo-signing-in" if self._secure else "oo-signing-in"

    async def front(self, request: web.Request) -> web.Response:
        return _page(pages.front(host=self._host))

    async def style(self, request: web.Request) -> web.Response:
        headers = {"Cache-Control": "public, max-age=86400"}  # the pages name a version, so a new one is fetched at once
        return web.Response(body=pages.stylesheet(), content_type="text/css", charset="utf-8", headers=headers)

    async def offer(self, request: web.Request) -> web.Response:
        if "ticket" in request.query:
            return await self._with_ticket(request)
        return await self._offer(request)

    async def _with_ticket(self, request: web.Request) -> web.Response:
        """Spend a ticket in this browser, and go on at the link's own address, in which there is none."""
        _refuse_guesses(request)
        self._begun.take(request.remote)
        given, link = request.query.getall("ticket"), request.match_info["link"]
        browser = self._browser(request)
        fresh = browser or self._token()
        try:
            if self._tickets is None or len(given) != 1:
                raise NotVouched("no ticket is read here")
            ticket = self._tickets.read(given[0])
            await self._connecting.prove(link, fresh, "ticket", ticket.user, ticket.session)
        except (NotVouched, NotTheirs, LinkGone):
            return _page(pages.not_proved(), status=403)
        response = _see_other(f"/connect/{quote(link, safe='')}")
        if browser is None:
            self._know_again(response, fresh)
        return response

    async def sign_in(self, request: web.Request) -> web.Response:
        """Send the person to the issuer."""
        self._begun.take(request.remote)
        browser, link = self._browser(request), request.match_info["link"]
        if self._at_issuer is None or browser is None:
            return await self._offer(request, cookie_missing=browser is None)
        try:
            await self._connecting.offer(link, browser)
            begun = await self._at_issuer.begin(self._back_from_issuer, purpose="connecting", carried=link)
        except LinkGone:
            return _page(pages.link_gone(), status=404)
        except CannotTell:
            raise refused(503) from None
        response = _see_other(begun.address)
        response.set_cookie(self._kept, begun.kept, path="/", secure=self._secure, httponly=True, samesite="Lax", max_age=600)
        return response

    async def signed_in(self, request: web.Request) -> web.Response:
        """Take the issuer's answer, once, and go on at the link."""
        _refuse_guesses(request)
        self._back.take(request.remote)
        answer = _once(request, "state", "code", "error", "iss")
        kept, browser = request.cookies.get(self._kept, ""), self._browser(request)
        if self._at_issuer is None or answer is None or browser is None:
            return _page(pages.not_proved(), status=403)
        try:
            person, link = await self._at_issuer.finish(kept, answer, purpose="connecting")
            await self._connecting.prove(link, browser, "sign_in", person.name)
        except NotSignedIn:
            response = _page(pages.not_proved(said_no=True), status=403)
        except NotTheirs:
            response = _page(pages.not_theirs(host=self._at_issuer.host), status=403)
        except (NotVouched, LinkGone):
            response = _page(pages.not_proved(), status=403)
        except CannotTell:
            raise refused(503) from None
        else:
            response = _see_other(f"/connect/{quote(link, safe='')}")
        response.del_cookie(self._kept, path="/", secure=self._secure, httponly=True, samesite="Lax")
        return response

    async def begin(self, request: web.Request) -> web.Response:
        # The cookie came with our page and is not sent from a form on another site (SameSite=Lax): without it, somebody may be pushing
        # this browser into a connection that its user never saw.
        self._begun.take(request.remote)
        browser = self._browser(request)
        if browser is None:
            return await self._offer(request, cookie_missing=True)
        form, link = await form_of(request), request.match_info["link"]
        ticked = [str(value) for value in form.getall("scope", [])]
        try:
            offer = await self._connecting.offer(link, browser)
            if offer.by_code:
                outcome = await self._connecting.begin_device(link, browser, ticked)
                return _see_other(f"/connect/outcome/{quote(outcome, safe='')}")
            if not offer.fields:
                return _see_other(await self._connecting.begin(link, browser, ticked))
            entered = {name.removeprefix("key-"): str(value) for name, value in form.items() if name.startswith("key-")}
            try:
                outcome = await self._connecting.enter(link, browser, entered, ticked)
            except KeyNotTaken as refused_:
                return await self._offer(request, refused=refused_.told, entered=entered, ticked=ticked)
        except LinkGone:
            return _page(pages.link_gone(), status=404)
        except ProofNeeded:
            return await self._offer(request)
        except NotNow as none:
            return await self._offer(request, refused={"": str(none)}, ticked=ticked)
        return _see_other(f"/connect/outcome/{quote(outcome, safe='')}")

    async def finish(self, request: web.Request) -> web.Response:
        _refuse_guesses(request)
        self._back.take(request.remote)
        answer = _once(request, "state", "code", "error", "iss")
        if answer is None:
            return _page(pages.flow_refused(), status=400)
        try:
            outcome = await self._connecting.finish(
                registration=request.match_info["registration"],
                state=answer.get("state", ""),
                browser=self._browser(request) or "",
                code=answer.get("code"),
                error=answer.get("error"),
                iss=answer.get("iss"),
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
            by_key=outcome.by_key,
            code=outcome.code,
            now=moment(self._clock.now()),
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

    async def _offer(
        self,
        request: web.Request,
        *,
        cookie_missing: bool = False,
        refused: Mapping[str, str] = MappingProxyType({}),
        entered: Mapping[str, str] = MappingProxyType({}),
        ticked: Collection[str] | None = None,
    ) -> web.Response:
        try:
            offer = await self._connecting.offer(request.match_info["link"], self._browser(request) or "")
        except LinkGone:
            return _page(pages.link_gone(), status=404)
        if offer.proof_needed:
            return await self._who_is_it(request, offer, cookie_missing=cookie_missing)
        scopes = offer.scopes if ticked is None else [replace(each, ticked=each.id in ticked) for each in offer.scopes]
        html = pages.offer(
            host=self._host,
            provider=offer.provider_title,
            user=offer.user_label,
            account="" if offer.account == "default" else offer.account,
            sees=[asked for asked in scopes if asked.access == "read"],
            changes=[asked for asked in scopes if asked.access == "write"],
            kept=offer.kept,
            expires_at=offer.expires_at,
            now=moment(self._clock.now()),
            cookie_missing=cookie_missing,
            fields=[_entry(each, entered, refused) for each in offer.fields],
            refused=refused.get("", ""),
            manual_revocation=offer.manual_revocation,
            by_code=offer.by_code,
        )
        response = _page(html, status=400 if cookie_missing or refused else 200)
        if not offer.fields and not offer.by_code:
            self._lead_to(response, offer.provider_origin)
        if self._browser(request) is None:
            self._know_again(response, self._token())
        return response

    async def _who_is_it(self, request: web.Request, offer: Offer, *, cookie_missing: bool) -> web.Response:
        """Have the person prove first who they are."""
        html = pages.identify(
            host=self._host,
            provider=offer.provider_title,
            user=offer.user_label,
            issuer=self._at_issuer.host if self._at_issuer else "",
            here=f"/connect/{quote(request.match_info['link'], safe='')}",
            cookie_missing=cookie_missing,
        )
        response = _page(html, status=400 if cookie_missing else 200 if request.method == "GET" else 403)
        if self._at_issuer is not None:
            try:
                self._lead_to(response, await self._at_issuer.origin())
            except CannotTell:
                raise refused(503) from None
        if self._browser(request) is None:
            self._know_again(response, self._token())
        return response

    def _know_again(self, response: web.Response, browser: str) -> None:
        response.set_cookie(self._cookie, browser, path="/", secure=self._secure, httponly=True, samesite="Lax")

    def _lead_to(self, response: web.Response, origin: str) -> None:
        """Let the page's button lead there: Chromium holds form-action against the redirect as well, so 'self' alone would stop it."""
        policy = GUARDS["Content-Security-Policy"]
        response.headers["Content-Security-Policy"] = policy.replace("form-action 'self'", f"form-action 'self' {_origin(origin)}")

    def _browser(self, request: web.Request) -> str | None:
        """The value of our cookie, if it looks like one of ours."""
        value = request.cookies.get(self._cookie, "")
        return value if re.fullmatch(r"[A-Za-z0-9_-]{1,128}", value) else None


def _entry(field: KeyField, entered: Mapping[str, str], refused: Mapping[str, str]) -> pages.Entry:
    """A field as it is shown: what was typed stays, unless it is secret."""
    return pages.Entry(
        id=field.id,
        label=field.label,
        help=field.help,
        secret=field.secret,
        value="" if field.secret else entered.get(field.id, ""),
        problem=refused.get(field.id, ""),
    )


def _page(html: str, *, status: int = 200) -> web.Response:
    return web.Response(status=status, text=html, content_type="text/html")


def _refuse_guesses(request: web.Request) -> None:
    """A browser that only guesses must not spend what works once. Raises `Refused`."""
    if "prefetch" in request.headers.get("Sec-Purpose", "") or "prefetch" in request.headers.get("Purpose", ""):
        raise refused(503)


def _once(request: web.Request, *names: str) -> Mapping[str, str] | None:
    """These parameters of the address, as far as they are there. None: one is there twice (RFC 6749 section 3.1)."""
    given = {name: request.query.getall(name, []) for name in names}
    if any(len(values) > 1 for values in given.values()):
        return None
    return {name: value for name, values in given.items() for value in values}


def _see_other(location: str) -> web.Response:
    return web.Response(status=303, headers={"Location": location})


def _origin(text: str) -> str:
    """The origin, if it is nothing but one: it goes into a header where a semicolon would begin another rule."""
    if not re.fullmatch(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?", text):
        raise ValueError("A provider's origin must be a scheme, a host and a port at most: correct the connector's authorize address.")
    return text
