"""A daemon under an ordinary day's load for as long as asked: what it holds must not grow with what it does.

`make soak MINUTES=60 RATE=100`. The daemon and Todoist's sandbox are processes of their own. Webhooks arrive at an even rate; a person
changes tasks, which are pushed and polled; a consumer reads and acknowledges. Memory, open files and the write-ahead log are read from the
system.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import tempfile
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import aiohttp

from oo_client import Client
from oo_daemon.cli.stage import Browser, Stage, stage

ROOT = Path(__file__).parents[2]
RATE = 100  #: webhooks a second
CHANGES = 1.0  #: seconds between two changes of a person's tasks
MIB = 1024 * 1024
#: What is promised, per hour where it is a slope.
MOST_GROWTH, MOST_FILES, MOST_LOG = 1.0, 4, 128.0
#: Seconds after which a consumer that reads nothing more has nothing more to read.
STUCK = 60.0
#: The share at the beginning that is not looked at, and seconds of it at least, where it lasts twice as long: caches fill, the first sync
#: is read, and what is kept of each for a while (budgets, latencies, pages of SQLite) comes to its size.
WARM, WARMING = 0.25, 600.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What the daemon held at one moment."""

    second: float
    memory: float  #: MiB, resident
    files: int
    log: float  #: MiB, the write-ahead log


@dataclass(slots=True)
class Soak:
    """What was asked, what came of it, and what was seen meanwhile."""

    seconds: float
    samples: list[Sample] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)
    refused: int = 0
    read: set[str] = field(default_factory=set)  #: ids of deliveries that the consumer got as events
    doubled: int = 0
    tasks: int = 0

    @property
    def warmed(self) -> Sequence[Sample]:
        """Samples after the warm-up."""
        warm = max(WARM * self.seconds, min(WARMING, self.seconds / 2))
        return [sample for sample in self.samples if sample.second >= warm]

    @property
    def growth(self) -> float:
        """MiB of memory an hour, by least squares."""
        known = self.warmed
        middle, level = sum(s.second for s in known) / len(known), sum(s.memory for s in known) / len(known)
        spread = sum((s.second - middle) ** 2 for s in known)
        return sum((s.second - middle) * (s.memory - level) for s in known) / spread * 3600

    @property
    def files(self) -> int:
        """How many more are open at least in the second half than in the first: those of requests under way come and go."""
        known = [sample.files for sample in self.warmed]
        half = len(known) // 2
        return min(known[half:]) - min(known[:half])

    @property
    def log(self) -> float:
        """MiB, the longest write-ahead log."""
        return max(sample.log for sample in self.samples)

    def broken(self) -> list[str]:
        """The promises that were not kept."""
        lost = self.acknowledged - self.read
        return [
            sentence
            for wrong, sentence in (
                (lost, f"{len(lost)} acknowledged deliveries never became events"),
                (self.doubled, f"{self.doubled} events came twice"),
                (not self.tasks, "no change of a task became an event"),
                (self.files > MOST_FILES, f"{self.files} more files were open"),
                (self.log > MOST_LOG, f"the write-ahead log reached {self.log:.0f} MiB"),
            )
            if wrong
        ]


async def live(folder: Path, soak: Soak, *, rate: int = RATE, every: float = 5.0) -> None:
    """Live under load for as long as it says, and then let the consumer read to the end."""
    async with stage(folder) as here:
        await _prepare(here)
        async with Client(here.socket) as client:
            url = await _doors(here, client)
            ended = asyncio.Event()
            async with asyncio.TaskGroup() as life:
                reading = life.create_task(_read(here, soak))
                watching = life.create_task(_watch(here, soak, ended, every))
                life.create_task(_change(here, ended))
                await _post(url, soak, rate)
                ended.set()
                await watching
                await _drain(soak)
                reading.cancel()


async def _prepare(here: Stage) -> None:
    here.settings["sync"] = {"interval": "1 min"}
    here.settings["public"] = {"port": 0, "source_rate": 100_000, "max_connections_per_address": 1000}
    await here.start_sandbox("todoist")
    here.write_settings()
    await here.oo("vault", "init")
    await here.start_daemon()


async def _doors(here: Stage, client: Client) -> str:
    """Sign a person in, let the provider push, and open an address; gives it."""
    app = here.sandbox
    await client.register(provider="todoist", client_id=app["client_id"], client_secrets=[app["client_secret"]])
    session = await client.connect(provider="todoist", user="ada")
    async with Browser() as browser:
        await browser.open(session.url)
        await browser.press()
        await browser.press("decision", "allow")
        await browser.press("answer", "yes")
    reached = await client.connect_progress(session.id)
    if reached.connection is None:
        raise AssertionError("the person could not sign in")
    await client.sync_and_wait(reached.connection)
    (registration,) = await client.registrations()
    await here.control("webhook", {"url": registration.webhook_url})
    await client.add_consumer("soak", start="now")
    source = await client.add_source("soak", user="ada", scheme="bearer", secret=SECRET)
    return source.url


SECRET = secrets.token_urlsafe(32)


async def _post(url: str, soak: Soak, rate: int) -> None:
    """Webhooks at an even rate, each with a body and a connection of its own."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=64, force_close=True), headers={"Authorization": f"Bearer {SECRET}"}
        ) as session,
        asyncio.TaskGroup() as asking,
    ):

        async def post(number: int) -> None:
            name = f"d-{number}"
            async with session.post(url, json={"id": name, "note": "x" * 400}) as answer:
                if answer.status == 200:
                    soak.acknowledged.add(name)
                else:
                    soak.refused += 1

        for number in range(int(soak.seconds * rate)):
            await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
            asking.create_task(post(number))


async def _change(here: Stage, ended: asyncio.Event) -> None:
    """One task more, renamed and completed, again and again."""
    number = 0
    while not ended.is_set():
        number += 1
        await here.control(
            "change", {"user": "ada", "commands": [{"type": "item_add", "args": {"content": f"Task {number}"}, "temp_id": "new"}]}
        )
        try:
            await asyncio.wait_for(ended.wait(), CHANGES)
        except TimeoutError:
            continue


async def _read(here: Stage, soak: Soak) -> None:
    """Read as a backend would."""
    async with Client(here.socket) as client, aclosing(client.consume("soak", size=500)) as events:
        async for event in events:
            if event.type == "todoist.task":
                soak.tasks += 1
            elif event.type.startswith("webhook."):
                name = str((event.payload or {})["fields"]["id"])
                soak.doubled += name in soak.read
                soak.read.add(name)


async def _drain(soak: Soak) -> None:
    """Let the consumer read to the end, as long as it comes any further: what it never reads is lost."""
    loop = asyncio.get_running_loop()
    known, since = len(soak.read), loop.time()
    while loop.time() - since < STUCK and not soak.acknowledged <= soak.read:
        await asyncio.sleep(0.5)
        if len(soak.read) > known:
            known, since = len(soak.read), loop.time()


async def _watch(here: Stage, soak: Soak, ended: asyncio.Event, every: float) -> None:
    """Sample what the daemon holds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    pid = here.processes["daemon"].child.pid
    log = here.folder / "oo.sqlite3-wal"
    while not ended.is_set():
        status = Path(f"/proc/{pid}/status").read_text()
        memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        length = log.stat().st_size if log.exists() else 0
        sample = Sample(round(loop.time() - began, 1), memory / 1024, len(list(Path(f"/proc/{pid}/fd").iterdir())), length / MIB)
        soak.samples.append(sample)
        try:
            await asyncio.wait_for(ended.wait(), every)
        except TimeoutError:
            continue


def main(minutes: float, rate: int = RATE) -> int:
    """Soak, keep the samples, and end with the figures."""
    soak, out = Soak(minutes * 60), ROOT / "build" / "soak.json"
    try:
        with tempfile.TemporaryDirectory(prefix="oo-soak-") as folder:
            asyncio.run(live(Path(folder), soak, rate=rate))
    finally:
        out.parent.mkdir(exist_ok=True)
        out.write_text(json.dumps([asdict(sample) for sample in soak.samples]) + "\n")
    broken = soak.broken()
    if soak.growth > MOST_GROWTH:
        broken.append(f"memory grew by {soak.growth:.2f} MiB an hour")
    for sentence in broken:
        print(f"soak: {sentence}")
    print(
        f"soak: {minutes:g} min, {len(soak.acknowledged)} deliveries acknowledged, {soak.refused} refused, {soak.tasks} events of tasks; "
        f"memory {soak.samples[-1].memory:.0f} MiB, {soak.growth:+.2f} MiB/h, open files {soak.files:+}, "
        f"write-ahead log at most {soak.log:.1f} MiB: {'held' if not broken else 'BROKEN'}"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), *map(int, sys.argv[2:])))
