"""What the private API answers: one Struct for each schema of `openapi.yaml`. Times are in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypeAlias

from msgspec import Struct

ConnectionState: TypeAlias = Literal["active", "needs_sign_in", "paused", "revoking", "disconnected"]
Outcome: TypeAlias = Literal["done", "later", "signed_out", "failed", "running"]


class Status(Struct, frozen=True, kw_only=True):
    """What runs and how much it has."""

    version: str
    instance: str  #: random; another one after each start
    public_url: str
    database: str
    sqlite: str
    connections: Mapping[str, int]  #: how many in each state
    started_at: datetime


class Scope(Struct, frozen=True, kw_only=True):
    """One permission; its sentence continues "oO can"."""

    id: str
    sentence: str
    access: Literal["read", "write"]
    required: bool


class Plugin(Struct, frozen=True, kw_only=True):
    """One connector that was found, loaded or not."""

    id: str
    title: str
    distribution: str
    version: str
    state: Literal["loaded", "quarantined", "disabled"]
    reason: str  #: why it is not loaded
    scopes: tuple[Scope, ...]
    hosts: tuple[str, ...]


class Registration(Struct, frozen=True, kw_only=True):
    """Our OAuth client at a provider, without its secrets."""

    id: str
    provider: str
    client_id: str
    redirect_uri: str  #: to be entered at the provider
    secrets: int  #: how many are kept
    created_at: datetime


class ConnectSession(Struct, frozen=True, kw_only=True):
    """A link by which one person connects one account."""

    id: str
    url: str
    expires_at: datetime


class ConnectProgress(Struct, frozen=True, kw_only=True):
    """How far the person has come."""

    id: str
    status: Literal["open", "begun", "connected", "denied", "failed", "expired"]
    reason: str
    connection: str | None

    @property
    def ended(self) -> bool:
        """True when nothing more will happen."""
        return self.status not in ("open", "begun")


class Sync(Struct, frozen=True, kw_only=True):
    """How a sync went, or that it still runs."""

    outcome: Outcome
    detail: str
    events: int
    started_at: datetime | None  #: None while it waits for its turn
    finished_at: datetime | None  #: None while it runs


class LastSync(Sync, frozen=True, kw_only=True):
    """The newest sync of a connection, which has started."""

    started_at: datetime


class Connection(Struct, frozen=True, kw_only=True):
    """One user's link to one provider."""

    id: str
    user: str
    provider: str
    account: str
    label: str  #: the account's name at the provider
    state: ConnectionState
    reason: str
    scopes: tuple[str, ...]
    meta: Mapping[str, Any]  #: `cursor` and what else the connector shows
    next_sync_at: datetime | None
    last_sync: LastSync | None
    created_at: datetime


class Event(Struct, frozen=True, kw_only=True):
    """One event of the outbox; de-duplicate by `id`, go on from `position`."""

    position: str
    id: str
    connection: str
    user: str
    provider: str
    account: str
    type: str
    change: Literal["upserted", "deleted", "occurred"]
    subject: str
    revision: int
    version: str
    order: int | None
    occurred_at: datetime | None
    observed_at: datetime
    payload: Mapping[str, Any] | None  #: protobuf's JSON of an Any


class EventPage(Struct, frozen=True, kw_only=True):
    """A stretch of the outbox."""

    events: tuple[Event, ...]
    position: str  #: read on from here; it passes over events that did not match
    more: bool  #: another page can be read at once
