"""Duties: what one of several daemons does for all of them, and who that is for a while.

They save work and make nothing safe: whoever was stopped in the middle of one goes on with it, and what it writes is refused, or the same.
"""

from __future__ import annotations

from oo_daemon.store.database import Database


def take(database: Database, name: str, owner: str, now: int, until: int) -> bool:
    """Take a duty, or keep it; False while it is another's. One that is kept absurdly long was taken before a clock was set back."""
    rows = database.rows(
        "INSERT INTO duty (name, owner, until) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, "
        "until = excluded.until WHERE duty.owner = excluded.owner OR duty.until <= ? OR duty.until > ? RETURNING name",
        (name, owner, until, now, until + (until - now)),
    )
    return bool(rows)


def leave(database: Database, owner: str) -> None:
    """Leave all to the others."""
    database.rows("DELETE FROM duty WHERE owner = ?", (owner,))
