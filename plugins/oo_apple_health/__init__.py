"""Apple Health, as a guest of oO."""

from __future__ import annotations

from oo_apple_health.connector import AppleHealth
from oo_sdk import Connector, hookimpl

__all__ = ["AppleHealth", "oo_connectors"]


@hookimpl
def oo_connectors() -> list[Connector]:
    """Offer the connector."""
    return [AppleHealth()]
