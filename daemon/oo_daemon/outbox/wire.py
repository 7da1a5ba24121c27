"""Events as bytes: the one place where the hub meets the generated protobuf."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any

import msgspec
from google.protobuf import json_format, text_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import EncodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from oo_daemon.ports import SECOND, micros
from oo_daemon.store.accept import DELETED, OCCURRED, Draft, event_id, tombstone_digest
from oo_daemon.store.connections import Connection
from oo_sdk import Change, Connector, ConnectorBug, Event, Unreadable, cloudevents, events
from oo_sdk.events import NormalizedEvent
from oo_sdk.stored import drop_undeclared

#: Raised when the bytes of an unchanged payload would differ from before; an equal version then restamps the digest silently.
FORMAT = 1
#: Largest event (bytes): what NATS carries unless told otherwise; of it, what the event is wrapped in may take this much.
LARGEST, WRAPPING = 1024 * 1024, 4096
#: Longest subject (bytes of UTF-8): it is a key in the index, and PostgreSQL's keys end at 2,700.
LONGEST_SUBJECT = 1024
_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")
_TYPE_URL = "type.googleapis.com/"


def declared_draft(connector: Connector, event: Event) -> Draft:
    """What a connector yielded, as far as it declares to keep it, ready for the waist. Raises as `draft` does."""
    if isinstance(event.payload, Message):
        drop_undeclared(connector, event.name, event.payload)
    return draft(connector.id, event)


def draft(provider: str, event: Event) -> Draft:
    """An event, ready for the waist.

    Raises `ConnectorBug` when it breaks the contract, and `Unreadable` when it keeps it but is too large to be carried.
    """
    name, subject = event.name, event.subject
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ConnectorBug("an event's name must be lower-case letters, digits and _, with a letter first")
    if (subject_size := _size(subject)) < 1 or (version_size := _size(event.version)) < 0:
        raise ConnectorBug(f"the subject and the version of a {name} must be text, and the subject not empty")
    if (key_size := _size(event.key)) < 0 or (key_size and event.change is not Change.OCCURRED):
        raise ConnectorBug(f"the key of a {name} must be text, and only what occurred has one")
    if event.order is not None and not (isinstance(event.order, int) and -(2**63) <= event.order < 2**63):
        raise ConnectorBug(f"the order of a {name} must be a whole number of 64 bits")
    if not isinstance(event.change, Change):
        raise ConnectorBug(f"the change of a {name} must be one of Change")
    if (event.change is Change.DELETED) != (event.payload is None):
        raise ConnectorBug(f"a {name} that is {event.change.name.lower()} has {'no' if event.payload is None else 'a'} payload")
    if event.payload is None:
        payload_type, payload, digest = "", b"", tombstone_digest()
    else:
        payload_type, payload = _serialized(name, event.payload)
        hasher = blake2b(bytes([event.change, FORMAT]), digest_size=16)
        hasher.update(payload_type.encode() + b"\0" + payload)
        digest = hasher.digest()
    size = len(payload) + subject_size + version_size
    if size > LARGEST - WRAPPING or subject_size > LONGEST_SUBJECT or key_size > LONGEST_SUBJECT:
        raise Unreadable(f"a {name} is too large for an event: {size} bytes, of them {subject_size} of its subject")
    return Draft(
        type=f"{provider}.{name}",
        key=event.key or subject,
        subject=subject,
        change=int(event.change),
        digest=digest,
        at=None if event.at is None else _time(name, event.at),
        version=event.version,
        order=event.order,
        payload_type=payload_type,
        payload=payload,
    )


def _size(text: object) -> int:
    """Bytes of a text that every database and protobuf can hold, with no NUL and no half of a surrogate pair; -1 for anything else."""
    if not isinstance(text, str):
        return -1
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return -1
    return -1 if b"\0" in data else len(data)


def _serialized(name: str, payload: Message) -> tuple[str, bytes]:
    if not isinstance(payload, Message):
        raise ConnectorBug(f"the payload of a {name} must be a protobuf message, not a {type(payload).__name__}")
    try:
        return payload.DESCRIPTOR.full_name, payload.SerializeToString(deterministic=True)
    except (EncodeError, ValueError):
        raise ConnectorBug(f"the payload of a {name} is not complete") from None


def _time(name: str, at: datetime) -> int:
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise ConnectorBug(f"the time of a {name} must be a datetime with a zone")
    try:
        return micros(at)
    except OverflowError:
        raise ConnectorBug(f"the time of a {name} is outside the years 1 to 9999") from None


def encode(connection: Connection, event: Draft, event_id: str, revision: int, observed_at: int) -> bytes:
    """The event as it lies in the outbox."""
    message = NormalizedEvent(
        id=event_id,
        connection=connection.id,
        user=connection.user,
        provider=connection.provider,
        account=connection.account,
        type=event.type,
        change=event.change,  # type: ignore[arg-type]  # the numbers are the same
        subject=event.subject,
        revision=revision,
        version=event.version,
        order=event.order,
        occurred_at=None if event.at is None else _timestamp(event.at),
        observed_at=_timestamp(observed_at),
        payload=None if event.change == DELETED else AnyMessage(type_url=_TYPE_URL + event.payload_type, value=event.payload),
    )
    return message.SerializeToString(deterministic=True)


def occurrences(connector: Connector, connection: Connection, name: str, observed_at: int) -> Callable[[str, int, Message], bytes]:
    """Makes events of one name that merely occurred, by the million: what they share is made into bytes once.

    What it gives is called with the subject, when it began in whole seconds since 1970, and the payload. Raises `ConnectorBug`, also when
    called, and then `Unreadable` for one that is too large.
    """
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ConnectorBug("an event's name must be lower-case letters, digits and _, with a letter first")
    type_ = f"{connection.provider}.{name}"
    shared = NormalizedEvent(
        connection=connection.id,
        user=connection.user,
        provider=connection.provider,
        account=connection.account,
        type=type_,
        change=OCCURRED,  # type: ignore[arg-type]  # the numbers are the same
        revision=1,
        observed_at=_timestamp(observed_at),
    ).SerializeToString(deterministic=True)
    own, of = NormalizedEvent(), connection.id

    def encode(subject: str, at: int, payload: Message) -> bytes:
        if len(subject) > LONGEST_SUBJECT // 4 or _size(subject) < 1:
            raise ConnectorBug(f"the subject of a {name} must be text of at most {LONGEST_SUBJECT // 4} characters, and not empty")
        if isinstance(payload, Message):
            drop_undeclared(connector, name, payload)
        message, value = _serialized(name, payload)
        if len(value) > LARGEST - WRAPPING:
            raise Unreadable(f"a {name} is too large for an event: {len(value)} bytes", subject=subject)
        own.id = event_id(of, type_, subject, 1)
        own.subject = subject
        own.occurred_at.seconds = at
        own.payload.type_url = _TYPE_URL + message
        own.payload.value = value
        return shared + own.SerializeToString(deterministic=True)  # protobuf: one after the other is the two put together

    return encode


def decode(body: bytes) -> NormalizedEvent:
    """The event that lies in the outbox."""
    return NormalizedEvent.FromString(body)


def entry(position: str, body: bytes | None) -> bytes:
    """One element of a stream: an `Entry` with its length before it, put together without decoding the event."""
    said = position.encode()
    whole = b"\x0a" + varint(len(said)) + said
    if body is not None:
        whole += b"\x12" + varint(len(body)) + body
    return varint(len(whole)) + whole


def varint(number: int) -> bytes:
    """A length as protobuf writes it."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def as_json(body: bytes) -> dict[str, Any]:
    """The event for people and scripts."""
    return events.as_json(decode(body))


def cloud_batch(stored: Sequence[tuple[str, bytes]]) -> bytes:
    """Events, each with its position, as one body in the JSON format of CloudEvents."""
    return msgspec.json.encode([cloudevents.as_json(decode(body), position) for position, body in stored])


def cloud_batch_protobuf(stored: Sequence[tuple[str, bytes]]) -> bytes:
    """The same in their protobuf format."""
    return cloudevents.batch(cloudevents.as_protobuf(decode(body), position) for position, body in stored)


#: Pages in other forms, by content type.
VIEWS: Mapping[str, Callable[[Sequence[tuple[str, bytes]]], bytes]] = {
    cloudevents.JSON_BATCH: cloud_batch,
    cloudevents.PROTOBUF_BATCH: cloud_batch_protobuf,
}


def shown(payload: Message) -> dict[str, Any]:
    """A payload as people look at it, before it is in any event."""
    found: dict[str, Any] = json_format.MessageToDict(payload)
    return found


def as_text(body: bytes) -> str:
    """The event in protobuf's text form."""
    return text_format.MessageToString(decode(body), as_utf8=True)


def _timestamp(time: int) -> Timestamp:
    return Timestamp(seconds=time // SECOND, nanos=time % SECOND * 1000)
