"""Pausing: an owner or operator stops a connection's syncs and actions for a while. Cursor, settings and credential stay.

A pause outlives signing in again: only `resume` ends it.
"""

from __future__ import annotations

from oo_daemon.connections.errors import Declined
from oo_daemon.store import connections, inbox, schedule
from oo_daemon.store.connections import Connection, State, StateChanged
from oo_daemon.store.database import Database


def pause(database: Database, number: int, now: int) -> Connection:
    """Pause a connection; a sync under way loses its lease. Nothing where it is paused. Raises `Declined`."""
    known = _known(database, number, {"active", "needs_sign_in", "paused"})
    if known.state != "paused":
        StateChanged(number=number, state="paused", reason="", now=now).apply(database)
        schedule.stop(database, number, now)
    return _known(database, number, {"paused"})


def resume(database: Database, number: int, now: int) -> Connection:
    """Let a paused connection go on from where it was, at once. Nothing where it is active. Raises `Declined`."""
    known = _known(database, number, {"active", "paused"})
    if known.state == "paused":
        StateChanged(number=number, state="active", reason="", now=now).apply(database)
        schedule.create(database, number, now)
        inbox.call_up(database, known.provider)
    return _known(database, number, {"active"})


def _known(database: Database, number: int, states: set[State]) -> Connection:
    known = connections.held(database, number)
    if known is None:
        raise Declined("not_found", "There is no such connection.", "See `oo connections`.")
    if known.state not in states:
        raise Declined("not_active", f"The connection is {known.state.replace('_', ' ')}.", known.reason or "Connect it again first.")
    return known
