"""What the private API answers: one Struct for each schema of `openapi.yaml`. Times are in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from msgspec import Struct

ConnectionState: TypeAlias = Literal["active", "needs_sign_in", "paused", "revoking", "disconnected", "erasing"]
TokenScope: TypeAlias = Literal["read", "connect", "act", "admin"]
Outcome: TypeAlias = Literal["done", "later", "signed_out", "failed", "stalled", "running"]
RunOutcome: TypeAlias = Literal["done", "later", "signed_out", "failed", "stalled", "lost", "running"]


class Status(Struct, frozen=True, kw_only=True):
    """What runs and how much it has."""

    version: str
    instance: str  #: random; another one after each start
    public_url: str
    database: str
    engine: str  #: SQLite or PostgreSQL, and its version
    connections: Mapping[str, int]  #: how many in each state
    unverified_sources: tuple[str, ...]  #: addresses that take everything from whoever knows them
    started_at: datetime


class Part(Struct, frozen=True, kw_only=True):
    """One part of the daemon, and how it is."""

    status: Literal["ok", "warning", "failing"]
    says: str  #: what is wrong and what to do


class Health(Struct, frozen=True, kw_only=True):
    """Every part; `not_ready` when one fails."""

    status: Literal["ok", "not_ready"]
    parts: Mapping[str, Part]


class ErasedPart(Struct, frozen=True, kw_only=True):
    """One connection that is being erased, and what its provider was told."""

    connection: str
    provider: str
    state: Literal["pending", "done"]
    revoked: Literal["pending", "fully", "partly", "unsupported", "failed"]
    reason: str  #: why it failed, or is tried again
    tried_at: datetime | None  #: when the provider was told, or that was last tried
    remains: str  #: what could not be revoked
    manual_url: str  #: where the person can end the rest


class UploadKind(Struct, frozen=True, kw_only=True):
    """What a file holds of one type of event."""

    records: int
    events: int  #: of them new; known at the end


class Upload(Struct, frozen=True, kw_only=True):
    """A file that somebody hands in, and its import."""

    id: str
    connection: str
    user: str
    provider: str
    account: str
    state: Literal["awaited", "queued", "running", "done", "failed", "cancelled"]
    reason: str  #: why it failed, for the person
    name: str  #: as the person calls the file
    size: int | None  #: bytes, once they are known
    received: int  #: bytes that are here
    done: int  #: bytes that were read
    records: int
    events: int  #: what of the records was new
    kinds: Mapping[str, UploadKind]  #: by type of event
    created_at: datetime
    began_at: datetime | None
    finished_at: datetime | None


class AwaitedUpload(Struct, frozen=True, kw_only=True):
    """An upload that is awaited from now on."""

    upload: Upload
    url: str  #: the page for the person; told once
    expires_at: datetime


class Erasure(Struct, frozen=True, kw_only=True):
    """What was asked to be forgotten, and how far that is."""

    id: str
    kind: Literal["user", "connection"]
    cause: Literal["asked", "withdrawn"]  #: asked for here, or the person took the access back at the provider
    state: Literal["running", "waiting", "done"]
    waits_for: str  #: whom or what, in words; empty where it does not wait
    connections: tuple[ErasedPart, ...]
    erased: Mapping[str, int]  #: rows, by table
    physical: Literal["pending", "done", "server"]  #: whether nothing of it is left in the file either; on a server that is its own affair
    consumers: Mapping[str, datetime | None]  #: who is to read the event that tells of it; when that was seen, None before
    created_at: datetime
    erased_at: datetime | None
    finished_at: datetime | None


class AuditEntry(Struct, frozen=True, kw_only=True):
    """Something that an administrator did, or asked for and was refused."""

    number: int
    at: datetime
    who: str  #: "uid 1000", "token prometheus"
    act: str  #: method and route
    about: str  #: "user NAME" or "connection ID"; a random id once that was erased
    status: int  #: what was answered


class AuditVerdict(Struct, frozen=True, kw_only=True):
    """What a look over the whole audit log found."""

    entries: int
    whole: bool
    says: str  #: what is wrong, and where
    head: str  #: the last link, to be kept elsewhere


class Backup(Struct, frozen=True, kw_only=True):
    """An encrypted copy of the database, checked when it was made."""

    name: str  #: of the file in `backup.folder`
    size: int  #: bytes
    made_at: datetime
    position: str  #: where the outbox ended


class BackupMaking(Struct, frozen=True, kw_only=True):
    """How far the backup is that is being made, in bytes; each is gone through several times."""

    done: int
    total: int


class Scope(Struct, frozen=True, kw_only=True):
    """One permission; its sentence continues "oO can"."""

    id: str
    sentence: str
    access: Literal["read", "write"]
    required: bool


class Stored(Struct, frozen=True, kw_only=True):
    """What is kept of the events of one name, and what for; nothing else of them is."""

    name: str  #: after the connector's id and a dot, their type; "*": all that have no entry of their own
    what: str  #: continues "oO keeps"
    purpose: str  #: continues "to"
    fields: tuple[str, ...]  #: of the payload


class SinkKind(Struct, frozen=True, kw_only=True):
    """A plugin that pushes events elsewhere."""

    id: str
    runs: tuple[str, ...]  #: under these names, those of its tables in the settings


class Sink(Struct, frozen=True, kw_only=True):
    """A sink under its name, as its table in the settings says."""

    name: str
    kind: str  #: empty where it is not known
    state: Literal["running", "waiting", "paused", "off"]
    reason: str  #: why it waits or does not run, or what is not as safe as it should be
    position: str
    lag: int  #: how many positions the outbox is ahead of it
    unread_since: datetime | None  #: when the oldest event came that it has still to take
    dead_letters: int


class ActionKind(Struct, frozen=True, kw_only=True):
    """One kind of change that a connector can make."""

    name: str
    sentence: str
    scope: str  #: what must have been granted for it; empty where nothing must
    arguments: Mapping[str, Any]  #: JSON Schema


class Plugin(Struct, frozen=True, kw_only=True):
    """One connector that was found, loaded or not; or a package that brings none."""

    id: str
    title: str
    name: str  #: of the plugin
    distribution: str
    version: str
    state: Literal["loaded", "quarantined", "disabled"]
    reason: str  #: why it is not loaded
    strikes: int  #: times within a day that it ended the daemon, or held it up
    scopes: tuple[Scope, ...]
    stores: tuple[Stored, ...]
    hosts: tuple[str, ...]
    actions: tuple[ActionKind, ...]
    sinks: tuple[SinkKind, ...]  #: of the whole package; with its first connector


class Registration(Struct, frozen=True, kw_only=True):
    """Our OAuth client at a provider, without its secrets."""

    id: str
    provider: str
    client_id: str
    redirect_uri: str  #: to be entered at the provider
    secrets: int  #: how many are kept
    webhook_url: str | None  #: to be entered at the provider, too; None where the connector takes no webhooks
    webhook_secrets: int  #: how many are kept
    webhook_reason: str  #: why all webhooks are refused
    created_at: datetime


class Token(Struct, frozen=True, kw_only=True):
    """What is known of a token for calls over TCP."""

    name: str
    scopes: tuple[TokenScope, ...]
    created_at: datetime
    expires_at: datetime | None  #: None when it does not end by itself
    last_used_at: datetime | None  #: to the minute


class CreatedToken(Token, frozen=True, kw_only=True):
    """A token that was just made."""

    token: str

    def __repr__(self) -> str:
        return f"CreatedToken(name={self.name!r}, token=…)"


class ConnectSession(Struct, frozen=True, kw_only=True):
    """A link by which one person connects one account."""

    id: str
    url: str
    expires_at: datetime


class Visit(Struct, frozen=True, kw_only=True):
    """A link by which a person opens their own page."""

    id: str
    url: str
    expires_at: datetime


class Code(Struct, frozen=True, kw_only=True):
    """A code that a person enters at the provider, and where."""

    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a provider answered, whatever its status."""

    status: int
    headers: Mapping[str, str]  #: names in lower case
    body: bytes = field(repr=False)


class ConnectProgress(Struct, frozen=True, kw_only=True):
    """How far the person has come."""

    id: str
    status: Literal["open", "begun", "pending", "connected", "denied", "failed", "expired"]
    reason: str
    label: str = ""  #: of the account that is asked about
    connection: str | None

    @property
    def ended(self) -> bool:
        """True when nothing more will happen."""
        return self.status not in ("open", "begun", "pending")


class Sync(Struct, frozen=True, kw_only=True):
    """How a sync went, or that it still runs."""

    outcome: Outcome
    detail: str
    events: int
    started_at: datetime | None  #: None while it waits for its turn
    finished_at: datetime | None  #: None while it runs


class Run(Struct, frozen=True, kw_only=True):
    """One sync, as the run log has it."""

    connection: str
    outcome: RunOutcome
    detail: str
    calls: int
    bytes: int
    pages: int
    events: int
    unreadable: int
    started_at: datetime
    finished_at: datetime | None  #: None while it runs
    next_sync_at: datetime | None


class Use(Struct, frozen=True, kw_only=True):
    """How often a connection's credential went to one host within one hour."""

    hour: datetime  #: its beginning
    host: str
    uses: int


class LastSync(Sync, frozen=True, kw_only=True):
    """The newest sync of a connection, which has started."""

    started_at: datetime


class Revocation(Struct, frozen=True, kw_only=True):
    """What became of a grant that was given back."""

    revoked: Literal["pending", "fully", "partly", "unsupported", "failed"]
    remains: str  #: what is left at the provider
    manual_url: str  #: where the person removes it by hand
    reason: str  #: why it failed or is tried again
    at: datetime | None  #: None while it is pending


class Timetable(Struct, frozen=True, kw_only=True):
    """When a connection is synced, where that was said for it alone: at an interval, or by the clocks of a zone."""

    every: float | None  #: seconds
    cron: str | None
    zone: str | None


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
    timetable: Timetable | None  #: None: it is synced as often as all
    next_sync_at: datetime | None
    last_sync: LastSync | None
    revocation: Revocation | None  #: None unless it is being disconnected or was
    created_at: datetime


class HeldScope(Struct, frozen=True, kw_only=True):
    """One permission of a connector, and whether this person gives it."""

    id: str
    sentence: str
    access: Literal["read", "write"]
    required: bool
    granted: bool


class CallsLeft(Struct, frozen=True, kw_only=True):
    """How much is left of what a provider allows: so many `calls` in so many `seconds`."""

    of: Literal["user", "client"]
    calls: int
    seconds: int
    left: int  #: may be made at once now
    at_once: int  #: and at most
    closed_until: datetime | None


class Subscription(Struct, frozen=True, kw_only=True):
    """What the provider was asked to push."""

    topic: str
    state: Literal["making", "standing", "ending", "ended"]
    renew_at: datetime | None
    expires_at: datetime | None


class Details(Struct, frozen=True, kw_only=True):
    """How a connection does."""

    cursor_at: datetime | None  #: when it last came to a place from which it can go on
    tries: int  #: syncs in a row that did not end well
    scopes: tuple[HeldScope, ...]
    budgets: tuple[CallsLeft, ...]
    subscriptions: tuple[Subscription, ...]
    runs: tuple[Run, ...]  #: the last syncs, newest first


class ActionResult(Struct, frozen=True, kw_only=True):
    """What an action has changed."""

    subject: str  #: the provider's id of what was changed or made
    detail: Mapping[str, Any]


class Action(Struct, frozen=True, kw_only=True):
    """One change at a provider, asked for and done once."""

    id: str
    key: str
    name: str
    connection: str
    state: Literal["queued", "done", "failed"]
    result: ActionResult | None  #: None unless it is done
    reason: str  #: why it failed or is tried again
    tries: int
    created_at: datetime
    finished_at: datetime | None


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


class Delivery(Struct, frozen=True, kw_only=True):
    """One webhook as it arrived, without its body."""

    id: str
    source: str
    provider: str
    delivery_id: str
    weak: bool  #: the id is a hash
    state: Literal["received", "done", "dead"]
    reason: str
    tries: int
    received_at: datetime
    next_try_at: datetime | None
    done_at: datetime | None
    age: float  #: seconds


class VaultKey(Struct, frozen=True, kw_only=True):
    """One key that seals credentials, by its id."""

    id: str
    state: Literal["seals", "opens", "dropped"]
    sealed: int  #: how many values it has sealed
    since: datetime | None


class Rotation(Struct, frozen=True, kw_only=True):
    """How far what is sealed has come to the newest key."""

    running: bool
    since: datetime | None  #: when it was begun, until it has ended; one that was cut off goes on by itself
    done: int
    total: int
    rate: float  #: values a second
    refused: int  #: values that their key does not open


class Vault(Struct, frozen=True, kw_only=True):
    """The keys, newest first, and the rotation."""

    source: str  #: where they are kept
    keys: tuple[VaultKey, ...]
    rotation: Rotation


class WholeDelivery(Delivery, frozen=True, kw_only=True):
    """One webhook as it arrived."""

    headers: Mapping[str, str]  #: those that are kept
    body: bytes | None  #: None where it was dropped

    def __repr__(self) -> str:
        return f"WholeDelivery(id={self.id!r}, body=…)"


class SourceSecret(Struct, frozen=True, kw_only=True):
    """How one secret of an address stands."""

    role: Literal["current", "next", "previous"]
    until: datetime | None  #: None while nothing ends it


class Source(Struct, frozen=True, kw_only=True):
    """An address that webhooks are posted to."""

    id: str
    provider: str
    connection: str | None  #: None where it serves all users of a registration
    scheme: str  #: empty where the connector declares one
    verified: bool  #: False: whoever knows the address is believed
    state: Literal["open", "waiting", "closed"]
    reason: str  #: why it refuses everything
    url: str
    secrets: tuple[SourceSecret, ...]
    created_at: datetime


class GivenSource(Source, frozen=True, kw_only=True):
    """An address, with the secret that its sender is to be told, or that the sender made."""

    secret: str | None

    def __repr__(self) -> str:
        return f"GivenSource(id={self.id!r}, secret=…)"


class Sample(Struct, frozen=True, kw_only=True):
    """A delivery as its sender would send it."""

    url: str
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return "Sample(…)"


class EventPage(Struct, frozen=True, kw_only=True):
    """A stretch of the outbox."""

    events: tuple[Event, ...]
    position: str  #: read on from here; it passes over events that did not match
    more: bool  #: another page can be read at once
    missing: int  #: events of this stretch that were erased or have expired


class Consumer(Struct, frozen=True, kw_only=True):
    """A named reader of the outbox, whose position the daemon keeps."""

    name: str
    state: Literal["free", "reads", "held", "restored"]
    position: str
    lag: int  #: how many positions the end of the outbox is ahead of it
    unread_since: datetime | None  #: when the oldest event came that it has still to read
    present_until: str | None  #: up to here it is given only what is still so
    user: str | None
    provider: str | None
    type: str | None
    tries: int  #: how often what comes next was given to it
    most_tries: int
    reason: str  #: why it failed last
    dead_letters: int


class Batch(Struct, frozen=True, kw_only=True):
    """Events that a consumer is given, until a moment; without a token there were none."""

    events: tuple[Event, ...]
    position: str  #: where the consumer is once all are done
    token: str | None
    until: datetime | None
    tries: int
    missing: int  #: events of this stretch that were erased or have expired


class DeadLetter(Struct, frozen=True, kw_only=True):
    """An event that a consumer was given too often."""

    position: str
    tries: int
    reason: str
    at: datetime
    event: Event | None  #: None when it was erased or has expired
