"""Events as bytes: the one place where the hub meets the generated protobuf."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgspec
from google.protobuf import json_format, text_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import EncodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from oo_daemon.ports import SECOND, micros
from oo_daemon.store.values import DELETED, OCCURRED, Connection, Draft, Encoded, event_ids, tombstone_digest
from oo_sdk import Change, Connector, ConnectorBug, Event, Unreadable, cloudevents, events
from oo_sdk.events import NormalizedEvent
from oo_sdk.stored import drop_undeclared, undeclared

#: Raised when the bytes of an unchanged payload would differ from before; an equal version then restamps the digest silently.
FORMAT = 1
#: Largest event (bytes): what NATS carries unless told otherwise; of it, what the event is wrapped in may take this much.
LARGEST, WRAPPING = 1024 * 1024, 4096
#: Longest subject (bytes of UTF-8): it is a key in the index, and PostgreSQL's keys end at 2,700.
LONGEST_SUBJECT = 1024
_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")
_TYPE_URL = "type.googleapis.com/"


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


SMALL = 1 << 11
_SMALL = [_varint(number) for number in range(SMALL)]
_MORE = [bytes([0x80 | number]) for number in range(1 << 7)]  #: seven bits of a number, after which more come


def varint(number: int) -> bytes:
    """A length, or a number that is not negative, as protobuf writes it."""
    return _SMALL[number] if number < SMALL else _varint(number)


def _tag(field: str, kind: int = 2) -> bytes:
    """What stands before a field of an event: of kind 2 a text, bytes or a message, of kind 0 a number."""
    return varint(NormalizedEvent.DESCRIPTOR.fields_by_name[field].number << 3 | kind)


_ID, _TYPE, _SUBJECT, _VERSION = _tag("id") + varint(32), _tag("type"), _tag("subject"), _tag("version")
_CHANGE, _REVISION, _ORDER = _tag("change", 0), _tag("revision", 0), _tag("order", 0)
_OCCURRED_AT, _PAYLOAD = _tag("occurred_at"), _tag("payload")
_FIRST = b"\0\0\0\x01" + b"1"  #: the first revision, as it is in an id
_64_BITS = (1 << 64) - 1  #: a number below zero is written as if it were one so much higher
_SECONDS, _VALUE = b"\x08", b"\x12"  #: the first field of a Timestamp, the second of an Any


def declared_draft(connector: Connector, event: Event) -> Draft:
    """What a connector yielded, as far as it declares to keep it, ready for the waist. Raises as `draft` does."""
    if isinstance(event.payload, Message):
        drop_undeclared(connector, event.name, event.payload)
    return draft(connector.id, event)


#: Looked up once: an enumeration's members are dear to get at.
_OCCURRED, _DELETED = Change.OCCURRED, Change.DELETED


@lru_cache(maxsize=1024)
def _type(provider: str, name: str) -> str:
    """The type of events of this name; empty where it cannot be one."""
    return f"{provider}.{name}" if _NAME.fullmatch(name) else ""


@lru_cache(maxsize=1024)
def _digests(change: int, payload_type: str) -> blake2b:
    """What the digests of all payloads of a type begin with."""
    return blake2b(b"%c%c%b\0" % (change, FORMAT, payload_type.encode()), digest_size=16)


def draft(provider: str, event: Event) -> Draft:
    """An event, ready for the waist.

    Raises `ConnectorBug` when it breaks the contract, and `Unreadable` when it keeps it but is too large to be carried.
    """
    name, subject, change = event.name, event.subject, event.change
    if not (isinstance(name, str) and (type_ := _type(provider, name))):
        raise ConnectorBug("an event's name must be lower-case letters, digits and _, with a letter first")
    if (subject_size := _size(subject)) < 1 or (version_size := _size(event.version)) < 0:
        raise ConnectorBug(f"the subject and the version of a {name} must be text, and the subject not empty")
    if (key_size := _size(event.key)) < 0 or (key_size and change is not _OCCURRED):
        raise ConnectorBug(f"the key of a {name} must be text, and only what occurred has one")
    if event.order is not None and not (isinstance(event.order, int) and -(2**63) <= event.order < 2**63):
        raise ConnectorBug(f"the order of a {name} must be a whole number of 64 bits")
    if not isinstance(change, Change):
        raise ConnectorBug(f"the change of a {name} must be one of Change")
    if (change is _DELETED) != (event.payload is None):
        raise ConnectorBug(f"a {name} that is {change.name.lower()} has {'no' if event.payload is None else 'a'} payload")
    if event.payload is None:
        payload_type, payload, digest = "", b"", tombstone_digest()
    else:
        payload_type, payload = _serialized(name, event.payload)
        hasher = _digests(int(change), payload_type).copy()
        hasher.update(payload)
        digest = hasher.digest()
    size = len(payload) + subject_size + version_size
    if size > LARGEST - WRAPPING or subject_size > LONGEST_SUBJECT or key_size > LONGEST_SUBJECT:
        raise Unreadable(f"a {name} is too large for an event: {size} bytes, of them {subject_size} of its subject")
    return Draft(
        type=type_,
        key=event.key or subject,
        subject=subject,
        change=int(change),
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
    if text.isascii():
        return -1 if "\0" in text else len(text)
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


def encode(connection: Connection, observed_at: int) -> Encoded:
    """Makes events of one connection as they lie in the outbox: what they share is made into bytes once. For one thread.

    They are put together by hand, as protobuf would: that takes half the time, and a test holds them against its own.
    """
    shared = _shared(connection, observed_at).SerializeToString(deterministic=True) + _ID  # one after the other is the two put together
    when, kinds, urls = Timestamp(), dict[tuple[str, int], bytes](), dict[str, bytes]()

    def encoded(event: Draft, id_: str, revision: int) -> bytes:
        if (kind := kinds.get((event.type, event.change))) is None:
            text = event.type.encode()
            kind = kinds[event.type, event.change] = _TYPE + varint(len(text)) + text + _CHANGE + varint(event.change) + _SUBJECT
        subject = event.subject.encode()
        parts = [shared, id_.encode(), kind, varint(len(subject)), subject, _REVISION, varint(revision)]
        if event.version:
            version = event.version.encode()
            parts += (_VERSION, varint(len(version)), version)
        if event.order is not None:
            parts += (_ORDER, varint(event.order & _64_BITS))
        if event.at is not None:
            when.seconds, micros = divmod(event.at, SECOND)
            when.nanos = micros * 1000
            parts += (_OCCURRED_AT, varint(when.ByteSize()), when.SerializeToString())
        if event.change != DELETED:
            if (url := urls.get(event.payload_type)) is None:
                url = urls[event.payload_type] = AnyMessage(type_url=_TYPE_URL + event.payload_type).SerializeToString()
            if value := event.payload:
                size = varint(len(value))
                parts += (_PAYLOAD, varint(len(url) + 1 + len(size) + len(value)), url, _VALUE, size, value)
            else:
                parts += (_PAYLOAD, varint(len(url)), url)
        return b"".join(parts)

    return encoded


def _shared(connection: Connection, observed_at: int) -> NormalizedEvent:
    return NormalizedEvent(
        connection=connection.id,
        user=connection.user,
        provider=connection.provider,
        account=connection.account,
        observed_at=_timestamp(observed_at),
    )


class Occurring:
    """Makes events of one name that merely occurred, by the million: what they share is made into bytes once. Raises `ConnectorBug`."""

    def __init__(self, connector: Connector, connection: Connection, name: str, observed_at: int) -> None:
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise ConnectorBug("an event's name must be lower-case letters, digits and _, with a letter first")
        self.type = f"{connection.provider}.{name}"
        self._connector, self._name = connector, name
        self._message: object = None  #: the descriptor of those that came so far
        self._undeclared: frozenset[str] = frozenset()
        self._url, self._around = b"", 0
        self._remember(0)
        self._identity = event_ids(connection.id, self.type)
        # Protobuf: one after the other is the two put together.
        self._shared = (
            NormalizedEvent(
                connection=connection.id,
                user=connection.user,
                provider=connection.provider,
                account=connection.account,
                type=self.type,
                change=OCCURRED,  # type: ignore[arg-type]  # the numbers are the same
                revision=1,
                observed_at=_timestamp(observed_at),
            ).SerializeToString(deterministic=True)
            + _ID
        )

    def id(self, subject: str) -> bytes:
        """The id of the event."""
        try:
            data = subject.encode()
        except (AttributeError, UnicodeEncodeError):
            data = b""
        if not 0 < len(data) <= LONGEST_SUBJECT or b"\0" in data:
            raise ConnectorBug(f"the subject of a {self._name} must be text of at most {LONGEST_SUBJECT} bytes, and not empty")
        hasher = self._identity.copy()
        hasher.update(len(data).to_bytes(4) + data + _FIRST)
        return hasher.digest()

    def encode(self, id_: bytes, subject: str, at: int, payload: Message) -> bytes:
        """The event as it lies in the outbox; `at` is when it began, in whole seconds since 1970. Raises `Unreadable` for a large one."""
        if not isinstance(payload, Message) or payload.DESCRIPTOR is not self._message:
            self._learn(payload)
        for field in self._undeclared:
            payload.ClearField(field)
        try:
            value = payload.SerializeToString()
        except (EncodeError, ValueError):
            raise ConnectorBug(f"the payload of a {self._name} is not complete") from None
        if len(value) > LARGEST - WRAPPING:
            raise Unreadable(f"a {self._name} is too large for an event: {len(value)} bytes", subject=subject)
        if at >> 14 != self._lately:
            self._remember(at >> 14)
        data, length = subject.encode(), len(value)
        size = _SMALL[length] if length < SMALL else varint(length)
        whole = self._around + len(size) + length
        return b"".join((
            self._shared, id_.hex().encode(), _SUBJECT, _SMALL[len(data)], data,
            self._when, _MORE[at & 0x7F], _MORE[at >> 7 & 0x7F], self._lately_as_bytes,
            _SMALL[whole] if whole < SMALL else varint(whole), self._url, size, value,
        ))  # fmt: skip

    def _remember(self, lately: int) -> None:
        """Seconds change in their last digits from one event to the next: the first ones are made into bytes once."""
        self._lately = lately
        rest = varint(lately & ((1 << 50) - 1))
        self._when = _OCCURRED_AT + varint(len(rest) + 3) + _SECONDS
        self._lately_as_bytes = rest + _PAYLOAD

    def _learn(self, payload: Message) -> None:
        """Look at a message of a kind that did not come before."""
        if not isinstance(payload, Message):
            raise ConnectorBug(f"the payload of a {self._name} must be a protobuf message, not a {type(payload).__name__}")
        self._message = payload.DESCRIPTOR
        self._undeclared = undeclared(self._connector, self._name, payload)
        self._url = AnyMessage(type_url=_TYPE_URL + payload.DESCRIPTOR.full_name).SerializeToString() + _VALUE
        self._around = len(self._url)


#: The event that lies in the outbox. No function around it: a call of Python's own is a sixth of what decoding takes.
decode: Callable[[bytes], NormalizedEvent] = NormalizedEvent.FromString


def entry(position: str, body: bytes | None) -> bytes:
    """One element of a stream: an `Entry` with its length before it, put together without decoding the event."""
    said = position.encode()
    whole = b"\x0a" + varint(len(said)) + said
    if body is not None:
        whole += b"\x12" + varint(len(body)) + body
    return varint(len(whole)) + whole


def stretch(epoch: int, stored: Sequence[tuple[int, bytes]]) -> list[bytes]:
    """Elements of a stream, as `entry` makes them one by one; readers take hundreds of thousands in a second."""
    before, made = b"%d-" % epoch, list[bytes]()
    for number, body in stored:
        said, size = b"%b%d" % (before, number), varint(len(body))
        whole = 3 + len(said) + len(size) + len(body)
        made.append(b"%b\x0a%c%b\x12%b%b" % (varint(whole), len(said), said, size, body))
    return made


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
