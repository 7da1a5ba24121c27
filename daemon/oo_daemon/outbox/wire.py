"""Events as bytes: the one place where the hub meets the generated protobuf."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp

from oo_daemon.ports import SECOND, micros
from oo_daemon.store.accept import DELETED, Draft, tombstone_digest
from oo_daemon.store.connections import Connection
from oo_sdk import Change, ConnectorBug, Event
from oo_sdk.events import NormalizedEvent

#: Raised when the bytes of an unchanged payload would differ from before; an equal version then restamps the digest silently.
FORMAT = 1
#: Largest event: what NATS carries unless told otherwise.
LARGEST = 1024 * 1024
_TYPE_URL = "type.googleapis.com/"


def draft(provider: str, event: Event) -> Draft:
    """What a connector yielded, ready for the waist. Raises `ConnectorBug` when it breaks the contract."""
    if not (event.name and event.subject):
        raise ConnectorBug("an event needs a name and a subject")
    if event.at is not None and event.at.tzinfo is None:
        raise ConnectorBug(f"the time of a {event.name} has no zone")
    if (event.change is Change.DELETED) != (event.payload is None):
        raise ConnectorBug(f"a {event.name} that is {event.change.name.lower()} has {'no' if event.payload is None else 'a'} payload")
    payload_type, payload, digest = "", b"", tombstone_digest()
    if event.payload is not None:
        payload_type = event.payload.DESCRIPTOR.full_name
        payload = event.payload.SerializeToString(deterministic=True)
        hasher = blake2b(bytes([event.change, FORMAT]), digest_size=16)
        hasher.update(payload_type.encode() + b"\0" + payload)
        digest = hasher.digest()
    return Draft(
        type=f"{provider}.{event.name}",
        key=event.subject,
        subject=event.subject,
        change=int(event.change),
        digest=digest,
        at=None if event.at is None else micros(event.at),
        version=event.version,
        order=event.order,
        payload_type=payload_type,
        payload=payload,
    )


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


def decode(body: bytes) -> NormalizedEvent:
    """The event that lies in the outbox."""
    return NormalizedEvent.FromString(body)


def as_json(body: bytes) -> dict[str, Any]:
    """The event for people and scripts; a payload whose message is not installed here stays as bytes."""
    event = decode(body)
    return {
        "id": event.id,
        "connection": event.connection,
        "user": event.user,
        "provider": event.provider,
        "account": event.account,
        "type": event.type,
        "change": Change(event.change).name.lower(),
        "subject": event.subject,
        "revision": event.revision,
        "version": event.version,
        "order": event.order if event.HasField("order") else None,
        "occurred_at": event.occurred_at.ToJsonString() if event.HasField("occurred_at") else None,
        "observed_at": event.observed_at.ToJsonString(),
        "payload": _payload(event) if event.HasField("payload") else None,
    }


def _payload(event: NormalizedEvent) -> dict[str, Any]:
    try:
        return json_format.MessageToDict(event.payload)
    except (TypeError, KeyError):
        plain: dict[str, Any] = msgspec.to_builtins({"@type": event.payload.type_url, "value": event.payload.value})
        return plain


def _timestamp(time: int) -> Timestamp:
    return Timestamp(seconds=time // SECOND, nanos=time % SECOND * 1000)
