"""Sinks: plugins that push events elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from oo_sdk.context import Clock, Log
from oo_sdk.errors import ConnectorBug
from oo_sdk.events import NormalizedEvent
from oo_sdk.session import Response
from oo_sdk.structs import Struct


class Outward(Protocol):
    """HTTP to an address that the operator gave, which may be anybody's.

    A name is looked up once, and every address that it has is looked at, before one of them is gone to: this machine, private networks and
    whatever is not the open internet are only reached where the operator listed them in the sink's `reach`; plain http goes nowhere else.
    No redirect is followed. What cannot be reached is `RetryLater`.
    """

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Response:
        """Send it, and give what was answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlet:
    """What a sink is given to work with."""

    name: str  #: of its table in the settings
    http: Outward
    clock: Clock
    log: Log


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a sink took, where its receiver may lose it again: so that it can be asked later whether it is still there."""

    events: int  #: how many, from the first on
    found_at: str  #: where the last of them is, in the sink's own words; whatever it took before is found before that


class Sink:
    """Takes events in the order of the outbox. Write `deliver`, and offer an instance through `oo_sinks`.

    It runs where the operator wrote a table `[sinks.{id}]`, or several `[sinks.{name}]` with `kind = "{id}"`: each runs on a copy of the
    instance, with a place of its own in the outbox. `Settings` may declare what a table holds besides what every sink's has (`kind`,
    `start`, `user`, `provider`, `type`, `batch`, `tries`, `reach`); it is decoded into `settings` before anything is called. At least
    once: after a failure the same events come again, so whoever takes them de-duplicates by `event.id`.
    """

    id: str
    batch: int = 100  #: events that it is given at once, at most, where the operator says nothing else
    warnings: Sequence[str] = ()  #: set by `open`: what is not as safe as it should be, for the operator

    class Settings(Struct):
        """What an operator can set for this sink; nothing, unless a sink says otherwise."""

    settings: Struct = Settings()

    async def open(self, outlet: Outlet) -> None:
        """Make ready. Called before the first delivery, and again after each failure."""

    async def deliver(self, events: Sequence[NormalizedEvent]) -> Taken | int | None:
        """Push events. Returning means that they are safe there; where only the first of them are, return how many.

        Where the receiver could lose them all the same, return `Taken`, and write `has`.

        Raise `Unreadable` where the first event will never be taken: it is tried some times more, then it goes to the dead letters, and the
        rest goes on. The same becomes of a fault that is not of oO's errors. Raise `RetryLater` where it is not about the event: everything
        waits, for as long as it takes.
        """
        raise ConnectorBug(f"{self.id} delivers nothing")

    async def has(self, found_at: str) -> bool:
        """Whether what was found there by `Taken.found_at` is still there.

        Asked after each `open`, and now and then. What was taken in the last quarter of an hour and is no longer there is given again.
        """
        raise ConnectorBug(f"{self.id} does not say whether what it took is still there")

    async def close(self) -> None:
        """Let go of what `open` took."""
