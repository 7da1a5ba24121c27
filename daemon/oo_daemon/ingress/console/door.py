"""Who is let into the console, and how a browser is known again.

On the Unix socket the kernel has said who asks; a browser gets there through `ssh -L`. Over TCP a person signs in with a token, or at the
issuer. The cookie is a random value whose hash leads to that token or person: a token that is revoked ends the session with it, a person is
asked for again after some hours, and a restart ends all. Signing in gives another value, so one that was planted before is worth nothing.
Every form carries a keyed digest of the cookie.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from oo_daemon.identity.person import Person
from oo_daemon.ingress.answers import Refused
from oo_daemon.ingress.asking import form_of
from oo_daemon.ingress.peers import CALLER, caller
from oo_daemon.ingress.tokens import READS, Tokens, of_this_machine, scope_of
from oo_daemon.ports import SECOND, Chance, Clock
from oo_daemon.store.api_tokens import ApiToken

H = TypeVar("H", bound=Callable[..., Awaitable[web.StreamResponse]])

COOKIE: Final = "oo-console"
#: How long a browser stays signed in.
LIFE: Final = 12 * 3600 * SECOND
#: The same where the issuer has said who it is: nobody tells us when that changes.
LIFE_OF_PERSON: Final = 4 * 3600 * SECOND
MOST_SESSIONS: Final = 1000
_VALUE = re.compile(r"[A-Za-z0-9_-]{43}")


class Visitor(msgspec.Struct, frozen=True, kw_only=True):
    """Who looks at a page."""

    name: str  #: empty: nobody has signed in
    operator: bool
    csrf: str  #: what a form of this browser carries
    can_leave: bool = False  #: there is a session to end


#: Who looks, for the handlers behind the door.
VISITOR: web.RequestKey[Visitor] = web.RequestKey("visitor", Visitor)


@dataclass(frozen=True, slots=True)
class _Session:
    token: bytes | None = field(repr=False)  #: its hash
    person: Person | None = field(repr=False)
    ends_at: int


@dataclass(slots=True, kw_only=True, eq=False)
class Door:
    """One door into the console."""

    tokens: Tokens
    clock: Clock
    chance: Chance
    trusts: bool  #: whoever comes so far is an operator: the Unix socket has asked
    _key: bytes = field(init=False, repr=False)
    _sessions: dict[bytes, _Session] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Forms of another life of the daemon are not taken."""
        self._key = self.chance.token_bytes(32)

    async def sign_in(self, token: str) -> str | None:
        """The value of the cookie for whoever has this token; None where it opens nothing here."""
        known = await self.tokens.known(f"Bearer {token.strip()}")
        if known is None or not _opens(known):
            return None
        return self._begin(_Session(known.hash, None, self.clock.now() + LIFE))

    def let_in(self, person: Person) -> str | None:
        """The value of the cookie for whom the issuer vouches; None for one who has no role here."""
        return None if person.role == "user" else self._begin(_Session(None, person, self.clock.now() + LIFE_OF_PERSON))

    def _begin(self, session: _Session) -> str:
        now = self.clock.now()
        for each in [each for each, session in self._sessions.items() if session.ends_at <= now]:
            del self._sessions[each]
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        value = self._value()
        self._sessions[_hash(value)] = session
        return value

    def sign_out(self, request: web.Request) -> None:
        """End the session."""
        self._sessions.pop(_hash(request.cookies.get(COOKIE, "")), None)

    async def still(self, request: web.Request) -> bool:
        """Whether the visitor may go on looking, for answers that last."""
        return (await self._visitor(request, request.cookies.get(COOKIE, ""))).name != ""

    def middleware(self) -> Middleware:
        """What stands before every route of the console: the host, the form, the visitor, and what he may do."""

        @web.middleware
        async def let_in(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not of_this_machine(request.headers.getall("Host", [])):
                raise Refused(403, "host", "The console answers to names of this machine only.", "Open it as localhost or 127.0.0.1.")
            value = request.cookies.get(COOKIE, "")
            fresh = not _VALUE.fullmatch(value)
            value = self._value() if fresh else value
            visitor = await self._visitor(request, value)
            request[VISITOR] = visitor
            if request.method not in READS:
                await _insist_on_own_form(request, "" if fresh else visitor.csrf)
            if request.match_info.http_exception is None and not _is_open(request):
                if not visitor.name:
                    return web.Response(status=303, headers={"Location": "/console/sign-in"})
                if scope_of(request.match_info.handler) != "read" and not visitor.operator:
                    raise Refused(403, "role", "You can look at this, but not change it.", "Sign in with a token that has the scope admin.")
            response = await handler(request)
            if fresh and not response.prepared:
                keep(response, value)
            return response

        return let_in

    async def _visitor(self, request: web.Request, value: str) -> Visitor:
        csrf = blake2b(value.encode(), key=self._key, digest_size=32).hexdigest()
        if self.trusts:
            return Visitor(name=caller(request), operator=True, csrf=csrf)
        session = self._sessions.get(_hash(value))
        if session is not None and session.ends_at > self.clock.now():
            if session.person is not None:
                request[CALLER] = f"{session.person.role} {session.person.name}"
                return Visitor(name=session.person.name, operator=session.person.role == "operator", csrf=csrf, can_leave=True)
            known = await self.tokens.holding(session.token or b"")
            if known is not None:
                request[CALLER] = f"token {known.name}"
                return Visitor(name=known.name, operator="admin" in known.scopes, csrf=csrf, can_leave=True)
        return Visitor(name="", operator=False, csrf=csrf)

    def _value(self) -> str:
        return base64.urlsafe_b64encode(self.chance.token_bytes(32)).rstrip(b"=").decode()


def open_to_all(handler: H) -> H:
    """Declare that nobody need have signed in for this."""
    setattr(handler, "open_to_all", True)  # noqa: B010 - a function has no such attribute for the type checker
    return handler


def keep(response: web.StreamResponse, value: str) -> None:
    """Have the browser keep the cookie. Not `Secure`: the door is plain HTTP on this machine."""
    response.set_cookie(COOKIE, value, path="/console", httponly=True, samesite="Strict")


def _is_open(request: web.Request) -> bool:
    return getattr(request.match_info.handler, "open_to_all", False)


def _opens(token: ApiToken) -> bool:
    return bool({"read", "admin"} & set(token.scopes))


async def _insist_on_own_form(request: web.Request, csrf: str) -> None:
    """A form of ours, filled in by this browser: the digest says so, and newer browsers say themselves where it came from."""
    given = (await form_of(request)).get("csrf", "")
    theirs = request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin"
    if theirs or not csrf or not isinstance(given, str) or not hmac.compare_digest(given.encode(), csrf.encode()):
        raise Refused(
            403,
            "form",
            "This form is too old, or is not one of ours. Nothing was done.",
            "Go back, load the page again, and send it once more.",
        )


def _hash(value: str) -> bytes:
    return blake2b(value.encode(), digest_size=32).digest()
