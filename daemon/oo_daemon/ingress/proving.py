"""Behind a link: the cookie by which a browser is known again, and how the person in it proves who they are.

Where the operator wants it, a link opens nothing before that: the person signs in at the issuer, or comes with a ticket of the product's.
Connect links and links to a person's own page share this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote, urlsplit

from aiohttp import web

from oo_daemon.connections.connect import LinkGone, NotTheirs
from oo_daemon.identity.person import CannotTell, NotSignedIn, NotVouched, Person
from oo_daemon.ingress import pages
from oo_daemon.ingress.answers import GUARDS, refused
from oo_daemon.ingress.rate import Rate
from oo_daemon.ports import Clock

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_VALUE = re.compile(r"[A-Za-z0-9_-]{1,128}")


class Provable(Protocol):
    """Whoever has links."""

    async def prove(self, link: str, browser: str, how: str, user: str, session: str | None = None) -> None:
        """The person in this browser is this user. Raises LinkGone and NotTheirs."""


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
        """The connect session, or the visit, that it is for."""


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


@dataclass(slots=True, kw_only=True, eq=False)
class Proving:
    """What all links share. `links` are whose they are, by the word that their addresses begin with, such as `connect`."""

    public_url: str
    token: Callable[[], str]  #: 256 random bits as URL-safe text
    clock: Clock
    rate: int  #: for one address and minute
    links: Mapping[str, Provable]
    at_issuer: SignsIn | None = None
    tickets: ReadsTickets | None = None
    host: str = field(init=False)
    secure: bool = field(init=False)
    begun: Rate = field(init=False)
    back: Rate = field(init=False)

    def __post_init__(self) -> None:
        """Raises `ValueError` for an address at which nobody can sign in safely."""
        url = urlsplit(self.public_url)
        if url.scheme != "https" and url.hostname not in _LOOPBACK:
            raise ValueError(
                f"People cannot sign in safely at {self.public_url}: use an https address, or a loopback address for trying out."
            )
        self.host, self.secure = url.netloc, url.scheme == "https"
        self.begun, self.back = Rate(self.rate, self.clock), Rate(self.rate, self.clock)

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The way back from the issuer."""
        return [web.get("/identity/callback", self.signed_in, allow_head=False)]

    # --- the browser --------------------------------------------------------------------------------------------------

    def cookie(self, name: str) -> str:
        """The name of a cookie of ours: one with `__Host-` cannot be planted by a neighbouring host name; it takes https."""
        return f"__Host-{name}" if self.secure else name

    def browser(self, request: web.Request) -> str | None:
        """The value by which this browser is known again, if it looks like one of ours."""
        value = request.cookies.get(self.cookie("oo-browser"), "")
        return value if _VALUE.fullmatch(value) else None

    def know_again(self, response: web.Response, browser: str) -> None:
        """Have the browser keep it. Lax: it must come back with the person from the provider's or the issuer's pages."""
        response.set_cookie(self.cookie("oo-browser"), browser, path="/", secure=self.secure, httponly=True, samesite="Lax")

    # --- the person ---------------------------------------------------------------------------------------------------

    async def with_ticket(self, request: web.Request, word: str) -> web.Response:
        """Spend a ticket in this browser, and go on at the link's own address, in which there is none."""
        refuse_guesses(request)
        self.begun.take(request.remote)
        given, link = request.query.getall("ticket"), request.match_info["link"]
        browser = self.browser(request)
        fresh = browser or self.token()
        try:
            if self.tickets is None or len(given) != 1:
                raise NotVouched("no ticket is read here")
            ticket = self.tickets.read(given[0])
            await self.links[word].prove(link, fresh, "ticket", ticket.user, ticket.session)
        except (NotVouched, NotTheirs, LinkGone):
            return shown(pages.not_proved(), status=403)
        response = see_other(address(word, link))
        if browser is None:
            self.know_again(response, fresh)
        return response

    async def to_issuer(self, word: str, link: str) -> web.Response:
        """Send the person to the issuer. Raises `Refused`."""
        if self.at_issuer is None:
            raise refused(404)
        try:
            begun = await self.at_issuer.begin(f"{self.public_url}/identity/callback", purpose="a link", carried=f"{word}/{link}")
        except CannotTell:
            raise refused(503) from None
        response = see_other(begun.address)
        kept = self.cookie("oo-signing-in")
        response.set_cookie(kept, begun.kept, path="/", secure=self.secure, httponly=True, samesite="Lax", max_age=600)
        return response

    async def signed_in(self, request: web.Request) -> web.Response:
        """Take the issuer's answer, once, and go on at the link."""
        refuse_guesses(request)
        self.back.take(request.remote)
        answer = once(request, "state", "code", "error", "iss")
        cookie, browser = self.cookie("oo-signing-in"), self.browser(request)
        if self.at_issuer is None or answer is None or browser is None:
            return shown(pages.not_proved(), status=403)
        try:
            person, carried = await self.at_issuer.finish(request.cookies.get(cookie, ""), answer, purpose="a link")
            word, _, link = carried.partition("/")
            await self.links[word].prove(link, browser, "sign_in", person.name)
        except NotSignedIn:
            response = shown(pages.not_proved(said_no=True), status=403)
        except NotTheirs:
            response = shown(pages.not_theirs(host=self.at_issuer.host), status=403)
        except (NotVouched, LinkGone):
            response = shown(pages.not_proved(), status=403)
        except CannotTell:
            raise refused(503) from None
        else:
            response = see_other(address(word, link))
        response.del_cookie(cookie, path="/", secure=self.secure, httponly=True, samesite="Lax")
        return response

    async def who_is_it(
        self, request: web.Request, word: str, *, user: str, provider: str = "", cookie_missing: bool = False
    ) -> web.Response:
        """The page on which a person proves first who they are. `provider` is empty where the link connects nothing."""
        html = pages.identify(
            host=self.host,
            provider=provider,
            user=user,
            issuer=self.at_issuer.host if self.at_issuer else "",
            here=address(word, request.match_info["link"]),
            cookie_missing=cookie_missing,
        )
        response = shown(html, status=400 if cookie_missing else 200 if request.method == "GET" else 403)
        if self.at_issuer is not None:
            try:
                lead_to(response, await self.at_issuer.origin())
            except CannotTell:
                raise refused(503) from None
        if self.browser(request) is None:
            self.know_again(response, self.token())
        return response


def address(word: str, link: str) -> str:
    """Where a link leads."""
    return f"/{word}/{quote(link, safe='')}"


def shown(html: str, *, status: int = 200) -> web.Response:
    """A page."""
    return web.Response(status=status, text=html, content_type="text/html")


def see_other(location: str) -> web.Response:
    """Go on there."""
    return web.Response(status=303, headers={"Location": location})


def lead_to(response: web.Response, origin: str) -> None:
    """Let the page's button lead there: Chromium holds form-action against the redirect as well, so 'self' alone would stop it."""
    policy = GUARDS["Content-Security-Policy"]
    response.headers["Content-Security-Policy"] = policy.replace("form-action 'self'", f"form-action 'self' {_origin(origin)}")


def refuse_guesses(request: web.Request) -> None:
    """A browser that only guesses must not spend what works once. Raises `Refused`."""
    if "prefetch" in request.headers.get("Sec-Purpose", "") or "prefetch" in request.headers.get("Purpose", ""):
        raise refused(503)


def once(request: web.Request, *names: str) -> Mapping[str, str] | None:
    """These parameters of the address, as far as they are there. None: one is there twice (RFC 6749 section 3.1)."""
    given = {name: request.query.getall(name, []) for name in names}
    if any(len(values) > 1 for values in given.values()):
        return None
    return {name: value for name, values in given.items() for value in values}


def _origin(text: str) -> str:
    """The origin, if it is nothing but one: it goes into a header where a semicolon would begin another rule."""
    if not re.fullmatch(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?", text):
        raise ValueError("A provider's origin must be a scheme, a host and a port at most: correct the connector's authorize address.")
    return text
