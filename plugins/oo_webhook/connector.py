"""The webhook connector: anything that can post becomes events, as its source's mapping says."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs

from oo_sdk import Change, Connector, ConnectorBug, Delivery, Event, News, Scheme, Stored, decode
from oo_sdk.vocabulary import Record
from oo_webhook.expression import pick
from oo_webhook.mapping import KNOWN, Mapping

#: The name of an event whose sender does not say what it is.
RECEIVED: Final = "received"
#: Longest name and longest subject, in characters.
LONGEST_NAME, LONGEST_SUBJECT = 120, 250
#: Deeper than this (levels of JSON) a protobuf Struct cannot be read again: it holds three messages for each level, and readers take 100.
DEEPEST: Final = 30
#: Above it a JSON number loses digits in a Struct, so it is kept as text.
EXACT: Final = 2**53
_MANY: Final = 10**11  #: a time above it is in milliseconds: in seconds it would be after the year 5000


class Webhook(Connector):
    """Knows no provider: each connection is one sender's address."""

    id = "webhook"
    title = "Webhooks"
    webhooks: Scheme | None = None  #: each source has its own
    # Which members of a body that is, the mapping of the source says: all of them, unless it names some.
    stores: Sequence[Stored] = (
        Stored("*", "what its sender posts, as far as the source's mapping takes it", "hand it on to those who read events", ("fields",)),
    )

    class Options(Mapping):
        """What its maker says of a source."""

    async def route(self, delivery: Delivery) -> Sequence[str]:
        """Not asked: each address has one connection."""
        raise ConnectorBug("a webhook's address belongs to one connection")

    async def read(self, delivery: Delivery) -> Sequence[News]:
        """One event for each delivery."""
        known = KNOWN.get(str(delivery.meta.get("scheme", "")), Mapping())
        said = delivery.meta.get("options", {})
        body = _body(delivery)
        document = {"body": body, "headers": dict(delivery.headers), "id": delivery.id}

        def text(which: str) -> str:
            return _text(pick(said.get(which) or getattr(known, which), document))

        payload, fields = Record(), said.get("fields") or known.fields
        whole = {name: pick(each, document) for name, each in fields.items()} if fields else body
        payload.fields.update(_plain(whole if isinstance(whole, dict) else {"value": whole}))
        return [
            Event(
                name_of(text("type")),
                _line(text("subject")) or delivery.id,
                Change.OCCURRED,
                at=time_of(pick(said.get("at") or known.at, document)),
                payload=payload,
                key=_line(text("id")) or delivery.id,
            )
        ]


def name_of(text: str) -> str:
    """An event's name made of what a sender calls it: small letters, digits and _, with dots between the parts."""
    parts = [re.sub(r"[^a-z0-9_]+", "_", part).strip("_") for part in re.split(r"[.:/]+", text.lower())]
    name = ".".join(part for part in parts if part)[:LONGEST_NAME].rstrip("._")
    if name and not name[0].isalpha():
        name = f"{RECEIVED}.{name}"
    return name or RECEIVED


def time_of(found: Any) -> datetime | None:
    """A time in one of the usual spellings; None for anything else, and where the zone is not said."""
    if isinstance(found, str):
        plain = found.strip()
        if not plain.isascii() or not plain.isdigit():
            try:
                read = datetime.fromisoformat(plain.replace(" UTC", "+00:00"))
            except ValueError:
                return None
            return read if read.tzinfo else None
        found = int(plain) if len(plain) < 17 else None
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    try:
        return datetime.fromtimestamp(found / 1000 if abs(found) >= _MANY else found, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _body(delivery: Delivery) -> Any:
    """The body decoded, as far as it can be; nothing of it is lost."""
    kind = delivery.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        found = parse_qs(delivery.body.decode(errors="replace"), keep_blank_values=True)
        if found:
            return {name: values[0] if len(values) == 1 else values for name, values in found.items()}
    if not delivery.body:
        return {}
    try:
        decoded = decode(delivery.body, object)
        if _depth(decoded) <= DEEPEST:
            return decoded
    except ConnectorBug:
        pass
    try:
        return {"text": delivery.body.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(delivery.body).decode()}


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())]
        depth += 1
    return depth


def _plain(value: Any) -> Any:
    """The same for a protobuf Struct."""
    match value:
        case dict():
            return {str(name): _plain(inner) for name, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case bool() | None | str():
            return value
        case int() if abs(value) > EXACT:
            return str(value)
        case int() | float():
            return value
    return str(value)


def _text(found: Any) -> str:
    if isinstance(found, bool) or found is None:
        return ""
    if isinstance(found, float) and found.is_integer():
        return str(int(found))
    return str(found) if isinstance(found, str | int | float) else ""


def _line(text: str) -> str:
    """A text as an event's subject: one line of what can be printed."""
    return "".join(char if char.isprintable() else " " for char in text).strip()[:LONGEST_SUBJECT]
