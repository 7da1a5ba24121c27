"""What is kept of what a connector sees, in sentences for the person whom it is about."""

from __future__ import annotations

import math

from oo_sdk import Connector, Hears

_DAY = 86_400.0


def sentences(connector: Connector, pushes: float | None) -> tuple[str, ...]:
    """One for each thing that it declares, and one for what its provider pushes: kept for so many seconds after it became events.

    None: nothing is pushed, such as where a file is handed in.
    """
    declared = tuple(stored.sentence for stored in connector.stores)
    if pushes is None or not isinstance(connector, Hears):
        return declared
    days = math.ceil(pushes / _DAY)
    lasts = f"{days} days" if days > 1 else "a day"
    return (*declared, f"What {connector.title or connector.id} pushes to oO, as it came and for {lasts} after, to try again what failed.")
