"""Erasing with lost keys: on the file itself, while no daemon runs. No provider can be told, since no credential can be opened."""

from __future__ import annotations

from pathlib import Path

from oo_daemon.connections.errors import Declined
from oo_daemon.host import HostChance, HostClock
from oo_daemon.privacy.deletions import DeletionLog
from oo_daemon.privacy.erase import ErasedEvent
from oo_daemon.store import accept as waist
from oo_daemon.store import connections, erasures, lock
from oo_daemon.store.connections import Connection
from oo_daemon.store.database import SqliteDatabase
from oo_daemon.store.erasures import TombstoneWritten
from oo_daemon.store.storage import open_database

#: What became of each grant.
LOST = {"revoked": "failed", "reason": "key lost", "remains": "the person can remove oO at the provider", "manual_url": ""}


def erase_offline(path: Path, *, user: str | None, connection: str | None, erased_event: ErasedEvent, encode: waist.Encode) -> int:
    """Erase, pack the file, and give how many connections that were. Raises `Declined`, `AlreadyRunning`, `CannotOpen`."""
    clock, chance = HostClock(), HostChance()
    with lock.held(path):
        database = open_database(path)
        try:
            of = connections.listed(database, user=user) if user is not None else [_one(database, connection or "")]
            DeletionLog(path.with_name("deletions.log")).add([each.id for each in of], clock.now())
            id_ = chance.token_bytes(16).hex()
            _erase(database, "user" if user is not None else "connection", of, id_, clock.now(), erased_event, encode)
            database.rows("VACUUM")
            database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            database.close()
    return len(of)


def _one(database: SqliteDatabase, id_: str) -> Connection:
    found = connections.by_id(database, id_)
    if found is None:
        raise Declined("not_found", "There is no such connection.", "See `oo connections`.")
    return found


def _erase(
    database: SqliteDatabase,
    kind: erasures.Kind,
    of: list[Connection],
    id_: str,
    now: int,
    erased_event: ErasedEvent,
    encode: waist.Encode,
) -> None:
    with database.atomic():
        user = of[0].user if of else ""
        erasures.begin(database, id_=id_, kind=kind, user=user, of=of, job_ids=[f"{id_}-{each.number}" for each in of], now=now)
    for connection in of:
        while erasures.erase_some(database, id_, connection.number):
            pass
        while erasures.erase_deliveries(database, id_, connection):
            pass
    with database.atomic():
        if of:
            last = of[-1]
            draft = erased_event(kind, last.user if kind == "user" else last.id, id_, now)
            marks = [TombstoneWritten(erasure=id_, now=now)]
            waist.accept(database, waist.Batch(connection=last, observed_at=now, drafts=[draft], marks=marks, erasing=True), encode)
        for connection in of:
            erasures.told(database, connection.number, LOST)
            erasures.end_connection(database, connection.number)
        erasures.note(database, id_, physical_at=now)
        erasures.finish(database, id_, now)
