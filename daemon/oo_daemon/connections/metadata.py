"""What a server publishes about itself (RFC 8414, OpenID Connect Discovery): fetched by https, and kept for a day at most.

A document says whose it is, and that must be the issuer it was asked for, letter by letter: otherwise one server could speak for another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from oo_daemon.connections import bounds
from oo_daemon.connections.transport import NoAnswer, NotSent, Request, Transport
from oo_daemon.ports import Clock, Guests
from oo_sdk import ConnectorBug, OAuth2

T = TypeVar("T")

#: Where a document lies: RFC 8414 puts the issuer's path behind the well-known part, OpenID Connect before it.
Kind = Literal["oauth", "openid"]
#: Seconds for which a document is taken without another look, and for which one that is known stands in while its server is out of reach.
FRESH, KEPT = 3600.0, 86_400.0


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a document; the rest is dropped."""

    issuer: str
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    revocation_endpoint: str = ""
    device_authorization_endpoint: str = ""
    jwks_uri: str = ""
    code_challenge_methods_supported: Sequence[str] = ()
    token_endpoint_auth_methods_supported: Sequence[str] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class OutOfReach(Exception):
    """It cannot be had just now."""


class Wrong(Exception):
    """It is not what it should be: somebody must put it right."""


def address(issuer: str, kind: Kind) -> str:
    """Where an issuer's document lies.

    >>> address("https://id.example/staff", "oauth"), address("https://id.example/staff", "openid")
    ('https://id.example/.well-known/oauth-authorization-server/staff', 'https://id.example/staff/.well-known/openid-configuration')
    """
    parts, path = urlsplit(issuer), urlsplit(issuer).path.rstrip("/")
    origin = f"{parts.scheme}://{parts.netloc}"
    return (
        f"{origin}/.well-known/oauth-authorization-server{path}" if kind == "oauth" else f"{origin}{path}/.well-known/openid-configuration"
    )


def differs(auth: OAuth2, found: Metadata) -> str:
    """Which endpoint of a connector's its server names otherwise; empty where it names none so. What either leaves out is not compared."""
    pairs = {
        "authorization": (auth.authorize, found.authorization_endpoint),
        "token": (auth.token, found.token_endpoint),
        "revocation": (auth.revoke, found.revocation_endpoint),
        "device authorization": (auth.device, found.device_authorization_endpoint),
    }
    return next((name for name, (ours, theirs) in pairs.items() if ours and theirs and ours != theirs), "")


@dataclass(slots=True, kw_only=True, eq=False)
class Published:
    """Documents, as they were last met. Belongs to the main loop; the network is the guests'."""

    transport: Transport
    guests: Guests
    clock: Clock
    _met: dict[str, tuple[Metadata, float]] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def of(self, issuer: str, kind: Kind) -> Metadata:
        """What this issuer publishes. Raises `OutOfReach` and `Wrong`."""
        where = address(issuer, kind)
        async with self._turn:
            known, at = self._met.get(where, (None, 0.0))
            age = self.clock.monotonic() - at
            if known is not None and age < FRESH:
                return known
            try:
                found = await self.fetch(where, Metadata)
            except OutOfReach:
                if known is not None and age < KEPT:
                    return known
                raise
            if found.issuer != issuer:
                raise Wrong("the document is another issuer's")
            self._met[where] = found, self.clock.monotonic()
            return found

    async def fetch(self, url: str, shape: type[T]) -> T:
        """A JSON document. Raises `OutOfReach` and `Wrong`."""
        try:
            bounds.check(url, [bounds.declared(url)])
        except (ConnectorBug, ValueError):
            raise Wrong("its address is not one of https") from None
        try:
            response = await self.guests.run(self.transport.send(Request(method="GET", url=url, headers={"Accept": "application/json"})))
        except (NotSent, NoAnswer) as fault:
            raise OutOfReach(str(fault)) from None
        if response.status != 200:
            raise OutOfReach(f"it was answered with {response.status}")
        try:
            return msgspec.json.decode(response.body, type=shape)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Wrong("the document is not what it should be") from None
