"""The async port to the store: named queries run off the event loop, writes in one thread and in groups.

`ThreadedStorage` is that of a file: a writer thread that commits many callers' items in one transaction (one fsync for all of them), and
readers with connections that cannot write. `pool.PooledStorage` is that of a PostgreSQL. `InlineStorage` runs each query at once, in the
caller's thread: for simulation and tests.
A caller's future resolves only after COMMIT.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import apsw

from oo_daemon.ports import UNTRACED, Trace
from oo_daemon.store import accept as waist
from oo_daemon.store import migrations
from oo_daemon.store.checked import is_flipped
from oo_daemon.store.database import BUSY_TIMEOUT_MS, Database, ForMany, SqliteDatabase, refuse_affected, refuse_network
from oo_daemon.store.errors import CannotOpen, CannotStore, Corrupt, Erased
from oo_daemon.store.orm import peewee

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
        """Run a query that changes nothing; it sees one state of the database throughout. Raises `CannotStore`."""

    async def write(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query in a transaction; returns after its commit. Raises `CannotStore` when the disk refuses.

        A caller that is cancelled no longer hears of it; what it wrote may be kept.
        """

    async def accept(self, batch: Prepared, lane: Lane = Lane.BULK) -> waist.Accepted:
        """Write events and their mark in one transaction: the only way into the outbox."""

    def on_accept(self, listener: Callable[[], None]) -> None:
        """Have the listener called after each commit that put events into the outbox; from any thread."""


class Engine(Storage, Protocol):
    """A storage with all that a daemon needs of it. What belongs to a file alone, that on a server does without: it does nothing."""

    @property
    def file(self) -> Path | None:
        """Where it is; None: on a server, where it is looked after, packed and backed up, and which others may use, too."""

    @property
    def engine(self) -> str:
        """Its name and version."""

    def begin(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """As `write`, for what comes by the thousand and has no coroutine to wait in."""

    def on_word(self, word: str, listener: Callable[[], None]) -> None:
        """Have the listener called when another daemon on the same database tells this word; from any thread."""

    def tell(self, word: str) -> None:
        """Tell the other daemons a word. It is a hint: it may be lost."""

    def on_damage(self, listener: Callable[[Corrupt], None]) -> None:
        """Have the listener called when a read or a write meets damaged data; from any thread."""

    def around_commits(self, watch: Callable[[], AbstractContextManager[object]]) -> None:
        """Have each commit made inside what `watch` gives; in the writer's thread."""

    async def checkpoint(self) -> object:
        """Move the write-ahead log into the file."""

    async def tend(self) -> None:
        """A checkpoint, where there is something for it to do."""

    async def pack(self) -> None:
        """Write the file anew, without what was deleted from it. Raises `CannotStore`."""

    async def close(self) -> None:
        """Commit what waits, and stop."""


#: SQLite's own steps between two looks at whether a read has had its time: under a millisecond.
STEPS = 20_000
NEVER = float("-inf")
#: What SQLite says to a fault of ours: a wrong statement, a broken constraint. It must be seen, not tried again.
OUR_FAULTS = (
    apsw.SQLError,
    apsw.ConstraintError,
    apsw.MismatchError,
    apsw.RangeError,
    apsw.TooBigError,
    apsw.MisuseError,
    apsw.BindingsError,
)


def explain(error: BaseException) -> BaseException:
    """Say in our words why SQLite refused; any other error stays as it is."""
    match getattr(error, "orig", error):  # peewee wraps what apsw raises
        case apsw.CorruptError() | apsw.NotADBError():
            return Corrupt("the database file is damaged: stop the daemon and restore a backup")
        case apsw.IOError() as read if is_flipped(read):
            return Corrupt("the database file is damaged (a page is not what was written): stop the daemon and restore a backup")
        case apsw.FullError():
            return CannotStore("the disk is full: free some space and try again")
        case apsw.InterruptError():
            return CannotStore("a question to the database took too long and was cut off: ask for less at once")
        case apsw.BusyError() | apsw.LockedError():
            return CannotStore("another program holds the database: try again")
        case apsw.ConstraintError() as broken if getattr(broken, "extendedresult", 0) == apsw.SQLITE_CONSTRAINT_FOREIGNKEY:
            return Erased("what this belongs to was erased")
        case apsw.Error() as refusal if not isinstance(refusal, OUR_FAULTS):
            return CannotStore(f"the database cannot be used now ({type(refusal).__name__}): see the disk and the log")
        case CannotOpen():  # an open daemon opens its file again after a fault
            return CannotStore(str(error))
        case StopIteration():
            return RuntimeError("a query ran out of rows")  # asyncio's futures cannot carry a StopIteration
        case _:
            return error


def sqlite_version() -> str:
    """Version of the SQLite that holds our files."""
    return apsw.sqlite_lib_version()


def open_database(path: Path, *, vfs: str | None = None, mounts: str | None = None) -> SqliteDatabase:
    """Open the file, check what must hold before anything is promised, and bring its schema up to date.

    Raises `CannotOpen` with a sentence that says what to do.
    """
    _refuse_unsafe(path, mounts)
    database = SqliteDatabase(path, vfs=vfs)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        database.connect()
        migrations.migrate(database)
    except Exception as wrong:
        database.close()
        raise _not_opened(path, wrong) from None
    return database


def _refuse_unsafe(path: Path, mounts: str | None = None) -> None:
    refuse_affected(sqlite_version())
    refuse_network(path.resolve().parent, Path("/proc/self/mounts").read_text(errors="surrogateescape") if mounts is None else mounts)


def _not_opened(path: Path, wrong: Exception) -> Exception:
    match getattr(wrong, "orig", wrong):
        case apsw.CorruptError() | apsw.NotADBError():
            return Corrupt(f"{path} is damaged or not a database: move it away or restore a backup ({wrong}).")
        case apsw.IOError() as read if is_flipped(read):
            return Corrupt(f"{path} is damaged, a page of it is not what was written: move it away or restore a backup.")
        case apsw.Error() | OSError():
            return CannotOpen(f"{path} cannot be opened ({wrong}): check that the folder exists, is ours and has space.")
        case _:
            return wrong


def schema_of(path: Path) -> tuple[int, int]:
    """The schema that a file has (0: there is none yet), and the one that this program lives on. Raises as `open_database` does."""
    newest = migrations.MIGRATIONS[-1].number
    _refuse_unsafe(path)
    if not path.exists():
        return 0, newest
    database = SqliteDatabase(path)
    try:
        database.connect()
        return migrations.schema(database), newest
    except Exception as wrong:
        raise _not_opened(path, wrong) from None
    finally:
        database.close()


@dataclass(slots=True, eq=False)
class Item:
    """Something to be written, and who waits for it."""

    work: Callable[[Database], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    alone: bool = False  #: not together with others: on a file outside of any transaction, on a server in one of its own
    shared: ForMany[Any, Any] | None = None  #: what runs for it and its neighbours at once, and with what
    given: Any = None
    result: Any = None
    error: BaseException | None = None

    def resolve(self) -> None:
        """Tell its caller; in the caller's loop."""
        if self.future.done():  # its caller was cancelled
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


@dataclass(slots=True, eq=False)
class Transactions:
    """Runs items in transactions on the calling thread's connection: one BEGIN IMMEDIATE, a savepoint each, one COMMIT.

    After a refusal the connection is closed and opened again for the next transaction.
    """

    database: SqliteDatabase
    changes: int = -1

    def changed(self) -> bool:
        """Say whether something was written since this was last asked."""
        before, self.changes = self.changes, -1 if self.database.is_closed() else self.database.handle().total_changes()
        return self.changes != before or before < 0

    def run(self, items: Sequence[Item]) -> None:
        """Run all; afterwards each item has its result, or its error and left no trace."""
        if items[0].alone:
            self._alone(items[0])
            return
        if len(items) == 1 or not self._attempt(items):
            for item in items:
                self._attempt([item])

    def _alone(self, item: Item) -> None:
        try:
            _connected(self.database)
            item.result = item.work(self.database)
        except BaseException as error:
            item.error = explain(error)
            _close(self.database)

    def _attempt(self, items: Sequence[Item]) -> bool:
        """Run items in one transaction; False: it is gone as a whole, nobody was told anything yet, and each may be run alone."""
        begun = False
        try:
            connection = _connected(self.database)
            connection.execute("BEGIN IMMEDIATE")
            begun = True
            for item in items:
                item.result, item.error = None, None
            if len(items) == 1:
                items[0].result = items[0].work(self.database)
            else:
                self._in_savepoints(connection, items)
            connection.execute("COMMIT")
        except BaseException as error:
            _abandon(self.database)
            if begun and len(items) > 1:
                return False
            for item in items:
                item.result, item.error = None, explain(error)
        if any(isinstance(item.error, CannotStore) for item in items):
            _close(self.database)
        return True

    def _in_savepoints(self, connection: apsw.Connection, items: Sequence[Item]) -> None:
        """Each in one of its own; neighbours that can be run together in one for all, unless that fails."""
        for shared, neighbours in groupby(items, key=attrgetter("shared")):
            some = list(neighbours)
            if shared is None or len(some) == 1 or not self._together(connection, shared, some):
                for item in some:
                    self._in_savepoint(connection, item)

    def _in_savepoint(self, connection: apsw.Connection, item: Item) -> None:
        connection.execute("SAVEPOINT item")
        try:
            item.result = item.work(self.database)
        except BaseException as error:
            if not connection.in_transaction:
                raise  # a full disk inside a savepoint ends the whole transaction
            connection.execute("ROLLBACK TO item")
            item.error = explain(error)
        connection.execute("RELEASE item")

    def _together(self, connection: apsw.Connection, shared: ForMany[Any, Any], items: Sequence[Item]) -> bool:
        """Run one query for all; False: it left no trace, and each is to be run alone."""
        connection.execute("SAVEPOINT item")
        results = None
        try:
            results = shared.many(self.database, [item.given for item in items])
        except Exception:
            if not connection.in_transaction:
                raise  # as above
        if results is None:
            connection.execute("ROLLBACK TO item")
        else:
            for item, result in zip(items, results, strict=True):
                item.result = result
        connection.execute("RELEASE item")
        return results is not None


def _look(database: SqliteDatabase, query: Callable[[Database], T], begin: Callable[[apsw.Connection], None] = lambda _: None) -> T:
    """Run a query that changes nothing, on one state of the database."""
    try:
        connection = _connected(database)
        begin(connection)
        connection.execute("BEGIN")
        found = query(database)
        connection.execute("COMMIT")
    except BaseException as error:
        _abandon(database)
        told = explain(error)
        if told is error:
            raise
        _close(database)
        raise told from error
    return found


def _connected(database: SqliteDatabase) -> apsw.Connection:
    if database.is_closed():
        database.connect()
    return database.handle()


def _abandon(database: SqliteDatabase) -> None:
    """Leave no transaction behind, whatever state the connection is in."""
    try:
        if not database.is_closed() and database.in_transaction_now():
            database.rows("ROLLBACK")
    except apsw.Error:
        _close(database)


def _close(database: SqliteDatabase) -> None:
    with suppress(apsw.Error, peewee.PeeweeException):  # closing writes, too, and can be refused
        database.close()


class InlineStorage:
    """Runs each query at once in the caller's thread, each write in a transaction of its own."""

    def __init__(self, database: SqliteDatabase, encode: waist.Encode) -> None:
        self.database = database
        self._encode = encode
        self._transactions = Transactions(database)
        self._listeners: list[Callable[[], None]] = []

    async def read(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query that changes nothing."""

        def look(database: Database) -> T:
            database.rows("PRAGMA query_only = 1")  # as the readers of `ThreadedStorage`
            try:
                return query(database, *args, **kwargs)
            finally:
                database.rows("PRAGMA query_only = 0")

        return _look(self.database, look)

    async def write(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query in a transaction of its own."""
        return await self.begin(query, *args, **kwargs)

    def begin(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """As `write`; it is done when this returns."""
        loop = asyncio.get_running_loop()
        item = Item(lambda database: query(database, *args, **kwargs), loop, loop.create_future())
        self._transactions.run([item])
        item.resolve()
        return item.future

    async def accept(self, batch: Prepared, lane: Lane = Lane.BULK) -> waist.Accepted:
        """Write events and their mark in one transaction."""
        accepted = await self.write(accepting(batch, self._encode))
        if accepted.events:
            for listener in self._listeners:
                listener()
        return accepted

    def on_accept(self, listener: Callable[[], None]) -> None:
        """Have the listener called after each commit that put events into the outbox."""
        self._listeners.append(listener)


@dataclass(slots=True, eq=False)
class _Queue:
    """What waits for the writer thread."""

    ready: threading.Condition = field(default_factory=threading.Condition)
    lanes: tuple[deque[Item], deque[Item]] = field(default_factory=lambda: (deque(), deque()))
    closed: bool = False

    def put(self, items: Iterable[tuple[Item, Lane]]) -> bool:
        """Add items; False once it is closed."""
        with self.ready:
            if self.closed:
                return False
            for item, lane in items:
                self.lanes[lane].append(item)
            self.ready.notify()
            return True

    def take(self, most: int, bulk: int) -> list[Item]:
        """The next commit's items, ingest first; empty when closed and drained."""
        with self.ready:
            while not any(self.lanes) and not self.closed:
                self.ready.wait()
            waiting = self.lanes[Lane.BULK]
            if waiting and waiting[0].alone:
                return [waiting.popleft()]
            bulk = next((place for place, item in enumerate(waiting) if item.alone), bulk)
            return [lane.popleft() for lane, limit in zip(self.lanes, (most, bulk), strict=True) for _ in range(min(limit, len(lane)))]

    def close(self) -> None:
        with self.ready:
            self.closed = True
            self.ready.notify()


class Readers:
    """Threads that answer questions, each with a connection of its own.

    Not an executor of Python's own: to hand a question over and its answer back takes that three times as long.
    """

    def __init__(self, count: int, *, begin: Callable[[], None], look: Callable[[Item], Any], end: Callable[[], None]) -> None:
        self._begin, self._look, self._end = begin, look, end
        self._coming: SimpleQueue[Item | None] = SimpleQueue()
        self._held, self._closed = threading.Lock(), False
        self._threads = [threading.Thread(target=self._answer, name=f"oo-reader-{number}") for number in range(count)]
        for thread in self._threads:
            thread.start()

    def ask(self, work: Callable[[Database], T]) -> asyncio.Future[T]:
        """Have one of them look."""
        loop = asyncio.get_running_loop()
        item = Item(work, loop, loop.create_future())
        with self._held:
            if not self._closed:
                self._coming.put(item)
                return item.future
        item.error = CannotStore("the daemon is stopping")
        item.resolve()
        return item.future

    def close(self) -> None:
        """Answer what was asked, and stop; waits for it."""
        with self._held:
            self._closed = True
            for _ in self._threads:
                self._coming.put(None)
        for thread in self._threads:
            thread.join()

    def _answer(self) -> None:
        self._begin()
        while (item := self._coming.get()) is not None:
            if not item.future.cancelled():
                try:
                    item.result = self._look(item)
                except BaseException as error:
                    item.error = error
                with suppress(RuntimeError):  # the loop was closed: nobody waits
                    item.loop.call_soon_threadsafe(item.resolve)
            del item  # what was found is not held until the next question
        self._end()


class ThreadedStorage:
    """One writer thread with group commit, and readers beside it."""

    MOST = 128  #: ingest items in one commit: past this, fsync is no longer what costs
    BULK = 4  #: bulk items in one commit: each may hold 500 events, and somebody may be waiting
    #: Seconds for one read, from when a thread has taken it up: while it lasts, no checkpoint can shorten the write-ahead log.
    LONGEST_READ = 5.0
    #: Pages in the write-ahead log past which it is begun anew between two commits (4 MiB), and for how many milliseconds the writer then
    #: waits for those who read from it.
    LONG_LOG, ASIDE = 1_000, 10
    #: Pages past which those who read stand aside for it (32 MiB): for so many seconds nobody begins to read, and who began more than so
    #: many before is cut. Where another program reads from the log that is in vain, and done again after so many seconds only.
    LARGE_LOG, ASIDE_FOR, BRIEF, EVERY = 8_000, 1.0, 0.25, 10.0
    #: Looks after which a shorter one is moved, too: most of its pages are written again and again, and moved once.
    LOOKS = 10

    def __init__(self, database: SqliteDatabase, encode: waist.Encode, *, readers: int = 2, trace: Trace = UNTRACED) -> None:
        self.file = database.path
        self.engine = f"SQLite {sqlite_version()}"
        self._database = database
        self._encode = encode
        self._trace = trace
        self._queue = _Queue()
        self._coming: dict[asyncio.AbstractEventLoop, list[tuple[Item, Lane]]] = {}  #: by loop, each looked at in its own thread only
        self._listeners: list[Callable[[], None]] = []
        self._on_damage: Callable[[Corrupt], None] = lambda _: None
        self._on_commit: Callable[[], AbstractContextManager[object]] = nullcontext
        self._grown = True  #: the write-ahead log may hold what is not yet in the file
        self._log, self._looks = 0, 0  #: its pages, and how often it was looked at since it was moved
        self._go_on, self._aside_at = threading.Event(), NEVER  #: readers may begin; when they were last asked aside
        self._go_on.set()
        database.close()  # the opener's connection; each thread brings its own
        self._readers = Readers(readers, begin=database.read_only, look=self._look, end=lambda: _close(database))
        self._maintenance = ThreadPoolExecutor(1, thread_name_prefix="oo-checkpoint")
        self._writer = threading.Thread(target=self._write, name="oo-writer")
        self._writer.start()

    async def read(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query that changes nothing, in a reader thread. Raises `CannotStore` where it takes too long."""
        return await self._readers.ask(lambda database: query(database, *args, **kwargs))

    def _look(self, item: Item) -> Any:
        now = item.loop.time
        self._go_on.wait(self.ASIDE_FOR)
        over, brief = now() + self.LONGEST_READ, now() + self.BRIEF

        def takes_too_long() -> bool:
            return now() > over or (now() > brief and not self._go_on.is_set())

        try:
            return _look(self._database, item.work, lambda connection: connection.set_progress_handler(takes_too_long, STEPS))
        except Corrupt as damage:
            self._on_damage(damage)
            raise

    async def write(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query in the next commit; one that can be run for many runs once for all that wait for it."""
        return await self.begin(query, *args, **kwargs)

    def begin(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """As `write`."""
        shared = query if isinstance(query, ForMany) else None
        return self._submit(lambda database: query(database, *args, **kwargs), Lane.INGEST, shared=shared, given=args)

    async def accept(self, batch: Prepared, lane: Lane = Lane.BULK) -> waist.Accepted:
        """Write events and their mark in one transaction."""
        with self._trace.span("accept"):
            accepted = await self._submit(accepting(batch, self._encode), lane)
            self._trace.note(events=accepted.events)
            return accepted

    def on_accept(self, listener: Callable[[], None]) -> None:
        """Have the listener called after each commit that put events into the outbox; from any thread."""
        self._listeners.append(listener)

    def on_word(self, word: str, listener: Callable[[], None]) -> None:
        """Nobody else is on the file who could tell one."""

    def tell(self, word: str) -> None:
        """Nobody else is there to hear it."""

    def on_damage(self, listener: Callable[[Corrupt], None]) -> None:
        """Have the listener called when a read or a write meets a damaged file; from any thread."""
        self._on_damage = listener

    def around_commits(self, watch: Callable[[], AbstractContextManager[object]]) -> None:
        """Have each commit made inside what `watch` gives; in the writer's thread."""
        self._on_commit = watch

    async def pack(self) -> None:
        """Write the file anew, without what was deleted from it, and empty the write-ahead log. Nobody writes meanwhile.

        Raises `CannotStore`.
        """

        def work(database: Database) -> None:
            database.rows("VACUUM")
            database.rows("PRAGMA wal_checkpoint(TRUNCATE)")

        await self._submit(work, Lane.BULK, alone=True)

    def _submit(
        self,
        work: Callable[[Database], T],
        lane: Lane,
        *,
        alone: bool = False,
        shared: ForMany[Any, Any] | None = None,
        given: tuple[Any, ...] = (),
    ) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        item = Item(work, loop, loop.create_future(), alone, shared, given[0] if shared else None)
        # With all else that comes in the same turn of the loop: waking the writer for each costs more than most of them do.
        coming = self._coming.setdefault(loop, [])
        if not coming:
            loop.call_soon(self._arrive, coming)
        coming.append((item, lane))
        return item.future

    def _arrive(self, coming: list[tuple[Item, Lane]]) -> None:
        if not self._queue.put(coming):
            for item, _ in coming:
                item.error = CannotStore("the daemon is stopping")
                item.resolve()
        coming.clear()

    def _write(self) -> None:
        transactions = Transactions(self._database)
        self._database.watch_log(self._log_grown)
        while items := self._queue.take(self.MOST, self.BULK):
            with self._on_commit():
                transactions.run(items)
            self._grown = transactions.changed() or self._grown
            self._tell(items)
        _close(self._database)

    def _log_grown(self, pages: int) -> None:
        self._log = pages

    def _tell(self, items: Sequence[Item]) -> None:
        if any(isinstance(item.result, waist.Accepted) and item.result.events for item in items):
            for listener in self._listeners:
                with suppress(Exception):  # it must not stop the writer; what it missed, it hears of with the next events
                    listener()
        for item in items:
            if isinstance(item.error, Corrupt):
                self._on_damage(item.error)
        resolve_all(items)

    async def checkpoint(self, *, truncate: bool = False) -> tuple[int, int]:
        """Move the write-ahead log into the file, beside the writer; gives pages in the log and pages moved."""

        def work() -> tuple[int, int]:
            mode = apsw.SQLITE_CHECKPOINT_TRUNCATE if truncate else apsw.SQLITE_CHECKPOINT_PASSIVE
            try:
                return _connected(self._database).wal_checkpoint(mode=mode)
            except apsw.BusyError:
                return (-1, -1)  # a reader or the writer is in the way: the next one will do
            except (apsw.Error, CannotOpen) as error:
                _close(self._database)
                raise explain(error) from error

        return await in_pool(self._maintenance, work)

    async def tend(self) -> None:
        """A checkpoint, where something was written since the last one that moved everything: at once where that is much."""
        self._looks += 1
        if self._grown and (self._log >= self.LONG_LOG or self._looks >= self.LOOKS):
            self._grown, self._looks = False, 0
            self._ask_aside(asyncio.get_running_loop().time())
            pages, moved = -1, -1
            try:
                pages, moved = await self.checkpoint()
                if pages > self.LONG_LOG:
                    await self._begin_anew()
            finally:
                self._grown = self._grown or moved < pages or pages < 0

    def _ask_aside(self, now: float) -> None:
        """Have those who read stand aside for a large log, or go on where that was in vain."""
        if now < self._aside_at + self.ASIDE_FOR:
            return
        self._go_on.set()
        if self._log >= self.LARGE_LOG and now >= self._aside_at + self.EVERY:
            self._aside_at = now
            self._go_on.clear()

    async def _begin_anew(self) -> None:
        """Have the next commit write the log from its beginning.

        SQLite does that by itself where a commit finds all of the log in the file. Where somebody writes all the time none does: there is
        always one more than the checkpoint beside the writer has moved. So the rest is moved by the writer.
        """

        def work(database: Database) -> None:
            connection = _connected(self._database)
            connection.set_busy_timeout(self.ASIDE)
            try:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
                self._log, self._aside_at = 0, NEVER
                self._go_on.set()
            except apsw.BusyError:
                pass  # somebody still reads from it: the next one will do
            finally:
                connection.set_busy_timeout(BUSY_TIMEOUT_MS)

        await self._submit(work, Lane.BULK, alone=True)

    async def close(self) -> None:
        """Commit what waits, empty the write-ahead log, and stop the threads."""
        loop = asyncio.get_running_loop()
        self._arrive(self._coming.get(loop, []))
        self._queue.close()
        await loop.run_in_executor(None, self._writer.join)
        await loop.run_in_executor(None, self._readers.close)
        with suppress(CannotStore):  # the log stays, and is read at the next start
            await self.checkpoint(truncate=True)
        await loop.run_in_executor(self._maintenance, _close, self._database)
        await loop.run_in_executor(None, self._maintenance.shutdown)


def accepting(batch: Prepared, encode: waist.Encode) -> Callable[[Database], waist.Accepted]:
    """The work that accepts a batch, or makes it first."""
    return lambda database: waist.accept(database, batch if isinstance(batch, waist.Batch) else batch(database), encode)


def resolve_all(items: Iterable[Item]) -> None:
    """Tell each item's caller what became of it; from any thread."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Item]] = {}
    for item in items:
        by_loop.setdefault(item.loop, []).append(item)
    for loop, done in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits
            loop.call_soon_threadsafe(_resolve, done)


def _resolve(items: Iterable[Item]) -> None:
    for item in items:
        item.resolve()


async def in_pool(pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    """Run it in one of the pool's threads. Raises `CannotStore` where that was shut down."""
    try:
        waiting = asyncio.get_running_loop().run_in_executor(pool, work)
    except RuntimeError:
        raise CannotStore("the daemon is stopping") from None
    return await waiting
