"""A stand-in for Google Calendar, over real HTTP: for trying oO without an account and for testing connectors."""

from oo_google_calendar.sandbox.app import GoogleCalendarSandbox

__all__ = ["GoogleCalendarSandbox"]
