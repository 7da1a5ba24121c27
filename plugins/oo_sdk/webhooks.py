"""Webhooks: what a connector says about bodies that its provider pushes to us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from oo_sdk.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One webhook body as it arrived. It was verified before a connector sees it."""

    id: str  #: the sender's id of it, the same on redelivery
    headers: Mapping[str, str]  #: names in lower case; only those that the connector's scheme names in `keep`
    body: bytes = field(repr=False)  #: as signed
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Nudge:
    """Something changed at the provider: a sync soon will tell what. Many nudges come to one sync."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HmacScheme:
    """How a provider proves that a body is its own: a keyed hash of the raw body in a header.

    Declared as data; the daemon verifies, before anything is parsed.
    """

    header: str  #: that carries the signature
    key: Literal["client_secret", "webhook_secret"] = "webhook_secret"  #: which of the registration's secrets
    algorithm: Literal["sha256"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""  #: before the signature in the header, such as "sha256="
    id_header: str = ""  #: that carries the delivery's id; without one, a hash of the body stands in (a weak key)
    keep: tuple[str, ...] = ()  #: more headers that `route` and `read` need


#: What `read` gives: things that happened, or that something did.
News: TypeAlias = Event | Nudge


@runtime_checkable
class Hears(Protocol):
    """An ability of a connector: its provider pushes to us.

    One address serves all users of a registration: `route` says whose a delivery is.
    """

    @property
    def webhooks(self) -> HmacScheme:
        """How bodies are verified."""

    async def route(self, delivery: Delivery) -> Sequence[str]:
        """The provider's ids of the accounts it is for (`StoredCredential.account_id`). Raise `Unreadable` to set it aside."""

    async def read(self, delivery: Delivery) -> Sequence[News]:
        """What the delivery says, for each account that `route` named. Raise `Unreadable` to set it aside."""
