"""How a person signs in at a provider, declared as data."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
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

    `errors` translates the provider's own error words to those of RFC 6749 section 5.2. `ends` tells the person whose grant is gone why
    that can be, in one sentence.

    `issuer` is compared with the callback's `iss` (RFC 9207); with `issuer_sent`, which is for providers whose metadata says
    `authorization_response_iss_parameter_supported`, a callback without one is refused. With `metadata` the issuer's document is read
    before each sign-in ("oauth": RFC 8414, "openid": OpenID Connect Discovery): it must name these endpoints, and says whether `iss` is
    sent.
    """

    authorize: str
    token: str
    revoke: str | None = None
    device: str | None = None
    issuer: str | None = None
    issuer_sent: bool = False
    metadata: Literal["oauth", "openid"] | None = None
    client_auth: ClientAuth = ClientAuth.BASIC
    pkce: bool = True  #: S256; False only where the provider refuses it
    scope_separator: str = " "
    rotation: Rotation = Rotation()
    extra: Mapping[str, str] = field(default_factory=lambda: _NONE)  #: more parameters for the authorize address
    errors: Mapping[str, str] = field(default_factory=lambda: _NONE)
    ends: str = ""


@dataclass(frozen=True, slots=True)
class KeyField:
    """One thing that a person copies from the provider's pages into ours: `KeyField("key", "API key", "See Settings there.")`."""

    id: str
    label: str
    help: str = ""  #: where it is found there, in a sentence or two
    secret: bool = True  #: False: it may be seen, and `KeyFlow.told` has it


@dataclass(frozen=True, slots=True)
class InHeader:
    """The key goes in a header. In `value` the id of each field stands in braces."""

    name: str = "Authorization"
    value: str = "Bearer {key}"


@dataclass(frozen=True, slots=True)
class InQuery:
    """The key goes in the address, as this parameter; for providers that take it nowhere else."""

    name: str
    value: str = "{key}"


@dataclass(frozen=True, slots=True)
class AsBasic:
    """The key goes as a name and a password (RFC 7617)."""

    user: str = "{key}"
    password: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key that the person makes at the provider and enters on our page. It is sealed like any credential.

    `check` is an address that is answered with 2xx to a key that works, and with 401 or 403 to any other: it is asked before a key is
    accepted. `ends` tells the person whose key is gone why that can be, in one sentence.
    """

    fields: Sequence[KeyField] = (KeyField("key", "API key"),)
    sent: InHeader | InQuery | AsBasic = InHeader()
    check: str = ""
    ends: str = ""

    def signature(self, values: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """The headers, and the parameters of the address, that sign a request with these values of the fields."""

        def filled(template: str) -> str:
            return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], template)

        match self.sent:
            case InHeader(name=name, value=value):
                return {name: filled(value)}, {}
            case InQuery(name=name, value=value):
                return {}, {name: filled(value)}
            case AsBasic(user=user, password=password):
                return {"Authorization": f"Basic {b64encode(f'{filled(user)}:{filled(password)}'.encode()).decode()}"}, {}

    def problems(self) -> Sequence[str]:
        """What is wrong with the declaration, in sentences without an end; none where it can be used."""
        ids = [each.id for each in self.fields]
        match self.sent:
            case InHeader(name=name, value=value) | InQuery(name=name, value=value):
                named, used = re.fullmatch(r"[A-Za-z0-9_.-]+", name) is not None, set(re.findall(r"\{(\w+)\}", value))
            case AsBasic(user=user, password=password):
                named, used = True, set(re.findall(r"\{(\w+)\}", user + password))
        found = {
            "it has no field that is secret": not any(each.secret for each in self.fields),
            "the ids of its fields must be different words of letters, digits and _": len(set(ids)) < len(ids)
            or not all(re.fullmatch(r"[a-z][a-z0-9_]{0,31}", each) for each in ids),
            "each of its fields needs a label that a person can read": not all(each.label.strip() for each in self.fields),
            "what is sent names a field that there is not": not used <= set(ids),
            "what is sent holds no field that is secret": not used & {each.id for each in self.fields if each.secret},
            "the name under which it is sent is none": not named,
        }
        return [sentence for sentence, holds in found.items() if holds]
