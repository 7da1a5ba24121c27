"""What a connector yields: events, checkpoints, and the start of a full listing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, TypeAlias

import msgspec
from google.protobuf import json_format
from google.protobuf.message import Message

from oo_sdk._schema.oo.events.v1.event_pb2 import Entry, NormalizedEvent
from oo_sdk.errors import Unreadable

__all__ = ["Change", "Checkpoint", "Cursor", "Entry", "Event", "Listing", "NormalizedEvent", "Signal", "as_json"]

#: Where a connector left off: any JSON object; its shape is the connector's own.
Cursor: TypeAlias = Mapping[str, Any]


class Change(IntEnum):
    """What happened to the subject."""

    UPSERTED = 1  #: it now is as the payload says
    DELETED = 2  #: it is gone
    OCCURRED = 3  #: it took place and cannot change any more


class Event(msgspec.Struct, frozen=True):
    """Something that happened, in the connector's words; the daemon gives it identity, revision and a place in the outbox.

    `name` becomes the type `{connector id}.{name}`; `subject` is the provider's id of the thing, unique within that type.
    The same event yielded twice gives one event: yield what the provider says and do not filter.
    """

    name: str
    subject: str
    change: Change
    at: datetime | None = None  #: when it happened, as the provider says; with a zone
    payload: Message | None = None  #: what it is now: a message of `oo_sdk.vocabulary` or one of your own; none for DELETED
    version: str = ""  #: an etag or the like, compared for equality only
    order: int | None = None  #: a number of the provider's that only grows for this subject; a lower one is older and dropped
    key: str = ""  #: what an OCCURRED is the same by, where much can occur to one subject; empty: the subject


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything yielded so far may be kept together with this cursor: the next sync starts from it.

    `listed` ends a full listing of those names: what the daemon knew of them and the listing did not show is gone, and
    becomes DELETED events. Where only a part of them was listed, such as one calendar's, `within` names it: subjects that
    begin with none of these texts are left alone. After a listing that was no part, a push that tells of a change (`Event.at`)
    from before its `Listing` tells nothing new: what it tells of may be gone since.
    """

    cursor: Cursor
    listed: tuple[str, ...] = ()
    within: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """From here on, everything that exists is listed, up to the checkpoint that names what was `listed`."""


#: What `fetch_signals` yields. `Unreadable` sets one item aside.
Signal: TypeAlias = Event | Checkpoint | Listing | Unreadable


def as_json(event: NormalizedEvent) -> dict[str, Any]:
    """The event for people and scripts, as `/v1/events` shows it; a payload whose message is not installed here stays as bytes."""
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
    except Exception:  # whatever is wrong with a guest's message (a NaN in a Struct, say): one event must not make a page unreadable
        plain: dict[str, Any] = msgspec.to_builtins({"@type": event.payload.type_url, "value": event.payload.value})
        return plain
