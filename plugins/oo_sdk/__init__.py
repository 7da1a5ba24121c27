"""What a connector is written with: the contract between oO and the services it reads.

Everything a connector needs is a name in this module, in `oo_sdk.schemes` or in `oo_sdk.vocabulary`. A connector imports nothing else
of oO.
"""

from oo_sdk.actions import Action, ActionKind, ActionResult
from oo_sdk.answers import pages
from oo_sdk.auth import ApiKey, AsBasic, ClientAuth, InHeader, InQuery, KeyField, OAuth2, RateLimit, Rotation, Scope
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
from oo_sdk.events import Change, Checkpoint, Cursor, Event, Listing, NormalizedEvent, Signal, as_json
from oo_sdk.flow import Flow, KeyFlow, Redirect, StoredCredential
from oo_sdk.hooks import hookimpl
from oo_sdk.key_sources import KeySource
from oo_sdk.revocation import Revocation, Revoked
from oo_sdk.sandbox import Sandbox
from oo_sdk.session import Placeholder, Response, Session, Sign
from oo_sdk.sinks import Outlet, Outward, Sink, Taken
from oo_sdk.stored import Stored
from oo_sdk.structs import Raw, Struct, decode
from oo_sdk.subscriptions import Address, Subscribes, Subscription
from oo_sdk.uploads import Occurrences, Takes, Told, Upload
from oo_sdk.webhooks import (
    BodyChallenge,
    Delivery,
    Ed25519Scheme,
    FirstSecret,
    Hears,
    HmacScheme,
    News,
    NoScheme,
    Nudge,
    QueryChallenge,
    Scheme,
    SignedScheme,
    Stamp,
    TokenScheme,
    Withdrawn,
)

__all__ = [
    "Action",
    "ActionKind",
    "ActionRefused",
    "ActionResult",
    "Address",
    "ApiKey",
    "ApiRetired",
    "AsBasic",
    "BodyChallenge",
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
    "Ed25519Scheme",
    "Event",
    "FirstSecret",
    "Flow",
    "Hears",
    "HmacScheme",
    "InHeader",
    "InQuery",
    "KeyField",
    "KeyFlow",
    "KeySource",
    "Listing",
    "Log",
    "News",
    "NoScheme",
    "NormalizedEvent",
    "Nudge",
    "OAuth2",
    "Occurrences",
    "Outlet",
    "Outward",
    "Placeholder",
    "QueryChallenge",
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
    "Scheme",
    "Scope",
    "Session",
    "Sign",
    "SignInAgain",
    "Signal",
    "SignedScheme",
    "Sink",
    "Stamp",
    "Stored",
    "StoredCredential",
    "Struct",
    "Subscribes",
    "Subscription",
    "Taken",
    "Takes",
    "TokenScheme",
    "Told",
    "Unreadable",
    "Upload",
    "Withdrawn",
    "as_json",
    "decode",
    "hookimpl",
    "pages",
]
