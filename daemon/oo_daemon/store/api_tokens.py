"""Tokens of those who call the private API over TCP. Only hashes of them are kept."""

from __future__ import annotations

from dataclasses import dataclass, field

from oo_daemon.store.database import Database, Row

_COLUMNS = "name, hash, scopes, created_at, expires_at, last_used_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """What is known of a token."""

    name: str
    hash: bytes = field(repr=False)
    scopes: tuple[str, ...]
    created_at: int
    expires_at: int | None  #: None: it does not end by itself
    last_used_at: int | None = None  #: kept coarsely


def _value(row: Row) -> ApiToken:
    name, hash_, scopes, created_at, expires_at, last_used_at = row
    return ApiToken(
        name=name,
        hash=bytes(hash_),
        scopes=tuple(scopes.split()),
        created_at=created_at,
        expires_at=expires_at,
        last_used_at=last_used_at,
    )


def add(database: Database, token: ApiToken) -> bool:
    """Keep a new token; False: the name is taken."""
    rows = database.rows(
        f"INSERT INTO api_token ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, NULL) ON CONFLICT (name) DO NOTHING RETURNING name",
        (token.name, token.hash, " ".join(token.scopes), token.created_at, token.expires_at),
    )
    return bool(rows)


def by_hash(database: Database, hash_: bytes) -> ApiToken | None:
    """The token with this hash."""
    rows = database.rows(f"SELECT {_COLUMNS} FROM api_token WHERE hash = ?", (hash_,))
    return _value(rows[0]) if rows else None


def listed(database: Database) -> list[ApiToken]:
    """All tokens, oldest first."""
    return [_value(row) for row in database.rows(f"SELECT {_COLUMNS} FROM api_token ORDER BY created_at, name")]


def used(database: Database, name: str, now: int) -> None:
    """Note the use of a token."""
    database.rows("UPDATE api_token SET last_used_at = ? WHERE name = ?", (now, name))


def revoke(database: Database, name: str) -> ApiToken | None:
    """Forget a token, and give what it was; None: there is none of this name."""
    rows = database.rows(f"DELETE FROM api_token WHERE name = ? RETURNING {_COLUMNS}", (name,))
    return _value(rows[0]) if rows else None
