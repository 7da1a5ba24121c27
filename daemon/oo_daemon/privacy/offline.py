"""Erasing with lost keys: on the database itself, while no daemon runs. No provider can be told, since no credential can be opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from oo_config import Server
from oo_daemon.connections.errors import Declined
from oo_daemon.ports import Chance, Clock
from oo_daemon.privacy.deletions import DeletionLog
from oo_daemon.privacy.erase import ErasedEvent
from oo_daemon.store import accept as waist
from oo_daemon.store import connections, erasures
from oo_daemon.store.connections import Connection
from oo_daemon.store.database import Database
from oo_daemon.store.engines import alone_on
from oo_daemon.store.erasures import Kind, TombstoneWritten

#: What became of each grant.
LOST = {"revoked": "failed", "reason": "key lost", "remains": "the person can remove oO at the provider", "manual_url": ""}


class Offline(msgspec.Struct, frozen=True, kw_only=True):
    """Erases in a database that nobody else uses; gives how many connections there were. Raises `AlreadyRunning`, `CannotOpen`."""

    place: Path | Server
    beside: Path  #: where the deletion log lies
    clock: Clock
    chance: Chance
    purge: Callable[[Connection], object]  #: removes what lies outside of the database
    erased_event: ErasedEvent
    encode: waist.Encode

    def of_user(self, user: str) -> int:
        """Everything of a user."""
        return self._opened("user", user, lambda database: connections.listed(database, user=user))

    def of_connection(self, id_: str) -> int:
        """One connection. Raises `Declined`."""

        def one(database: Database) -> list[Connection]:
            found = connections.by_id(database, id_)
            if found is None:
                raise Declined("not_found", "There is no such connection.", "See `oo connections`.")
            return [found]

        return self._opened("connection", "", one)

    def _opened(self, kind: Kind, user: str, which: Callable[[Database], list[Connection]]) -> int:
        now = self.clock.now()
        with alone_on(self.place) as database:
            of = which(database)
            DeletionLog(self.beside / "deletions.log").add([each.id for each in of], now)
            self._erase(database, kind, user, of, now)
            if database.dialect == "sqlite":
                database.rows("VACUUM")
                database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        return len(of)

    def _erase(self, database: Database, kind: Kind, user: str, of: list[Connection], now: int) -> None:
        id_ = self.chance.token_bytes(16).hex()
        with database.atomic():
            erasures.begin(database, id_=id_, kind=kind, user=user, of=of, job_ids=[f"{id_}-{each.number}" for each in of], now=now)
            if kind == "user":
                erasures.drop_sign_ins(database, user, now)  # what they hold cannot be given back
        for connection in of:
            while erasures.erase_some(database, id_, connection.number):
                pass
            while erasures.erase_deliveries(database, id_, connection):
                pass
            self.purge(connection)
        with database.atomic():
            if of:
                last = of[-1]
                draft = self.erased_event(kind, user if kind == "user" else last.id, id_, now)
                marks = [TombstoneWritten(erasure=id_, now=now)]
                batch = waist.Batch(connection=last, observed_at=now, drafts=[draft], marks=marks, erasing=True)
                waist.accept(database, batch, self.encode)
            for connection in of:
                erasures.told(database, connection.number, LOST, now)
                erasures.end_connection(database, connection.number)
            erasures.note(database, id_, physical_at=now)
            erasures.finish(database, id_, now)
