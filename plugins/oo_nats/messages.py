"""Messages: an event as it stands in the stream, and what its subject is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from oo_sdk import NormalizedEvent, cloudevents

#: What no token of a subject may hold.
_ODD: Final = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One event, ready to go."""

    id: str
    user: str  #: as in the subject
    subject: str
    headers: dict[str, str]
    body: bytes

    @property
    def size(self) -> int:
        """Bytes as the server counts them, and a little room for the headers that are added."""
        return len(self.body) + sum(len(name) + len(text) + 4 for name, text in self.headers.items()) + 256


def message(event: NormalizedEvent, prefix: str, key: bytes) -> Message:
    """An event as CloudEvents in binary mode, under its subject `{prefix}.{user}.{provider}.{type}`."""
    headers, body = cloudevents.as_binary(event)
    # A hash under a key: subjects are seen where contents are not.
    user = blake2b(event.user.encode(), key=key, digest_size=16).hexdigest() if event.user else "-"
    tokens = (_ODD.sub("_", token) or "-" for token in (event.provider, *event.type.split(".")))
    return Message(id=event.id, user=user, subject=".".join((prefix, user, *tokens)), headers=headers, body=body)
