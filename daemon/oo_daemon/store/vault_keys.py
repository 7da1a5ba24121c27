"""The keys this database was ever sealed with, each with a known answer."""

from __future__ import annotations

import msgspec

from oo_daemon.store import sealed
from oo_daemon.store.database import Database
from oo_daemon.store.models import VaultKey
from oo_vault import Sealed


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A key that this database needs, and since when."""

    answer: Sealed
    created_at: int


def listed(database: Database) -> list[Known]:
    """The keys, oldest first."""
    rows = VaultKey.select().order_by(VaultKey.created_at, VaultKey.key_id).execute(database)
    return [Known(answer=Sealed(key_id=row.key_id, blob=bytes(row.known_answer)), created_at=row.created_at) for row in rows]


def add(database: Database, known_answer: Sealed, now: int) -> None:
    """Note that this key seals from now on."""
    row = VaultKey.insert(key_id=known_answer.key_id, known_answer=known_answer.blob, created_at=now)
    row.on_conflict_ignore().execute(database)  # another daemon starts with it, too


def rotation_begun(database: Database, key_id: str, now: int) -> None:
    """Note that everything is to be sealed with this key, unless that is noted already."""
    VaultKey.update(rotating_since=now).where((VaultKey.key_id == key_id) & VaultKey.rotating_since.is_null()).execute(database)


def rotation_ended(database: Database) -> None:
    """Note that nothing is left to seal anew."""
    VaultKey.update(rotating_since=None).where(VaultKey.rotating_since.is_null(False)).execute(database)


def rotating_since(database: Database) -> int | None:
    """When the rotation was begun that has not ended; None: there is none."""
    ((since,),) = database.rows("SELECT min(rotating_since) FROM vault_key")
    return None if since is None else int(since)


def drop(database: Database, key_id: str) -> int:
    """Need this key no more, unless something is still sealed with it. Gives how much is."""
    left = sealed.counted(database).get(key_id, 0)
    if left == 0:
        VaultKey.delete().where(VaultKey.key_id == key_id).execute(database)
    return left
