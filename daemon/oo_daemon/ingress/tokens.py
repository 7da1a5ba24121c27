"""Tokens: who may ask what of the private API where it is reached over TCP.

On the Unix socket the kernel says who asks. Over TCP a bearer token (RFC 6750) does: one of ours, 256 random bits, told once, kept as a
hash; or one of the issuer's, by which a person is known. Each route declares the scope that it needs with `needs`; one that declares none
takes `admin`, so that forgetting it opens nothing. A person who is only a user is let in where the route says so, to what is their own.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeVar, get_args

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from oo_daemon.connections.errors import Declined
from oo_daemon.identity.person import CannotTell, NotVouched, Person
from oo_daemon.ingress.answers import Refused
from oo_daemon.ingress.peers import CALLER
from oo_daemon.ports import SECOND, Chance, Clock
from oo_daemon.store import api_tokens
from oo_daemon.store.api_tokens import ApiToken
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.storage import Storage

#: What a token allows: to read; to connect people and sync; to act at providers; everything.
Scope = Literal["read", "connect", "act", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

#: Methods that change nothing.
READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

H = TypeVar("H", bound=Callable[..., Awaitable[web.StreamResponse]])

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
#: Ours begin so, to be found where they should not be.
_PREFIX: Final = "oot_"
_BEARER = re.compile(r"Bearer +([\x21-\x7e]+) *", re.IGNORECASE)
#: Names by which a browser can only mean this machine: a stranger's page whose name was pointed here (DNS rebinding) says its own.
_HOSTS = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)
#: Set in an application within the door's own that asks by itself who calls, and wants no token in a header.
ASKS_ITSELF: Final = web.AppKey("asks_itself", bool)
#: The user to whom a caller is held: set where a person asks who is neither operator nor viewer.
USER: Final = web.RequestKey("user", str)
#: How coarsely the last use is kept.
_USED_EVERY: Final = 60 * SECOND


def needs(scope: Scope, *, noted: bool | None = None, of_user: Scope | None = None) -> Callable[[H], H]:
    """Declare what a token must allow for this handler to be called over TCP.

    `noted`: whether the call is an act for the audit log, where that is otherwise than `is_noted` takes it for. `of_user`: the scope with
    which a user may do it to what is their own, which the handler sees to by `insist_on_own` or `held_to`; None: no user may.
    """

    def declare(handler: H) -> H:
        handler.__dict__.update(scope=scope, noted=noted, of_user=of_user)
        return handler

    return declare


def held_to(request: web.Request) -> str | None:
    """The user whose things alone this caller may see; None: everybody's."""
    user: str | None = request.get(USER)
    return user


async def holds_still(request: web.Request) -> bool:
    """Say whether who asked may still ask: what was shown may have been revoked, or have ended, while an answer goes on."""
    shown = request.get(SHOWN)
    return shown is None or await shown.holds()


def insist_on_own(request: web.Request, user: str, missing: Refused) -> None:
    """Go on only where this user's things may be seen. Raises `missing`: what is another's is not there."""
    if held_to(request) not in (None, user):
        raise missing


def is_noted(handler: object, method: str) -> bool:
    """Whether a call is an act for the audit log: it changes something, and takes more than the scope to read.

    (A consumer that reads moves its own place, many times a second; that is no act of an administrator.)
    """
    declared: bool | None = getattr(handler, "noted", None)
    return declared if declared is not None else method not in READS and scope_of(handler) != "read"


def of_this_machine(hosts: Sequence[str]) -> bool:
    """Whether a request's Host headers are one, and name this machine."""
    return len(hosts) == 1 and _HOSTS.fullmatch(hosts[0]) is not None


def scope_of(handler: object) -> Scope:
    """What a handler declares."""
    scope: Scope = getattr(handler, "scope", "admin")
    return scope


def of_user(handler: object) -> Scope | None:
    """What a handler declares for a user; None: it is closed to users."""
    scope: Scope | None = getattr(handler, "of_user", None)
    return scope


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks over TCP."""

    name: str  #: "token NAME", "operator NAME", "viewer NAME" or "user NAME"
    scopes: frozenset[Scope]
    user: str | None = None  #: to whom they are held


class Vouching(Protocol):
    """Knows people by tokens of an issuer's."""

    async def person(self, token: str) -> Person:
        """Whom it is about. Raises `NotVouched` and `CannotTell`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token that was just made; it is told once."""

    known: ApiToken
    token: str = field(repr=False)


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """Makes, checks and forgets tokens."""

    storage: Storage
    clock: Clock
    chance: Chance
    _noted: dict[bytes, int] = msgspec.field(default_factory=dict)  #: when a use was last written down, by hash

    async def create(self, name: str, scopes: Sequence[Scope], life: float | None) -> NewToken:
        """Make a token; `life` in seconds, None: until it is revoked. Raises `Declined`."""
        if not _NAME.fullmatch(name):
            raise Declined("name", f"{name!r} is no name for a token.", "Use up to 64 letters, digits and . _ -")
        if not scopes:
            raise Declined("scopes", "A token without a scope allows nothing.", f"Give it one of {', '.join(SCOPES)}.")
        now = self.clock.now()
        token = _PREFIX + base64.urlsafe_b64encode(self.chance.token_bytes(32)).rstrip(b"=").decode()
        known = ApiToken(
            name=name,
            hash=_hash(token),
            scopes=tuple(scope for scope in SCOPES if scope in scopes),
            created_at=now,
            expires_at=None if life is None else now + int(life * SECOND),
        )
        if not await self.storage.write(api_tokens.add, known):
            raise Declined("token_exists", f"There is a token {name}.", "Revoke it first, or choose another name.")
        return NewToken(known=known, token=token)

    async def listed(self) -> list[ApiToken]:
        """All tokens, oldest first."""
        return await self.storage.read(api_tokens.listed)

    async def revoke(self, name: str) -> ApiToken:
        """Forget a token, and give what it was: from the next request on it is refused, and its streams end soon. Raises `Declined`."""
        revoked = await self.storage.write(api_tokens.revoke, name)
        if revoked is None:
            raise Declined("not_found", "There is no such token.", "See `oo token list`.")
        return revoked

    async def known(self, authorization: str) -> ApiToken | None:
        """The token in an Authorization header; None for one that is wrong, revoked or expired, or no token at all."""
        given = _BEARER.fullmatch(authorization)
        if given is None:
            return None
        return await self.holding(_hash(given[1]))

    async def holding(self, hash_: bytes) -> ApiToken | None:
        """The token with this hash, while it holds."""
        now = self.clock.now()
        # Looked up by its hash: how long that takes says nothing about a token that is not known already.
        found = await self.storage.read(api_tokens.by_hash, hash_)
        if found is None or not hmac.compare_digest(found.hash, hash_) or (found.expires_at is not None and found.expires_at <= now):
            return None
        await self._note(found, now)
        return found

    async def _note(self, token: ApiToken, now: int) -> None:
        last = max(self._noted.get(token.hash, 0), token.last_used_at or 0)
        if last <= now < last + _USED_EVERY:
            return
        self._noted[token.hash] = now
        with suppress(CannotStore):  # a full disk is no reason to keep a reader out
            await self.storage.write(api_tokens.used, token.name, now)


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """By what a caller is known."""

    caller: Caller
    authorization: str
    tokens: Tokens
    vouching: Vouching | None

    async def holds(self) -> bool:
        """Say whether it says today what it said."""
        try:
            return await _who(self.authorization, self.tokens, self.vouching) == self.caller
        except Refused:  # that cannot be checked just now
            return True


#: By what the caller of a request is known.
SHOWN: Final = web.RequestKey("shown", Shown)


def guard(tokens: Tokens, vouching: Vouching | None = None) -> Middleware:
    """The middleware of the door on TCP: first the host, then who asks, then what they may."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not of_this_machine(request.headers.getall("Host", [])):
            raise Refused(403, "host", "This door answers to names of this machine only.", "Ask for it as 127.0.0.1 or localhost.")
        if any(ASKS_ITSELF in app for app in request.match_info.apps):
            return await handler(request)
        given = request.headers.getall("Authorization", [])
        asks = await _who(given[0], tokens, vouching) if len(given) == 1 else None
        if asks is None:
            # RFC 6750 section 3.1: who sent nothing is not told of an error.
            challenge = 'Bearer realm="oO"' + (', error="invalid_token"' if given else "")
            raise Refused(
                401,
                "token_needed",
                "This door needs a token, and this is none that holds." if given else "This door needs a token.",
                "Make one with `oo token create`, and send it as Authorization: Bearer.",
                headers={"WWW-Authenticate": challenge},
            )
        request[CALLER] = asks.name
        request[SHOWN] = Shown(caller=asks, authorization=given[0], tokens=tokens, vouching=vouching)
        if asks.user is not None:
            request[USER] = asks.user
        if request.match_info.http_exception is not None:
            return await handler(request)  # nothing is there, and who has a token may know
        scope = scope_of(request.match_info.handler) if asks.user is None else of_user(request.match_info.handler)
        if scope is None:
            raise Refused(403, "role", "This is for those who run oO.", "Ask with a token of theirs, or with an operator's role.")
        if not {scope, "admin"} & asks.scopes:
            raise Refused(
                403,
                "scope",
                f"This needs a token with the scope {scope}.",
                f"Make one with `oo token create NAME --scope {scope}`.",
                headers={"WWW-Authenticate": f'Bearer realm="oO", error="insufficient_scope", scope="{scope}"'},
            )
        return await handler(request)

    return guarded


async def _who(authorization: str, tokens: Tokens, vouching: Vouching | None) -> Caller | None:
    """Who shows this; None: nobody who is known."""
    shown = _BEARER.fullmatch(authorization)
    if shown is None or shown[1].startswith(_PREFIX) or vouching is None:
        known = await tokens.known(authorization)
        if known is None:
            return None
        return Caller(name=f"token {known.name}", scopes=frozenset(scope for scope in SCOPES if scope in known.scopes))
    try:
        person = await vouching.person(shown[1])
    except NotVouched:
        return None
    except CannotTell:
        raise Refused(
            503, "issuer", "Who you are cannot be checked just now.", "Try again in a minute.", headers={"Retry-After": "60"}
        ) from None
    return _caller(person)


def _caller(person: Person) -> Caller:
    match person.role:
        case "operator":
            return Caller(name=f"operator {person.name}", scopes=frozenset({"admin"}))
        case "viewer":
            return Caller(name=f"viewer {person.name}", scopes=frozenset({"read"}))
    # A user's token may be an app's: it says itself how much of the user's own it may touch.
    scopes = frozenset(scope for scope in SCOPES if scope != "admin" and scope in person.scopes)
    return Caller(name=f"user {person.name}", scopes=scopes, user=person.name)


def _hash(token: str) -> bytes:
    # Unkeyed and fast is enough: nobody guesses 256 random bits.
    return hashlib.blake2b(token.encode(), digest_size=32).digest()
