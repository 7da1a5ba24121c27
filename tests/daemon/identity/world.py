"""An issuer whose keys a test holds: what it publishes, and tokens as it would sign them, or would not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from daemon.connections.world import Clock
from daemon.virtual import Notes
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from oo_daemon.connections.metadata import Published
from oo_daemon.connections.transport import NotSent, Request
from oo_daemon.host import SameLoop
from oo_daemon.identity.issuer import Issuer
from oo_daemon.identity.person import Claims
from oo_daemon.ports import SECOND
from oo_sdk import Response

ISSUER = "https://id.example/staff"
AUDIENCE = "https://oo.example/api"


def a_key(kid: str, kind: str = "RSA") -> Key:
    """A key pair."""
    if kind == "RSA":
        return RSAKey.generate_key(2048, {"kid": kid, "use": "sig", "alg": "RS256"})
    return ECKey.generate_key("P-256", {"kid": kid, "use": "sig"}) if kind == "EC" else OKPKey.generate_key("Ed25519", {"kid": kid})


#: Made once: it takes a while.
FIRST, SECOND_KEY = a_key("first"), a_key("second")


@dataclass
class Site:
    """What the issuer's host answers, and what it was asked for."""

    keys: list[Key] = field(default_factory=lambda: [FIRST])
    issuer: str = ISSUER
    down: bool = False
    members: dict[str, Any] = field(default_factory=dict)
    exchanges: list[Request] = field(default_factory=list)
    exchange: Callable[[], Response] = lambda: Response(status=400, headers={}, body=b'{"error": "invalid_grant"}')
    asked: list[str] = field(default_factory=list)

    async def send(self, request: Request) -> Response:
        self.asked.append(request.url)
        if self.down:
            raise NotSent("no connection to the provider")
        if request.method == "POST":
            self.exchanges.append(request)
            return self.exchange()
        documents: Mapping[str, Any] = {
            f"{ISSUER}/.well-known/openid-configuration": {
                "issuer": self.issuer,
                "jwks_uri": f"{ISSUER}/jwks",
                "authorization_endpoint": f"{ISSUER}/auth",
                "token_endpoint": f"{ISSUER}/token",
                **self.members,
            },
            f"{ISSUER}/jwks": {"keys": [key.as_dict(private=False) for key in self.keys]},
        }
        if request.url not in documents:
            return Response(status=404, headers={}, body=b"")
        return Response(status=200, headers={}, body=json.dumps(documents[request.url]).encode())

    @property
    def key_looks(self) -> int:
        return sum(url.endswith("/jwks") for url in self.asked)


def an_issuer(site: Site, clock: Clock, notes: Notes | None = None, algorithms: tuple[str, ...] = ("RS256",), **claims: Any) -> Issuer:
    """An issuer whose host is `site`."""
    published = Published(transport=site, guests=SameLoop(), clock=clock)
    return Issuer(name=ISSUER, algorithms=algorithms, claims=Claims(**claims), published=published, clock=clock, log=notes or Notes())


def token(clock: Clock, key: Key = FIRST, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
    """A token that holds, unless it is told otherwise; None leaves a claim out."""
    now = clock.now() // SECOND
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 300, "scope": "read connect", **claims}
    algorithm = {"RSA": "RS256", "EC": "ES256", "OKP": "Ed25519"}[key.key_type]
    made = {"alg": algorithm, "kid": key.kid, **(header or {})}
    return jwt.encode(
        {name: value for name, value in made.items() if value is not None},
        {name: value for name, value in said.items() if value is not None},
        key,
        algorithms=[made["alg"]],
    )


def by_hand(header: Mapping[str, Any], claims: Mapping[str, Any], signature: bytes = b"") -> str:
    """A token that no library would make."""
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
