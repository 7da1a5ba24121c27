"""The async port to a PostgreSQL: threads that write at once, and readers beside them, each with a connection of its own.

Each write is a transaction. What waits at the same time and is small goes together, with a savepoint each, so that a flood of webhooks
costs one flush; batches of events are each alone, since they hold the outbox until their commit. A caller's future resolves only after
COMMIT.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from oo_daemon.ports import UNTRACED, Trace
from oo_daemon.store import accept as waist
from oo_daemon.store.database import Database
from oo_daemon.store.errors import CannotStore, Corrupt
from oo_daemon.store.hints import Hints
from oo_daemon.store.postgresql import PostgresqlDatabase, crossed, explain, in_the_way
from oo_daemon.store.storage import Item, Lane, P, Prepared, Query, Readers, accepting, resolve_all

T = TypeVar("T")

READING, WRITING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "BEGIN"
#: Several together must not wait for others one after another, nor in an order in which those wait for them: who would wait is run alone.
TOGETHER = "BEGIN; SET LOCAL lock_timeout = '50ms'"
#: How often a transaction is run that crossed with others.
TRIES = 3
#: The word that another daemon has committed events.
EVENTS = "events"


@dataclass(slots=True, eq=False)
class _Queue:
    """What waits for the writers."""

    ready: threading.Condition = field(default_factory=threading.Condition)
    lanes: tuple[deque[Item], deque[Item]] = field(default_factory=lambda: (deque(), deque()))
    closed: bool = False

    def put(self, item: Item, lane: Lane) -> bool:
        """Add an item; False once it is closed."""
        with self.ready:
            if self.closed:
                return False
            self.lanes[lane].append(item)
            self.ready.notify_all()  # not every writer takes everything
            return True

    def take(self, most: int, *, bulk: bool) -> list[Item]:
        """The next transaction's items, ingest first; empty when closed and drained. `bulk`: this writer takes batches of syncs, too."""
        lanes = self.lanes if bulk else self.lanes[:1]
        with self.ready:
            while not any(lanes) and not self.closed:
                self.ready.wait()
            waiting = next((lane for lane in lanes if lane), None)
            if waiting is None:
                return []
            items = [waiting.popleft()]
            while waiting and len(items) < most and not (items[0].alone or waiting[0].alone):
                items.append(waiting.popleft())
            return items

    def close(self) -> None:
        with self.ready:
            self.closed = True
            self.ready.notify_all()


class PooledStorage:
    """A few writers, of which one is always free for what somebody waits for, and readers."""

    MOST = 64  #: small items in one commit
    file = None  #: it is on a server

    def __init__(
        self, database: PostgresqlDatabase, encode: waist.Encode, *, writers: int = 4, readers: int = 2, trace: Trace = UNTRACED
    ) -> None:
        self._database = database
        self._encode = encode
        self._trace = trace
        self._queue = _Queue()
        self._listeners: list[Callable[[], None]] = []
        self._on_damage: Callable[[Corrupt], None] = lambda _: None
        self._on_commit: Callable[[], AbstractContextManager[object]] = nullcontext
        self.engine = f"PostgreSQL {database.version()}"
        database.close()  # the opener's connection; each thread brings its own
        self._hints = Hints(database)
        self._readers = Readers(readers, begin=lambda: None, look=self._look, end=self._close)
        self._writers = [threading.Thread(target=self._write, args=(number > 0,), name=f"oo-writer-{number}") for number in range(writers)]
        for writer in self._writers:
            writer.start()

    async def read(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query that changes nothing, in a reader thread."""
        return await self._readers.ask(lambda database: query(database, *args, **kwargs))

    async def write(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query in a transaction, alone or together with others."""
        return await self.begin(query, *args, **kwargs)

    def begin(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """As `write`."""
        return self._submit(lambda database: query(database, *args, **kwargs), Lane.INGEST)

    async def accept(self, batch: Prepared, lane: Lane = Lane.BULK) -> waist.Accepted:
        """Write events and their mark in one transaction."""
        with self._trace.span("accept"):
            accepted = await self._submit(accepting(batch, self._encode), lane, alone=True)
            self._trace.note(events=accepted.events)
            return accepted

    def on_accept(self, listener: Callable[[], None]) -> None:
        """Have the listener called after each commit that put events into the outbox, also of another daemon; from any thread."""
        self._listeners.append(listener)
        self._hints.on(EVENTS, listener)

    def on_word(self, word: str, listener: Callable[[], None]) -> None:
        """Have the listener called when another daemon tells this word, and when one may have been missed; from any thread."""
        self._hints.on(word, listener)

    def tell(self, word: str) -> None:
        """Tell the other daemons a word. It is a hint: it may be lost."""
        self._hints.tell(word)

    def on_damage(self, listener: Callable[[Corrupt], None]) -> None:
        """Have the listener called when a read or a write meets damaged data; from any thread."""
        self._on_damage = listener

    def around_commits(self, watch: Callable[[], AbstractContextManager[object]]) -> None:
        """Have each transaction made inside what `watch` gives; in the writers' threads."""
        self._on_commit = watch

    async def checkpoint(self) -> None:
        """PostgreSQL takes its own."""

    async def tend(self) -> None:
        """Nothing is to be done."""

    async def pack(self) -> None:
        """PostgreSQL's autovacuum gives the room free."""

    async def close(self) -> None:
        """Commit what waits, and stop the threads."""
        loop = asyncio.get_running_loop()
        self._queue.close()
        for writer in self._writers:
            await loop.run_in_executor(None, writer.join)
        await loop.run_in_executor(None, self._readers.close)
        await loop.run_in_executor(None, self._hints.close)

    # --- in the threads -----------------------------------------------------------------------------------------------

    def _submit(self, work: Callable[[Database], T], lane: Lane, *, alone: bool = False) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        item = Item(work, loop, loop.create_future(), alone=alone)
        if not self._queue.put(item, lane):
            item.error = CannotStore("the daemon is stopping")
            item.resolve()
        return item.future

    def _write(self, bulk: bool) -> None:
        while items := self._queue.take(self.MOST, bulk=bulk):
            left = items
            if len(items) > 1:
                with self._on_commit():
                    left = self._together(items)
                self._tell([item for item in items if item not in left])
            for item in left:
                with self._on_commit():
                    self._alone(item)
                self._tell([item])
        self._close()

    def _alone(self, item: Item) -> None:
        """Run one; afterwards it has its result, or its error and left no trace."""
        for tries in range(TRIES):
            item.result, item.error = None, None
            try:
                item.result = self._transaction(WRITING, item.work, ahead=item.alone)
            except BaseException as error:
                item.error = explain(error)
                if crossed(error) and tries + 1 < TRIES:
                    continue
            return

    def _together(self, items: Sequence[Item]) -> list[Item]:
        """Run items in one transaction, a savepoint each; gives those that are to be run alone: others were in the way, or it is gone."""
        again: list[Item] = []
        done = False

        def all_of_them(database: Database) -> None:
            nonlocal done
            for place, item in enumerate(items):
                self._database.run("RELEASE item; SAVEPOINT item" if place else "SAVEPOINT item")
                item.result, item.error = None, None
                try:
                    item.result = item.work(database)
                except BaseException as error:
                    self._database.run("ROLLBACK TO item")  # raises where the connection is lost
                    if crossed(error) or in_the_way(error):
                        again.append(item)
                    else:
                        item.error = explain(error)
            done = True

        try:
            self._transaction(TOGETHER, all_of_them)
        except BaseException as error:
            if not done or not self._database.is_lost():  # nobody was told anything yet: each hears what becomes of it alone
                return [*items]
            for item in items:  # the answer to the COMMIT is lost: what may be done already is not done again behind its caller's back
                item.error = item.error or explain(error)
        return again

    def _look(self, item: Item) -> Any:
        try:
            return self._transaction(READING, item.work)
        except BaseException as error:
            if (told := explain(error)) is error:
                raise
            if isinstance(told, Corrupt):
                self._on_damage(told)
            raise told from error

    def _transaction(self, begin: str, work: Callable[[Database], T], *, ahead: bool = False) -> T:
        """Run a query in a transaction on the thread's connection. `ahead`: a batch of events, which holds the outbox until its commit."""
        self._begin(begin)
        try:
            with self._database.ahead() if ahead else nullcontext():
                result = work(self._database)
                self._database.run("COMMIT")
        except BaseException:
            self._abandon()
            raise
        return result

    def _begin(self, begin: str) -> None:
        """Begin a transaction; on a new connection where there is none, or where the server has closed it since the last."""
        if not self._database.is_closed():
            try:
                self._database.run(begin)
                return
            except Exception:  # nothing has begun yet
                self._close()
        try:
            self._database.connect()
            self._database.run(begin)
        except BaseException:
            self._close()
            raise

    def _abandon(self) -> None:
        """Leave no transaction behind, whatever state the connection is in."""
        with suppress(Exception):  # it is lost just now
            if not self._database.is_lost():
                self._database.run("ROLLBACK")
                return
        self._close()

    def _close(self) -> None:
        with suppress(Exception):
            self._database.close()

    def _tell(self, items: Sequence[Item]) -> None:
        if any(isinstance(item.result, waist.Accepted) and item.result.events for item in items):
            for listener in self._listeners:
                with suppress(Exception):  # it must not stop the writer; what it missed, it hears of with the next events
                    listener()
            self._hints.tell(EVENTS)
        for item in items:
            if isinstance(item.error, Corrupt):
                self._on_damage(item.error)
        resolve_all(items)
