"""Readers with a real daemon: it is killed while they read, and so are they; they go on, and miss nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from journeys import reader

from oo_client import Client
from oo_daemon.cli.stage import Stage, stage
from oo_daemon.outbox import wire
from oo_daemon.store import connections
from oo_daemon.store.accept import Batch, accept
from oo_daemon.store.connections import SignedIn
from oo_daemon.store.storage import open_database
from oo_sdk import Change, Event
from oo_sdk.vocabulary import Document

#: How often the daemon is killed, and how many events are read between two kills.
KILLS = int(os.environ.get("OO_TEST_STREAM_KILLS", "1"))
BETWEEN, SIZE = 700, 100
#: More events than fit into what is on its way between the two when the daemon dies.
NAMES = [f"n{number}" for number in range(BETWEEN * (KILLS + 1) + 300)]
PATIENCE = 120.0

pytestmark = pytest.mark.timeout(PATIENCE * (KILLS + 1))


def filled(path: Path) -> None:
    """An outbox with events in it."""
    database = open_database(path)
    words = {"user": "ada", "provider": "acme", "account": "default", "registration": None, "provider_account": "", "label": ""}
    connection = connections.put(database, SignedIn(id="c1", scopes=(), meta={}, **words), 1)  # type: ignore[arg-type]  # the words above
    for start in range(0, len(NAMES), 500):
        notes = [Event("note", name, Change.UPSERTED, payload=Document(title="Tea" * 100)) for name in NAMES[start : start + 500]]
        drafts = [wire.draft("acme", note) for note in notes]
        database.rows("BEGIN IMMEDIATE")
        accept(database, Batch(connection=connection, observed_at=time.time_ns() // 1000, drafts=drafts), wire.encode)
        database.rows("COMMIT")
    database.close()


@asynccontextmanager
async def daemon(folder: Path) -> AsyncIterator[Stage]:
    """A daemon with events to read."""
    async with stage(folder) as here:
        here.write_settings()
        await here.oo("vault", "init")
        filled(folder / "oo.sqlite3")
        await here.start_daemon()
        yield here


async def killed(here: Stage) -> None:
    """Kill the daemon, and start it again."""
    await here.processes["daemon"].kill()
    await here.start_daemon()


@pytest.mark.rows("B7", "B8")
async def test_a_stream_goes_on_after_a_kill(tmp_path: Path) -> None:
    """Whoever keeps its position meets each event once and in order, however often the daemon dies in the middle."""
    got: list[str] = []
    async with daemon(tmp_path) as here, Client(here.socket) as client:
        async with aclosing(client.stream()) as events:
            async for _, event in events:
                got.append(event.subject)
                if len(got) % BETWEEN == 0 and len(got) <= KILLS * BETWEEN:
                    await killed(here)
                if len(got) == len(NAMES):
                    break
    assert got == NAMES


@pytest.mark.rows("B7", "B8")
async def test_a_consumer_goes_on_after_a_kill(tmp_path: Path) -> None:
    """Whoever acknowledges meets every event in order; what comes twice is what was not acknowledged when the daemon died."""
    got: Counter[str] = Counter()  # in the order in which each came first
    async with daemon(tmp_path) as here, Client(here.socket) as client:
        await client.add_consumer("backend")
        async with aclosing(client.consume("backend", size=SIZE, lease=1)) as events:
            deaths = 0
            async for event in events:
                got[event.subject] += 1
                if deaths < KILLS and len(got) == (deaths + 1) * BETWEEN + SIZE // 2:
                    deaths += 1
                    await killed(here)
                if len(got) == len(NAMES):
                    break
        assert [*got] == NAMES
        assert got.total() - len(NAMES) <= KILLS * SIZE
        at_hand = range(SIZE // 2 - SIZE, SIZE // 2 + SIZE)  # around each death
        assert {name for name, times in got.items() if times > 1} <= {NAMES[n * BETWEEN + k] for n in range(1, KILLS + 1) for k in at_hand}


@pytest.mark.rows("B7", "B8")
@pytest.mark.parametrize("how", ["consume", "stream"])
async def test_a_reader_that_is_killed(tmp_path: Path, how: str) -> None:
    """One that dies over an event in the middle of a batch gets everything that it had not done again, and misses nothing."""
    lines = tmp_path / "lines"
    async with daemon(tmp_path) as here, Client(here.socket) as client:
        await client.add_consumer("backend")
        for dies_after in [*[BETWEEN - SIZE // 2] * KILLS, 0]:
            command = (sys.executable, reader.__file__, str(here.socket), str(lines), how, NAMES[-1], str(dies_after))
            child = await asyncio.create_subprocess_exec(*command)
            assert await child.wait() == (-signal.SIGKILL if dies_after else 0)
    got = [line.split()[1] for line in lines.read_text().splitlines()]
    assert list(dict.fromkeys(got)) == NAMES
    again = len(got) - len(NAMES)
    assert again == 0 if how == "stream" else 0 < again <= KILLS * reader.SIZE
