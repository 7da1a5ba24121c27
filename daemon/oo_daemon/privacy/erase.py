"""Erasing: a durable saga. Nothing more comes in; the provider is told; what is here goes; consumers are told; the file is packed.

Truth is the table of erasures; each step is noted when it is done, and what a process that died left undone the next one does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from oo_daemon.connections.errors import Declined
from oo_daemon.ports import SECOND, Chance, Clock, Metrics
from oo_daemon.privacy.deletions import DeletionLog
from oo_daemon.store import connections, consumers, erasures, jobs
from oo_daemon.store.accept import Batch, Draft
from oo_daemon.store.connections import Connection
from oo_daemon.store.database import Database
from oo_daemon.store.erasures import Erasure, Part
from oo_daemon.store.errors import CannotStore, LeaseLost
from oo_daemon.store.storage import Lane, Storage
from oo_sdk import Log

#: Files up to this size are packed at once; a larger one waits for `packed_later`, since nobody can write meanwhile.
PACKED_AT_ONCE = 1024**3
#: Seconds after which a larger file is packed all the same: within a day of the erasure.
PACKED_LATER = 20 * 3600.0
#: How long consumers are watched for having read the tombstone, in seconds.
WATCHED = 90 * 86_400.0


class ErasedEvent(Protocol):
    """Makes the tombstone event."""

    def __call__(self, about: str, subject: str, erasure: str, at: int) -> Draft:
        """`{about}.erased`, about the user or the connection."""


class File(Protocol):
    """The database as a file."""

    async def pack(self) -> None:
        """Write it anew without what was erased, and empty the write-ahead log. Raises `CannotStore`."""

    def size(self) -> int:
        """Bytes."""

    def free(self) -> int:
        """Bytes left beside it."""


#: Removes what lies outside of the database: files of a connection.
Purge = Callable[[Connection], Awaitable[int]]


@dataclass(slots=True, kw_only=True, eq=False)
class Erasures:
    """Takes erasures and works on them. Belongs to the main loop."""

    storage: Storage
    deletions: DeletionLog
    file: File
    clock: Clock
    chance: Chance
    metrics: Metrics
    log: Log
    erased_event: ErasedEvent
    wake_jobs: Callable[[], None]
    closed: Callable[[], Awaitable[None]]  #: the addresses of these connections take nothing more
    purges: Mapping[str, Purge] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    # --- asking -------------------------------------------------------------------------------------------------------

    async def of_user(self, user: str) -> Erasure:
        """Erase everything of a user. From its return on not one new event of theirs is emitted. Raises `CannotStore`."""
        running = await self.storage.read(erasures.of_user, user)
        if running is not None:
            return running
        return await self._begin("user", user, lambda database: connections.listed(database, user=user))

    async def of_connection(self, connection: Connection, cause: erasures.Cause = "asked") -> Erasure:
        """Erase one connection and everything of it. Raises `CannotStore`."""
        running = await self.storage.read(erasures.of_connection, connection.number)
        if running is not None:
            return running
        return await self._begin(
            "connection", connection.user, lambda database: [each] if (each := connections.by_id(database, connection.id)) else [], cause
        )

    async def _begin(
        self, kind: erasures.Kind, user: str, which: Callable[[Database], list[Connection]], cause: erasures.Cause = "asked"
    ) -> Erasure:
        now = self.clock.now()
        id_ = self.chance.token_bytes(16).hex()
        known = [each for each in await self.storage.read(which) if each.state != "erasing"]
        # Before anybody is told: if we die in between, the next start erases what somebody wanted to be erased.
        await asyncio.get_running_loop().run_in_executor(None, self._log_deletions, [each.id for each in known], now)

        def begin(database: Database) -> Erasure:
            database.alone(f"user {user}")  # before they are looked for
            of = [each for each in which(database) if each.state != "erasing"]
            job_ids = [f"{id_}-{number}" for number in range(len(of))]
            return erasures.begin(database, id_=id_, kind=kind, user=user, of=of, job_ids=job_ids, now=now, cause=cause)

        begun = await self.storage.write(begin)
        await self.closed()
        self.metrics.count("erasures_begun", kind=kind)
        self.log.info("erasure_begun", erasure=id_, cause=cause, connections=len(begun.parts))
        self.wake_jobs()
        return begun

    def _log_deletions(self, ids: list[str], now: int) -> None:
        try:
            self.deletions.add(ids, now)
        except OSError as wrong:
            raise CannotStore(f"the deletion log cannot be written ({wrong.strerror}): see {self.deletions.path}") from None

    async def again(self) -> int:
        """Erase once more what a restored database has again; for the start, before anything else lives. Gives how much there was."""
        reborn = await self.storage.read(erasures.reborn, self.deletions.read())
        for connection in reborn:
            begun = await self.of_connection(connection)
            await self._work(begun)
        return len(reborn)

    async def status(self, id_: str) -> Erasure:
        """How far an erasure is. Raises `Declined`."""
        found = await self.storage.read(erasures.by_id, id_)
        if found is None:
            raise Declined("not_found", "There is no such erasure.", "See `oo erasures`.")
        return found

    async def listed(self) -> list[Erasure]:
        """The latest erasures, newest first."""
        return await self.storage.read(erasures.listed)

    # --- working ------------------------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Go on with everything that is not done."""
        async with self._turn:
            try:
                unfinished = await self.storage.read(erasures.listed, unfinished=True)
                for erasure in unfinished:
                    with suppress(LeaseLost):  # another daemon works on it, and was quicker
                        await self._work(erasure)
                self.metrics.gauge("erasures_unfinished", len(unfinished))
                oldest = min((each.created_at for each in unfinished), default=None)
                self.metrics.gauge("erasures_oldest_seconds", 0 if oldest is None else (self.clock.now() - oldest) / SECOND)
                await self._look_at_consumers()
            except CannotStore as fault:
                self.log.warning("erasure_waits", reason=str(fault))

    async def _work(self, erasure: Erasure) -> None:
        if erasure.erased_at is None:
            await self._erase(erasure)
        for part in erasure.parts:
            await self._end(part)
        if erasure.user is not None and erasure.kind == "user":
            left = await self.storage.write(erasures.erase_sign_ins, erasure.user, erasure.created_at, self.clock.now())
            if left:
                return  # grants that no connection has are still being given back
        erasure = await self.status(erasure.id)
        if all(part.ended for part in erasure.parts) and erasure.physical_at is None and self._may_pack(erasure):
            await self.file.pack()
            await self.storage.write(erasures.note, erasure.id, physical_at=self.clock.now())
            erasure = await self.status(erasure.id)
        if erasure.physical_at is not None:
            await self.storage.write(erasures.finish, erasure.id, self.clock.now())
            self.metrics.count("erasures_done", kind=erasure.kind)
            self.log.info("erasure_done", erasure=erasure.id)

    async def _erase(self, erasure: Erasure) -> None:
        """Everything but the row of the connection, which its revocation still needs; then tell consumers."""
        last: Connection | None = None
        for part in erasure.parts:
            connection = await self.storage.read(connections.by_number, part.number)
            if connection is None:
                continue
            last = connection
            while await self.storage.write(erasures.erase_some, erasure.id, part.number):
                pass
            while await self.storage.write(erasures.erase_deliveries, erasure.id, connection):
                pass
            for purge in self.purges.values():
                await purge(connection)
        now = self.clock.now()
        if last is None:
            await self.storage.write(erasures.note, erasure.id, erased_at=now)
            return
        about, subject = ("user", last.user) if erasure.kind == "user" else ("connection", last.id)
        batch = Batch(
            connection=last,
            observed_at=now,
            drafts=[self.erased_event(about, subject, erasure.id, now)],
            marks=[erasures.TombstoneWritten(erasure=erasure.id, now=now)],
            erasing=True,
        )
        await self.storage.accept(batch, Lane.INGEST)

    async def _end(self, part: Part) -> None:
        """Erase the row of a connection, once nobody needs it to tell the provider."""
        if part.ended:
            return
        job = await self.storage.read(jobs.latest, "revoke", part.number)
        if job is not None and job.state == "queued":
            return
        await self.storage.write(erasures.end_connection, part.number)
        await self.closed()

    def _may_pack(self, erasure: Erasure) -> bool:
        size = self.file.size()
        waited = (self.clock.now() - erasure.created_at) / SECOND
        return self.file.free() > 2 * size and (size <= PACKED_AT_ONCE or waited >= PACKED_LATER)

    async def _look_at_consumers(self) -> None:
        """Note which consumers have read the tombstones: the evidence that they were told."""
        now = self.clock.now()
        for erasure in await self.storage.read(erasures.listed):
            if erasure.tombstone is None or now - erasure.created_at > WATCHED * SECOND:
                continue
            # Who came later has no copies.
            told = await self.storage.read(consumers.known_by, erasure.created_at)
            past = {name for name, position in told.items() if position >= erasure.tombstone} - erasure.acks.keys()
            if past:
                await self.storage.write(erasures.note, erasure.id, acks={**erasure.acks, **dict.fromkeys(sorted(past), now)})
