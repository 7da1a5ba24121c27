"""Visits: a person's time on their own page, in one browser, from a one-use link on. Only hashes of link and cookie are kept.

Once the person has erased themselves, a visit has no user any more, only the erasure whose receipt it may still show.
"""

from __future__ import annotations

import msgspec

from oo_daemon.store.database import Database, Row


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """One visit."""

    id: str
    user: str | None  #: None: they have erased themselves
    proved: str  #: how the person has proved, in that browser, who they are; empty: not, or not yet
    erasure: str | None
    created_at: int
    expires_at: int  #: of the link until it is used, then of the visit


_COLUMNS = 'id, "user", proved, erasure, created_at, expires_at'
#: Of the link, now, the browser: the link was not used, and nobody has proved who they are elsewhere.
_OPEN_TO_BROWSER = "link_hash = ? AND expires_at > ? AND (browser_hash IS NULL OR browser_hash = ?)"


def _value(row: Row) -> Visit:
    id_, user, proved, erasure, created_at, expires_at = row
    return Visit(
        id=id_,
        user=user,
        proved=proved,
        erasure=erasure,
        created_at=created_at,
        expires_at=expires_at,
    )


def open_(database: Database, id_: str, user: str, link_hash: bytes, now: int, expires_at: int) -> None:
    """Write a new visit whose link is about to be given out."""
    database.rows(
        "INSERT INTO visit (id, link_hash, \"user\", proved, created_at, expires_at) VALUES (?, ?, ?, '', ?, ?)",
        (id_, link_hash, user, now, expires_at),
    )


def by_link(database: Database, link_hash: bytes, browser_hash: bytes, now: int) -> Visit | None:
    """The visit whose link this is, while it can still be used, and by this browser."""
    rows = database.rows(f"SELECT {_COLUMNS} FROM visit WHERE {_OPEN_TO_BROWSER}", (link_hash, now, browser_hash))
    return _value(rows[0]) if rows else None


def prove(database: Database, link_hash: bytes, browser_hash: bytes, now: int, how: str) -> bool:
    """Note that the person in this browser has proved who they are: from then on the link is that browser's. False: it is another's."""
    rows = database.rows(
        f"UPDATE visit SET proved = ?, browser_hash = ? WHERE {_OPEN_TO_BROWSER} RETURNING id",
        (how, browser_hash, link_hash, now, browser_hash),
    )
    return bool(rows)


def begin(database: Database, link_hash: bytes, browser_hash: bytes, now: int, *, cookie_hash: bytes, expires_at: int) -> bool:
    """Use the link up, and know the browser by this cookie until then. Of many that press at once one gets the visit."""
    rows = database.rows(
        f"UPDATE visit SET link_hash = NULL, cookie_hash = ?, expires_at = ? WHERE {_OPEN_TO_BROWSER} RETURNING id",
        (cookie_hash, expires_at, link_hash, now, browser_hash),
    )
    return bool(rows)


def by_cookie(database: Database, cookie_hash: bytes, now: int) -> Visit | None:
    """The visit of this cookie, while it lasts."""
    rows = database.rows(f"SELECT {_COLUMNS} FROM visit WHERE cookie_hash = ? AND expires_at > ?", (cookie_hash, now))
    return _value(rows[0]) if rows else None


def end(database: Database, id_: str) -> None:
    """Forget a visit."""
    database.rows("DELETE FROM visit WHERE id = ?", (id_,))


def erased(database: Database, visit: Visit, cookie_hash: bytes, erasure: str) -> None:
    """Leave of a visit, which went with its user, what shows the receipt."""
    database.rows(
        "INSERT INTO visit (id, cookie_hash, proved, erasure, created_at, expires_at) VALUES (?, ?, '', ?, ?, ?) "
        'ON CONFLICT (id) DO UPDATE SET "user" = NULL, erasure = excluded.erasure',
        (visit.id, cookie_hash, erasure, visit.created_at, visit.expires_at),
    )


def drop_older(database: Database, before: int) -> int:
    """Forget visits that were over before this."""
    return len(database.rows("DELETE FROM visit WHERE expires_at < ? RETURNING id", (before,)))
