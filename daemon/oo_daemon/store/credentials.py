"""Credentials: sealed rows, and the steps of the refresh protocol on them, each one transaction.

`CredentialRows` is the vault's port over these queries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from oo_daemon.store import connections
from oo_daemon.store.connections import Connection
from oo_daemon.store.database import Database
from oo_daemon.store.leases import taking
from oo_vault import CredentialGone, CredentialRow, Intent, LeaseLost, Sealed, VersionMoved
from oo_vault.credential import State

if TYPE_CHECKING:
    from oo_daemon.store.storage import Storage


def put(database: Database, connection: int, token_version: int, sealed: Sealed, expires_at: int | None) -> None:
    """Write a credential from a sign-in over whatever was there."""
    database.rows(
        "INSERT INTO credential (connection, key_id, sealed, token_version, expires_at, state, intent_tries, fence) "
        "VALUES (?, ?, ?, ?, ?, 'good', 0, 0) ON CONFLICT (connection) DO UPDATE SET key_id = excluded.key_id, sealed = excluded.sealed, "
        "token_version = excluded.token_version, expires_at = excluded.expires_at, state = 'good', intent_digest = NULL, intent_at = NULL, "
        "intent_tries = 0, reserve = NULL, lease_owner = NULL, lease_until = NULL, fence = credential.fence + 1",
        (connection, sealed.key_id, sealed.blob, token_version, expires_at),
    )


def token_version(database: Database, connection: int) -> int:
    """The version of the tokens that are there; 0: none."""
    rows = database.rows("SELECT token_version FROM credential WHERE connection = ?", (connection,))
    return int(rows[0][0]) if rows else 0


def delete(database: Database, connection: int) -> None:
    """Forget a credential."""
    database.rows("DELETE FROM credential WHERE connection = ?", (connection,))


def read(database: Database, connection: str) -> CredentialRow:
    """The row of a connection, by its random id. Raises `CredentialGone`."""
    rows = database.rows(
        'SELECT c.id, c."user", c.provider, c.account, k.key_id, k.sealed, k.token_version, k.expires_at, k.state, k.intent_digest, '
        "k.intent_at, k.intent_tries, k.lease_owner, k.lease_until, k.fence "
        "FROM credential k JOIN connection c ON c.number = k.connection WHERE c.id = ?",
        (connection,),
    )
    if not rows:
        raise CredentialGone(connection)
    ((id_, user, provider, account, key_id, sealed, version, expires_at, state, digest, at, tries, owner, until, fence),) = rows
    return CredentialRow(
        connection=id_,
        user=user,
        provider=provider,
        account=account,
        sealed=Sealed(key_id=key_id, blob=bytes(sealed)),
        token_version=version,
        expires_at=expires_at,
        state=cast(State, state),
        intent=None if digest is None else Intent(digest=digest, at=at, tries=tries),
        lease_owner=owner,
        lease_until=until,
        fence=fence,
    )


def idle(database: Database, before: int, limit: int) -> list[Connection]:
    """Connections whose grant could be renewed and whose last access token ran out before this, the longest idle first."""
    rows = database.rows(
        "SELECT k.connection FROM credential k JOIN connection c ON c.number = k.connection WHERE k.expires_at < ? "
        "AND k.state IN ('good', 'verify') AND c.state IN ('active', 'paused') ORDER BY k.expires_at LIMIT ?",
        (before, limit),
    )
    return [found for (number,) in rows if (found := connections.by_number(database, number)) is not None]


_OF = "connection = (SELECT number FROM connection WHERE id = ?)"


def lease(database: Database, connection: str, owner: str, now: int, until: int) -> int | None:
    """Take the lease; None while another owner's stands (one that ends absurdly late was written before the clock was set back)."""
    rows = database.rows(
        f"UPDATE credential SET lease_owner = ?, lease_until = ?, fence = fence + 1 WHERE {_OF} "
        "AND (lease_owner IS NULL OR lease_owner = ? OR lease_until <= ? OR lease_until > ?) RETURNING fence",
        (owner, until, connection, owner, now, until + (until - now)),
    )
    return int(rows[0][0]) if rows else None


def _fenced(database: Database, connection: str, fence: int, change: str, values: tuple[Any, ...]) -> None:
    sql = f"UPDATE credential SET {change} WHERE {_OF} AND fence = ? AND lease_owner IS NOT NULL RETURNING fence"
    if not database.rows(sql, (*values, connection, fence)):
        raise LeaseLost(connection)


def intend(database: Database, connection: str, fence: int, intent: Intent) -> None:
    """Note that a refresh token is about to be used."""
    change = "intent_digest = ?, intent_at = ?, intent_tries = ?"
    _fenced(database, connection, fence, change, (intent.digest, intent.at, intent.tries))


def probe(database: Database, connection: str, fence: int, size: int) -> None:
    """Take the room that the new credential will need: a full disk shows before the provider rotates anything."""
    _fenced(database, connection, fence, "reserve = ?", (bytes(size),))


def commit(database: Database, connection: str, fence: int, expected: int, sealed: Sealed, expires_at: int | None, state: State) -> None:
    """Replace the credential if the version is still the expected one; end the lease if it is still ours."""
    rows = database.rows(
        "UPDATE credential SET key_id = ?, sealed = ?, token_version = token_version + 1, expires_at = ?, state = ?, intent_digest = NULL, "
        "intent_at = NULL, intent_tries = 0, reserve = NULL, lease_owner = CASE WHEN fence = ? THEN NULL ELSE lease_owner END, "
        f"lease_until = CASE WHEN fence = ? THEN NULL ELSE lease_until END WHERE {_OF} AND token_version = ? RETURNING fence",
        (sealed.key_id, sealed.blob, expires_at, state, fence, fence, connection, expected),
    )
    if not rows:
        raise VersionMoved(connection)


def settle(database: Database, connection: str, fence: int, intent: Intent | None, state: State | None) -> None:
    """End the lease without new tokens."""
    digest, at, tries = (None, None, 0) if intent is None else (intent.digest, intent.at, intent.tries)
    change = (
        "intent_digest = ?, intent_at = ?, intent_tries = ?, state = COALESCE(?, state), reserve = NULL, "
        "lease_owner = NULL, lease_until = NULL"
    )
    _fenced(database, connection, fence, change, (digest, at, tries, state))


def rescue(database: Database) -> None:
    """Free what any process held, as `schedule.rescue` does; what it intended stays noted."""
    database.rows("UPDATE credential SET lease_owner = NULL, lease_until = NULL WHERE lease_owner IS NOT NULL")


class CredentialRows:
    """The vault's port `Rows` over the store."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def read(self, connection: str) -> CredentialRow:
        """Give the row, or raise `CredentialGone`."""
        return await self._storage.read(read, connection)

    async def lease(self, connection: str, owner: str, now: Callable[[], int], length: int) -> int | None:
        """Take the lease and give its new fence; None while another owner's stands."""

        def take(database: Database) -> int | None:
            with taking(now, length) as (at, until):
                return lease(database, connection, owner, at, until)

        return await self._storage.write(take)

    async def intend(self, connection: str, fence: int, intent: Intent) -> None:
        """Write the intent, or raise `LeaseLost`."""
        await self._storage.write(intend, connection, fence, intent)

    async def probe(self, connection: str, fence: int, size: int) -> None:
        """Write and sync this many bytes, or raise `LeaseLost`."""
        await self._storage.write(probe, connection, fence, size)

    async def commit(
        self, connection: str, fence: int, expected_token_version: int, sealed: Sealed, expires_at: int | None, state: State
    ) -> None:
        """Replace the grant by compare-and-swap on the version, or raise `VersionMoved`."""
        await self._storage.write(commit, connection, fence, expected_token_version, sealed, expires_at, state)

    async def settle(self, connection: str, fence: int, *, intent: Intent | None, state: State | None = None) -> None:
        """End the lease without new tokens, or raise `LeaseLost`."""
        await self._storage.write(settle, connection, fence, intent, state)
