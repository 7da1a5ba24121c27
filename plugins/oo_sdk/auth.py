"""How a person signs in at a provider, declared as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from types import MappingProxyType
from typing import Literal

_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Scope:
    """One permission, with a sentence that the person reads before granting it.

    The sentence continues "oO can": `Scope("notes.read", "See your notes and when you change them.")`. A sign-in that was not granted
    a required scope is refused; where a provider names one that holds others, `finish_oauth` adds those.
    """

    id: str
    sentence: str
    access: Literal["read", "write"] = "read"
    required: bool = True  #: False: asked for only when it is wanted, and the connector works without it


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What a provider allows: `calls` in each period, counted for each `of`."""

    calls: int
    per: Literal["second", "minute", "quarter", "hour", "day"]  #: a quarter is 15 minutes
    of: Literal["user", "client"] = "user"

    @property
    def seconds(self) -> int:
        """Length of the period, in seconds."""
        return {"second": 1, "minute": 60, "quarter": 900, "hour": 3600, "day": 86400}[self.per]


class ClientAuth(Enum):
    """How our client proves itself at the token endpoint (RFC 6749 section 2.3.1)."""

    BASIC = "basic"
    POST = "post"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """How a provider treats refresh tokens."""

    rotates: bool = False  #: each refresh gives a new refresh token and spends the old one
    grace: timedelta | None = None  #: a spent one used again within it still gives an access token, but no refresh token
    reuse_kills: bool = False  #: a spent one used again later revokes the whole grant


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth2:
    """The provider's OAuth 2 endpoints and its deviations from the RFCs.

    `errors` translates the provider's own error words to those of RFC 6749 section 5.2.
    `issuer` is compared with the callback's `iss` (RFC 9207); with `issuer_sent`, which is for providers whose metadata says
    `authorization_response_iss_parameter_supported`, a callback without one is refused. `ends` tells the person whose grant is gone
    why that can be, in one sentence.
    """

    authorize: str
    token: str
    revoke: str | None = None
    issuer: str | None = None
    issuer_sent: bool = False
    client_auth: ClientAuth = ClientAuth.BASIC
    pkce: bool = True  #: S256; False only where the provider refuses it
    scope_separator: str = " "
    rotation: Rotation = Rotation()
    extra: Mapping[str, str] = field(default_factory=lambda: _NONE)  #: more parameters for the authorize address
    errors: Mapping[str, str] = field(default_factory=lambda: _NONE)
    ends: str = ""
