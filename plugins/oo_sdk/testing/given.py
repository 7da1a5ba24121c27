"""What the daemon hands to a connector, as the tests have it."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from oo_sdk.auth import ApiKey, OAuth2
from oo_sdk.flow import StoredCredential
from oo_sdk.subscriptions import Address
from oo_sdk.testing.session import TOLD, Played

STATE: Final = "canary-state-4711"
VERIFIER: Final = b"a-verifier-of-the-tests-that-is-long-enough-for-rfc-7636"


@dataclass(kw_only=True)
class Moment:
    """A clock that stands."""

    at: datetime

    def now(self) -> datetime:
        """The time at which it stands."""
        return self.at

    def monotonic(self) -> float:
        """The same in seconds."""
        return self.at.timestamp()

    async def sleep(self, seconds: float) -> None:
        """Let the time go by at once."""
        self.at += timedelta(seconds=seconds)


@dataclass(kw_only=True)
class Lines:
    """A log that keeps its lines."""

    lines: list[str] = field(default_factory=list)

    def info(self, event: str, **fields: Any) -> None:
        """Keep a line."""
        self.lines.append(f"{event} {fields}")

    debug = info
    warning = info


@dataclass(kw_only=True)
class SignIn:
    """One sign-in under way, whose exchange succeeds."""

    auth: OAuth2
    http: Played
    scopes: tuple[str, ...]
    client_id: str = "client-of-the-tests"
    redirect_uri: str = "https://oo.example/callback"
    state: str = STATE
    codes: list[str] = field(default_factory=list)

    @property
    def challenge(self) -> str | None:
        """RFC 7636, S256."""
        return urlsafe_b64encode(hashlib.sha256(VERIFIER).digest()).decode().rstrip("=") if self.auth.pkce else None

    async def exchange(self, code: str) -> StoredCredential:
        """Note the code."""
        self.codes.append(code)
        return StoredCredential(scopes=frozenset(self.scopes), expires_in=3600, refreshable=True)


@dataclass(kw_only=True)
class Entered:
    """A key that was just entered."""

    auth: ApiKey
    http: Played
    scopes: tuple[str, ...]

    @property
    def told(self) -> Mapping[str, str]:
        """The fields that are no secrets."""
        return {each.id: TOLD for each in self.auth.fields if not each.secret}

    def stored(self) -> StoredCredential:
        """As if it were sealed."""
        return StoredCredential(scopes=frozenset(self.scopes), expires_in=None, refreshable=False)


def id_of(number: int) -> str:
    """The id of one address of subscriptions."""
    return f"{number:032x}"


def secret_of(number: int) -> str:
    """Its secret."""
    return f"canary-secret-of-an-address-{number}"


def address_of(number: int, *, id_: str = "") -> Address:
    """The address itself; another id where one is given."""
    return Address(id=id_ or id_of(number), url="https://oo.example/webhooks/of-the-tests", secret=secret_of(number))
