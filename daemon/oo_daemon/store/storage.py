"""The async port to the store: named queries run off the event loop, writes in one thread and in groups.

`ThreadedStorage` is the real one: a writer thread that commits many callers' items in one transaction (one fsync for all of them), and
readers with connections that cannot write. `InlineStorage` runs each query at once, in the caller's thread: for simulation and tests.
A caller's future resolves only after COMMIT.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import apsw

from oo_daemon.store import accept as waist
from oo_daemon.store.database import Database, SqliteDatabase, refuse_affected, refuse_network
from oo_daemon.store.errors import CannotOpen, CannotStore, Corrupt
from oo_daemon.store.migrations import migrate

T = TypeVar("T")
P = ParamSpec("P")
Query = Callable[Concatenate[Database, P], T]
#: A batch, or a function that makes it inside the transaction, where its connection or its marks are made there too.
Prepared = waist.Batch | Callable[[Database], waist.Batch]


class Lane(IntEnum):
    """Which items go first into the next commit."""

    INGEST = 0  #: somebody waits: a webhook, a sign-in, a lease
    BULK = 1  #: batches of a sync or an import


class Storage(Protocol):
    """The port. Queries are functions that take a `Database` first, and give values."""

    async def read(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query that changes nothing."""

    async def write(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query in a transaction; returns after its commit. Raises `CannotStore` when the disk refuses."""

    async def accept(self, batch: Prepared, lane: Lane = Lane.BULK) -> waist.Accepted:
        """Write events and their mark in one transaction: the only way into the outbox."""

    def on_accept(self, listener: Callable[[], None]) -> None:
        """Have the listener called after each commit that put events into the outbox; from any thread."""


def explain(error: apsw.Error) -> CannotStore:
    """Say in our words why SQLite refused."""
    match error:
        case apsw.CorruptError() | apsw.NotADBError():
            return Corrupt("the database file is damaged: stop the daemon and restore a backup")
        case apsw.FullError():
            return CannotStore("the disk is full: free some space and try again")
        case apsw.BusyError() | apsw.LockedError():
            return CannotStore("another program holds the database: try again")
        case _:
            return CannotStore(f"the database cannot be used now ({type(error).__name__}): see the disk and the log")


def sqlite_version() -> str:
    """Version of the SQLite that holds our files."""
    return apsw.sqlite_lib_version()


def open_database(path: Path, *, vfs: str | None = None, mounts: str | None = None) -> SqliteDatabase:
    """Open the file, check what must hold before anything is promised, and bring its schema up to date.

    Raises `CannotOpen` with a sentence that says what to do.
    """
    refuse_affected(sqlite_version())
    refuse_network(path.parent.resolve(), mounts if mounts is not None else Path("/proc/self/mounts").read_text())
    database = SqliteDatabase(path, vfs=vfs)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        database.connect()
        migrate(database)
    except (apsw.CorruptError, apsw.NotADBError) as wrong:
        raise Corrupt(f"{path} is damaged or not a database: move it away or restore a backup ({wrong}).") from None
    except (apsw.Error, OSError) as wrong:
        raise CannotOpen(f"{path} cannot be opened ({wrong}): check that the folder exists, is ours and has space.") from None
    return database


@dataclass(slots=True)
class _Item:
    work: Callable[[Database], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def resolve(self) -> None:
        if self.future.cancelled():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


@dataclass(slots=True)
class Transactions:
    """Runs items in transactions on the calling thread's connection: one BEGIN IMMEDIATE, a savepoint each, one COMMIT."""

    database: SqliteDatabase

    def run(self, items: Sequence[_Item]) -> None:
        """Run all; afterwards each item has its result, or its error and left no trace."""
        if not self._together(items):
            # The transaction is gone as a whole (a full disk inside a savepoint does that): nobody was told anything yet.
            for item in items:
                item.result, item.error = None, None
                self._together([item])

    def _together(self, items: Sequence[_Item]) -> bool:
        connection = self.database.handle()
        alone = len(items) == 1
        try:
            connection.execute("BEGIN IMMEDIATE")
            for item in items:
                if alone:
                    item.result = item.work(self.database)
                else:
                    self._in_savepoint(connection, item)
            connection.execute("COMMIT")
        except Exception as error:
            self._rollback(connection)
            if not alone:
                return False
            items[0].error = explain(error) if isinstance(error, apsw.Error) else error
        return True

    def _in_savepoint(self, connection: apsw.Connection, item: _Item) -> None:
        connection.execute("SAVEPOINT item")
        try:
            item.result = item.work(self.database)
        except Exception as error:
            if not connection.in_transaction:
                raise
            connection.execute("ROLLBACK TO item")
            item.error = explain(error) if isinstance(error, apsw.Error) else error
        connection.execute("RELEASE item")

    @staticmethod
    def _rollback(connection: apsw.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


class InlineStorage:
    """Runs each query at once in the caller's thread, each write in a transaction of its own."""

    def __init__(self, database: SqliteDatabase, encode: waist.Encode) -> None:
        self.database = database
        self._encode = encode
        self._transactions = Transactions(database)
        self._listeners: list[Callable[[], None]] = []

    async def read(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query that changes nothing."""
        return query(self.database, *args, **kwargs)

    async def write(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query in a transaction of its own."""
        loop = asyncio.get_running_loop()
        item = _Item(lambda database: query(database, *args, **kwargs), loop, loop.create_future())
        self._transactions.run([item])
        if item.error is not None:
            raise item.error
        return cast(T, item.result)

    async def accept(self, batch: Prepared, lane: Lane = Lane.BULK) -> waist.Accepted:
        """Write events and their mark in one transaction."""
        accepted = await self.write(_accept, batch, self._encode)
        if accepted.events:
            for listener in self._listeners:
                listener()
        return accepted

    def on_accept(self, listener: Callable[[], None]) -> None:
        """Have the listener called after each commit that put events into the outbox."""
        self._listeners.append(listener)


@dataclass(slots=True)
class _Queue:
    """What waits for the writer thread."""

    ready: threading.Condition = field(default_factory=threading.Condition)
    lanes: tuple[deque[_Item], deque[_Item]] = field(default_factory=lambda: (deque(), deque()))
    closed: bool = False

    def put(self, item: _Item, lane: Lane) -> None:
        with self.ready:
            if self.closed:
                raise CannotStore("the daemon is stopping")
            self.lanes[lane].append(item)
            self.ready.notify()

    def take(self, most: int, bulk: int) -> list[_Item]:
        """The next commit's items, ingest first; empty when closed and drained."""
        with self.ready:
            while not any(self.lanes) and not self.closed:
                self.ready.wait()
            return [lane.popleft() for lane, limit in zip(self.lanes, (most, bulk), strict=True) for _ in range(min(limit, len(lane)))]

    def close(self) -> None:
        with self.ready:
            self.closed = True
            self.ready.notify()


class ThreadedStorage:
    """One writer thread with group commit, and readers beside it."""

    MOST = 128  #: ingest items in one commit: past this, fsync is no longer what costs
    BULK = 4  #: bulk items in one commit: each may hold 500 events, and somebody may be waiting

    def __init__(self, database: SqliteDatabase, encode: waist.Encode, *, readers: int = 2) -> None:
        self._database = database
        self._encode = encode
        self._queue = _Queue()
        self._listeners: list[Callable[[], None]] = []
        database.close()  # the opener's connection; each thread brings its own
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="oo-reader", initializer=self._become_reader)
        self._maintenance = ThreadPoolExecutor(1, thread_name_prefix="oo-checkpoint", initializer=database.connect)
        self._writer = threading.Thread(target=self._write, name="oo-writer")
        self._writer.start()

    def _become_reader(self) -> None:
        self._database.read_only()
        self._database.connect()

    async def read(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query that changes nothing, in a reader thread."""

        def work() -> T:
            try:
                return query(self._database, *args, **kwargs)
            except apsw.Error as error:
                raise explain(error) from None

        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    async def write(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query in the next commit."""
        return await self._submit(lambda database: query(database, *args, **kwargs), Lane.INGEST)

    async def accept(self, batch: Prepared, lane: Lane = Lane.BULK) -> waist.Accepted:
        """Write events and their mark in one transaction."""
        accepted = await self._submit(lambda database: _accept(database, batch, self._encode), lane)
        if accepted.events:
            for listener in self._listeners:
                listener()
        return accepted

    def on_accept(self, listener: Callable[[], None]) -> None:
        """Have the listener called after each commit that put events into the outbox; from any thread."""
        self._listeners.append(listener)

    async def _submit(self, work: Callable[[Database], T], lane: Lane) -> T:
        loop = asyncio.get_running_loop()
        item = _Item(work, loop, loop.create_future())
        self._queue.put(item, lane)
        return cast(T, await item.future)

    def _write(self) -> None:
        self._database.connect()
        transactions = Transactions(self._database)
        while items := self._queue.take(self.MOST, self.BULK):
            transactions.run(items)
            by_loop: dict[asyncio.AbstractEventLoop, list[_Item]] = {}
            for item in items:
                by_loop.setdefault(item.loop, []).append(item)
            for loop, done in by_loop.items():
                if not loop.is_closed():
                    loop.call_soon_threadsafe(_resolve, done)
        self._database.close()

    async def checkpoint(self, *, truncate: bool = False) -> tuple[int, int]:
        """Move the write-ahead log into the file, beside the writer; gives pages in the log and pages moved."""

        def work() -> tuple[int, int]:
            mode = apsw.SQLITE_CHECKPOINT_TRUNCATE if truncate else apsw.SQLITE_CHECKPOINT_PASSIVE
            try:
                return self._database.handle().wal_checkpoint(mode=mode)
            except apsw.BusyError:
                return (-1, -1)  # a reader or the writer is in the way: the next one will do

        return await asyncio.get_running_loop().run_in_executor(self._maintenance, work)

    async def close(self) -> None:
        """Commit what waits, empty the write-ahead log, and stop the threads."""
        loop = asyncio.get_running_loop()
        self._queue.close()
        await loop.run_in_executor(None, self._writer.join)
        await loop.run_in_executor(None, self._readers.shutdown)
        await self.checkpoint(truncate=True)
        await loop.run_in_executor(self._maintenance, self._database.close)
        self._maintenance.shutdown()


def _accept(database: Database, batch: Prepared, encode: waist.Encode) -> waist.Accepted:
    return waist.accept(database, batch if isinstance(batch, waist.Batch) else batch(database), encode)


def _resolve(items: Iterable[_Item]) -> None:
    for item in items:
        item.resolve()
