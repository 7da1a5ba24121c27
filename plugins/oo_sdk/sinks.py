"""Sinks: plugins that push events elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from oo_sdk.errors import ConnectorBug
from oo_sdk.events import NormalizedEvent
from oo_sdk.structs import Struct


class Sink:
    """Takes events in the order of the outbox. Write `deliver`, and offer an instance through `oo_sinks`.

    It runs where the operator wrote a table `[sinks.{id}]`, if only an empty one. `Settings` may declare what that table holds; it is
    decoded into `settings` before anything is called. At least once: after a failure the same events come again, so whoever takes them
    de-duplicates by `event.id`.
    """

    id: str

    class Settings(Struct):
        """What an operator can set for this sink; nothing, unless a sink says otherwise."""

    settings: Struct = Settings()

    async def deliver(self, events: Sequence[NormalizedEvent]) -> None:
        """Push events; returning means that they are safe there. Raise `RetryLater`, or anything else, to be given them again."""
        raise ConnectorBug(f"{self.id} delivers nothing")
