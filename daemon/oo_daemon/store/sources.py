"""Sources: the addresses that webhooks are posted to. Their tokens and secrets are sealed before they come here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from oo_daemon.store.database import Database, Row
from oo_vault import Sealed


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One address, of a registration (all users of a connector) or of a connection (a sender of one user's own)."""

    id: str  #: of a registration's source the registration's own
    provider: str
    registration: str | None
    connection: int | None
    token_hash: bytes
    sealed: Sealed  #: the token in the address, and the secrets that verify what comes
    secret_count: int
    scheme: str = ""  #: JSON: which scheme, and what of it is changed; empty where the connector declares one
    enabled: bool
    created_at: int
    works: bool = True  #: read only: its connection works, where it has one
    connection_id: str | None = None  #: read only: the random id of its connection


def put(database: Database, source: Source) -> None:
    """Write a source. One that is there gets what is sealed anew, if the address is the same; another address changes nothing."""
    database.rows(
        f"{_INSERT} ON CONFLICT (id) DO UPDATE SET key_id = excluded.key_id, sealed = excluded.sealed, "
        "secret_count = excluded.secret_count WHERE source.token_hash = excluded.token_hash",
        _row(source),
    )


def give(database: Database, source: Source) -> bool:
    """Write the source of a connection, or give the one it had another address and scheme; False: the id belongs to something else."""
    rows = database.rows(
        f"{_INSERT} ON CONFLICT (id) DO UPDATE SET token_hash = excluded.token_hash, key_id = excluded.key_id, "
        "sealed = excluded.sealed, secret_count = excluded.secret_count, scheme = excluded.scheme, enabled = 1 "
        "WHERE source.connection = excluded.connection RETURNING id",
        _row(source),
    )
    return bool(rows)


def _row(source: Source) -> tuple[Any, ...]:
    return (
        source.id,
        source.provider,
        source.registration,
        source.connection,
        source.token_hash,
        source.sealed.key_id,
        source.sealed.blob,
        source.secret_count,
        source.scheme,
        int(source.enabled),
        source.created_at,
    )


def enable(database: Database, id_: str, enabled: bool) -> None:
    """Open or close a source."""
    database.rows("UPDATE source SET enabled = ? WHERE id = ?", (int(enabled), id_))


def by_id(database: Database, id_: str) -> Source | None:
    """The source with this id."""
    found = _values(database.rows(f"{_SELECT} WHERE source.id = ?", (id_,)))
    return found[0] if found else None


def listed(database: Database) -> list[Source]:
    """All sources, oldest first."""
    return _values(database.rows(f"{_SELECT} ORDER BY source.created_at, source.id"))


_COLUMNS = "id, provider, registration, connection, token_hash, key_id, sealed, secret_count, scheme, enabled, created_at"
_INSERT = f"INSERT INTO source ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SELECT = (
    f"SELECT {_COLUMNS}, COALESCE((SELECT CASE WHEN state = 'active' THEN 1 ELSE 0 END FROM connection "
    "WHERE number = source.connection), 1), (SELECT id FROM connection WHERE number = source.connection) FROM source"
)


def _values(rows: Iterable[Row]) -> list[Source]:
    return [_value(row) for row in rows]


def _value(row: Row) -> Source:
    id_, provider, registration, connection, token_hash, key_id, sealed, secret_count, scheme, enabled, created_at, works, connection_id = (
        row
    )
    return Source(
        id=id_,
        provider=provider,
        registration=registration,
        connection=connection,
        token_hash=bytes(token_hash),
        sealed=Sealed(key_id=key_id, blob=bytes(sealed)),
        secret_count=secret_count,
        scheme=scheme,
        enabled=bool(enabled),
        created_at=created_at,
        works=bool(works),
        connection_id=connection_id,
    )
