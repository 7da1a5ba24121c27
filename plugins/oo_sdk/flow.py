"""Signing in: what `begin_oauth` and `finish_oauth` are given and give back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from oo_sdk.auth import ApiKey, OAuth2
from oo_sdk.session import Session


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where the person's browser goes next."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCredential:
    """What is known of a credential that the vault now holds: no token can be read from it.

    `account_id` is the provider's own id of the account; deliveries are routed and re-connections are compared by it. `label` is how the
    person knows the account, such as an e-mail address. `meta` is kept with the connection and given back in `Context.meta`.
    """

    scopes: frozenset[str]
    expires_in: int | None  #: seconds; None: it does not expire
    refreshable: bool
    claims: Mapping[str, str] = field(default_factory=dict)  #: what else the token endpoint said: strings, nothing secret
    account_id: str = ""
    label: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def of(self, account_id: str, *, label: str = "", meta: Mapping[str, Any] | None = None) -> StoredCredential:
        """The same credential, with the account it belongs to, and what the connector wants to know of the connection.

        `zone` in the meta is the person's own, such as "Europe/Berlin": the connection's timetable is then meant in it.
        """
        return replace(self, account_id=account_id, label=label, meta=dict(meta or {}))


class Flow(Protocol):
    """One sign-in under way."""

    @property
    def auth(self) -> OAuth2:
        """The connector's own declaration."""

    @property
    def client_id(self) -> str:
        """Our client at the provider."""

    @property
    def redirect_uri(self) -> str:
        """Where the provider sends the browser back to."""

    @property
    def state(self) -> str:
        """One-use proof that the answer belongs to this flow."""

    @property
    def challenge(self) -> str | None:
        """PKCE S256 challenge; None where the provider refuses PKCE."""

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes to ask for."""

    @property
    def http(self) -> Session:
        """A session; signed in after `exchange`."""

    async def exchange(self, code: str) -> StoredCredential:
        """Exchange the code for a credential that goes straight to the vault. Once only: never retried."""


class KeyFlow(Protocol):
    """A key that a person has just entered."""

    @property
    def auth(self) -> ApiKey:
        """The connector's own declaration."""

    @property
    def told(self) -> Mapping[str, str]:
        """What was entered into the fields that are not secret, by their ids."""

    @property
    def scopes(self) -> tuple[str, ...]:
        """What the person allows."""

    @property
    def http(self) -> Session:
        """A session that is signed with the key."""

    def stored(self) -> StoredCredential:
        """The key as a credential; say whose it is with `.of(…)`."""
