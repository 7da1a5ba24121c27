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


def _value(row: RegistrationRow) -> Registration:
    return Registration(
        id=row.id,
        provider=row.provider,
        client_id=row.client_id,
        key_id=row.key_id,
        secrets=bytes(row.secrets),
        secret_count=row.secret_count,
        created_at=row.created_at,
    )


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
    row = RegistrationRow.select().where(RegistrationRow.id == id_).first(database)
    return _value(row) if row else None


def listed(database: Database, *, provider: str | None = None) -> list[Registration]:
    """All registrations, or those at a provider, oldest first."""
    query = RegistrationRow.select().order_by(RegistrationRow.created_at, RegistrationRow.id)
    if provider is not None:
        query = query.where(RegistrationRow.provider == provider)
    return [_value(row) for row in query.execute(database)]
