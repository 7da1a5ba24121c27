"""The keys this database was ever sealed with, each with a known answer."""

from __future__ import annotations

from oo_daemon.store.database import Database
from oo_daemon.store.models import VaultKey
from oo_vault import Sealed


def listed(database: Database) -> list[Sealed]:
    """Known answers, oldest first."""
    rows = VaultKey.select().order_by(VaultKey.created_at, VaultKey.key_id).execute(database)
    return [Sealed(key_id=row.key_id, blob=bytes(row.known_answer)) for row in rows]


def add(database: Database, known_answer: Sealed, now: int) -> None:
    """Note that this key seals from now on."""
    VaultKey.insert(key_id=known_answer.key_id, known_answer=known_answer.blob, created_at=now).execute(database)
