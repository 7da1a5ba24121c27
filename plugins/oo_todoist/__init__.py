"""Todoist, as a guest of oO."""

from __future__ import annotations

from oo_sdk import Connector, Sandbox, hookimpl
from oo_todoist.connector import Todoist

__all__ = ["Todoist", "oo_connectors", "oo_sandboxes"]


@hookimpl
def oo_connectors() -> list[Connector]:
    """Offer the connector."""
    return [Todoist()]


@hookimpl
def oo_sandboxes() -> list[Sandbox]:
    """Offer the stand-in for Todoist."""
    from oo_todoist.sandbox import TodoistSandbox  # not above: who only reads Todoist needs no web server for it

    return [TodoistSandbox()]
