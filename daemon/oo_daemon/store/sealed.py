"""Whatever is sealed, wherever it is kept: counted by key, and replaced by the same sealed with another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec

from oo_daemon.store.database import Database
from oo_vault import CREDENTIAL, Context, Sealed

#: Each table that holds something sealed.
TABLES = ("credential", "registration", "source", "flow")


#: A connection's number, id, user, provider and account; the key's id, what it sealed, and the token's version.
Row: TypeAlias = tuple[int, str, str, str, str, str, bytes, int]


class Old(msgspec.Struct, frozen=True, kw_only=True):
    """A credential that an older key sealed."""

    connection: int
    context: Context
    sealed: Sealed

    @classmethod
    def of(cls, row: Row) -> Old:
        """What a row says."""
        connection, id_, user, provider, account, key_id, blob, token_version = row
        context = Context(purpose=CREDENTIAL, connection=id_, user=user, provider=provider, account=account, token_version=token_version)
        return cls(connection=connection, context=context, sealed=Sealed(key_id=key_id, blob=bytes(blob)))


def counted(database: Database) -> dict[str, int]:
    """How many values each key has sealed. A sign-in before its button is pressed, and one that has ended, has nothing sealed."""
    counts: dict[str, int] = {}
    for table in TABLES:
        where = "WHERE sealed IS NOT NULL" if table == "flow" else ""
        for key_id, number in database.rows(f"SELECT key_id, count(*) FROM {table} {where} GROUP BY key_id"):
            counts[key_id] = counts.get(key_id, 0) + number
    return counts


def old_credentials(database: Database, newest: str, after: int, limit: int) -> list[Row]:
    """Credentials that another key than the newest sealed, from a connection's number on, as they come. `Old` says what each is."""
    return database.rows(
        'SELECT k.connection, c.id, c."user", c.provider, c.account, k.key_id, k.sealed, k.token_version FROM credential k '
        "JOIN connection c ON c.number = k.connection WHERE k.connection > ? AND k.key_id <> ? ORDER BY k.connection LIMIT ?",
        (after, newest, limit),
    )


def replace_credentials(database: Database, resealed: Iterable[tuple[Old, Sealed]]) -> None:
    """Put the newly sealed in place, each where nothing has changed since it was read: a renewal or a sign-in is newer than this."""
    database.many(
        "UPDATE credential SET key_id = ?, sealed = ? WHERE connection = ? AND key_id = ? AND token_version = ?",
        [(new.key_id, new.blob, old.connection, old.sealed.key_id, old.context.token_version) for old, new in resealed],
    )


def replace_secrets(database: Database, resealed: Sequence[tuple[str, str, Sealed, Sealed]]) -> None:
    """The same for registrations, sources and sign-ins, each named by its table and id, where it still is what it was."""
    columns = {"registration": "secrets", "source": "sealed", "flow": "sealed"}
    for table, id_, old, new in resealed:
        column = columns[table]
        database.rows(
            f"UPDATE {table} SET key_id = ?, {column} = ? WHERE id = ? AND key_id = ? AND {column} = ?",
            (new.key_id, new.blob, id_, old.key_id, old.blob),
        )
