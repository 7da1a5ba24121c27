"""A storage over PostgreSQL, to hold the named queries to the contract: a few threads that write at once, where SQLite has one writer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from oo_daemon.store import accept as waist
from oo_daemon.store.database import Database
from oo_daemon.store.postgresql import PostgresqlDatabase
from oo_daemon.store.storage import Lane, Prepared

T = TypeVar("T")
P = ParamSpec("P")
WRITING, READING = "BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class PooledStorage:
    """Each query in a transaction of its own, on one of the threads; each thread has its connection."""

    THREADS = 4

    def __init__(self, database: PostgresqlDatabase, encode: waist.Encode) -> None:
        self._database = database
        self._encode = encode
        self._listeners: list[Callable[[], None]] = []
        self._pool = ThreadPoolExecutor(self.THREADS, thread_name_prefix="oo-pooled", initializer=database.connect)

    async def read(self, query: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query that changes nothing."""
        return await self._run(READING, lambda database: query(database, *args, **kwargs))

    async def write(self, query: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query that writes."""
        return await self._run(WRITING, lambda database: query(database, *args, **kwargs))

    async def accept(self, batch: Prepared, lane: Lane = Lane.BULK) -> waist.Accepted:
        """Write events and their mark in one transaction."""

        def work(database: Database) -> waist.Accepted:
            return waist.accept(database, batch if isinstance(batch, waist.Batch) else batch(database), self._encode)

        accepted = await self._run(WRITING, work)
        if accepted.events:
            for listener in self._listeners:
                listener()
        return accepted

    def on_accept(self, listener: Callable[[], None]) -> None:
        """Have the listener called after each commit that put events into the outbox."""
        self._listeners.append(listener)

    async def _run(self, begin: str, work: Callable[[Database], T]) -> T:
        def transaction() -> T:
            self._database.rows(begin)
            try:
                result = work(self._database)
            except BaseException:
                self._database.rows("ROLLBACK")
                raise
            self._database.rows("COMMIT")
            return result

        return await asyncio.get_running_loop().run_in_executor(self._pool, transaction)

    def close(self) -> None:
        """Close each thread's connection, and stop the threads."""
        all_here = threading.Barrier(self.THREADS)

        def leave() -> None:
            all_here.wait()  # so that each thread comes here once
            self._database.close()

        for left in [self._pool.submit(leave) for _ in range(self.THREADS)]:
            left.result()
        self._pool.shutdown()
