"""Subscriptions: what a connector says about pushes that its provider sends for a while only, and that must be asked for again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

from oo_sdk.context import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a provider is to push to for one subscription."""

    id: str  #: ours, new for each subscription: 32 hex digits. Have the provider send it along, so that `Hears.route` can name it
    url: str = field(repr=False)
    secret: str = field(repr=False)  #: that the connector's scheme verifies; empty where the scheme uses the client's secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One subscription that stands at the provider."""

    id: str  #: of the address that it was made with
    topic: str
    handle: str = ""  #: the provider's own name of it, if it has one
    expires_at: datetime | None = None  #: in UTC; None: it does not expire


@runtime_checkable
class Subscribes(Protocol):
    """An ability of a connector that also `Hears`: its provider pushes what was subscribed to, until that expires.

    The daemon subscribes after the sign-in, renews before half of the life is over, looks daily whether the topics have changed, and
    unsubscribes when the connection is disconnected, before the grant is given back. What was pushed to a subscription may be routed by
    the id of its address in place of an account's.
    """

    async def topics(self, ctx: Context) -> Sequence[str]:
        """What there is to subscribe to for this connection, each once, such as the ids of calendars."""

    async def subscribe(self, ctx: Context, topic: str, address: Address) -> Subscription | None:
        """Subscribe, under the id of this address. None: the provider pushes nothing of this topic, which is then only polled."""

    async def renew(self, ctx: Context, standing: Subscription, address: Address) -> Subscription | None:
        """Have it stand for longer: the same one, or another at this address. The one before is then unsubscribed by the daemon."""

    async def unsubscribe(self, ctx: Context, standing: Subscription, address: Address) -> None:
        """End it; nothing where it has ended.

        `handle` is empty where it is not known whether it was ever made: `address` is then what it would have been made with.
        """
