"""openapi.yaml is the contract of the private listener, and the SDK's public names are what strangers rely on."""

from dataclasses import fields
from importlib.resources import files
from typing import Any
from unittest.mock import Mock

import yaml
from aiohttp import web
from openapi_spec_validator import validate

import oo_sdk
import oo_sdk.testing
import oo_sdk.vocabulary
from oo_daemon.ingress.api import Api
from oo_daemon.ingress.audit import AuditRoutes
from oo_daemon.ingress.backups import BackupRoutes
from oo_daemon.ingress.events import EventRoutes
from oo_daemon.ingress.health import HealthRoutes
from oo_daemon.ingress.privacy import PrivacyRoutes
from oo_daemon.ingress.proxy import ProxyRoutes
from oo_daemon.ingress.uploads import UploadRoutes

GOLDEN = """\
Action ActionKind ActionRefused ActionResult Address ApiRetired BodyChallenge Change Checkpoint ClientAuth Clock Connector ConnectorBug
ConnectorError Context Cursor CursorExpired Delivery Ed25519Scheme Event FirstSecret Flow Hears HmacScheme KeySource Listing Log
News NoScheme NormalizedEvent Nudge OAuth2 Occurrences Placeholder QueryChallenge QuotaSpent RateLimit Raw Redirect Response
RetryLater Revocation Revoked Rotation Sandbox Scheme Scope Session Sign SignInAgain Signal SignedScheme Sink Stamp
StoredCredential Struct Subscribes Subscription Takes TokenScheme Told Unreadable Upload decode hookimpl
"""
TESTING = "Broken ConnectorContract Provider Request Routes Tape json_answer"
VOCABULARY = (
    "ActivitySummary Alarm Attendee Calendar CalendarEntry Comment Conference Document Due Electrocardiogram HealthGroup HealthSample "
    "Label Person Project Record Reminder Route Section Task Timestamp When Workout"
)


def document() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(files("oo_daemon.ingress").joinpath("openapi.yaml").read_text())
    return found


def routed() -> set[tuple[str, str]]:
    rooms: tuple[type[Any], ...] = (Api, HealthRoutes, BackupRoutes, EventRoutes, PrivacyRoutes, UploadRoutes, AuditRoutes, ProxyRoutes)
    routes = [route for room in rooms for route in room(**{part.name: Mock() for part in fields(room)}).routes()]
    return {(route.method, route.path.replace(":.+", "")) for route in routes if isinstance(route, web.RouteDef)}


def test_the_document_is_valid() -> None:
    """The document is OpenAPI 3.1."""
    validate(document())


def test_each_route_has_an_entry_and_each_entry_a_route() -> None:
    """Router and document name the same routes."""
    described = {(method.upper(), path) for path, methods in document()["paths"].items() for method in methods}
    assert described == routed()


def test_the_sdk_has_the_names_it_had() -> None:
    """A change of the SDK's public names is seen in review."""
    assert " ".join(oo_sdk.__all__) == " ".join(GOLDEN.split())
    assert " ".join(oo_sdk.vocabulary.__all__) == VOCABULARY
    assert " ".join(oo_sdk.testing.__all__) == TESTING
    assert all(hasattr(oo_sdk, name) for name in oo_sdk.__all__)
