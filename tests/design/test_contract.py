"""The SDK's public names are what strangers rely on. What the listeners answer: tests/journeys/test_contract.py."""

import oo_sdk
import oo_sdk.testing
import oo_sdk.vocabulary

GOLDEN = """\
Action ActionKind ActionRefused ActionResult Address ApiKey ApiRetired AsBasic BodyChallenge Change Checkpoint ClientAuth Clock
Connector ConnectorBug ConnectorError Context Cursor CursorExpired Delivery Ed25519Scheme Event FirstSecret Flow Hears HmacScheme
InHeader InQuery KeyField KeyFlow KeySource Listing Log News NoScheme NormalizedEvent Nudge OAuth2 Occurrences Outlet Outward
Placeholder QueryChallenge QuotaSpent RateLimit Raw Redirect Response RetryLater Revocation Revoked Rotation Sandbox Scheme Scope
Session Sign SignInAgain Signal SignedScheme Sink Stamp Stored StoredCredential Struct Subscribes Subscription Taken Takes TokenScheme Told
Unreadable Upload Withdrawn as_json decode hookimpl pages
"""
TESTING = "Broken ConnectorContract Provider Request Routes Tape json_answer"
VOCABULARY = (
    "ActivitySummary Alarm Attendee Calendar CalendarEntry Comment Conference Document Due Electrocardiogram HealthGroup HealthSample "
    "Label Person Project Record Reminder Route Section Task Timestamp When Workout"
)


def test_the_sdk_has_the_names_it_had() -> None:
    """A change of the SDK's public names is seen in review."""
    assert " ".join(oo_sdk.__all__) == " ".join(GOLDEN.split())
    assert " ".join(oo_sdk.vocabulary.__all__) == VOCABULARY
    assert " ".join(oo_sdk.testing.__all__) == TESTING
    assert all(hasattr(oo_sdk, name) for name in oo_sdk.__all__)
