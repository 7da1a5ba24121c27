"""Sign-ins under way: a one-use link, then a one-use state. Only hashes of them are kept.

Status: open (the link was given out) → begun (the browser is at the provider) → exchanging (the state was used up)
→ connected | denied | failed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, cast

from oo_daemon.store.database import Database
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


def _value(row: FlowRow) -> SignIn:
    return SignIn(
        id=row.id,
        registration=row.registration,
        provider=row.provider,
        user=row.user,
        account=row.account,
        verifier=None if row.verifier is None else Sealed(key_id=row.key_id, blob=bytes(row.verifier)),
        redirect_uri=row.redirect_uri,
        scopes=tuple(row.scopes.split()),
        status=cast(Status, row.status),
        reason=row.reason,
        connection=row.connection,
        browser_hash=None if row.browser_hash is None else bytes(row.browser_hash),
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


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
    row = FlowRow.select().where(FlowRow.id == id_).first(database)
    return _value(row) if row else None


def by_link(database: Database, link_hash: bytes, now: int) -> SignIn | None:
    """The sign-in whose link this is, while it can still be used."""
    row = FlowRow.select().where(FlowRow.link_hash == link_hash, FlowRow.status == "open", FlowRow.expires_at > now).first(database)
    return _value(row) if row else None


def begin(
    database: Database, link_hash: bytes, now: int, *, state_hash: bytes, browser_hash: bytes, verifier: Sealed, expires_at: int
) -> bool:
    """Use the link up and put the state in its place, in one statement; False if it was used or is too old."""
    rows = database.rows(
        "UPDATE flow SET link_hash = NULL, state_hash = ?, browser_hash = ?, key_id = ?, verifier = ?, status = 'begun', expires_at = ? "
        "WHERE link_hash = ? AND status = 'open' AND expires_at > ? RETURNING id",
        (state_hash, browser_hash, verifier.key_id, verifier.blob, expires_at, link_hash, now),
    )
    return bool(rows)


def use_state(database: Database, state_hash: bytes, now: int) -> SignIn | None:
    """Use the state up, in one statement: of many callbacks with one state, one gets the sign-in. None: forged, used or too old."""
    rows = database.rows(
        "UPDATE flow SET state_hash = NULL, status = 'exchanging' "
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
