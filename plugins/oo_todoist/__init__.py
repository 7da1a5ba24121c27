"""Todoist, as a guest of oO."""

from __future__ import annotations

from oo_sdk import Connector, hookimpl
from oo_todoist.connector import Todoist

__all__ = ["Todoist", "oo_connectors"]


@hookimpl
def oo_connectors() -> list[Connector]:
    """Offer the connector."""
    return [Todoist()]
