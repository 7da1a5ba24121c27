"""The webhook connector: any body becomes one event, of which nothing is lost."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from oo_daemon.outbox import wire
from oo_sdk import Change, Delivery, Event
from oo_sdk.schemes import SCHEMES
from oo_sdk.vocabulary import Record
from oo_webhook.connector import DEEPEST, Webhook, name_of, time_of
from oo_webhook.mapping import KNOWN


async def read(
    body: bytes, scheme: str = "none", *, options: dict[str, Any] | None = None, headers: Mapping[str, str] = MappingProxyType({})
) -> Event:
    """The event, after it was made ready for the outbox."""
    meta = {"scheme": scheme, "options": msgspec.to_builtins(msgspec.convert(options or {}, Webhook.Options))}
    delivery = Delivery(id="d1", headers=headers, body=body, received_at=datetime(2026, 11, 22, tzinfo=UTC), meta=meta)
    (event,) = await Webhook().read(delivery)
    assert isinstance(event, Event)
    wire.draft("webhook", event)
    return event


def payload(event: Event) -> Any:
    assert isinstance(event.payload, Record)
    again = Record.FromString(event.payload.SerializeToString())
    return json_format.MessageToDict(again)["fields"] if again.fields.fields else {}


async def test_the_whole_body_is_kept() -> None:
    """Without a mapping the event is `received`, is known by the delivery's id, and holds all of the body."""
    event = await read(b'{"a": {"b": [1, 2.5, null, true, "x"]}}')
    assert (event.name, event.subject, event.key, event.change, event.at) == ("received", "d1", "d1", Change.OCCURRED, None)
    assert payload(event) == {"a": {"b": [1, 2.5, None, True, "x"]}}


@pytest.mark.parametrize(
    ("body", "kind", "kept"),
    [
        (b"[1]", "", {"value": [1]}),
        (b'"x"', "", {"value": "x"}),
        (b"", "", {}),
        (b"pressed", "text/plain", {"text": "pressed"}),
        (b"\xff\x00", "", {"base64": "/wA="}),
        (b"a=1&b=&a=2&c=%20", "application/x-www-form-urlencoded; charset=utf-8", {"a": ["1", "2"], "b": "", "c": " "}),
        (b"not a form", "application/x-www-form-urlencoded", {"not a form": ""}),
        (b'{"id": 9007199254740993, "small": 9007199254740992}', "", {"id": "9007199254740993", "small": 9007199254740992}),
        (b'{"x": NaN}', "", {"text": '{"x": NaN}'}),
    ],
)
async def test_any_kind_of_body_is_kept(body: bytes, kind: str, kept: Any) -> None:
    """JSON as it is, with numbers that would lose digits as text; a form by its names; anything else as text, or in base64."""
    assert payload(await read(body, headers={"content-type": kind})) == kept


@pytest.mark.parametrize("levels", [DEEPEST, DEEPEST + 1, 5000])
async def test_a_deep_body_can_be_read_again(levels: int) -> None:
    """What is nested more deeply than a reader of protobuf takes is kept as text."""
    body = b'{"a":' * (levels - 1) + b"1" + b"}" * (levels - 1)
    kept = payload(await read(body))
    assert ("text" in kept) == (levels > DEEPEST)


async def test_a_mapping_of_ones_own() -> None:
    """Type, subject, time and id are picked out, and only what is named is kept."""
    options = {
        "type": "join('.', ['bell', body.kind])",
        "subject": "body.door.id",
        "at": "body.at",
        "id": 'headers."x-id"',
        "fields": {"who": "body.who", "n": "length(body.all)", "gone": "body.gone"},
    }
    body = json.dumps({"kind": "Rang!", "door": {"id": 7}, "at": 1_700_000_000, "who": "ada", "all": [1, 2], "private": "x"}).encode()
    event = await read(body, options=options, headers={"x-id": "i-1"})
    assert (event.name, event.subject, event.key) == ("bell.rang", "7", "i-1")
    assert event.at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert payload(event) == {"who": "ada", "n": 2, "gone": None}


async def test_what_an_expression_cannot_find_is_left_to_the_default() -> None:
    """Also where it asks something of a value that this cannot have."""
    event = await read(b'{"a": 1}', options={"type": "join('.', body.a)", "subject": "body.b", "at": "body", "id": "body.a"})
    assert (event.name, event.subject, event.at, event.key) == ("received", "d1", None, "1")


@pytest.mark.parametrize("options", [{"type": "body.[", "id": "x"}, {"fields": {"a": "("}}, {"type": "a" * 1001}, {"type": 3}])
def test_a_mapping_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    """When it is made, not when something arrives."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, Webhook.Options)


@pytest.mark.parametrize(
    ("scheme", "body", "headers", "name", "subject"),
    [
        (
            "github",
            {"action": "opened", "repository": {"full_name": "a/b"}},
            {"x-github-event": "issues"},
            "github.issues.opened",
            "a/b",
        ),
        ("github", {"zen": "…"}, {"x-github-event": "ping"}, "github.ping", "d1"),
        (
            "stripe",
            {"type": "charge.succeeded", "data": {"object": {"id": "ch_1"}}, "created": 1},
            {},
            "stripe.charge.succeeded",
            "ch_1",
        ),
        (
            "slack",
            {"type": "event_callback", "event": {"type": "message", "channel": "C1"}},
            {},
            "slack.message",
            "C1",
        ),
        ("shopify", {"id": 5}, {"x-shopify-topic": "orders/create"}, "shopify.orders.create", "5"),
        ("linear", {"type": "Issue", "action": "create", "data": {"id": "i"}}, {}, "linear.issue.create", "i"),
        (
            "gitlab",
            {"object_kind": "merge_request", "project": {"path_with_namespace": "a/b"}, "object_attributes": {"action": "open"}},
            {},
            "gitlab.merge_request.open",
            "a/b",
        ),
        ("notion", {"type": "page.created", "entity": {"id": "p"}}, {}, "notion.page.created", "p"),
        ("dropbox", {"list_folder": {"accounts": ["dbid:A"]}}, {}, "dropbox.changed", "dbid:A"),
        (
            "meta",
            {"object": "page", "entry": [{"id": "1", "time": 1, "changes": [{"field": "feed"}]}]},
            {},
            "page.feed",
            "1",
        ),
        ("zoom", {"event": "meeting.started", "payload": {"object": {"id": 9}}}, {}, "zoom.meeting.started", "9"),
        ("todoist", {"event_name": "item:added", "event_data": {"id": "t"}}, {}, "todoist.item.added", "t"),
        ("google-channel", {}, {"x-goog-resource-state": "exists", "x-goog-resource-id": "r"}, "google.exists", "r"),
        ("standard", {"type": "user.created", "data": {"id": "u"}}, {}, "user.created", "u"),
        ("hmac", {"type": "x"}, {}, "received", "d1"),
    ],
)
async def test_known_senders_need_no_mapping(scheme: str, body: Any, headers: dict[str, str], name: str, subject: str) -> None:
    """What a sender calls it is what the event is called; headers are those that its scheme keeps."""
    event = await read(json.dumps(body).encode(), scheme, headers=headers)
    assert (event.name, event.subject) == (name, subject)
    kept = {each.lower() for each in SCHEMES[scheme].keep}
    assert headers.keys() <= kept


def test_mappings_are_of_schemes_that_there_are() -> None:
    """And each of their expressions can be read."""
    assert KNOWN.keys() <= SCHEMES.keys()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Issue.Opened", "issue.opened"),
        ("item:added", "item.added"),
        ("", "received"),
        ("...", "received"),
        ("2fa", "received.2fa"),
        ("ä", "received"),
    ],
)
def test_names_are_made_to_fit(text: str, name: str) -> None:
    """Small letters, digits and _, with dots between the parts."""
    assert name_of(text) == name


@pytest.mark.parametrize(
    ("found", "when"),
    [
        ("2019-05-15T15:20:18Z", "2019-05-15T15:20:18+00:00"),
        ("2013-12-03 17:23:34 UTC", "2013-12-03T17:23:34+00:00"),
        (1_700_000_000, "2023-11-14T22:13:20+00:00"),
        ("1700000000123", "2023-11-14T22:13:20.123000+00:00"),
        (1_700_000_000.5, "2023-11-14T22:13:20.500000+00:00"),
        ("2019-05-15T15:20:18", None),
        ("yesterday", None),
        (True, None),
        (1e300, None),
        ("9" * 400, None),
        ([], None),
    ],
)
def test_times_in_the_usual_spellings(found: Any, when: str | None) -> None:
    """RFC 3339 with a zone, and seconds or milliseconds since 1970; anything else is no time."""
    read_ = time_of(found)
    assert (read_.isoformat() if read_ else None) == when


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()), st.sampled_from([*SCHEMES]), st.text(), st.text())
async def test_any_body_becomes_an_event(body: bytes, scheme: str, kind: str, sent: str) -> None:
    """Whatever is sent, it is one event that can be written and read again."""
    headers = {"content-type": kind, **{name.lower(): sent for name in SCHEMES[scheme].keep}}
    event = await read(body, scheme, headers=headers)
    payload(event)


def test_bytes_are_kept_whole() -> None:
    """What is kept in base64 is what came."""
    assert base64.b64decode("/wA=") == b"\xff\x00"
