"""The private door with events behind it, on a real socket and a real file, to be stopped and started again."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from daemon.ingress.wire import Notebook

from oo_client import Client
from oo_daemon.host import HostChance, HostClock
from oo_daemon.ingress import answers, server
from oo_daemon.ingress.api import in_its_words
from oo_daemon.ingress.events import EventRoutes
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import wire
from oo_daemon.outbox.consumers import Consumers, parsed
from oo_daemon.outbox.tail import Tail
from oo_daemon.store import connections
from oo_daemon.store.accept import Batch, Draft
from oo_daemon.store.connections import Connection, SignedIn
from oo_daemon.store.database import Database
from oo_daemon.store.storage import ThreadedStorage, open_database
from oo_sdk import Change, Event
from oo_sdk.vocabulary import Document


class Post:
    """Where events are fetched; what is written comes through the waist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "oo.sock"
        self.clock = HostClock()
        self.written = 0
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """Begin, as a daemon does at its start."""
        database = open_database(self.folder / "oo.db")
        database.rows("PRAGMA synchronous = 0")  # no power is cut here
        self.storage = ThreadedStorage(database, wire.encode)
        self._stack.push_async_callback(self.storage.close)
        tail, clock = Tail(self.storage, self.clock), self.clock
        routes = EventRoutes(
            storage=self.storage,
            reader=tail,
            consumers=Consumers(storage=self.storage, reader=tail, clock=clock, chance=HostChance(), metrics=MemoryMetrics()),
            parsed=parsed,
            as_json=wire.as_json,
            entry=wire.entry,
            stretch=wire.stretch,
            views=wire.VIEWS,
            clock=clock,
        )
        app = answers.private_application(log=Notebook())
        app.middlewares.append(in_its_words)
        app.add_routes(routes.routes())
        door = await server.listen_unix(app, path=self.socket, admins=frozenset({os.getuid()}))
        self._stack.push_async_callback(door.close)
        self._stack.callback(tail.close)

    async def close(self) -> None:
        """End, as a daemon does that is told to stop."""
        await self._stack.aclose()

    def client(self, **how: Any) -> Client:
        """A client; use it with `async with`."""
        return Client(self.socket, **how)

    async def write(self, count: int = 1, *, user: str = "ada", name: str = "note") -> None:
        """Put events into the outbox, each about another thing."""
        drafts = [self.draft(f"n{self.written + number}", name=name) for number in range(count)]
        self.written += count
        await self.accept(drafts, user)

    async def accept(self, drafts: list[Draft], user: str = "ada") -> None:
        """Put these into the outbox."""
        now = self.clock.now()
        await self.storage.accept(lambda database: Batch(connection=self._connection(database, user), observed_at=now, drafts=drafts))

    @staticmethod
    def draft(subject: str, text: str = "Tea", *, name: str = "note") -> Draft:
        """A thing is so."""
        return wire.draft("acme", Event(name, subject, Change.UPSERTED, payload=Document(title=text)))

    def _connection(self, database: Database, user: str) -> Connection:
        words = {"user": user, "provider": "acme", "account": "default", "registration": None, "provider_account": "", "label": ""}
        signed_in = SignedIn(id=f"c-{user}", scopes=(), meta={}, **words)  # type: ignore[arg-type]  # the words above
        return connections.of(database, user, "acme", "default") or connections.put(database, signed_in, self.clock.now())


async def within(seconds: float, work: Any) -> Any:
    """What comes of it, which takes no longer."""
    async with asyncio.timeout(seconds):
        return await work
