"""A client of the daemon's private listener, for those who start connections and read events."""

from oo_client.answers import (
    Connection,
    ConnectProgress,
    ConnectSession,
    Event,
    EventPage,
    LastSync,
    Plugin,
    Registration,
    Scope,
    Status,
    Sync,
)
from oo_client.client import Client
from oo_client.errors import ClientError, DaemonNotRunning, Refused, TryLater, Unexpected

__all__ = [
    "Client",
    "ClientError",
    "ConnectProgress",
    "ConnectSession",
    "Connection",
    "DaemonNotRunning",
    "Event",
    "EventPage",
    "LastSync",
    "Plugin",
    "Refused",
    "Registration",
    "Scope",
    "Status",
    "Sync",
    "TryLater",
    "Unexpected",
]
