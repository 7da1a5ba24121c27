"""Registrations: our OAuth clients at providers. Their secrets are sealed before they come here."""

from __future__ import annotations

from dataclasses import dataclass, field

from oo_daemon.store.database import Database
from oo_daemon.store.models import RegistrationRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """Our client at a provider."""

    id: str
    provider: str
    client_id: str
    key_id: str
    secrets: bytes = field(repr=False)  #: sealed
    secret_count: int
    created_at: int


#: Read on every sync, so with a prepared statement.
_COLUMNS = "id, provider, client_id, key_id, secrets, secret_count, created_at"


def _found(database: Database, where: str, *values: str) -> list[Registration]:
    rows = database.rows(f"SELECT {_COLUMNS} FROM registration WHERE {where} ORDER BY created_at, id", values)
    return [
        Registration(
            id=id_,
            provider=provider,
            client_id=client_id,
            key_id=key_id,
            secrets=bytes(secrets),
            secret_count=secret_count,
            created_at=created_at,
        )
        for id_, provider, client_id, key_id, secrets, secret_count, created_at in rows
    ]


def put(database: Database, registration: Registration) -> None:
    """Write a registration; one with the same id gets the new client and secrets."""
    columns = {
        "provider": registration.provider,
        "client_id": registration.client_id,
        "key_id": registration.key_id,
        "secrets": registration.secrets,
        "secret_count": registration.secret_count,
    }
    RegistrationRow.insert(id=registration.id, created_at=registration.created_at, **columns).on_conflict(
        conflict_target=[RegistrationRow.id], update=columns
    ).execute(database)


def by_id(database: Database, id_: str) -> Registration | None:
    """The registration with this id."""
    return next(iter(_found(database, "id = ?", id_)), None)


def listed(database: Database, *, provider: str | None = None) -> list[Registration]:
    """All registrations, or those at a provider, oldest first."""
    return _found(database, "1 = 1") if provider is None else _found(database, "provider = ?", provider)
