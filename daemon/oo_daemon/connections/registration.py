"""Registrations: our OAuth clients at providers, with their secrets sealed by the ingress key."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from oo_daemon.connections.errors import Declined
from oo_daemon.connections.session import Client
from oo_daemon.ports import Clock
from oo_daemon.registry import Registry
from oo_daemon.store import registrations
from oo_daemon.store.registrations import Registration
from oo_daemon.store.storage import Storage
from oo_sdk import OAuth2
from oo_vault import Context, Keyring, Sealed, Secret

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Registrations:
    """What can be done with registrations."""

    def __init__(self, *, storage: Storage, keyring: Keyring, registry: Registry, clock: Clock, public_url: str) -> None:
        self._storage = storage
        self._keyring = keyring
        self._registry = registry
        self._clock = clock
        self._public_url = public_url

    async def add(self, provider: str, client_id: str, secrets: Sequence[Secret], id_: str | None = None) -> Registration:
        """Add a registration, or give one new secrets. Several secrets are tried in order. Raises `Declined`."""
        connector = self._registry.connectors.get(provider)
        if connector is None:
            raise Declined("unknown_provider", f"There is no connector {provider}.", "See `oo plugins` for those there are.")
        if not isinstance(connector.auth, OAuth2):
            why = "people enter a key of their own" if connector.auth else "there is nothing to sign in to"
            raise Declined("no_sign_in", f"{connector.title or provider} needs no registration: {why}.")
        id_ = id_ or provider
        if not _ID.fullmatch(id_):
            raise Declined("registration_id", f"{id_!r} is no id for a registration.", "Use lower-case letters, digits, - and _.")
        if not all(text.isprintable() and text == text.strip() != "" for text in (client_id, *(secret.reveal() for secret in secrets))):
            raise Declined(
                "client",
                "A registration's client id and its secrets must not be empty, nor have blanks or line ends around them.",
                "Copy them from the provider again.",
            )
        known = await self._storage.read(registrations.by_id, id_)
        if known is not None and known.provider != provider:
            raise Declined("registration_exists", f"The registration {id_} belongs to {known.provider}.", "Choose another id with --id.")
        sealed = self._keyring.wrap(place(id_, provider), msgspec.json.encode([secret.reveal() for secret in secrets]))
        registration = Registration(
            id=id_,
            provider=provider,
            client_id=client_id,
            key_id=sealed.key_id,
            secrets=sealed.blob,
            secret_count=len(secrets),
            created_at=known.created_at if known else self._clock.now(),
        )
        await self._storage.write(registrations.put, registration)
        return registration

    async def listed(self) -> list[Registration]:
        """All registrations, oldest first."""
        return await self._storage.read(registrations.listed)

    async def find(self, provider: str, id_: str | None) -> Registration:
        """The registration to sign in with at a provider: the one named, else the only one or the one named like it. Raises `Declined`."""
        there = await self._storage.read(registrations.listed, provider=provider)
        if id_ is not None:
            there = [registration for registration in there if registration.id == id_]
        elif len(there) > 1:
            there = [registration for registration in there if registration.id == provider] or there[:1]
        if not there:
            raise Declined(
                "no_registration",
                f"There is no registration {id_} at {provider}." if id_ else f"There is no registration at {provider} yet.",
                f"Add one: oo registration add {provider} --client-id …, with the redirect address {self.redirect_uri(id_ or provider)}",
            )
        return there[0]

    async def client(self, id_: str) -> Client:
        """Our client, opened. Raises `Declined` when it is gone."""
        registration = await self._storage.read(registrations.by_id, id_)
        if registration is None:
            raise Declined("no_registration", f"The registration {id_} is gone.", "Add it again: oo registration add")
        opened = self._keyring.unwrap(
            place(registration.id, registration.provider), Sealed(key_id=registration.key_id, blob=registration.secrets)
        )
        return Client(id=registration.client_id, secrets=[Secret(text) for text in msgspec.json.decode(opened, type=list[str])])

    def redirect_uri(self, id_: str) -> str:
        """The address that is to be registered at the provider: one for each registration."""
        return f"{self._public_url}/oauth/{id_}/callback"


def place(id_: str, provider: str) -> Context:
    """Where a registration's client secrets are sealed for."""
    return Context(purpose=f"client secrets of {id_}", provider=provider)
