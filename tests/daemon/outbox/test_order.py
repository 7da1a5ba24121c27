"""The order that is promised: of one object, events come in the order in which it became so, each once, while others write, too."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from oo_daemon.host import HostClock
from oo_daemon.outbox import wire
from oo_daemon.outbox.tail import Tail
from oo_daemon.store import connections
from oo_daemon.store.accept import Batch
from oo_daemon.store.connections import Connection, SignedIn
from oo_daemon.store.outbox import Filter
from oo_daemon.store.pool import PooledStorage
from oo_daemon.store.storage import Storage, ThreadedStorage, open_database
from oo_sdk import Change, Event
from oo_sdk.vocabulary import Document

#: Events that are checked; the long run sets it to 1,000,000.
EVENTS = int(os.environ.get("OO_TEST_ORDER_EVENTS", "10000"))
WRITERS, OBJECTS, BATCH = 4, 300, 250


@dataclass
class Checker:
    """Takes events as a reader is given them."""

    last: int = 0
    count: int = 0
    revisions: Counter[tuple[str, str]] = field(default_factory=Counter)

    def take(self, position: int, body: bytes) -> None:
        event = wire.decode(body)
        assert position > self.last
        assert event.revision == self.revisions[event.connection, event.subject] + 1
        assert event.payload.value.endswith(b"%d" % event.revision)
        self.revisions[event.connection, event.subject] += 1
        self.last, self.count = position, self.count + 1


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], ThreadedStorage | PooledStorage]]:
    """What makes a storage of each kind, in the loop of the test."""
    if request.param == "sqlite":
        yield lambda: ThreadedStorage(open_database(tmp_path / "oo.db"), wire.encode)
        return
    database = request.getfixturevalue("shared")
    yield lambda: PooledStorage(database, wire.encode)
    database.connect()  # the storage has closed it, and it is emptied next


async def write(storage: Storage, name: str) -> None:
    """Change objects of a connection of its own, some of them twice in one batch."""
    words = {"user": name, "provider": "acme", "account": "default", "registration": None, "provider_account": "", "label": ""}
    signed_in = SignedIn(id=name, scopes=(), meta={}, **words)  # type: ignore[arg-type]  # the words above
    connection: Connection = await storage.write(connections.put, signed_in, 1)
    chance, times = random.Random(name), Counter[int]()  # spreads load
    for _ in range(EVENTS // WRITERS // BATCH):
        drafts = []
        for _ in range(BATCH):
            times[number := chance.randrange(OBJECTS)] += 1
            drafts.append(wire.draft("acme", Event("note", f"n{number}", Change.UPSERTED, payload=Document(title=f"{times[number]}"))))
        await storage.accept(Batch(connection=connection, observed_at=1, drafts=drafts))


@pytest.mark.rows("B8")
@pytest.mark.timeout(60 + EVENTS / 1000)
async def test_of_one_object_in_order(opened: Callable[[], ThreadedStorage | PooledStorage]) -> None:
    """A reader beside four writers meets every change of every object, in order, and no position twice."""
    storage = opened()
    try:
        tail, checker = Tail(storage, HostClock()), Checker()
        writing = asyncio.gather(*(write(storage, f"c{number}") for number in range(WRITERS)))
        async with aclosing(tail.onward(0, 500, Filter(), 20)) as pages:
            async for page in pages:
                assert page.events or not writing.done()
                for position, body in page.events:
                    checker.take(position, body)
                if checker.count == EVENTS:
                    break
        await writing
        assert len(checker.revisions) == WRITERS * OBJECTS
        assert checker.revisions.total() == EVENTS
    finally:
        await storage.close()
