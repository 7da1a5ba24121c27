"""The credential's row as the refresh protocol sees it, and the port through which it is kept.

Times are microseconds since 1970, UTC.
"""

import hashlib
from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from oo_vault.context import CREDENTIAL, Context
from oo_vault.grant import Grant
from oo_vault.keyring import Keyring, Sealed
from oo_vault.secret import Secret

State = Literal["good", "consent_soon", "dead", "verify"]
"""good; its refresh token is spent, so its access token is the last; the provider ended it; restored from a backup, so that
its refresh token may be spent."""


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A note, durable before the call, that a refresh token is about to be used; gone when the outcome is known."""

    digest: str  #: of the refresh token
    at: int  #: when it was first used
    tries: int  #: calls begun, this one included


class CredentialRow(msgspec.Struct, frozen=True, kw_only=True):
    """One credential as it is kept."""

    connection: str
    user: str
    provider: str
    account: str
    sealed: Sealed
    token_version: int  #: grows by one whenever the sealed grant is replaced, by a renewal or a new sign-in
    expires_at: int | None
    state: State = "good"
    intent: Intent | None = None
    lease_owner: str | None = None
    lease_until: int | None = None
    fence: int = 0  #: grows by one with every lease

    def context(self, token_version: int | None = None) -> Context:
        """Give the place its grant is sealed for, at this version or another."""
        return Context(
            purpose=CREDENTIAL,
            connection=self.connection,
            user=self.user,
            provider=self.provider,
            account=self.account,
            token_version=self.token_version if token_version is None else token_version,
        )

    def open(self, keyring: Keyring) -> Grant:
        """Open its grant."""
        return Grant.unpack(keyring.open(self.context(), self.sealed), token_version=self.token_version)


class Rows(Protocol):
    """Credential rows. Each call is one transaction, durable when it returns."""

    async def read(self, connection: str) -> CredentialRow:
        """Give the row, or raise `CredentialGone`."""

    async def lease(self, connection: str, owner: str, now: Callable[[], int], length: int) -> int | None:
        """Take the lease for so many microseconds and give its new fence; None while the lease of another owner stands.

        A lease stands while now < lease_until <= now + 2 * length. One that ends later was written before the clock was set back,
        and would stand for hours. `now` is asked where nobody else can write any more: a process that was stopped between its look
        at the clock and this call would take a lease that another got meanwhile for one of those. An owner takes its own lease
        again at once.
        """

    async def intend(self, connection: str, fence: int, intent: Intent) -> None:
        """Write the intent, or raise `LeaseLost`."""

    async def probe(self, connection: str, fence: int, size: int) -> None:
        """Write and sync this many bytes, to find a full disk while nothing is lost yet; or raise `LeaseLost`."""

    async def commit(
        self,
        connection: str,
        fence: int,
        expected_token_version: int,
        sealed: Sealed,
        expires_at: int | None,
        state: State,
    ) -> None:
        """Replace the grant, raise the version by one, clear the intent; end the lease if the fence is still its own.

        It compares the version alone and raises `VersionMoved` when that differs. A fence that has passed to another is no
        reason to refuse: these tokens exist once, and dropping them would lose the grant.
        """

    async def settle(self, connection: str, fence: int, *, intent: Intent | None, state: State | None = None) -> None:
        """End the lease without new tokens: leave this intent, and this state unless None; or raise `LeaseLost`."""


def digest(refresh_token: Secret) -> str:
    """Give the hash by which an intent names a refresh token. Unkeyed: such a token is random and long."""
    return hashlib.blake2b(refresh_token.reveal().encode("utf-8", "surrogatepass"), digest_size=16, person=b"oo intent 1").hexdigest()
