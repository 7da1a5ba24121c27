"""Sources: where webhooks are posted to, and what verifies them.

A registration's source serves all users of a connector; a connection's own serves one, and needs no sign-in. All sources are held in
memory, opened, so that a delivery costs one write and no read, and an address that does not exist costs neither. What changes them goes
through this object.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Protocol, TypeAlias, get_type_hints

import msgspec

from oo_daemon.connections import member, verify
from oo_daemon.connections.errors import Declined
from oo_daemon.connections.registration import Registrations
from oo_daemon.ports import SECOND, Chance, Clock
from oo_daemon.registry import Registry
from oo_daemon.store import connections, schedule, sources, subscriptions
from oo_daemon.store.accept import Batch, Draft
from oo_daemon.store.connections import Connection, SignedIn
from oo_daemon.store.database import Database
from oo_daemon.store.errors import Erased
from oo_daemon.store.registrations import Registration
from oo_daemon.store.sources import Source
from oo_daemon.store.storage import Lane, Storage
from oo_sdk import Address, FirstSecret, Hears, HmacScheme, NoScheme, Scheme, SignedScheme, TokenScheme
from oo_vault import Context, Keyring, Secret

TOKEN_BYTES = 32
#: Longest id of a sender's that is taken as it is.
LONGEST_ID = 200
#: Seconds for which the secret before the newest is still taken, unless somebody says otherwise.
KEEP_PREVIOUS = 86_400.0
#: What stands in where there is nothing to verify with, so that a refusal takes the same way whatever its cause.
_NO_SCHEME = HmacScheme(header="x-signature")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
#: What of a scheme nobody sets: it says how the sender behaves, not how it signs.
_FIXED = {"key", "ours", "handshake"}

_OFF, _ENDED = "it is switched off", "its connection does not work any more"
_ABSENT = "is not loaded, or takes no webhooks: see `oo plugins`"

Role: TypeAlias = Literal["current", "next", "previous"]
_ROLES: Sequence[Role] = ("current", "next", "previous")


class _Secret(msgspec.Struct):
    text: str
    role: Role = "current"
    until: int | None = None


class _Kept(msgspec.Struct):
    """What is sealed."""

    token: str
    secrets: list[_Secret]


class _Chosen(msgspec.Struct):
    """Which scheme a connection's source has, and what of it is changed."""

    name: str
    changes: dict[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key, for as long as it is taken."""

    material: bytes = field(repr=False)
    until: int | None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How one secret stands, without what it is."""

    role: Role
    until: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSource:
    """A source with what verifies its webhooks. `closed` says why it refuses everything; empty where it does not."""

    id: str
    provider: str
    connection: str | None  #: the id of the connection that it belongs to; None where it serves all users of a registration
    url: str = field(repr=False)
    token: str = field(repr=False)
    scheme: Scheme
    scheme_name: str  #: of a connection's source
    keys: tuple[Key, ...] = field(repr=False)
    roles: tuple[Standing, ...]  #: of its own secrets; a scheme may use the registration's instead
    closed: str
    absent: bool = False  #: closed since its connector is not loaded: that is our fault, and the sender may come again
    awaits_secret: bool = False  #: its sender's first body will bring the secret
    shown_secret: Secret | None = None  #: that its sender made, to be entered there
    created_at: int = 0
    kept_headers: tuple[str, ...] = field(init=False)  #: in small letters

    def __post_init__(self) -> None:
        """Look once for what each delivery needs."""
        object.__setattr__(self, "kept_headers", _kept_headers(self.scheme))

    @property
    def secret_count(self) -> int:
        """How many secrets of its own are kept."""
        return len(self.roles)

    def held(self, now: int) -> list[bytes]:
        """The keys that are taken now; a source that is closed has some too, which nobody knows."""
        return [key.material for key in self.keys if key.until is None or key.until > now]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants of a new source."""

    name: str
    user: str
    provider: str
    scheme: str  #: empty: the one that the connector declares
    changes: Mapping[str, Any]
    options: Mapping[str, Any]
    secret: Secret | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A source that was made or changed. `secret` is told now and never again; None where its sender knows it already."""

    source: OpenSource
    secret: Secret | None = field(repr=False)


class ConnectionEvent(Protocol):
    """Makes an event of ours about a connection."""

    def __call__(self, connection: Connection, what: str, at: int, **fields: str) -> Draft:
        """`connection.{what}`."""


class _Undeclared:
    """What stands for a scheme that could not be asked for."""


class Sources:
    """What can be done with sources."""

    def __init__(
        self,
        *,
        storage: Storage,
        keyring: Keyring,
        registry: Registry,
        registrations: Registrations,
        clock: Clock,
        chance: Chance,
        public_url: str,
        connection_event: ConnectionEvent | None = None,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        self._storage = storage
        self._keyring = keyring
        self._registry = registry
        self._registrations = registrations
        self._clock = clock
        self._chance = chance
        self._public_url = public_url
        self._connection_event = connection_event
        self._told = told
        self._changing = asyncio.Lock()
        self._loading = asyncio.Lock()
        self._by_hash: Mapping[bytes, OpenSource] = {}
        self._by_id: Mapping[str, OpenSource] = {}
        self._dummy = (Key(material=chance.token_bytes(TOKEN_BYTES), until=None),)
        self.nobody = OpenSource(
            id="",
            provider="",
            connection=None,
            url="",
            token="",
            scheme=_NO_SCHEME,
            scheme_name="",
            keys=self._dummy,
            roles=(),
            closed="there is no such source",
        )

    # --- looked at ---------------------------------------------------------------------------------------------------

    def at(self, token: str) -> OpenSource:
        """The source at an address; for an unknown one a source that refuses everything."""
        return self._by_hash.get(_hash(token), self.nobody)

    def of(self, registration: str) -> OpenSource | None:
        """The source of a registration; None where its connector hears nothing."""
        found = self._by_id.get(registration)
        return found if found is not None and found.connection is None else None

    def named(self, id_: str) -> OpenSource:
        """The source with this id. Raises `Declined`."""
        found = self._by_id.get(id_)
        if found is None:
            raise Declined("unknown_source", f"There is no source {id_}.", "See `oo source list`.")
        return found

    async def addresses(self, registration: str) -> Callable[[str], Address]:
        """What makes addresses of a registration's source, by their ids. Their secret is empty where it is the client's.

        Raises `Declined`.
        """
        source = self.named(registration)
        if source.closed:
            raise Declined("source_closed", f"The source {registration} refuses everything: {source.closed}.", "See `oo source list`.")
        known, scheme = await self._storage.read(sources.by_id, registration), source.scheme
        secret = ""
        if known is not None and scheme.key != "client_secret":
            secret = next((each.text for each in self._unseal(known).secrets if each.role == "current"), "")

        def address(id_: str) -> Address:
            own = isinstance(scheme, TokenScheme) and scheme.hash_of
            return Address(id=id_, url=source.url, secret=verify.keyed_hash(scheme, secret.encode(), id_) if own else secret)

        return address

    def listed(self) -> list[OpenSource]:
        """All sources, oldest first."""
        return [*self._by_id.values()]

    def closed(self) -> list[OpenSource]:
        """Those that refuse everything, and should not."""
        return [source for source in self._by_id.values() if source.closed and not source.awaits_secret]

    def unverified(self) -> list[str]:
        """The ids of those that take everything from whoever knows the address."""
        return [source.id for source in self._by_id.values() if isinstance(source.scheme, NoScheme) and not source.closed]

    def refusing(self) -> list[str]:
        """The ids of those that refuse everything, and should not."""
        return [source.id for source in self.closed() if source.closed not in {_OFF, _ENDED}]

    def check(self, provider: str, secrets: Sequence[Secret], id_: str | None = None) -> None:
        """Refuse webhook secrets that can be of no use, and an id that a connection's source has. Raises `Declined`."""
        if secrets and self._declared(provider) is None:
            raise Declined("no_webhooks", f"The connector {provider} takes no webhooks.", "Leave the webhook secret out.")
        for secret in secrets:
            _check_secret(secret)
        taken = self._by_id.get(id_ or provider)
        if taken is not None and taken.connection is not None:
            raise Declined("source_exists", f"The id {id_ or provider} is that of a source.", "Choose another id with --id.")

    # --- changed -----------------------------------------------------------------------------------------------------

    async def keep(self, registration: Registration, secrets: Sequence[Secret] | None = None) -> None:
        """Give a registration its source, if its connector hears. With `secrets` these verify from now on; None: those that were there."""
        if self._declared(registration.provider) is not None:
            async with self._changing:
                await self._put(registration, secrets)
            if secrets is not None:
                await self._storage.write(subscriptions.renew_all, registration.id, self._clock.now())
        await self.changed()

    async def prepare(self) -> None:
        """Give every registration its source, and open them all: for the start."""
        known = {source.id for source in await self._storage.read(sources.listed)}
        for registration in await self._registrations.listed():
            if registration.id not in known and self._declared(registration.provider) is not None:
                await self._put(registration, None)
        await self.load()

    async def add(self, wanted: Wanted) -> Given:
        """Make a connection that needs no sign-in, with an address of its own. Raises `Declined`."""
        if self._connection_event is None:
            raise AssertionError("connections are made where there are events to tell of them")
        connection_event = self._connection_event
        if not _NAME.fullmatch(wanted.name):
            raise Declined("source_id", f"{wanted.name!r} is no id for a source.", "Use lower-case letters, digits, - and _.")
        meta = self._options(wanted)
        scheme = self._scheme(wanted.provider, _Chosen(wanted.scheme, dict(wanted.changes)))
        secret, told = self._first(scheme, wanted.secret)
        kept = _Kept(token=self._token(), secrets=[] if secret is None else [_Secret(secret.reveal())])
        _check_keys(scheme, secret)
        new_id, now = self._chance.token_bytes(16).hex(), self._clock.now()
        chosen = msgspec.json.encode(_Chosen(wanted.scheme, dict(wanted.changes))).decode()

        def prepare(database: Database) -> Batch:
            there = connections.of(database, wanted.user, wanted.provider, wanted.name)
            if there is not None and there.state == "active":
                raise Declined("source_exists", f"There is a source {wanted.name} already.", "Choose another name, or rotate its secret.")
            signed_in = SignedIn(
                id=new_id,
                user=wanted.user,
                provider=wanted.provider,
                account=wanted.name,
                registration=None,
                provider_account="",
                label=wanted.name,
                scopes=(),
                meta=meta,
            )
            connection = connections.put(database, signed_in, now)
            schedule.create(database, connection.number, None)
            source = self._row(wanted.name, wanted.provider, kept, connection=connection.number, scheme=chosen)
            if not sources.give(database, source):
                raise Declined("source_exists", f"There is a source {wanted.name} already.", "Choose another name.")
            what = "connected" if connection.version == 1 else "recovered"
            return Batch(connection=connection, observed_at=now, drafts=[connection_event(connection, what, now)])

        async with self._changing:
            await self._storage.accept(prepare, Lane.INGEST)
        await self.changed()
        return Given(source=self.named(wanted.name), secret=told)

    async def rotate(self, id_: str, secret: Secret | None, *, keep: float = KEEP_PREVIOUS, staged: bool = False) -> Given:
        """Give a source a new secret; the one it had is taken for `keep` seconds more.

        `staged`: it is taken from now on, and the one it had stays the current one until the next rotation without a secret.
        Raises `Declined`.
        """
        source = self.named(id_)
        if isinstance(source.scheme, NoScheme) or source.scheme.key == "client_secret":
            raise Declined("no_secret", f"The source {id_} has no secret of its own.", "Give the registration a new client secret instead.")
        if secret is not None:
            _check_secret(secret)
        async with self._changing:
            known = await self._storage.read(sources.by_id, id_)
            if known is None:
                raise Declined("unknown_source", f"There is no source {id_}.", "See `oo source list`.")
            kept, now = self._unseal(known), self._clock.now()
            waiting = next((each for each in kept.secrets if each.role == "next"), None)
            told: Secret | None = None
            if secret is None and waiting is not None and not staged:
                fresh = waiting.text
            else:
                made, told = self._first(source.scheme, secret)
                if made is None:
                    raise Declined("secret_needed", f"The sender of {id_} makes the secret.", "Copy it from there and give it.")
                _check_keys(source.scheme, made)
                fresh = made.reveal()
            kept.secrets = rotated(kept.secrets, fresh, now=now, until=now + int(keep * SECOND), staged=staged)
            await self._reseal(known, kept)
            if known.registration is not None and not staged:
                await self._storage.write(subscriptions.renew_all, known.registration, now)
        await self.changed()
        return Given(source=self.named(id_), secret=told)

    async def take_first(self, source: OpenSource, text: str) -> None:
        """Keep the secret that a sender's first body brought, unless there is one. Raises `Erased`."""
        async with self._changing:
            known = await self._storage.read(sources.by_id, source.id)
            if known is None:
                raise Erased("the source is gone")
            kept = self._unseal(known)
            if kept.secrets:
                return
            kept.secrets = [_Secret(text)]
            await self._reseal(known, kept)
        await self.changed()

    async def enable(self, id_: str, enabled: bool) -> None:
        """Open or close a source."""
        await self._storage.write(sources.enable, id_, enabled)
        await self.changed()

    async def changed(self) -> None:
        """Open all anew, and have other daemons do so."""
        await self.load()
        self._told()

    async def load(self) -> None:
        """Open all sources anew."""
        async with self._loading:  # else an older state could replace a newer one
            opened = {source.token_hash: await self._open(source) for source in await self._storage.read(sources.listed)}
            self._by_hash = opened
            self._by_id = {source.id: source for source in opened.values()}

    async def sample(self, id_: str, body: bytes) -> dict[str, str]:
        """The headers with which a source's sender would send this body now, under an id that nobody else uses. Raises `Declined`."""
        source = self.named(id_)
        if source.closed:
            raise Declined("source_closed", f"The source {id_} refuses everything: {source.closed}.", "See `oo source list`.")
        known = await self._storage.read(sources.by_id, id_)
        held = self._unseal(known).secrets if known else []
        secrets = [Secret(each.text) for each in sorted(held, key=lambda each: _ROLES.index(each.role))]
        if known is not None and source.scheme.key == "client_secret":
            secrets = await self._client_secrets(known)
        name = f"test-{self._chance.token_bytes(8).hex()}"
        secret = secrets[0] if secrets else Secret("")
        headers = verify.sign(source.scheme, secret, id_=name, sent_at=self._clock.now(), body=body)
        if headers is None:
            raise Declined("cannot_sign", f"Only the sender of {id_} can sign for it.", "Send a test from there.")
        return {"Content-Type": "application/json", **headers}

    # --- inside ------------------------------------------------------------------------------------------------------

    def _declared(self, provider: str) -> object:
        """The scheme that a connector declares, if it is one; None where it hears nothing."""
        connector = self._registry.connectors.get(provider)
        try:
            return connector.webhooks if isinstance(connector, Hears) else None
        except Exception:  # a guest's property: whatever it raises, the other sources stay open
            return _Undeclared

    def _options(self, wanted: Wanted) -> dict[str, Any]:
        """What the connector is told of this source, checked by the connector's own shape."""
        connector = self._registry.connectors.get(wanted.provider)
        if connector is None:
            raise Declined("unknown_provider", f"There is no connector {wanted.provider}.", "See `oo plugins` for those there are.")
        if connector.auth is not None or not isinstance(connector, Hears):
            raise Declined("no_source", f"{connector.title or connector.id} needs a sign-in.", f"Use `oo connect {connector.id}`.")
        known = {item.encode_name for item in msgspec.structs.fields(connector.Options)}
        if unknown := sorted(set(wanted.options) - known):
            raise Declined("options", f"{connector.title or connector.id} has no option {unknown[0]}.", f"Use some of {sorted(known)}.")
        try:
            options = msgspec.convert(dict(wanted.options), connector.Options)
        except msgspec.ValidationError as wrong:
            raise Declined("options", f"The options do not fit: {wrong}.", "Correct them.") from None
        return {"scheme": wanted.scheme, "options": msgspec.to_builtins(options)}

    def _scheme(self, provider: str, chosen: _Chosen) -> Scheme:
        """The scheme that was chosen. Raises `Declined`."""
        scheme = self._registry.schemes.get(chosen.name) if chosen.name else self._declared(provider)
        if chosen.name and scheme is None:
            known = ", ".join(self._registry.schemes)
            raise Declined("unknown_scheme", f"There is no scheme {chosen.name}.", f"Use one of {known}.")
        if scheme is None:
            raise Declined("scheme_needed", "It must be said how the sender proves itself.", "Name a scheme, or write none.")
        if not isinstance(scheme, Scheme):
            raise Declined("unknown_scheme", "The scheme is none that this version of oO knows.", "Update oO, or the plugin.")
        scheme = changed(scheme, chosen.changes)
        if not verify.usable(scheme):
            raise Declined("scheme", "The scheme as it is set makes no sense.", "See `oo source add --help`.")
        return scheme

    def _first(self, scheme: Scheme, secret: Secret | None) -> tuple[Secret | None, Secret | None]:
        """The secret to keep, and the one to tell."""
        if isinstance(scheme, NoScheme) or scheme.key == "client_secret":
            return None, None
        if secret is not None:
            _check_secret(secret)
            return secret, None
        if not scheme.ours:
            return None, None
        made = self._chance.token_bytes(TOKEN_BYTES)
        if isinstance(scheme, SignedScheme) and scheme.secret[0] == "base64":
            told = Secret(scheme.secret_prefix + base64.b64encode(made).decode())
        elif scheme.header.lower() == "authorization" and getattr(scheme, "encoding", "") == "base64":
            told = Secret(f"oo:{made.hex()}")  # HTTP Basic wants a name before the colon
        else:
            told = Secret(made.hex())
        return told, told

    async def _put(self, registration: Registration, secrets: Sequence[Secret] | None) -> None:
        known = await self._storage.read(sources.by_id, registration.id)
        kept = self._unseal(known) if known else _Kept(token=self._token(), secrets=[])
        if secrets is not None:
            kept.secrets = [_Secret(secret.reveal(), "previous" if place else "current") for place, secret in enumerate(secrets)]
        declared = self._declared(registration.provider)
        if known is None and not kept.secrets and isinstance(declared, Scheme) and declared.key == "webhook_secret":
            made, _ = self._first(declared, None)
            kept.secrets = [] if made is None else [_Secret(made.reveal())]
        await self._storage.write(sources.put, self._row(registration.id, registration.provider, kept, registration=registration.id))

    async def _reseal(self, known: Source, kept: _Kept) -> None:
        sealed = self._keyring.wrap(place(known.id, known.provider), msgspec.json.encode(kept))
        await self._storage.write(sources.put, msgspec.structs.replace(known, sealed=sealed, secret_count=len(kept.secrets)))

    def _row(
        self, id_: str, provider: str, kept: _Kept, *, registration: str | None = None, connection: int | None = None, scheme: str = ""
    ) -> Source:
        return Source(
            id=id_,
            provider=provider,
            registration=registration,
            connection=connection,
            token_hash=_hash(kept.token),
            sealed=self._keyring.wrap(place(id_, provider), msgspec.json.encode(kept)),
            secret_count=len(kept.secrets),
            scheme=scheme,
            enabled=True,
            created_at=self._clock.now(),
        )

    async def _open(self, source: Source) -> OpenSource:
        kept, chosen = self._unseal(source), msgspec.json.decode(source.scheme, type=_Chosen) if source.scheme else None
        scheme, keys, closed = self._opened(source, chosen)
        if not closed and not isinstance(scheme, NoScheme):
            secrets: list[tuple[Secret, int | None]]
            if scheme.key == "client_secret":
                secrets = [(secret, None) for secret in await self._client_secrets(source)]
            else:
                secrets = [(Secret(each.text), each.until) for each in sorted(kept.secrets, key=lambda each: _ROLES.index(each.role))]
            keys = [Key(material=key, until=until) for secret, until in secrets for key in verify.keys(scheme, secret)]
            if not keys:
                closed = _missing(scheme, source, bool(secrets))
        awaits = isinstance(scheme.handshake, FirstSecret) and not kept.secrets
        if not source.works:
            closed, awaits = _ENDED, False
        if not source.enabled:
            closed, awaits = _OFF, False
        shown = Secret(kept.secrets[0].text) if isinstance(scheme.handshake, FirstSecret) and kept.secrets else None
        return OpenSource(
            id=source.id,
            provider=source.provider,
            connection=source.connection_id,
            url=f"{self._public_url}/webhooks/{kept.token}",
            token=kept.token,
            scheme=scheme,
            scheme_name=chosen.name if chosen else "",
            keys=tuple(keys) or self._dummy,
            roles=tuple(Standing(role=each.role, until=each.until) for each in kept.secrets),
            closed=closed,
            absent=closed.endswith(_ABSENT),
            awaits_secret=awaits,
            shown_secret=shown,
            created_at=source.created_at,
        )

    def _opened(self, source: Source, chosen: _Chosen | None) -> tuple[Scheme, list[Key], str]:
        """Its scheme, or why there is none."""
        if chosen is not None and chosen.name:
            try:
                return self._scheme(source.provider, chosen), [], ""
            except Declined as declined:
                return _NO_SCHEME, [], f"its scheme cannot be used: {declined}"
        match self._declared(source.provider):
            case None:
                return _NO_SCHEME, [], f"the connector {source.provider} {_ABSENT}"
            case Scheme() as declared if verify.usable(declared) and not isinstance(declared, NoScheme):
                return declared, [], ""
            case _:
                why = f"the connector {source.provider} declares a scheme that this version of oO does not know: update one of the two"
                return _NO_SCHEME, [], why

    async def _client_secrets(self, source: Source) -> list[Secret]:
        try:
            return [*(await self._registrations.client(source.registration or "")).secrets]
        except Declined:
            return []

    def _unseal(self, source: Source) -> _Kept:
        return msgspec.json.decode(self._keyring.unwrap(place(source.id, source.provider), source.sealed), type=_Kept)

    def _token(self) -> str:
        return base64.urlsafe_b64encode(self._chance.token_bytes(TOKEN_BYTES)).rstrip(b"=").decode()


def rotated(kept: Sequence[_Secret], fresh: str, *, now: int, until: int, staged: bool) -> list[_Secret]:
    """The secrets after a rotation. Touches nothing: at most one current, one next, and those before that still have time."""
    living = [each for each in kept if (each.until is None or each.until > now) and each.role != "next" and each.text != fresh]
    if staged:
        return [*living, _Secret(fresh, "next")]
    ending = [_Secret(each.text, "previous", until if each.until is None else min(each.until, until)) for each in living]
    return [_Secret(fresh), *(each for each in ending if each.until is None or each.until > now)]


def changed(scheme: Scheme, changes: Mapping[str, Any]) -> Scheme:
    """A scheme with some of its fields set otherwise. Raises `Declined`."""
    hints, names = get_type_hints(type(scheme)), {item.name for item in fields(scheme)} - _FIXED
    set_: dict[str, Any] = {}
    for name, value in changes.items():
        if name not in names:
            raise Declined("scheme", f"The scheme has no field {name}.", f"Use some of {', '.join(sorted(names))}.")
        try:
            set_[name] = msgspec.convert(value, hints[name], strict=False)
        except msgspec.ValidationError as wrong:
            raise Declined("scheme", f"The scheme's {name} does not fit: {wrong}.", "Correct it.") from None
    return replace(scheme, **set_)


def _kept_headers(scheme: Scheme) -> tuple[str, ...]:
    stamp = scheme.stamp.header if isinstance(scheme, SignedScheme) and scheme.stamp is not None else ""
    names = dict.fromkeys(name.lower() for name in ("content-type", scheme.id_header, stamp, *scheme.keep) if name)
    names.pop(scheme.header.lower(), None)  # a signature is as good as the body it is for: never kept
    return tuple(names)


def sent_id(scheme: Scheme, headers: Mapping[str, str], body: bytes) -> str:
    """The id that a sender gives a delivery, if it can be used; header names in small letters."""
    given = headers.get(scheme.id_header.lower(), "") if scheme.id_header else ""
    if not given and scheme.id_member:
        given = member.text(body, scheme.id_member)
    return given if 0 < len(given) <= LONGEST_ID and given.isascii() and given.isprintable() else ""


def _missing(scheme: Scheme, source: Source, given: bool) -> str:
    if given:
        return "its secret makes no sense in its scheme: copy it from the sender again"
    if scheme.key == "client_secret":
        return "the registration has no client secret to verify webhooks with: add it again with one"
    if source.connection is None:
        return "there is no webhook secret to verify with: add the registration again with --webhook-secret-file"
    if isinstance(scheme.handshake, FirstSecret):
        return "it waits for its sender's first delivery, which brings the secret"
    return f"there is no secret to verify with: `oo source rotate {source.id} --secret-file FILE` gives it the sender's"


def _check_secret(secret: Secret) -> None:
    text = secret.reveal()
    if not (text.isprintable() and text == text.strip() != ""):
        raise Declined(
            "webhook_secret",
            "A webhook secret must not be empty, nor have blanks or line ends around it.",
            "Copy it from the provider again.",
        )


def _check_keys(scheme: Scheme, secret: Secret | None) -> None:
    if secret is not None and not verify.keys(scheme, secret):
        raise Declined("webhook_secret", "The secret makes no sense in this scheme.", "Copy it from the sender again.")


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def place(id_: str, provider: str) -> Context:
    """Where a source's address and secrets are sealed for."""
    return Context(purpose=f"source {id_}", provider=provider)
