"""What is kept of what a connector sees, in sentences for the person whom it is about."""

from __future__ import annotations

from oo_daemon.ports import SECOND
from oo_daemon.store import inbox
from oo_sdk import Connector, Hears

_DAY = 86_400 * SECOND


def sentences(connector: Connector) -> tuple[str, ...]:
    """One for each thing that it declares, and one for what its provider pushes."""
    declared = tuple(stored.sentence for stored in connector.stores)
    if not isinstance(connector, Hears):
        return declared
    days = inbox.KEEP_BODIES // _DAY
    pushed = f"What {connector.title or connector.id} pushes to oO, as it came and for {days} days after, to try again what failed."
    return (*declared, pushed)
