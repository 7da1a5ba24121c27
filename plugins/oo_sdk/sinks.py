"""Sinks: plugins that push events elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from oo_sdk.events import NormalizedEvent
from oo_sdk.structs import Struct


class Sink(Protocol):
    """Takes events in the order of the outbox. It runs where the operator wrote a table `[sinks.{id}]`.

    `Settings` may declare what that table holds; it is decoded into `settings` before anything is called. At least once: after a failure
    the same events come again, so whoever takes them de-duplicates by `event.id`.
    """

    id: str
    Settings: type[Struct]
    settings: Struct

    async def deliver(self, events: Sequence[NormalizedEvent]) -> None:
        """Push events; returning means that they are safe there. Raise `RetryLater`, or anything else, to be given them again."""
