"""Events as CloudEvents: nothing is lost there and back, and others' library reads them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http, to_binary, to_structured_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent as Theirs
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as some

from oo_sdk import Change, NormalizedEvent, cloudevents
from oo_sdk.cloudevents import CloudEvent, CloudEventBatch
from oo_sdk.vocabulary import Document, Record

text = some.text(some.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20)
times = some.builds(Timestamp, seconds=some.integers(-62135596800, 253402300799), nanos=some.integers(0, 999_999).map(lambda it: it * 1000))


@some.composite
def payloads(draw: some.DrawFn) -> AnyMessage:
    """A message of ours, one of somebody else's, and what JSON cannot say."""
    nan = Struct()
    nan["odd"] = float("nan")
    record = Record()
    record.fields.update(draw(some.dictionaries(text, text, max_size=3)))
    unknown = AnyMessage(type_url="type.googleapis.com/acme.Unknown", value=draw(some.binary(max_size=20)))
    known = [
        AnyMessage(type_url=f"type.googleapis.com/{it.DESCRIPTOR.full_name}", value=it.SerializeToString(deterministic=True))
        for it in (Document(title=draw(text)), record, nan)
    ]
    return draw(some.sampled_from([*known, unknown]))


@some.composite
def events(draw: some.DrawFn) -> NormalizedEvent:
    """Any event that the outbox can hold."""
    change = draw(some.sampled_from([Change.UPSERTED, Change.DELETED, Change.OCCURRED]))
    return NormalizedEvent(
        id=draw(some.text("0123456789abcdef", min_size=32, max_size=32)),
        connection=draw(some.text("0123456789abcdef", min_size=1, max_size=32)),
        user=draw(text),
        provider="acme",
        account=draw(text),
        type="acme.note",
        change=int(change),  # type: ignore[arg-type]  # the numbers are the same
        subject=draw(text.filter(bool)),
        revision=draw(some.integers(1, 2**64 - 1)),
        version=draw(text),
        order=draw(some.none() | some.integers(-(2**63), 2**63 - 1)),
        occurred_at=draw(some.none() | times),
        observed_at=draw(times),
        payload=None if change is Change.DELETED else draw(payloads()),
    )


@pytest.mark.rows("B15")
@given(events())
def test_there_and_back(event: NormalizedEvent) -> None:
    """In both formats, through bytes, every event comes back as it was, and what CloudEvents asks for is filled."""
    there = cloudevents.as_json(event, "1-7")
    assert cloudevents.from_json(json.loads(json.dumps(there))) == event
    wire = cloudevents.as_protobuf(event, "1-7").SerializeToString()
    assert cloudevents.from_protobuf(CloudEvent.FromString(wire)) == event
    headers, body = cloudevents.as_binary(event, "1-7")
    assert cloudevents.from_binary({**headers, "Nats-Msg-Id": "x"}, body) == event
    assert all(it.isascii() and it.isprintable() and " " not in it for it in headers.values())
    names = {"specversion", "id", "source", "type", "time", "subject"} | ({"dataschema"} if event.HasField("payload") else set())
    assert names <= there.keys()
    assert all(there[name] for name in names)
    assert all(name.isalnum() and name.islower() and len(name) <= 20 for name in there if name != "data_base64")


@pytest.mark.rows("B15")
@given(events())
def test_the_library_of_others_reads_them(event: NormalizedEvent) -> None:
    """`cloudevents` takes ours for valid, and what it writes again is still our event."""
    body = json.dumps(cloudevents.as_json(event, "1-7")).encode()
    theirs = JSONFormat().read(None, body)
    assert (theirs.get_id(), theirs.get_type(), theirs.get_source()) == (event.id, "acme.note", f"/acme/{event.connection}")
    assert isinstance(theirs.get_time(), datetime)
    assert theirs.get_extension("position") == "1-7"
    assert cloudevents.from_json(json.loads(JSONFormat().write(theirs))) == event
    headers, data = cloudevents.as_binary(event, "1-7")
    theirs = from_http(HTTPMessage(headers, data), JSONFormat(), Theirs)
    assert (theirs.get_id(), theirs.get_subject(), theirs.get_extension("revision")) == (event.id, event.subject, str(event.revision))
    assert cloudevents.from_binary(to_binary(theirs, JSONFormat()).headers, data) == event


def test_as_a_message_over_http() -> None:
    """A body of ours with its content type is a message that the library takes, in structured mode."""
    event = NormalizedEvent(id="ab", connection="c", provider="acme", type="acme.note", change=1, subject="n", revision=1)  # type: ignore[arg-type]  # the number of UPSERTED
    event.observed_at.FromDatetime(datetime(2026, 11, 22, 9, 30, tzinfo=UTC))
    event.payload.Pack(Document(title="Tea"))
    message = HTTPMessage({"content-type": cloudevents.JSON}, json.dumps(cloudevents.as_json(event)).encode())
    theirs = from_http(message, JSONFormat(), Theirs)
    data: Any = theirs.get_data()
    assert data == {"@type": "type.googleapis.com/oo.vocabulary.v1.Document", "title": "Tea"}
    assert json.loads(to_structured_event(theirs, JSONFormat()).body)["timefrom"] == "observed"


def test_several_as_one_body() -> None:
    """A batch in protobuf holds them in their order."""
    made = [CloudEvent(id=name, source="/a/c", spec_version="1.0", type="a.b") for name in ("1", "2")]
    assert [each.id for each in CloudEventBatch.FromString(cloudevents.batch(made)).events] == ["1", "2"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"revision": None}, "no attribute 'revision'"),
        ({"data": {"@type": "type.googleapis.com/acme.Unknown"}}, "no message that is known"),
    ],
)
def test_what_is_none_of_ours_is_refused(changes: dict[str, Any], says: str) -> None:
    """A CloudEvent of another sender, or with a message that is not installed here, is said to be so."""
    event = NormalizedEvent(id="ab", connection="c", provider="acme", type="acme.note", change=1, subject="n", revision=1)  # type: ignore[arg-type]  # the number of UPSERTED
    given_ = {name: value for name, value in (cloudevents.as_json(event) | changes).items() if value is not None}
    with pytest.raises(ValueError, match=says):
        cloudevents.from_json(given_)
