"""Sign-ins under way: a one-use link, then a one-use state. Only hashes of them are kept.

Status: open (the link was given out) → begun (a browser has it and is at the provider) → exchanging (the state was used up)
→ pending (the person is asked whether it is the right account) → connected | denied | failed.
Where the person was asked by an ingress process, which cannot open the grant, it is confirmed in between, and another process goes on.

What a sign-in keeps sealed is first its PKCE verifier, or the code that the person enters elsewhere, and from the exchange on a grant: the
new one until it is confirmed; after that one that nobody needs any more, until it is given back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import msgspec

from oo_daemon.store.database import Database, Row
from oo_daemon.store.models import FlowRow
from oo_vault import Sealed

Status = Literal["open", "begun", "exchanging", "pending", "confirmed", "connected", "denied", "failed"]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished exchange says of the account behind a grant."""

    account_id: str
    label: str
    scopes: tuple[str, ...]
    meta: dict[str, Any]


#: A grant that nobody needs, and the account behind it.
Left = tuple[Sealed, Found]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """One sign-in."""

    id: str
    registration: str | None  #: None: a key is entered, and there is no client of ours
    provider: str
    user: str
    account: str
    sealed: Sealed | None = field(repr=False)  #: the PKCE verifier, or a grant
    redirect_uri: str
    scopes: tuple[str, ...]  #: on offer
    asked: tuple[str, ...]  #: those that the provider is asked for
    return_to: str  #: where the outcome page leads; empty: nowhere
    found: Found | None = field(repr=False)  #: the account, once the provider has told
    status: Status
    reason: str
    connection: str | None
    browser_hash: bytes | None = field(repr=False)
    device: bool = False  #: the person enters a code at the provider (RFC 8628)
    poll_at: int | None = None  #: when the provider is asked next whether they have
    proved: str = ""  #: how the person has proved, in that browser, who they are; empty: not, or not yet
    created_at: int
    expires_at: int


_COLUMNS = (
    'id, registration, provider, "user", account, key_id, sealed, redirect_uri, scopes, asked, return_to, account_found, status, reason, '
    "connection, browser_hash, proved, device, poll_at, created_at, expires_at"
)


def _found(database: Database, where: str, *values: str | bytes | int) -> list[SignIn]:
    return [_value(row) for row in database.rows(f"SELECT {_COLUMNS} FROM flow WHERE {where}", values)]


def _value(row: Row) -> SignIn:
    id_, registration, provider, user, account, key_id, sealed, uri, scopes, *others = row
    asked, back, found, status, reason, connection, browser, proved, device, poll_at, created, expires = others
    return SignIn(
        id=id_,
        registration=registration,
        provider=provider,
        user=user,
        account=account,
        sealed=None if sealed is None else Sealed(key_id=key_id, blob=bytes(sealed)),
        redirect_uri=uri,
        scopes=tuple(scopes.split()),
        asked=tuple(asked.split()),
        return_to=back,
        found=msgspec.json.decode(found, type=Found) if found else None,
        status=cast(Status, status),
        reason=reason,
        connection=connection,
        browser_hash=None if browser is None else bytes(browser),
        proved=proved,
        device=bool(device),
        poll_at=poll_at,
        created_at=created,
        expires_at=expires,
    )


def sealing(database: Database) -> list[SignIn]:
    """Sign-ins that keep something sealed."""
    return _found(database, "sealed IS NOT NULL")


def open_(database: Database, sign_in: SignIn, link_hash: bytes) -> None:
    """Write a new sign-in whose link is about to be given out."""
    # By prepared statements, as everything that a sign-in does: peewee puts a query together anew each time, for a millisecond.
    database.rows(
        'INSERT INTO flow (id, link_hash, registration, provider, "user", account, key_id, redirect_uri, scopes, asked, return_to, device, '
        "account_found, status, reason, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, '', ?, ?, ?, ?, ?, '', 'open', '', ?, ?)",
        (
            sign_in.id,
            link_hash,
            sign_in.registration,
            sign_in.provider,
            sign_in.user,
            sign_in.account,
            sign_in.redirect_uri,
            " ".join(sign_in.scopes),
            " ".join(sign_in.asked),
            sign_in.return_to,
            int(sign_in.device),
            sign_in.created_at,
            sign_in.expires_at,
        ),
    )


def by_id(database: Database, id_: str) -> SignIn | None:
    """The sign-in with this id."""
    return next(iter(_found(database, "id = ?", id_)), None)


def by_link(database: Database, link_hash: bytes, now: int) -> SignIn | None:
    """The sign-in whose link this is, while it can still be used."""
    where = "link_hash = ? AND status IN ('open', 'begun') AND expires_at > ?"
    return next(iter(_found(database, where, link_hash, now)), None)


#: Of the link, now, the browser: nobody has begun, or this browser has; and nobody has proved who they are elsewhere.
_OPEN_TO_BROWSER = (
    "link_hash = ? AND expires_at > ? AND status IN ('open', 'begun') AND ((status = 'open' AND browser_hash IS NULL) OR browser_hash = ?)"
)


def prove(database: Database, link_hash: bytes, now: int, *, browser_hash: bytes, how: str) -> bool:
    """Note that the person in this browser has proved who they are: from then on the link is that browser's. False: it is another's."""
    rows = database.rows(
        f"UPDATE flow SET proved = ?, browser_hash = ? WHERE {_OPEN_TO_BROWSER} RETURNING id",
        (how, browser_hash, link_hash, now, browser_hash),
    )
    return bool(rows)


def begin(
    database: Database,
    link_hash: bytes,
    now: int,
    *,
    state_hash: bytes,
    browser_hash: bytes,
    verifier: Sealed,
    asked: Sequence[str],
    expires_at: int,
) -> bool:
    """Give the link to this browser and put a new state in the place of any before, in one statement.

    False if the link is another browser's, was used up, or is too old. The same browser may begin again, since people click twice and go
    back; only the newest state counts.
    """
    rows = database.rows(
        "UPDATE flow SET state_hash = ?, browser_hash = ?, key_id = ?, sealed = ?, asked = ?, status = 'begun', expires_at = ? "
        f"WHERE {_OPEN_TO_BROWSER} RETURNING id",
        (state_hash, browser_hash, verifier.key_id, verifier.blob, " ".join(asked), expires_at, link_hash, now, browser_hash),
    )
    return bool(rows)


def enter(database: Database, link_hash: bytes, now: int, *, browser_hash: bytes, asked: Sequence[str], expires_at: int) -> bool:
    """Give the link to this browser, in which a key is entered. False as in `begin`; the same browser may try again."""
    rows = database.rows(
        "UPDATE flow SET browser_hash = ?, asked = ?, expires_at = CASE WHEN status = 'open' THEN ? ELSE expires_at END, status = 'begun' "
        f"WHERE {_OPEN_TO_BROWSER} RETURNING id",
        (browser_hash, " ".join(asked), expires_at, link_hash, now, browser_hash),
    )
    return bool(rows)


def use_link(database: Database, link_hash: bytes, now: int) -> SignIn | None:
    """Use the link up once a key was accepted: of many that were sent at once one gets the sign-in."""
    rows = database.rows(
        "UPDATE flow SET link_hash = NULL, status = 'exchanging' WHERE link_hash = ? AND status = 'begun' AND expires_at > ? RETURNING id",
        (link_hash, now),
    )
    return by_id(database, rows[0][0]) if rows else None


def begin_device(
    database: Database, id_: str, now: int, *, browser_hash: bytes | None, code: Sealed, asked: Sequence[str], poll_at: int, expires_at: int
) -> bool:
    """Use the link up, and keep the code that the person is to enter. False if that was done before, or it is too late."""
    rows = database.rows(
        "UPDATE flow SET link_hash = NULL, browser_hash = ?, key_id = ?, sealed = ?, asked = ?, status = 'begun', poll_at = ?, "
        "expires_at = ? WHERE id = ? AND status = 'open' AND expires_at > ? AND (browser_hash IS NULL OR browser_hash = ?) RETURNING id",
        (browser_hash, code.key_id, code.blob, " ".join(asked), poll_at, expires_at, id_, now, browser_hash),
    )
    return bool(rows)


def to_poll(database: Database, now: int, until: int) -> list[SignIn]:
    """Claim the sign-ins whose provider is to be asked; whoever dies over it leaves them to be claimed again at `until`."""
    rows = database.rows(
        "UPDATE flow SET status = 'exchanging', poll_at = ? WHERE poll_at <= ? AND expires_at > ? AND status IN ('begun', 'exchanging') "
        "RETURNING id",
        (until, now, now),
    )
    return [found for (id_,) in rows if (found := by_id(database, id_)) is not None]


def poll_again(database: Database, id_: str, code: Sealed, poll_at: int) -> None:
    """The person has not answered yet."""
    database.rows(
        "UPDATE flow SET status = 'begun', key_id = ?, sealed = ?, poll_at = ? WHERE id = ? AND status = 'exchanging' RETURNING id",
        (code.key_id, code.blob, poll_at, id_),
    )


def poll_sooner(database: Database, until: int, poll_at: int) -> None:
    """Have those asked for at that time that were claimed until another: what came of it could not be stored, or who they are is lost."""
    database.rows("UPDATE flow SET poll_at = ? WHERE status = 'exchanging' AND poll_at = ?", (poll_at, until))


def use_state(database: Database, state_hash: bytes, now: int) -> SignIn | None:
    """Use the state and the link up in one statement: of many callbacks one gets the sign-in. None: forged, used or too old."""
    rows = database.rows(
        "UPDATE flow SET state_hash = NULL, link_hash = NULL, status = 'exchanging' "
        "WHERE state_hash = ? AND status = 'begun' AND expires_at > ? RETURNING id",
        (state_hash, now),
    )
    return by_id(database, rows[0][0]) if rows else None


def hold(database: Database, id_: str, grant: Sealed, found: Found, expires_at: int) -> None:
    """Keep a grant until the person has said whether it is of the right account."""
    database.rows(
        "UPDATE flow SET status = 'pending', key_id = ?, sealed = ?, account_found = ?, expires_at = ?, poll_at = NULL "
        "WHERE id = ? RETURNING id",
        (grant.key_id, grant.blob, msgspec.json.encode(found).decode(), expires_at, id_),
    )


def answer(database: Database, id_: str, now: int) -> SignIn | None:
    """Use up the question whether the account is the right one: of many answers one gets the sign-in. None: answered, or too late."""
    rows = database.rows(
        "UPDATE flow SET status = 'exchanging' WHERE id = ? AND status IN ('pending', 'confirmed') AND expires_at > ? RETURNING id",
        (id_, now),
    )
    return by_id(database, rows[0][0]) if rows else None


def confirm(database: Database, id_: str, now: int) -> bool:
    """Note that it is the right account, for whoever can open the grant. False: answered, or too late."""
    sql = "UPDATE flow SET status = 'confirmed' WHERE id = ? AND status = 'pending' AND expires_at > ? RETURNING id"
    return bool(database.rows(sql, (id_, now)))


def confirmed(database: Database, now: int) -> list[SignIn]:
    """Sign-ins whose person has confirmed the account, and that are to be finished."""
    return _found(database, "status = 'confirmed' AND expires_at > ?", now)


def end(database: Database, id_: str, status: Status, reason: str, connection: str | None = None, *, left: Left | None = None) -> None:
    """Note how a sign-in ended. What it kept sealed goes; a grant that is `left` stays until it is given back."""
    change, values = "account_found = '', sealed = NULL", tuple[Any, ...]()
    if left is not None:
        change, values = "account_found = ?, key_id = ?, sealed = ?", (msgspec.json.encode(left[1]).decode(), left[0].key_id, left[0].blob)
    database.rows(
        f"UPDATE flow SET status = ?, reason = ?, connection = ?, state_hash = NULL, poll_at = NULL, {change} WHERE id = ?",
        (status, reason, connection, *values, id_),
    )


def opened_since(database: Database, user: str, since: int) -> int:
    """How many sign-ins were opened for a user."""
    return int(database.rows('SELECT count(*) FROM flow WHERE "user" = ? AND created_at > ?', (user, since))[0][0])


def left(database: Database, now: int) -> list[SignIn]:
    """Sign-ins with a grant that nobody needs: they have ended, or nobody answered in time."""
    where = (
        "sealed IS NOT NULL AND (status IN ('connected', 'denied', 'failed') OR (status IN ('pending', 'confirmed') AND expires_at <= ?))"
    )
    return _found(database, where, now)


def let_go(database: Database, id_: str) -> None:
    """Forget the grant that was left."""
    FlowRow.update(sealed=None, account_found="").where(FlowRow.id == id_).execute(database)


def drop_older(database: Database, before: int) -> int:
    """Forget sign-ins that ended or ran out before this."""
    return len(database.rows("DELETE FROM flow WHERE expires_at < ? RETURNING id", (before,)))
