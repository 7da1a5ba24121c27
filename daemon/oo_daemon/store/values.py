"""What the store is given and gives, as values: for those, too, who have no database, such as the process that reads a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Literal, TypeAlias

import msgspec

State = Literal["active", "needs_sign_in", "paused", "revoking", "disconnected", "erasing"]


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """Who is linked to what. `number` is the store's own; `id` is random and what others see."""

    number: int
    id: str
    user: str
    provider: str
    account: str
    registration: str | None
    state: State
    reason: str  #: why it is not active, for people
    provider_account: str  #: the provider's own id of the account
    label: str  #: how the person knows the account
    scopes: tuple[str, ...]
    meta: Mapping[str, Any]
    created_at: int
    changed_at: int
    version: int


UPSERTED, DELETED, OCCURRED = 1, 2, 3
#: Bytes of a key among those of its type and day, the first of the event's id: of 10,000 in a day, two are equal in one of 4 x 10^11 days.
DAY_KEY = 8


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An event before it has a revision, an id and a position."""

    type: str
    key: str  #: what it is the same by, within connection and type
    subject: str  #: the provider's id of the thing; the key, where it can change
    change: int
    digest: bytes  #: of change and payload: an equal one is no change
    at: int | None = None  #: when it happened, as the provider says
    version: str = ""
    order: int | None = None
    payload_type: str = ""  #: type URL
    payload: bytes = b""
    keep_key_until: int | None = None  #: for OCCURRED; None: as long as the connection lives


#: (draft, event id, revision) → the event as bytes.
Encoded: TypeAlias = Callable[[Draft, str, int], bytes]


class Day(msgspec.Struct, array_like=True):
    """What occurred on one day, of one type, by the thousand, as in an import: known by keys that lie together.

    The day follows from what occurred, and is always the same. Since what occurred has one revision, its events are bytes already.
    """

    type: str
    day: int  #: since 1970
    keys: bytes  #: `DAY_KEY` of each
    events: list[bytes]


def event_id(connection: str, type_: str, key: str, revision: int) -> str:
    """The id of an event: the same data twice gives the same id, on any machine, for as long as the connection lives."""
    hasher, data = _begun(connection, type_).copy(), key.encode()
    hasher.update(b"%b%b%b" % (len(data).to_bytes(4), data, _FIRST if revision == 1 else _with_length(str(revision))))
    return hasher.hexdigest()


def event_ids(connection: str, type_: str) -> blake2b:
    """What the ids of all events of a type begin with."""
    return blake2b(_with_length(connection) + _with_length(type_), digest_size=16)


_begun = lru_cache(maxsize=64)(event_ids)


def _with_length(part: str) -> bytes:
    data = part.encode()
    return len(data).to_bytes(4) + data


#: As most are.
_FIRST = _with_length("1")


def tombstone_digest() -> bytes:
    """The digest of every deletion: one deletion after another is no change."""
    return blake2b(bytes([DELETED]), digest_size=16).digest()
