"""Imports: each file is read by a process of its own, and what that finds goes through the waist in bounded batches.

The cursor of a checkpoint is written only after everything before it is in: killed anywhere, an import begins again at its last checkpoint,
and the index swallows what is repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from oo_daemon.ports import Clock, Metrics
from oo_daemon.store import accept, connections, uploads
from oo_daemon.store.accept import Accepted, Batch, Mark
from oo_daemon.store.connections import Connection, StillActive
from oo_daemon.store.errors import CannotStore, LeaseLost
from oo_daemon.store.storage import Storage
from oo_daemon.store.uploads import Advanced, Ending, Kind, StillRunning, Upload
from oo_daemon.sync.frames import Asks, Frame, Known, Order, Place, Things, Wrong
from oo_sdk import Log

#: Imports at once, each of another user: one file keeps two processors busy.
AT_ONCE: Final = 1
#: Batches on their way to the writer; it takes as many in one commit.
AHEAD: Final = 4
#: Keys in one answer to a reader (bytes).
KNOWN: Final = 128 * 1024
#: How often the same stretch of a file may end its reader.
TRIES: Final = 5
_ENDS_READERS: Final = f"This file has ended the program that reads it {TRIES} times: tell whoever runs oO here."


class ReaderDied(Exception):
    """The reader ended in the middle of a frame, or before the end of the file."""


class Reader(Protocol):
    """A process that reads a file."""

    def frames(self) -> AsyncGenerator[Frame, None]:
        """What it says, to the end of the file. Raises `ReaderDied`."""

    async def answer(self, known: Known) -> None:
        """Say what it asked for."""

    async def kill(self) -> None:
        """End it, if it has not ended, and wait for that."""


class Opens(Protocol):
    """Starts readers."""

    async def __call__(self, order: Order) -> Reader:
        """Start one. Raises `OSError`."""


class Files(Protocol):
    """Where the files lie."""

    @property
    def place(self) -> str:
        """What tells it from those of other hosts."""

    def path(self, connection: str, upload: str) -> Path:
        """Where one lies."""

    def remove(self, connection: str, upload: str = "*") -> int:
        """Remove it."""


@dataclass(slots=True, eq=False)
class _Import:
    """One import under way."""

    upload: Upload
    connection: Connection
    kinds: dict[str, Kind]
    events: int
    flight: set[asyncio.Task[Accepted]] = field(default_factory=set)

    def count(self, months: Mapping[str, Mapping[str, int]]) -> None:
        """Count what was read."""
        for type_, by_month in months.items():
            kind = self.kinds.setdefault(type_, Kind())
            for month, records in by_month.items():
                kind.records += records
                if month:
                    kind.months[month] = kind.months.get(month, 0) + records


@dataclass(slots=True, kw_only=True, eq=False)
class Imports:
    """Takes what is queued, one file of a user at a time. Belongs to the main loop."""

    storage: Storage
    files: Files
    clock: Clock
    metrics: Metrics
    log: Log
    keep: bool  #: the file, after its import
    open: Opens
    enabled: tuple[str, ...] = ()  #: strangers' distributions whose plugins are loaded
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  #: of connectors
    short: Callable[[], bool] = lambda: False  #: there is no room for what an import brings
    _running: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _left: bool = False  #: some may be under way that nobody reads: a claim's answer was lost, or what became of one could not be written

    async def tick(self) -> None:
        """Begin what is queued, unless enough runs."""
        try:
            if self._left:
                self._left = False
                await self._put_back()
            while len(self._running) < AT_ONCE and not self.short():
                upload = await self.storage.write(uploads.claim, self.files.place, self.clock.now(), AT_ONCE)
                if upload is None:
                    return
                task = asyncio.ensure_future(self._run(upload))
                self._running[upload.id] = task
                task.add_done_callback(lambda _, id_=upload.id: self._running.pop(id_, None))  # type: ignore[misc]  # the default binds it now
        except CannotStore as fault:
            self._left = True
            self.log.warning("import_waits", reason=str(fault))

    async def _put_back(self) -> None:
        reading = [id_ for id_, task in self._running.items() if not task.done()]
        await self.storage.write(uploads.put_back, self.files.place, reading)

    async def stop(self) -> None:
        """End every reader; what they read goes on at the next start."""
        for id_ in list(self._running):
            await self.stop_one(id_)
        with suppress(CannotStore):  # then the next start finds them
            await self._put_back()

    async def stop_one(self, id_: str) -> None:
        """End the reader of an upload, if it has one; nothing more of it comes in."""
        task = self._running.get(id_)
        if task is not None:
            if not task.cancelling():  # a second time would interrupt it in ending its reader
                task.cancel()
            await asyncio.wait({task})

    async def _run(self, upload: Upload) -> None:
        try:
            if (connection := await self.storage.read(connections.by_number, upload.connection)) is not None:  # else it was erased since
                await self._import(upload, connection)
        except (CannotStore, asyncio.CancelledError) as fault:
            # Cancelled by whoever stops the daemon, or has ended it in the database already.
            self._left = True
            if isinstance(fault, asyncio.CancelledError):
                raise
            self.log.warning("import_waits", reason=str(fault))

    async def _import(self, upload: Upload, connection: Connection) -> None:
        began = self.clock.monotonic()
        import_ = _Import(upload, connection, dict(upload.kinds), 0)
        try:
            state, reason = await self._read(import_)
        except LeaseLost:
            state, reason = "failed", "The connection does not work any more, so the import was stopped. What came before is kept."
        except CannotStore:
            raise
        except (ReaderDied, OSError) as error:
            self.log.warning("import_reader_died", upload=upload.id, error=type(error).__name__)
            if await self._goes_on(upload):
                return
            state, reason = "failed", _ENDS_READERS
        except Exception as error:  # a frame that makes no sense, or a fault of ours: the daemon goes on
            self.log.warning("import_failed", upload=upload.id, error=type(error).__name__)
            state, reason = "failed", "oO could not go on with this file. What came before is kept; tell whoever runs oO here."
        await self._end(import_, state, reason)
        self.metrics.count("imports", outcome=state, provider=connection.provider)
        self.metrics.observe("import_seconds", self.clock.monotonic() - began, provider=connection.provider)
        self.log.info("import_ended", upload=upload.id, outcome=state, records=sum(kind.records for kind in import_.kinds.values()))

    async def _read(self, import_: _Import) -> tuple[Ending, str]:
        """Read a file to its end; gives how that was."""
        upload, connection = import_.upload, import_.connection
        path = self.files.path(connection.id, upload.id)
        if not path.exists():
            return "failed", "The file is not here any more: hand it in again."
        if upload.tries > TRIES:
            return "failed", _ENDS_READERS
        import_.events = sum((await self.storage.read(uploads.new_events, upload.id)).values())
        order = Order(
            connection=connection,
            path=str(path),
            name=upload.name,
            since=None if upload.cursor is None else dict(upload.cursor),
            observed_at=self.clock.now(),
            enabled=list(self.enabled),
            settings=dict(self.settings.get(connection.provider, {})),
        )
        reader = await self.open(order)
        try:
            async for frame in reader.frames():
                match frame:
                    case Things():
                        await self._take(import_, frame)
                    case Asks(of=type_, day=day):
                        keys, until = await self.storage.read(accept.known_days, connection.number, type_, day, KNOWN)
                        await reader.answer(Known(keys, until))
                    case Place():
                        await self._place(import_, frame)
                    case Wrong(whose="file", reason=reason):
                        await self._landed(import_)
                        return "failed", reason
                    case Wrong(reason=reason):
                        await self._landed(import_)
                        self.log.warning("import_failed", upload=upload.id, error=reason)
                        return "failed", "oO could not make sense of this file. What came before is kept; tell whoever runs oO here."
            return "done", ""
        finally:
            for task in import_.flight:
                task.cancel()
            try:
                await asyncio.gather(*import_.flight, return_exceptions=True)
            finally:
                await reader.kill()

    async def _take(self, import_: _Import, things: Things) -> None:
        """Send a batch on its way; wait while too many are."""
        while len(import_.flight) >= AHEAD:
            done, import_.flight = await asyncio.wait(import_.flight, return_when=asyncio.FIRST_COMPLETED)
            self._count(import_, done)
        batch = Batch(
            connection=import_.connection,
            observed_at=self.clock.now(),
            drafts=things.drafts,
            days=things.days,
            marks=[StillActive(number=import_.connection.number), StillRunning(upload=import_.upload.id)],
        )
        if things.days or things.drafts:
            import_.flight.add(asyncio.ensure_future(self.storage.accept(batch)))
        import_.count(things.months)

    async def _place(self, import_: _Import, place: Place) -> None:
        """Everything before it is in: move the cursor."""
        await self._landed(import_)
        mark = Advanced(upload=import_.upload.id, cursor=place.cursor, done=place.done, kinds=import_.kinds, events=import_.events)
        marks: list[Mark] = [StillActive(number=import_.connection.number), mark]
        await self.storage.accept(Batch(connection=import_.connection, observed_at=self.clock.now(), marks=marks))

    async def _landed(self, import_: _Import) -> None:
        """Wait until every batch is in. Raises what refused the first of them."""
        while import_.flight:
            done, import_.flight = await asyncio.wait(import_.flight)
            self._count(import_, done)

    def _count(self, import_: _Import, done: set[asyncio.Task[Accepted]]) -> None:
        for accepted in [task.result() for task in sorted(done, key=lambda task: task.exception() is None)]:
            events = accepted.events
            import_.events += events
            if events:
                self.metrics.count("events_accepted", events, provider=import_.connection.provider)

    async def _goes_on(self, upload: Upload) -> bool:
        """The reader died: queue the file again, unless that went on at the same place too often."""
        current = await self.storage.read(uploads.by_id, upload.id)
        if current is None or current.tries >= TRIES:
            return False
        await self.storage.write(uploads.rescue, self.files.place, upload.id)
        return True

    async def _end(self, import_: _Import, state: Ending, reason: str) -> None:
        """Write the summary, and remove the file."""
        upload = import_.upload
        new = await self.storage.read(uploads.new_events, upload.id)
        kinds = {
            type_: Kind(records=kind.records, events=new.get(type_, 0), months=kind.months) for type_, kind in sorted(import_.kinds.items())
        }
        await self.storage.write(uploads.summed, upload.id, kinds, sum(new.values()))
        await self.storage.write(uploads.end, upload.id, state, reason, self.clock.now())
        if not (self.keep and state == "done"):
            self.files.remove(import_.connection.id, upload.id)
