"""Google Calendar, as a guest of oO."""

from __future__ import annotations

from oo_google_calendar.connector import GoogleCalendar
from oo_sdk import Connector, Sandbox, hookimpl

__all__ = ["GoogleCalendar", "oo_connectors", "oo_sandboxes"]


@hookimpl
def oo_connectors() -> list[Connector]:
    """Offer the connector."""
    return [GoogleCalendar()]


@hookimpl
def oo_sandboxes() -> list[Sandbox]:
    """Offer the stand-in for Google Calendar."""
    from oo_google_calendar.sandbox import GoogleCalendarSandbox  # not above: who only reads calendars needs no web server for it

    return [GoogleCalendarSandbox()]
