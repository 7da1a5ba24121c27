"""What a connector is written with: the contract between oO and the services it reads.

Everything a connector needs is a name in this module or in `oo_sdk.vocabulary`. A connector imports nothing else of oO.
"""

from oo_sdk.actions import Action, ActionKind, ActionResult
from oo_sdk.auth import ClientAuth, OAuth2, RateLimit, Rotation, Scope
from oo_sdk.connector import Connector
from oo_sdk.context import Clock, Context, Log
from oo_sdk.errors import (
    ActionRefused,
    ApiRetired,
    ConnectorBug,
    ConnectorError,
    CursorExpired,
    QuotaSpent,
    RetryLater,
    SignInAgain,
    Unreadable,
)
from oo_sdk.events import Change, Checkpoint, Cursor, Event, Listing, NormalizedEvent, Signal
from oo_sdk.flow import Flow, Redirect, StoredCredential
from oo_sdk.hooks import hookimpl
from oo_sdk.revocation import Revocation, Revoked
from oo_sdk.sandbox import Sandbox
from oo_sdk.session import Placeholder, Response, Session, Sign
from oo_sdk.sinks import Sink
from oo_sdk.structs import Raw, Struct, decode
from oo_sdk.webhooks import Delivery, Hears, HmacScheme, News, Nudge

__all__ = [
    "Action",
    "ActionKind",
    "ActionRefused",
    "ActionResult",
    "ApiRetired",
    "Change",
    "Checkpoint",
    "ClientAuth",
    "Clock",
    "Connector",
    "ConnectorBug",
    "ConnectorError",
    "Context",
    "Cursor",
    "CursorExpired",
    "Delivery",
    "Event",
    "Flow",
    "Hears",
    "HmacScheme",
    "Listing",
    "Log",
    "News",
    "NormalizedEvent",
    "Nudge",
    "OAuth2",
    "Placeholder",
    "QuotaSpent",
    "RateLimit",
    "Raw",
    "Redirect",
    "Response",
    "RetryLater",
    "Revocation",
    "Revoked",
    "Rotation",
    "Sandbox",
    "Scope",
    "Session",
    "Sign",
    "SignInAgain",
    "Signal",
    "Sink",
    "StoredCredential",
    "Struct",
    "Unreadable",
    "decode",
    "hookimpl",
]
