"""Events as bytes: there and back, and never different by accident."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from oo_daemon.outbox import wire
from oo_daemon.ports import SECOND, micros, moment
from oo_daemon.store.accept import Draft, event_id
from oo_daemon.store.connections import Connection
from oo_sdk import Change, Connector, ConnectorBug, Event, Stored, Unreadable
from oo_sdk.vocabulary import Document, HealthSample, Record, Task

NOW = 1_700_000_000 * SECOND
NOON = datetime(2026, 5, 4, 12, 0, 0, 250_001, tzinfo=UTC)

CONNECTION = Connection(
    number=1,
    id="c-1",
    user="ada",
    provider="acme",
    account="default",
    registration=None,
    state="active",
    reason="",
    provider_account="a-1",
    label="",
    scopes=(),
    meta={},
    created_at=NOW,
    changed_at=NOW,
    version=1,
)


def note(**fields: Any) -> Event:
    """A note, with what a test changes about it."""
    return Event(**{"name": "note", "subject": "n1", "change": Change.UPSERTED, "payload": Document(title="A"), **fields})


def encoded(draft: Draft, *, revision: int = 1, observed_at: int = NOW) -> bytes:
    return wire.encode(CONNECTION, observed_at)(draft, event_id("c-1", draft.type, draft.key, revision), revision)


def stranger(**fields: str) -> Message:
    """A message that a guest brings, in a pool of its own: not installed here."""
    file = descriptor_pb2.FileDescriptorProto(name="stranger.proto", package="stranger", syntax="proto3")
    kind = file.message_type.add(name="Odd")
    for number, name in enumerate(fields, 1):
        kind.field.add(name=name, number=number, type=descriptor_pb2.FieldDescriptorProto.TYPE_STRING)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    message: Message = message_factory.GetMessageClass(pool.FindMessageTypeByName("stranger.Odd"))(**fields)
    return message


# --- what is kept -----------------------------------------------------------------------------------------------------


class Acme(Connector):
    """Keeps the titles of notes, and of anything else the numbers."""

    id = "acme"
    stores: Sequence[Stored] = (
        Stored("note", "the titles of your notes", "show them", ("title",)),
        Stored("*", "what was measured", "show it", ("value", "unit", "title")),
    )


@pytest.mark.rows("F11")
def test_what_is_not_declared_is_dropped() -> None:
    """Fields that a connector does not declare are in no event, and change none: with another text the digest is the same."""
    told = wire.declared_draft(Acme(), note(payload=Document(title="A", text="canary", url="https://canary.example")))
    assert told == wire.draft("acme", note(payload=Document(title="A")))
    assert b"canary" not in encoded(told)
    other = wire.declared_draft(Acme(), note(name="reading", payload=HealthSample(value=7, unit="kg", device="canary")))
    assert other == wire.draft("acme", note(name="reading", payload=HealthSample(value=7, unit="kg")))
    sample = HealthSample(value=7, device="canary")
    maker = wire.Occurring(Acme(), CONNECTION, "reading", NOW)
    body = maker.encode(maker.id("s1"), "s1", 1, sample)
    assert b"canary" not in body
    assert wire.decode(body).payload.value == HealthSample(value=7).SerializeToString()


@pytest.mark.rows("F11")
def test_what_nothing_is_declared_of_is_refused() -> None:
    """An event that a connector does not declare is refused, in words for its author; that something is gone may always be told."""
    connector = Acme()
    connector.stores = Acme.stores[:1]
    with pytest.raises(ConnectorBug, match="acme tells a task, which it does not declare in `stores`"):
        wire.declared_draft(connector, note(name="task", payload=Task(title="A")))
    gone = note(name="task", change=Change.DELETED, payload=None)
    assert wire.declared_draft(connector, gone) == wire.draft("acme", gone)
    with pytest.raises(ConnectorBug, match="must be a protobuf message"):
        wire.declared_draft(connector, note(payload="text"))


# --- there and back --------------------------------------------------------------------------------------------------


def test_an_event_as_it_lies_in_the_outbox() -> None:
    """All that a connector says, and all that the waist adds, is in the event."""
    event = wire.decode(encoded(wire.draft("acme", note(at=NOON, version="e1", order=7)), revision=3))
    assert (event.connection, event.user, event.provider, event.account) == ("c-1", "ada", "acme", "default")
    assert (event.type, event.subject, event.revision, event.version, event.order) == ("acme.note", "n1", 3, "e1", 7)
    assert event.change == Change.UPSERTED.value
    assert event.occurred_at.ToDatetime(UTC) == NOON
    assert event.observed_at.ToDatetime(UTC) == moment(NOW)
    assert event.payload.type_url == "type.googleapis.com/oo.vocabulary.v1.Document"
    document = Document()
    assert event.payload.Unpack(document)
    assert document == Document(title="A")


@pytest.mark.parametrize("at", [-(10**9), -1, 0, 1, 16_383, 16_384, 2**31, 1_700_000_000, 1_700_000_001, 253_402_300_798])
@pytest.mark.parametrize("title", ["", "A", "é" * 70, "x" * 2_000, "x" * 20_000], ids=len)
def test_what_occurs_by_the_million_lies_there_as_any_other_event(at: int, title: str) -> None:
    """Made the fast way, an event is the same, whatever its time and size, also after others."""
    maker = wire.Occurring(Acme(), CONNECTION, "note", NOW)
    for subject, when in (("s" * 300, at + 1), ("ü1", at)):
        event = Event("note", subject, Change.OCCURRED, at=datetime.fromtimestamp(when, UTC), payload=Document(title=title))
        draft, id_ = wire.declared_draft(Acme(), event), maker.id(subject)
        assert id_.hex() == event_id(CONNECTION.id, "acme.note", subject, 1)
        body = maker.encode(id_, subject, when, Document(title=title))
        assert wire.decode(body) == wire.decode(wire.encode(CONNECTION, NOW)(draft, id_.hex(), 1))


def test_what_breaks_the_contract_is_refused_by_the_million_too() -> None:
    """Names, subjects and payloads that cannot be, and a payload that is too large."""
    with pytest.raises(ConnectorBug, match="name must be"):
        wire.Occurring(Acme(), CONNECTION, "Note", NOW)
    maker = wire.Occurring(Acme(), CONNECTION, "note", NOW)
    for subject in ("", "a\0b", "\ud800", "x" * 1_025, 7):
        with pytest.raises(ConnectorBug, match="the subject of a note"):
            maker.id(subject)  # type: ignore[arg-type]
    with pytest.raises(ConnectorBug, match="must be a protobuf message"):
        maker.encode(b"1" * 16, "s", 1, "text")  # type: ignore[arg-type]
    with pytest.raises(Unreadable, match="too large"):
        maker.encode(b"1" * 16, "s", 1, Document(title="x" * wire.LARGEST))


def test_an_event_for_people() -> None:
    """The same as JSON, with the payload spelled out."""
    assert wire.as_json(encoded(wire.draft("acme", note(at=NOON, version="e1", order=7)), revision=3)) == {
        "id": event_id("c-1", "acme.note", "n1", 3),
        "connection": "c-1",
        "user": "ada",
        "provider": "acme",
        "account": "default",
        "type": "acme.note",
        "change": "upserted",
        "subject": "n1",
        "revision": 3,
        "version": "e1",
        "order": 7,
        "occurred_at": "2026-05-04T12:00:00.250001Z",
        "observed_at": "2023-11-14T22:13:20Z",
        "payload": {"@type": "type.googleapis.com/oo.vocabulary.v1.Document", "title": "A"},
    }


def test_what_is_not_said_is_not_there() -> None:
    """No order is none and not zero, no time is none, and a deletion has no payload."""
    told = wire.as_json(encoded(wire.draft("acme", note(change=Change.DELETED, payload=None))))
    assert (told["order"], told["occurred_at"], told["payload"], told["change"]) == (None, None, None, "deleted")


def test_order_zero() -> None:
    """An order of zero is an order."""
    assert wire.as_json(encoded(wire.draft("acme", note(order=0))))["order"] == 0


def test_a_message_that_is_not_installed() -> None:
    """A payload whose message is not known here stays as it is."""
    told = wire.as_json(encoded(wire.draft("acme", note(payload=stranger(text="hi")))))
    assert told["payload"] == {"@type": "type.googleapis.com/stranger.Odd", "value": "CgJoaQ=="}


@pytest.mark.parametrize(
    "payload",
    [
        Record(fields=Struct(fields={"x": {"number_value": math.nan}})),  # type: ignore[dict-item]  # the stubs know no plain values
        Task(created_at=Timestamp(seconds=10**15)),
    ],
    ids=["NaN", "year 31,690,708"],
)
def test_a_payload_that_json_cannot_say(payload: Message) -> None:
    """A payload that has no form in JSON is told as bytes: one event does not make a page unreadable."""
    told = wire.as_json(encoded(wire.draft("acme", note(payload=payload))))
    assert set(told["payload"]) == {"@type", "value"}


def test_numbers_that_json_has_words_for() -> None:
    """A measurement that is not a number is told as protobuf's JSON does it."""
    assert wire.as_json(encoded(wire.draft("acme", note(payload=HealthSample(value=math.inf)))))["payload"]["value"] == "Infinity"


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
zones = st.sampled_from([UTC, timezone(timedelta(hours=-11, minutes=-30))])
times = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=zones)  # noqa: DTZ001 - hypothesis adds the zone
orders = st.none() | st.integers(-(2**63), 2**63 - 1)


@given(
    subject=texts.filter(len), version=texts, order=orders, at=st.none() | times, title=texts, revision=st.integers(1, 2**63), late=times
)
def test_there_and_back(
    subject: str, version: str, order: int | None, at: datetime | None, title: str, revision: int, late: datetime
) -> None:
    """Whatever a connector may say comes out as it went in: any text, any time from year 2 on to the microsecond, any order."""
    draft = wire.draft("acme", note(subject=subject, version=version, order=order, at=at, payload=Document(title=title)))
    body = encoded(draft, revision=revision, observed_at=micros(late))
    event, told = wire.decode(body), wire.as_json(body)
    assert (event.subject, event.version, event.revision) == (subject, version, revision)
    assert (event.order if event.HasField("order") else None) == order == told["order"]
    assert (event.occurred_at.ToDatetime(UTC) if event.HasField("occurred_at") else None) == at
    assert event.observed_at.ToDatetime(UTC) == late
    assert told["payload"].get("title", "") == title
    assert body == encoded(draft, revision=revision, observed_at=micros(late))
    for shared in ("connection", "user", "provider", "account", "observed_at"):
        event.ClearField(shared)
    assert body.endswith(event.SerializeToString(deterministic=True)), "put together by hand as protobuf does"


# --- identity --------------------------------------------------------------------------------------------------------


def golden() -> Event:
    record = Record()
    record.fields.update({name: {"number": index} for index, name in enumerate("zyxwv")})
    return note(name="thing", subject="ünï", payload=record, at=NOON, version="e", order=1)


def test_golden_digest_and_id() -> None:
    """The digest and the id of a fixed event are pinned: if they change, every connection tells everything again."""
    draft = wire.draft("acme", golden())
    assert draft.digest.hex() == "25569a6401a1244db2c7170feaa8a39a"
    assert event_id("c-1", draft.type, draft.key, 1) == "020de43d897fd9db05b7a340a3e8e3a4"
    assert wire.draft("acme", note(change=Change.DELETED, payload=None)).digest.hex() == "e46963f29e4adcdd46170b8ac19aa291"


def test_golden_bytes() -> None:
    """The bytes of a fixed event are pinned: consumers keep them."""
    assert encoded(wire.draft("acme", note(at=NOON, version="e", order=0))).hex() == (
        "1203632d311a03616461220461636d652a0764656661756c746a060880e2cfaa060a20336339343037363636663434393335"
        "3234353230636633343666663362353665320961636d652e6e6f7465380142026e3148015201655800620b08c094e2cf0610"
        "e8ec9a7772340a2d747970652e676f6f676c65617069732e636f6d2f6f6f2e766f636162756c6172792e76312e446f63756d"
        "656e7412030a0141"
    )


def test_a_digest_knows_no_order_of_members() -> None:
    """Members of a map that come in another order are no change."""
    one, other = Record(), Record()
    one.fields.update({"a": 1, "b": 2})
    other.fields.update({"b": 2, "a": 1})
    assert wire.draft("acme", note(payload=one)).digest == wire.draft("acme", note(payload=other)).digest


def test_what_a_digest_is_of() -> None:
    """A digest is of the payload, its kind and the change: not of when, which version or which object."""
    usual = wire.draft("acme", note()).digest
    for same in (note(at=NOON), note(version="e2"), note(order=9), note(subject="n2"), note(name="memo")):
        assert wire.draft("acme", same).digest == usual
    for other in (note(payload=Document(title="B")), note(payload=Task(title="A")), note(change=Change.OCCURRED)):
        assert wire.draft("acme", other).digest != usual


# --- the contract ----------------------------------------------------------------------------------------------------


def half_done() -> Message:
    """A message that lacks what its kind requires."""
    file = descriptor_pb2.FileDescriptorProto(name="old.proto", package="old", syntax="proto2")
    kind = file.message_type.add(name="Old")
    kind.field.add(
        name="id", number=1, type=descriptor_pb2.FieldDescriptorProto.TYPE_STRING, label=descriptor_pb2.FieldDescriptorProto.LABEL_REQUIRED
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    message: Message = message_factory.GetMessageClass(pool.FindMessageTypeByName("old.Old"))()
    return message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "an event's name must be lower-case letters, digits and _, with a letter first"),
        ({"name": "Note"}, "an event's name must be"),
        ({"name": "a note"}, "an event's name must be"),
        ({"name": "note."}, "an event's name must be"),
        ({"name": None}, "an event's name must be"),
        ({"subject": ""}, "the subject and the version of a note must be text, and the subject not empty"),
        ({"subject": 7}, "the subject and the version of a note must be text"),
        ({"subject": "\ud800"}, "the subject and the version of a note must be text"),
        ({"subject": "a\0b"}, "the subject and the version of a note must be text"),
        ({"version": 7}, "the subject and the version of a note must be text"),
        ({"version": "\0"}, "the subject and the version of a note must be text"),
        ({"order": 2**63}, "the order of a note must be a whole number of 64 bits"),
        ({"order": 1.5}, "the order of a note must be a whole number of 64 bits"),
        ({"change": 1}, "the change of a note must be one of Change"),
        ({"change": Change.DELETED}, "a note that is deleted has a payload"),
        ({"payload": None}, "a note that is upserted has no payload"),
        ({"change": Change.OCCURRED, "payload": None}, "a note that is occurred has no payload"),
        ({"payload": {"title": "A"}}, "the payload of a note must be a protobuf message, not a dict"),
        ({"payload": half_done()}, "the payload of a note is not complete"),
        ({"at": datetime(2026, 1, 1)}, "the time of a note must be a datetime with a zone"),  # noqa: DTZ001 - that is the point
        ({"at": NOON.date()}, "the time of a note must be a datetime with a zone"),
        ({"at": datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))}, "the time of a note is outside the years 1 to 9999"),
    ],
    ids=str,
)
def test_a_broken_contract(fields: dict[str, Any], message: str) -> None:
    """An event that breaks the contract is its connector's fault, and the sentence says what must be."""
    with pytest.raises(ConnectorBug) as refused:
        wire.draft("acme", note(**fields))
    assert str(refused.value).startswith(message)


def test_names_that_may_be() -> None:
    """Names of several words are well."""
    for name in ("note", "note_2", "item.added", "x"):
        assert wire.draft("acme", note(name=name)).type == f"acme.{name}"


@pytest.mark.rows("B14")
def test_the_largest_event() -> None:
    """What is just not too large is carried whole, and comes to less than what NATS takes; one byte more is set aside."""
    room = wire.LARGEST - wire.WRAPPING - len("n1") - len(Document(title="x" * 10**6).SerializeToString()) + 10**6
    body = encoded(wire.draft("acme", note(payload=Document(title="x" * room))))
    assert wire.LARGEST - wire.WRAPPING < len(body) <= wire.LARGEST
    with pytest.raises(Unreadable, match="too large for an event"):
        wire.draft("acme", note(payload=Document(title="x" * (room + 1))))


@pytest.mark.parametrize("fields", [{"subject": "ü" * 513}, {"version": "x" * wire.LARGEST}], ids=["subject", "version"])
def test_nothing_else_is_too_large(fields: dict[str, Any]) -> None:
    """A subject longer than an index takes, or a version longer than an event, is set aside; the sentence does not quote it."""
    with pytest.raises(Unreadable) as refused:
        wire.draft("acme", note(**fields))
    assert len(str(refused.value)) < 100


@given(
    st.integers(0, 2**62), st.lists(st.tuples(st.integers(0, 2**62), st.sampled_from([0, 1, 80, 127, 128, 300, 16_383, 16_384, 70_000])))
)
def test_a_stretch_of_a_stream(epoch: int, sizes: list[tuple[int, int]]) -> None:
    """Many elements are what one after the other is, whatever their sizes."""
    stored = [(number, b"x" * size) for number, size in sizes]
    assert wire.stretch(epoch, stored) == [wire.entry(f"{epoch}-{number}", body) for number, body in stored]
