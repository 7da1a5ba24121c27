"""Sources: the addresses that webhooks are posted to. Their tokens and secrets are sealed before they come here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from oo_daemon.store.database import Database, Row
from oo_vault import Sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One address, of a registration (all users of a connector) or of a connection (a sender of one user's own)."""

    id: str  #: of a registration's source the registration's own
    provider: str
    registration: str | None
    connection: int | None
    token_hash: bytes
    sealed: Sealed  #: the token in the address, and the secrets that verify what comes
    secret_count: int
    enabled: bool
    created_at: int


def put(database: Database, source: Source) -> None:
    """Write a source. One that is there gets what is sealed anew, if the address is the same; another address changes nothing."""
    database.rows(
        "INSERT INTO source (id, provider, registration, connection, token_hash, key_id, sealed, secret_count, enabled, created_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET key_id = excluded.key_id, sealed = excluded.sealed, secret_count = excluded.secret_count "
        "WHERE source.token_hash = excluded.token_hash",
        (
            source.id,
            source.provider,
            source.registration,
            source.connection,
            source.token_hash,
            source.sealed.key_id,
            source.sealed.blob,
            source.secret_count,
            int(source.enabled),
            source.created_at,
        ),
    )


def enable(database: Database, id_: str, enabled: bool) -> None:
    """Open or close a source."""
    database.rows("UPDATE source SET enabled = ? WHERE id = ?", (int(enabled), id_))


def by_id(database: Database, id_: str) -> Source | None:
    """The source with this id."""
    found = _values(database.rows(f"{_SELECT} WHERE id = ?", (id_,)))
    return found[0] if found else None


def listed(database: Database) -> list[Source]:
    """All sources, oldest first."""
    return _values(database.rows(f"{_SELECT} ORDER BY created_at, id"))


_SELECT = "SELECT id, provider, registration, connection, token_hash, key_id, sealed, secret_count, enabled, created_at FROM source"


def _values(rows: Iterable[Row]) -> list[Source]:
    return [
        Source(
            id=id_,
            provider=provider,
            registration=registration,
            connection=connection,
            token_hash=bytes(token_hash),
            sealed=Sealed(key_id=key_id, blob=bytes(sealed)),
            secret_count=secret_count,
            enabled=bool(enabled),
            created_at=created_at,
        )
        for id_, provider, registration, connection, token_hash, key_id, sealed, secret_count, enabled, created_at in rows
    ]
