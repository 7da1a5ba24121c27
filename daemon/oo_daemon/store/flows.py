"""Sign-ins under way: a one-use link, then a one-use state. Only hashes of them are kept.

Status: open (the link was given out) → begun (a browser has it and is at the provider) → exchanging (the state was used up)
→ connected | denied | failed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, cast

from oo_daemon.store.database import Database, Row
from oo_daemon.store.models import FlowRow
from oo_vault import Sealed

Status = Literal["open", "begun", "exchanging", "connected", "denied", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """One sign-in."""

    id: str
    registration: str
    provider: str
    user: str
    account: str
    verifier: Sealed | None = field(repr=False)  #: of PKCE
    redirect_uri: str
    scopes: tuple[str, ...]
    status: Status
    reason: str
    connection: str | None
    browser_hash: bytes | None = field(repr=False)
    created_at: int
    expires_at: int


_COLUMNS = (
    'id, registration, provider, "user", account, key_id, verifier, redirect_uri, scopes, status, reason, connection, browser_hash, '
    "created_at, expires_at"
)


def _found(database: Database, where: str, *values: str | bytes | int) -> list[SignIn]:
    return [_value(row) for row in database.rows(f"SELECT {_COLUMNS} FROM flow WHERE {where}", values)]


def _value(row: Row) -> SignIn:
    id_, registration, provider, user, account, key_id, verifier, uri, scopes, status, reason, connection, browser, created, expires = row
    return SignIn(
        id=id_,
        registration=registration,
        provider=provider,
        user=user,
        account=account,
        verifier=None if verifier is None else Sealed(key_id=key_id, blob=bytes(verifier)),
        redirect_uri=uri,
        scopes=tuple(scopes.split()),
        status=cast(Status, status),
        reason=reason,
        connection=connection,
        browser_hash=None if browser is None else bytes(browser),
        created_at=created,
        expires_at=expires,
    )


def with_verifier(database: Database) -> list[SignIn]:
    """Sign-ins whose verifier is still needed."""
    return _found(database, "verifier IS NOT NULL")


def open_(database: Database, sign_in: SignIn, link_hash: bytes) -> None:
    """Write a new sign-in whose link is about to be given out."""
    FlowRow.insert(
        id=sign_in.id,
        link_hash=link_hash,
        registration=sign_in.registration,
        provider=sign_in.provider,
        user=sign_in.user,
        account=sign_in.account,
        key_id="",
        redirect_uri=sign_in.redirect_uri,
        scopes=" ".join(sign_in.scopes),
        status="open",
        reason="",
        created_at=sign_in.created_at,
        expires_at=sign_in.expires_at,
    ).execute(database)


def by_id(database: Database, id_: str) -> SignIn | None:
    """The sign-in with this id."""
    return next(iter(_found(database, "id = ?", id_)), None)


def by_link(database: Database, link_hash: bytes, now: int) -> SignIn | None:
    """The sign-in whose link this is, while it can still be used."""
    where = "link_hash = ? AND status IN ('open', 'begun') AND expires_at > ?"
    return next(iter(_found(database, where, link_hash, now)), None)


def begin(
    database: Database, link_hash: bytes, now: int, *, state_hash: bytes, browser_hash: bytes, verifier: Sealed, expires_at: int
) -> bool:
    """Give the link to this browser and put a new state in the place of any before, in one statement.

    False if the link is another browser's, was used up, or is too old. The same browser may begin again, since people click twice and go
    back; only the newest state counts.
    """
    rows = database.rows(
        "UPDATE flow SET state_hash = ?, browser_hash = ?, key_id = ?, verifier = ?, status = 'begun', expires_at = ? "
        "WHERE link_hash = ? AND expires_at > ? AND (status = 'open' OR (status = 'begun' AND browser_hash = ?)) RETURNING id",
        (state_hash, browser_hash, verifier.key_id, verifier.blob, expires_at, link_hash, now, browser_hash),
    )
    return bool(rows)


def use_state(database: Database, state_hash: bytes, now: int) -> SignIn | None:
    """Use the state and the link up in one statement: of many callbacks one gets the sign-in. None: forged, used or too old."""
    rows = database.rows(
        "UPDATE flow SET state_hash = NULL, link_hash = NULL, status = 'exchanging' "
        "WHERE state_hash = ? AND status = 'begun' AND expires_at > ? RETURNING id",
        (state_hash, now),
    )
    return by_id(database, rows[0][0]) if rows else None


def end(database: Database, id_: str, status: Status, reason: str, connection: str | None = None) -> None:
    """Note how a sign-in ended; its verifier goes."""
    change = {"status": status, "reason": reason, "connection": connection, "verifier": None, "state_hash": None}
    FlowRow.update(**change).where(FlowRow.id == id_).execute(database)


def drop_older(database: Database, before: int) -> int:
    """Forget sign-ins that ended or ran out before this."""
    return len(database.rows("DELETE FROM flow WHERE expires_at < ? RETURNING id", (before,)))
