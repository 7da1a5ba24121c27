"""Webhooks: what a connector says about bodies that its provider pushes to us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from oo_sdk.events import Event

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One webhook body as it arrived. It was verified before a connector sees it."""

    id: str  #: the sender's id of it, the same on redelivery
    headers: Mapping[str, str]  #: names in lower case; only those that the connector's scheme names in `keep`
    body: bytes = field(repr=False)  #: as signed
    received_at: datetime
    meta: Mapping[str, Any] = field(
        default_factory=lambda: _NOTHING
    )  #: of the connection whose own address it came to; empty where one address serves all users


@dataclass(frozen=True, slots=True, kw_only=True)
class Nudge:
    """Something changed at the provider: a sync soon will tell what. Many nudges come to one sync."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Where a sender says when it sent: whole seconds or milliseconds since 1970. Too old or too new is refused."""

    header: str = ""
    prefix: str = ""  #: before the number in the header, or in one part of it
    separator: str = ""  #: between the parts of the header; empty where the header is one part
    member: str = ""  #: of the JSON body, in place of a header; dots lead inwards
    unit: Literal["s", "ms"] = "s"
    within: int = 300  #: seconds, either way


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryChallenge:
    """A handshake by GET: what stands in one parameter is given back as plain text."""

    parameter: str
    when: tuple[tuple[str, str], ...] = ()  #: parameters that must have these values
    token: str = ""  #: a parameter that must hold the last part of the address


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyChallenge:
    """A handshake in a signed body: what stands in one member is given back. Such a body becomes no event."""

    member: str  #: dots lead inwards
    when: tuple[str, str]  #: a member, and the value by which the handshake is known
    hashed: str = ""  #: the answer is JSON, with the member and under this name its keyed hash in hex; empty: plain text


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstSecret:
    """A handshake by which the sender makes the secret: its first body carries it in a member, and is signed with it."""

    member: str


Handshake: TypeAlias = QueryChallenge | BodyChallenge | FirstSecret


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How a sender proves that a body is its own. Declared as data; the daemon verifies, before anything is parsed.

    Only its sub-classes are used.
    """

    header: str = ""  #: that carries the proof
    key: Literal["client_secret", "webhook_secret"] = "webhook_secret"  #: which of the registration's secrets
    ours: bool = False  #: we choose the secret, and the sender is told it; else the sender shows it to us
    id_header: str = ""  #: that carries the delivery's id; without one, a hash stands in (a weak key)
    id_member: str = ""  #: of the JSON body, in place of a header
    repeats: bool = False  #: two equal deliveries without an id may be two things that happened, and are kept as two
    keep: tuple[str, ...] = ()  #: more headers that `route` and `read` need
    limit: int = 0  #: largest body in bytes where the sender's own are larger than the daemon's setting; 0: the setting
    handshake: Handshake | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedScheme(Scheme):
    """What schemes with a signature share."""

    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""  #: before the signature in the header, or in one part of it, such as "sha256="
    separator: str = ""  #: between the parts of the header, of which any may fit; empty where the header is one part
    signed: str = "{body}"  #: what is signed: `{id}`, `{timestamp}` and `{body}` stand for what was sent
    stamp: Stamp | None = None
    secret: tuple[Literal["text", "base64", "hex"], ...] = ("text",)  #: how the secret's text becomes the key; any reading may fit
    secret_prefix: str = ""  #: before the secret, where that is not read as text; may be missing


@dataclass(frozen=True, slots=True, kw_only=True)
class HmacScheme(SignedScheme):
    """A keyed hash of what is signed."""

    algorithm: Literal["sha256", "sha1"] = "sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ed25519Scheme(SignedScheme):
    """A signature by a private key of the sender's; the secret here is its public key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenScheme(Scheme):
    """A secret that is sent as it is."""

    encoding: Literal["plain", "base64"] = "plain"
    prefix: str = ""  #: before it in the header, such as "Bearer "
    hash_of: str = ""  #: a header that names the sender: what is sent is then that name's keyed hash in hex, and no two share a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class NoScheme(Scheme):
    """Nothing proves anything: whoever knows the address is believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """The person took oO's access back at the provider, which tells us so: their connection there and all that is kept of it are erased.

    Not for a token that no longer works: that can have many reasons, and only asks the person to sign in again.
    """

    at: datetime | None = None  #: when, as the provider says; a sign-in after that stays. None: when the delivery came


#: What `read` gives: things that happened, that something did, or that the access was taken back.
News: TypeAlias = Event | Nudge | Withdrawn


@runtime_checkable
class Hears(Protocol):
    """An ability of a connector: its provider pushes to us.

    One address serves all users of a registration: `route` says whose a delivery is. Where there is nothing to sign in to (`auth` is
    None), each connection has an address of its own, and `route` is not asked.
    """

    @property
    def webhooks(self) -> Scheme | None:
        """How bodies are verified; None where each address is given a scheme by its name."""

    async def route(self, delivery: Delivery) -> Sequence[str]:
        """The provider's ids of the accounts it is for (`StoredCredential.account_id`), or the ids of the addresses of subscriptions.

        Raise `Unreadable` to set it aside.
        """

    async def read(self, delivery: Delivery) -> Sequence[News]:
        """What the delivery says, for each account that `route` named. Raise `Unreadable` to set it aside."""
