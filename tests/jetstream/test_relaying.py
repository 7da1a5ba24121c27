"""The relay and the NATS sink together, with a real server: processes that are killed, and servers that lose or go."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from broker import Broker, broker
from daemon.outbox.test_relay import World
from daemon.virtual import Notes
from faults.load import Bench
from faults.nursery import LAB, Nursery, nursery
from jetstream.reading import everything, once
from jetstream.relaying import BATCH, relaying
from ports import free_port

from oo_daemon.app import build
from oo_daemon.host import HostClock
from oo_daemon.ops import levels
from oo_daemon.outbox import relay, wire
from oo_daemon.ports import SECOND
from oo_daemon.store import consumers, outbox
from oo_daemon.store.database import SqliteDatabase
from oo_daemon.store.storage import InlineStorage, open_database

#: The long run sets it to 1,000.
KILLS = int(os.environ.get("OO_TEST_RELAY_KILLS", "10"))
PATIENCE = 30.0
ALERTS = Path(__file__).parents[2] / "docs" / "operations" / "alerts.yaml"


@pytest.fixture
def server() -> Iterator[Broker]:
    """A server that syncs each message."""
    with broker() as made:
        yield made


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits a second before the next try."""
    monkeypatch.setattr(relay, "BASE", 0.01)
    monkeypatch.setattr(relay, "CAP", 0.1)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """An empty outbox."""
    database = open_database(tmp_path / "oo.db")
    database.rows("PRAGMA synchronous = 0")  # no power is cut here
    yield World(database)
    database.close()


@pytest.fixture
async def bears(tmp_path: Path) -> AsyncIterator[Nursery]:
    """Where processes come from."""
    async with nursery(tmp_path / "borne") as made:
        yield made


def settings(server: Broker, folder: Path) -> dict[str, Any]:
    """Of the sink."""
    (folder / "subject-key").write_text("0123456789abcdef")
    return {"subject_key_file": str(folder / "subject-key"), "servers": [server.url], "create": True}


def ids(database: SqliteDatabase) -> list[str]:
    """Of all events of the outbox, in order."""
    return [wire.decode(bytes(body)).id for (body,) in database.rows("SELECT body FROM outbox ORDER BY position")]


async def taken(storage: InlineStorage) -> None:
    """Wait until the sink has all there is."""
    async with asyncio.timeout(PATIENCE):
        while True:
            known, end = await storage.read(consumers.of, "sink:nats"), await storage.read(outbox.end)
            if known is not None and known.position == end.number:
                return
            await asyncio.sleep(0.01)


@pytest.mark.rows("B20")
@pytest.mark.timeout(1800)
async def test_killed_between_publish_and_note(server: Broker, world: World, bears: Nursery, tmp_path: Path) -> None:
    """Killed after each acknowledgement and before the note of it, again and again, nothing is missing, doubled or out of order."""
    given = json.dumps(settings(server, tmp_path))
    for _ in range(KILLS):
        await world.write(BATCH)
    deaths = 0
    while True:
        life = await bears.bear("jetstream.relaying:main", str(tmp_path / "oo.db"), given, "2")  # one step on in each life
        await life.end()
        if "done" in life.said.read_text():
            break
        assert not life.said.read_text(), life.said.read_text()[-2000:]
        deaths += 1
    found = await everything(server.url)
    print(f"\nrelay: killed {deaths} times between publish and note, {len(found)} messages of {KILLS * BATCH} events")
    assert deaths == KILLS - 1
    assert [read.id for read in once(found)] == ids(world.database)
    assert len(found) == KILLS * BATCH  # the server knew all that came again


@pytest.mark.rows("B20")
@pytest.mark.parametrize("idle", [False, True])
async def test_a_server_that_lost_its_end(
    server: Broker, world: World, tmp_path: Path, idle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server comes back without what it acknowledged last: it is given that again, in order, also where nothing new comes."""
    monkeypatch.setattr(relay, "LOOK", 0.3)
    notes = Notes()
    it = relaying(world.storage, settings(server, tmp_path), notes, batch=20)
    await world.write(100)
    await taken(world.storage)
    server.end(signal.SIGTERM)
    kept = server.keep()
    server.start()
    for _ in range(10):
        await world.write(20)
        await taken(world.storage)
    server.end()
    server.put_back(kept)
    server.start()
    assert len(await everything(server.url)) == 100
    if not idle:
        await world.write(20)
    async with asyncio.timeout(PATIENCE):
        while not notes.said("sink_lost"):
            await asyncio.sleep(0.01)
    await taken(world.storage)
    await it.stop()
    found = await everything(server.url)
    assert [read.id for read in once(found)] == ids(world.database)
    assert not any(line["more"] for line in notes.said("sink_lost"))


class Ahead(HostClock):
    """The host's clock, some seconds ahead."""

    seconds = 0.0

    def now(self) -> int:
        return super().now() + int(self.seconds * SECOND)


@pytest.mark.rows("B22")
async def test_a_server_that_is_away(server: Broker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the server webhooks are taken as ever, the sink lags, and after five minutes there is an alarm; then it gets them all."""
    monkeypatch.syspath_prepend(str(LAB))
    monkeypatch.setattr(levels, "LOOK", 0.1)
    bench = Bench(tmp_path, free_port())
    await bench.prepare()
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings(server, tmp_path).items()]
    bench.config.write_text("\n".join([bench.config.read_text(), "[sinks.nats]", *lines]))
    server.end()
    clock = Ahead()
    async with build(bench.settings(), clock=clock) as app, bench.client as client:
        assert [await bench.post(f"m{number}") for number in range(20)] == [200] * 20
        await bench.settled()
        async with asyncio.timeout(PATIENCE):
            while (await client.sinks())[0].state != "waiting":
                await asyncio.sleep(0.01)
        (sink,) = await client.sinks()
        assert sink.lag == 20
        assert sink.reason == "no server can be reached (NoServersError)"
        clock.seconds = 301
        oldest = (("consumer", "sink:nats"),)
        async with asyncio.timeout(PATIENCE):
            while app.metrics.values().get(("consumer_oldest_seconds", oldest), 0) <= 300:
                await asyncio.sleep(0.05)
        assert "oo_integrations_consumer_oldest_seconds > 300" in _rules()
        assert await bench.post("late") == 200
        server.start()
        async with asyncio.timeout(PATIENCE):
            while (await client.sinks())[0].lag:
                await asyncio.sleep(0.01)
    assert {read.event.subject for read in await everything(server.url)} == {"late", *(f"m{number}" for number in range(20))}


def _rules() -> set[str]:
    return {rule["expr"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]}


def test_it_is_not_imported_where_it_is_not_used() -> None:
    """A daemon without a table for it does without the library."""
    words = "import sys, oo_nats; oo_nats.oo_sinks(); print('nats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout == "False\n"
