"""Sinks with real processes: events pushed over HTTP and into a file, the daemon killed between a delivery and its mark."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from oo_client import Client, DaemonNotRunning
from oo_daemon.cli.stage import Process, Stage, stage
from oo_daemon.outbox import wire
from oo_daemon.store import connections
from oo_daemon.store.accept import Batch, accept
from oo_daemon.store.connections import SignedIn
from oo_daemon.store.storage import open_database
from oo_sdk import Change, Event
from oo_sdk.vocabulary import Document

#: How often the daemon is killed, and events that there are.
KILLS = int(os.environ.get("OO_TEST_SINK_KILLS", "2"))
EVENTS = 10 * (KILLS + 1)
SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PATIENCE = 60.0


def filled(path: Path) -> None:
    """An outbox with events in it."""
    database = open_database(path)
    words = {"user": "ada", "provider": "acme", "account": "default", "registration": None, "provider_account": "", "label": ""}
    connection = connections.put(database, SignedIn(id="c1", scopes=(), meta={}, **words), 1)  # type: ignore[arg-type]  # the words above
    drafts = [wire.draft("acme", Event("note", f"n{number}", Change.UPSERTED, payload=Document(title="Tea"))) for number in range(EVENTS)]
    database.rows("BEGIN IMMEDIATE")
    accept(database, Batch(connection=connection, observed_at=time.time_ns() // 1000, drafts=drafts), wire.encode)
    database.rows("COMMIT")
    database.close()


@dataclass
class Receiver:
    """Verifies what it is sent by the library of Standard Webhooks, keeps it, and kills the daemon in the middle when it is told to."""

    here: Stage
    url: str = ""
    got: list[str] = field(default_factory=list)
    refuse: set[str] = field(default_factory=set)
    deaths: int = 0
    died: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        told = Webhook(SECRET).verify(await request.read(), dict(request.headers))
        if told["data"]["subject"] in self.refuse:
            return web.Response(status=422)
        self.got.append(told["data"]["subject"])
        if self.deaths < KILLS and len(set(self.got)) == 10 * (self.deaths + 1):
            self.deaths += 1
            await self.here.processes["daemon"].kill()  # it is kept here, and the daemon never hears of it
            self.died.set()
        return web.Response()


@asynccontextmanager
async def received(here: Stage) -> AsyncIterator[Receiver]:
    receiver = Receiver(here)
    app = web.Application()
    app.router.add_post("/in", receiver.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/in"
    try:
        yield receiver
    finally:
        await runner.cleanup()


async def started(here: Stage) -> None:
    """Start the daemon, which may be dead again before its doors open."""
    here.processes["daemon"] = Process("daemon", await here._spawn("run"))


async def until_read(here: Stage, *names: str) -> None:
    """Wait until these sinks have taken everything."""
    async with asyncio.timeout(PATIENCE), Client(here.socket) as client:
        read: set[str] = set()
        while not read >= {*names}:
            await asyncio.sleep(0.05)
            with suppress(DaemonNotRunning):
                read = {each.name for each in await client.sinks() if each.lag == 0}


def first_times(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


@pytest.mark.timeout(120 + 20 * KILLS)
@pytest.mark.rows("B7", "B8", "A24")
async def test_killed_between_delivery_and_mark(tmp_path: Path) -> None:
    """Whenever the daemon dies, every event arrives, in order, signed; some twice, none never; and a dead sink holds up no other."""
    names = [f"n{number}" for number in range(EVENTS)]
    lines = tmp_path / "events.jsonl"
    async with stage(tmp_path) as here, received(here) as receiver:
        terms = {"kind": "http", "secrets": [SECRET], "batch": 4}
        here.settings["sinks.billing"] = {**terms, "url": receiver.url, "reach": ["127.0.0.1"], "tries": 1}
        here.settings["sinks.inside"] = {**terms, "url": receiver.url}  # which is not of the open internet
        here.settings["sinks.dead"] = {**terms, "url": "http://127.0.0.1:9/", "reach": ["127.0.0.0/8"]}
        here.settings["sinks.file"] = {"path": str(lines), "batch": 7}
        here.write_settings()
        await here.oo("vault", "init")
        filled(tmp_path / "oo.sqlite3")
        receiver.refuse = {"n2"}
        await started(here)
        for _ in range(KILLS):
            async with asyncio.timeout(PATIENCE):
                await receiver.died.wait()
            receiver.died.clear()
            await started(here)
        await until_read(here, "billing", "file")
        assert first_times(receiver.got) == [name for name in names if name != "n2"]
        assert 0 < len(receiver.got) - EVENTS + 1 <= KILLS * terms["batch"]  # type: ignore[operator]  # it is 4
        assert first_times([json.loads(line)["subject"] for line in lines.read_text().splitlines()]) == names

        async with Client(here.socket) as client:
            known = {each.name: each for each in await client.sinks()}
            assert (known["inside"].state, known["inside"].lag) == ("waiting", EVENTS)
            assert "not of the open internet" in known["inside"].reason
            assert (known["dead"].state, known["dead"].lag) == ("waiting", EVENTS)
            assert (known["billing"].state, known["billing"].dead_letters) == ("running", 1)
            (letter,) = await client.dead_letters("sink:billing")
            assert letter.reason == "the receiver answered 422"
            receiver.refuse.clear()
            await here.oo("sinks", "replay", "billing")
            async with asyncio.timeout(PATIENCE):
                while await client.dead_letters("sink:billing"):
                    await asyncio.sleep(0.05)
            assert receiver.got[-1] == "n2"
        assert "billing" in await here.oo("sinks", "list")
