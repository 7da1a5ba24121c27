"""Events as CloudEvents 1.0, in the JSON and the protobuf format and in binary mode, and back without loss.

| attribute | is |
|---|---|
| `id`, `type`, `subject` | those of the event |
| `source` | `/{provider}/{connection}` |
| `time` | when it happened, else when oO learnt of it: `timefrom` is then `observed` |
| `dataschema` | names the message that the payload is |
| `data` | the payload: protobuf's JSON of an Any, or the Any; a message that is not installed here stays bytes, as all do in binary mode |
| `user`, `provider`, `account`, `connection`, `change`, `revision`, `observed` | those of the event |
| `objectversion`, `objectorder` | its version and order, where it has them |
| `position` | where to go on in the outbox, where that is known |
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

from google.protobuf import json_format
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from oo_sdk._schema.oo.cloudevents.v1.cloudevents_pb2 import CloudEvent, CloudEventBatch
from oo_sdk.events import Change, NormalizedEvent

__all__ = ["CloudEvent", "CloudEventBatch", "as_binary", "as_json", "as_protobuf", "batch", "from_binary", "from_json", "from_protobuf"]

JSON, JSON_BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
PROTOBUF, PROTOBUF_BATCH = "application/cloudevents+protobuf", "application/cloudevents-batch+protobuf"
_SCHEMA = "https://"
_BYTES = "application/protobuf"
#: What headers of the binary mode begin with, what that of the data's type is called, and what is not written as %…: printable ASCII.
_CE, _TYPE = "ce-", "content-type"
_PLAIN: Final = "".join(set(map(chr, range(0x21, 0x7F))) - set('"%'))


def as_json(event: NormalizedEvent, position: str = "") -> dict[str, Any]:
    """The event in the JSON format."""
    attributes: dict[str, Any] = {"specversion": "1.0", "id": event.id, "source": _source(event), "type": event.type}
    attributes |= _texts(event, position)
    attributes |= {name: time.ToJsonString() for name, time in _times(event).items()}
    if event.HasField("payload"):
        attributes["dataschema"] = _SCHEMA + event.payload.type_url
        try:
            attributes |= {"datacontenttype": "application/json", "data": json_format.MessageToDict(event.payload)}
        except Exception:  # a message that is not installed here, or that JSON cannot say (NaN in a Struct): it stays bytes
            attributes |= {"datacontenttype": _BYTES, "data_base64": b64encode(event.payload.value).decode()}
    return attributes


def from_json(attributes: Mapping[str, Any]) -> NormalizedEvent:
    """The event that `as_json` was given. Raises `ValueError` for what is none of ours."""
    event = _event(attributes, _read_times(attributes), attributes["id"], attributes["type"])
    if "data_base64" in attributes:
        event.payload.type_url = attributes["dataschema"].removeprefix(_SCHEMA)
        event.payload.value = b64decode(attributes["data_base64"], validate=True)
    elif "data" in attributes:
        try:
            json_format.ParseDict(attributes["data"], event.payload)
            message = GetMessageClass(Default().FindMessageTypeByName(event.payload.TypeName()))()
        except (json_format.ParseError, KeyError):
            raise ValueError("the data is no message that is known here") from None
        event.payload.Unpack(message)
        event.payload.value = message.SerializeToString(deterministic=True)  # as the outbox has it
    return event


def as_protobuf(event: NormalizedEvent, position: str = "") -> CloudEvent:
    """The event in the protobuf format."""
    made = CloudEvent(id=event.id, source=_source(event), spec_version="1.0", type=event.type)
    for name, text in _texts(event, position).items():
        made.attributes[name].ce_string = text
    for name, time in _times(event).items():
        made.attributes[name].ce_timestamp.CopyFrom(time)
    if event.HasField("payload"):
        made.attributes["dataschema"].ce_uri = _SCHEMA + event.payload.type_url
        made.attributes["datacontenttype"].ce_string = _BYTES
        made.proto_data.CopyFrom(event.payload)
    return made


def from_protobuf(given: CloudEvent) -> NormalizedEvent:
    """The event that `as_protobuf` was given. Raises `ValueError` for what is none of ours."""
    texts: dict[str, Any] = {}
    times: dict[str, Timestamp] = {}
    for name, value in given.attributes.items():
        match value.WhichOneof("attr"):
            case "ce_string":
                texts[name] = value.ce_string
            case "ce_timestamp":
                times[name] = value.ce_timestamp
    event = _event(texts, times, given.id, given.type)
    if given.HasField("proto_data"):
        event.payload.CopyFrom(given.proto_data)
    return event


def as_binary(event: NormalizedEvent, position: str = "") -> tuple[dict[str, str], bytes]:
    """The event in binary mode, as headers and a body: that of the payload's message, which `dataschema` names."""
    attributes = {"specversion": "1.0", "id": event.id, "source": _source(event), "type": event.type, **_texts(event, position)}
    attributes |= {name: time.ToJsonString() for name, time in _times(event).items()}
    if not event.HasField("payload"):
        return {_CE + name: quote(text, _PLAIN) for name, text in attributes.items()}, b""
    attributes["dataschema"] = _SCHEMA + event.payload.type_url
    return {_TYPE: _BYTES} | {_CE + name: quote(text, _PLAIN) for name, text in attributes.items()}, event.payload.value


def from_binary(headers: Mapping[str, str], body: bytes) -> NormalizedEvent:
    """The event that `as_binary` was given; other headers are left aside. Raises `ValueError` for what is none of ours."""
    attributes = {name.lower().removeprefix(_CE): unquote(text) for name, text in headers.items() if name.lower().startswith(_CE)}
    event = _event(attributes, _read_times(attributes), attributes.get("id", ""), attributes.get("type", ""))
    if "dataschema" in attributes:
        event.payload.type_url = attributes["dataschema"].removeprefix(_SCHEMA)
        event.payload.value = body
    return event


def batch(events: Iterable[CloudEvent]) -> bytes:
    """Several in the protobuf format, as one body."""
    return CloudEventBatch(events=events).SerializeToString(deterministic=True)


def _source(event: NormalizedEvent) -> str:
    return f"/{event.provider}/{event.connection}"


def _texts(event: NormalizedEvent, position: str) -> dict[str, str]:
    texts = {
        "subject": event.subject,
        "user": event.user,
        "provider": event.provider,
        "account": event.account,
        "connection": event.connection,
        "change": Change(event.change).name.lower(),
        "revision": str(event.revision),  # CloudEvents has no number that is large enough
        "objectversion": event.version,
        "objectorder": str(event.order) if event.HasField("order") else "",
        "timefrom": "" if event.HasField("occurred_at") else "observed",
        "position": position,
    }
    return {name: text for name, text in texts.items() if text}


def _times(event: NormalizedEvent) -> dict[str, Timestamp]:
    return {"time": event.occurred_at if event.HasField("occurred_at") else event.observed_at, "observed": event.observed_at}


def _read_times(attributes: Mapping[str, Any]) -> dict[str, Timestamp]:
    return {name: _read_time(attributes[name]) for name in ("time", "observed") if name in attributes}


def _read_time(text: str) -> Timestamp:
    found = Timestamp()
    found.FromJsonString(text)
    return found


def _event(texts: Mapping[str, Any], times: Mapping[str, Timestamp], id_: str, type_: str) -> NormalizedEvent:
    try:
        return NormalizedEvent(
            id=id_,
            connection=texts["connection"],
            user=texts.get("user", ""),
            provider=texts["provider"],
            account=texts.get("account", ""),
            type=type_,
            change=Change[texts["change"].upper()],  # type: ignore[arg-type]  # the numbers are the same
            subject=texts.get("subject", ""),
            revision=int(texts["revision"]),
            version=texts.get("objectversion", ""),
            order=int(texts["objectorder"]) if "objectorder" in texts else None,
            occurred_at=None if "timefrom" in texts else times["time"],
            observed_at=times["observed"],
        )
    except KeyError as missing:
        raise ValueError(f"it has no attribute {missing} as ours have") from None
