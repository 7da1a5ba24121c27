"""Which engine a place has: that of a file, or that of a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from oo_config import Server
from oo_daemon.ports import UNTRACED, Trace
from oo_daemon.store import lock
from oo_daemon.store.accept import Encode
from oo_daemon.store.check import quick_check
from oo_daemon.store.copy import is_half
from oo_daemon.store.database import Database
from oo_daemon.store.errors import AlreadyRunning, CannotOpen
from oo_daemon.store.storage import Engine, ThreadedStorage, open_database, schema_of

#: Of a server's database that nobody has lived on.
NEW = "There are no tables yet; `oo run` makes them."
AnyDatabase = TypeVar("AnyDatabase", bound=Database)


def open_storage(place: Path | Server, encode: Encode, *, trace: Trace = UNTRACED) -> Engine:
    """Open the database there, and bring its schema up to date. Raises `CannotOpen`, `Corrupt`."""
    if isinstance(place, Path):
        return ThreadedStorage(_whole(open_database(place)), encode, trace=trace)
    postgresql = _postgresql()
    from oo_daemon.store.pool import PooledStorage  # here, as psycopg is

    with postgresql.in_words():
        return PooledStorage(_whole(postgresql.open_database(place.address)), encode, trace=trace)


def _whole(database: AnyDatabase) -> AnyDatabase:
    try:
        if is_half(database):
            raise CannotOpen("A copy into this database was cut off: finish it with `oo store copy`, or name another database.")
    except BaseException:
        database.close()
        raise
    return database


def upgrade_of(place: Path | Server) -> tuple[int, int] | None:
    """From which schema to which opening the database there will bring it; None: it is new or up to date.

    Raises `CannotOpen`, `Corrupt`.
    """
    had, has = schema_of(place) if isinstance(place, Path) else _postgresql().schema_of(place.address)
    return (had, has) if 0 < had < has else None


@contextmanager
def alone_on(place: Path | Server) -> Iterator[Database]:
    """Open the database there for whoever must be alone on it. Raises `AlreadyRunning`, `CannotOpen`, `Corrupt`."""
    if isinstance(place, Path):
        with lock.held(place):
            database = open_database(place)
            try:
                yield database
            finally:
                database.close()
        return
    postgresql = _postgresql()
    shared = postgresql.open_database(place.address)
    try:
        with postgresql.in_words():
            others = shared.others()
        if others:
            raise AlreadyRunning(f"Daemons run on {place}: stop them all first.")
        yield shared
    finally:
        shared.close()


def look_over(place: Path | Server) -> list[str]:
    """Look at the database there, and change nothing; gives what is worth a word. Raises `CannotOpen`, `CannotStore`, `Corrupt`."""
    if isinstance(place, Path):
        if not place.exists():
            return ["There is no database yet; `oo run` makes it."]
        quick_check(place)
        return []
    had, has = _postgresql().schema_of(place.address)
    if had < has:
        return [
            f"The next start brings the tables from schema {had} to {has}, for good: make a backup on the server first." if had else NEW
        ]
    return []


def _postgresql() -> ModuleType:
    try:  # here, since psycopg is there only where it is needed
        from oo_daemon.store import postgresql
    except ImportError:
        raise CannotOpen("PostgreSQL needs one package more: install 'oo-integrations[postgresql]'.") from None
    return postgresql
