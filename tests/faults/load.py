"""Load on a daemon that may die at any moment, what its senders were told, and what the store says in the end."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import apsw

from oo_client import Client, DaemonNotRunning
from oo_config import Settings, load
from oo_daemon.app import build
from oo_daemon.outbox import wire
from oo_daemon.store import connections, schedule
from oo_daemon.store.connections import SignedIn
from oo_daemon.store.database import Database
from oo_daemon.store.storage import open_database
from oo_vault import create_key_file

PATIENCE = 20.0
SECRET = "a-webhook-secret-of-the-lab"
ACCOUNT, CONNECTION = "account-1", "c" * 32
CLIENTS = 8
#: Seconds between two deliveries of a sender, between two tries, and between two changes at the provider.
PACE, AGAIN, CHANGES = 0.03, 0.005, 0.01
NOTES = 20


@dataclass
class Bench:
    """A folder with a key, settings, a database with one connection, and the file that is the provider."""

    folder: Path
    port: int
    acknowledged: set[str] = field(default_factory=set)
    fed: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  #: note → all that it ever was
    answers: Counter[int] = field(default_factory=Counter)
    url: str = ""
    moved: asyncio.Event = field(default_factory=asyncio.Event)  #: something was acknowledged
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def config(self) -> Path:
        return self.folder / "oo.toml"

    @property
    def database(self) -> Path:
        return self.folder / "oo.sqlite3"

    def settings(self) -> Settings:
        return load(self.config, {})

    @property
    def client(self) -> Client:
        """A client; use it with `async with`."""
        return Client(self.folder / "oo.sock")

    async def prepare(self, **public: int) -> None:
        """Make all that, with the daemon's own code. The lab's folder must be on the path; `public` are settings of that door."""
        create_key_file(self.folder / "root.key")
        (self.folder / "feed").write_text("")
        tables: dict[str, dict[str, Any]] = {
            "places": {"state": str(self.folder)},
            "public": {"port": self.port, **public},
            "plugins": {"enabled": ["oo-lab"]},
            "connectors.lab": {"feed": str(self.folder / "feed")},
            "sync": {"tick": 0.05, "interval": 3600},
            "disk": {"least_free": 1},  # what is done while little is left is tested elsewhere
        }
        lines = [line for name, table in tables.items() for line in (f"[{name}]", *(f"{key} = {json.dumps(table[key])}" for key in table))]
        self.config.write_text("\n".join(lines))
        async with build(self.settings()) as app, self.client as client:
            registration = await client.register(provider="lab", client_id="lab", client_secrets=["secret"], webhook_secrets=[SECRET])
            assert registration.webhook_url is not None
            self.url = f"http://127.0.0.1:{self.port}/webhooks/{registration.webhook_url.rpartition('/')[2]}"
            await app.storage.write(_connect)

    async def post(self, message: str) -> int:
        """Post one message."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            return await self._post(session, message, 0)

    def make_another(self) -> None:
        """Have a connection of somebody else, too, while no daemon runs."""
        database = open_database(self.database)
        with database.atomic():
            _connect(database, "d" * 32, "bob")
        database.close()

    def make_due(self) -> None:
        """Have the connection synced at the next start, while no daemon runs."""
        file = apsw.Connection(str(self.database))
        file.execute("UPDATE schedule SET next_run_at = 1")
        file.close()

    @asynccontextmanager
    async def load(self, *, size: int = 0) -> AsyncIterator[None]:
        """Eight senders and a provider at work; in the end each sender waits until what it has sent is taken."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session, asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                tasks.create_task(self._send(session, number, size))
            tasks.create_task(self._change())
            try:
                yield
            finally:
                self.ending.set()

    async def progress(self) -> None:
        """Wait until something more is acknowledged."""
        self.moved.clear()
        async with asyncio.timeout(PATIENCE):
            await self.moved.wait()

    async def _send(self, session: aiohttp.ClientSession, number: int, size: int) -> None:
        chance = random.Random(number)
        sent: list[str] = []
        while not self.ending.is_set():
            # Now and then the sender did not hear our answer, or so it thinks, and sends again what was taken.
            message = chance.choice(sent) if sent and chance.random() < 0.2 else f"m{number}-{len(sent)}"
            while await self._post(session, message, size) != 200:
                await asyncio.sleep(AGAIN)
            self.acknowledged.add(message)
            self.moved.set()
            if message not in sent[-1:]:
                sent.append(message)
            await asyncio.sleep(PACE)

    async def _post(self, session: aiohttp.ClientSession, message: str, size: int) -> int:
        """Post a delivery; 0: there was no answer."""
        body = json.dumps({"account": ACCOUNT, "message": message, "more": "x" * size}).encode()
        headers = {"X-Lab-Signature": hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest(), "X-Lab-Delivery": message}
        try:
            async with session.post(self.url, data=body, headers=headers) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            status = 0
        self.answers[status] += 1
        return status

    async def _change(self) -> None:
        chance = random.Random("changes")
        with (self.folder / "feed").open("a", buffering=1) as feed:
            for number in range(1_000_000):
                if self.ending.is_set():
                    return
                note = f"n{chance.randrange(NOTES)}"
                self.fed[note].append(f"v{number}")
                feed.write(f"{note} v{number}\n")
                await asyncio.sleep(CHANGES)

    async def answering(self) -> None:
        """Wait until the daemon answers."""
        async with asyncio.timeout(PATIENCE), self.client as client:
            while True:
                try:
                    await client.status()
                except DaemonNotRunning:
                    await asyncio.sleep(AGAIN)
                else:
                    return

    async def settled(self) -> None:
        """Wait until the daemon has made events of all that it took and of all that the provider has."""
        await self.answering()
        async with self.client as client:
            async with asyncio.timeout(3 * PATIENCE):
                while await client.deliveries(state="received", limit=1):
                    await asyncio.sleep(AGAIN)
            assert (await client.sync(CONNECTION, wait=PATIENCE)).outcome == "done"

    def compare(self) -> list[str]:
        """What is wrong in the store, by what the senders were told and what the provider has; empty when nothing is."""
        file = apsw.Connection(str(self.database), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            wrong = [f"integrity: {verdict}" for (verdict,) in file.execute("PRAGMA integrity_check") if verdict != "ok"]
            stored = Counter(id_ for (id_,) in file.execute("SELECT delivery_id FROM delivery"))
            wrong += [f"{reason}: {id_}" for id_, reason in file.execute("SELECT delivery_id, reason FROM delivery WHERE state <> 'done'")]
            events = [wire.as_json(bytes(body)) for (body,) in file.execute("SELECT body FROM outbox ORDER BY position")]
        finally:
            file.close()
        messages = Counter(event["subject"] for event in events if event["type"] == "lab.message")
        notes: dict[str, list[str]] = defaultdict(list)
        for event in events:
            if event["type"] == "lab.note":
                notes[event["subject"]].append(event["payload"]["title"])
        wrong += [f"acknowledged and lost: {id_}" for id_ in self.acknowledged - stored.keys()]
        wrong += [f"acknowledged and never told: {id_}" for id_ in self.acknowledged - messages.keys()]
        wrong += [
            f"{what} twice: {id_}" for what, ids in (("stored", stored), ("told", messages)) for id_, times in ids.items() if times > 1
        ]
        wrong += [f"an event id twice: {id_}" for id_, times in Counter(event["id"] for event in events).items() if times > 1]
        wrong += [f"not what {note} was: {notes[note][:9]}…" for note in self.fed if notes[note] != self.fed[note]]
        return wrong


def _connect(database: Database, id_: str = CONNECTION, user: str = "ada") -> None:
    signed_in = SignedIn(
        id=id_,
        user=user,
        provider="lab",
        account="default",
        registration="lab",
        provider_account=ACCOUNT,
        label="",
        scopes=("read",),
        meta={},
    )
    made = connections.put(database, signed_in, 1)
    schedule.create(database, made.number, 1)
