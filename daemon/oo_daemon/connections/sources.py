"""Sources: where a connector's webhooks are posted to, and what verifies them.

All sources are held in memory, opened, so that a delivery costs one write and no read, and an address that does not exist costs neither.
What changes them goes through this object.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from oo_daemon.connections.errors import Declined
from oo_daemon.connections.registration import Registrations
from oo_daemon.ports import Chance, Clock
from oo_daemon.registry import Registry
from oo_daemon.store import sources
from oo_daemon.store.registrations import Registration
from oo_daemon.store.sources import Source
from oo_daemon.store.storage import Storage
from oo_sdk import Hears, HmacScheme
from oo_vault import Context, Keyring, Secret

TOKEN_BYTES = 32
#: What stands in where there is nothing to verify with, so that a refusal takes the same way whatever its cause.
_NO_SCHEME = HmacScheme(header="x-signature")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSource:
    """A source with what verifies its webhooks. `closed` says why it refuses everything; empty where it does not."""

    id: str
    provider: str
    url: str = field(repr=False)
    scheme: HmacScheme
    secrets: Sequence[Secret] = field(repr=False)
    secret_count: int  #: of its own; a scheme may use the registration's instead
    closed: str


class _Kept(msgspec.Struct):
    """What is sealed."""

    token: str
    secrets: list[str]


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
    ) -> None:
        self._storage = storage
        self._keyring = keyring
        self._registry = registry
        self._registrations = registrations
        self._clock = clock
        self._chance = chance
        self._public_url = public_url
        self._loading = asyncio.Lock()
        self._by_hash: Mapping[bytes, OpenSource] = {}
        self._by_id: Mapping[str, OpenSource] = {}
        self._nobody = OpenSource(
            id="",
            provider="",
            url="",
            scheme=_NO_SCHEME,
            secrets=[Secret(chance.token_bytes(TOKEN_BYTES).hex())],
            secret_count=0,
            closed="there is no such source",
        )

    def at(self, token: str) -> OpenSource:
        """The source at an address; for an unknown one a source that refuses everything."""
        return self._by_hash.get(_hash(token), self._nobody)

    def of(self, registration: str) -> OpenSource | None:
        """The source of a registration; None where its connector hears nothing."""
        return self._by_id.get(registration)

    def closed(self) -> list[OpenSource]:
        """Those that refuse everything, and should not."""
        return [source for source in self._by_id.values() if source.closed]

    def check(self, provider: str, secrets: Sequence[Secret]) -> None:
        """Refuse webhook secrets that can be of no use. Raises `Declined`."""
        if secrets and self._declared(provider) is None:
            raise Declined("no_webhooks", f"The connector {provider} takes no webhooks.", "Leave the webhook secret out.")
        if not all(text.isprintable() and text == text.strip() != "" for text in (secret.reveal() for secret in secrets)):
            raise Declined(
                "webhook_secret",
                "A webhook secret must not be empty, nor have blanks or line ends around it.",
                "Copy it from the provider again.",
            )

    async def keep(self, registration: Registration, secrets: Sequence[Secret] | None = None) -> None:
        """Give a registration its source, if its connector hears. With `secrets` these verify from now on; None: those that were there."""
        if self._declared(registration.provider) is not None:
            await self._put(registration, secrets)
        await self.load()

    async def prepare(self) -> None:
        """Give every registration its source, and open them all: for the start."""
        known = {source.id for source in await self._storage.read(sources.listed)}
        for registration in await self._registrations.listed():
            if registration.id not in known and self._declared(registration.provider) is not None:
                await self._put(registration, None)
        await self.load()

    async def enable(self, id_: str, enabled: bool) -> None:
        """Open or close a source."""
        await self._storage.write(sources.enable, id_, enabled)
        await self.load()

    async def load(self) -> None:
        """Open all sources anew."""
        async with self._loading:  # else an older state could replace a newer one
            opened = {source.token_hash: await self._open(source) for source in await self._storage.read(sources.listed)}
            self._by_hash = opened
            self._by_id = {source.id: source for source in opened.values()}

    def _declared(self, provider: str) -> object:
        """The scheme that a connector declares, if it is one; None where it hears nothing."""
        connector = self._registry.connectors.get(provider)
        try:
            return connector.webhooks if isinstance(connector, Hears) else None
        except Exception:  # a guest's property: whatever it raises, the other sources stay open
            return _Undeclared

    async def _put(self, registration: Registration, secrets: Sequence[Secret] | None) -> None:
        known = await self._storage.read(sources.by_id, registration.id)
        kept = self._unseal(known) if known else _Kept(token=self._token(), secrets=[])
        if secrets is not None:
            kept.secrets = [secret.reveal() for secret in secrets]
        await self._storage.write(
            sources.put,
            Source(
                id=registration.id,
                provider=registration.provider,
                registration=registration.id,
                connection=None,
                token_hash=_hash(kept.token),
                sealed=self._keyring.wrap(place(registration.id, registration.provider), msgspec.json.encode(kept)),
                secret_count=len(kept.secrets),
                enabled=True,
                created_at=self._clock.now(),
            ),
        )

    async def _open(self, source: Source) -> OpenSource:
        kept = self._unseal(source)
        scheme, secrets, closed = _NO_SCHEME, [Secret(text) for text in kept.secrets], ""
        match self._declared(source.provider):
            case None:
                closed = f"the connector {source.provider} is not loaded, or takes no webhooks: see `oo plugins`"
            case HmacScheme() as declared if _known(declared):
                scheme = declared
                if scheme.key == "client_secret":
                    secrets = await self._client_secrets(source)
                if not secrets:
                    closed = _MISSING[scheme.key]
            case _:
                closed = f"the connector {source.provider} declares a scheme that this version of oO does not know: update one of the two"
        if not source.enabled:
            closed = "it is switched off"
        return OpenSource(
            id=source.id,
            provider=source.provider,
            url=f"{self._public_url}/webhooks/{kept.token}",
            scheme=scheme,
            secrets=secrets or self._nobody.secrets,
            secret_count=source.secret_count,
            closed=closed,
        )

    async def _client_secrets(self, source: Source) -> list[Secret]:
        try:
            return [*(await self._registrations.client(source.registration or "")).secrets]
        except Declined:
            return []

    def _unseal(self, source: Source) -> _Kept:
        return msgspec.json.decode(self._keyring.unwrap(place(source.id, source.provider), source.sealed), type=_Kept)

    def _token(self) -> str:
        return base64.urlsafe_b64encode(self._chance.token_bytes(TOKEN_BYTES)).rstrip(b"=").decode()


_MISSING = {
    "client_secret": "the registration has no client secret to verify webhooks with: add it again with one",
    "webhook_secret": "there is no webhook secret to verify with: add the registration again with --webhook-secret-file",
}


def _known(scheme: HmacScheme) -> bool:
    """True where we can do what a scheme says: what a newer SDK may add must not be taken for something else."""
    known = scheme.key in _MISSING and scheme.algorithm == "sha256" and scheme.encoding in {"hex", "base64"}
    return known and scheme.header != ""


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def place(id_: str, provider: str) -> Context:
    """Where a source's address and secrets are sealed for."""
    return Context(purpose=f"source {id_}", provider=provider)
