"""Attack and overload on a daemon that is a process of its own: slow senders by the hundred, and ten times what a source may send.

How long somebody may wait is held in the long run, which has the machine to itself; in the ordinary one it is printed, and all else holds.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import math
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from faults.load import ACCOUNT, SECRET, Bench
from faults.nursery import LAB, TESTS, Nursery, nursery
from ports import free_port

#: Of each measurement; 60 in the long run.
SECONDS = float(os.environ.get("OO_TEST_ATTACK_SECONDS", "6"))
SLOW = 500
#: Longest p99 of deliveries beside the slow senders, and of being asked to come again, in seconds.
LONGEST, QUICKLY = (0.5, 0.05) if SECONDS >= 60 else (math.inf, math.inf)
#: Deliveries a second that a source may send here.
RATE = 20
PATIENCE = 60.0


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """All that a daemon needs. In memory where there is such a folder: how long a disk takes is the benchmark's to say."""
    monkeypatch.syspath_prepend(str(LAB))
    with tempfile.TemporaryDirectory(prefix="oo-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Bench(Path(folder), free_port())


@pytest.fixture
async def bears(tmp_path: Path) -> AsyncIterator[Nursery]:
    """Where processes come from."""
    async with nursery(tmp_path / "borne") as made:
        yield made


class Sender:
    """A sender of deliveries, and what it heard."""

    def __init__(self, bench: Bench, url: str, name: str, *, size: int = 0) -> None:
        self.bench = bench
        self.url = url
        self.name = name
        self.size = size
        self.heard: Counter[int] = Counter()
        self.seconds: list[float] = []  #: of those that were taken
        self.refused: list[float] = []  #: of those that were asked to come again
        self.again: list[int] = []
        self.acknowledged: set[str] = set()

    async def send(self, session: aiohttp.ClientSession, number: int) -> None:
        """Post one delivery."""
        message = f"{self.name}-{number}"
        body = json.dumps({"account": ACCOUNT, "message": message, "more": "x" * self.size}).encode()
        headers = {"X-Lab-Signature": hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest(), "X-Lab-Delivery": message}
        began = time.perf_counter()
        async with session.post(self.url, data=body, headers=headers) as answer:
            await answer.read()
        took = time.perf_counter() - began
        self.heard[answer.status] += 1
        if answer.status == 200:
            self.acknowledged.add(message)
            self.seconds.append(took)
        else:
            self.refused.append(took)
            self.again.append(int(answer.headers["Retry-After"]))


async def steadily(rate: float, send: Callable[[int], Awaitable[None]]) -> None:
    """So many a second for the time of a measurement, whatever the answers take."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * SECONDS)):
            await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
            tasks.create_task(_one(send, number))


async def _one(send: Callable[[int], Awaitable[None]], number: int) -> None:
    await send(number)


def p99(seconds: Sequence[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.99)]


@asynccontextmanager
async def slowly(port: int, first: int, many: int) -> AsyncIterator[list[int]]:
    """So many slow senders; once the block is over, how many were cut off."""
    pipe, cut = asyncio.subprocess.PIPE, list[int]()
    command = [sys.executable, "-m", "faults.slow", str(port), str(first), str(many)]
    senders = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env={**os.environ, "PYTHONPATH": str(TESTS)})
    assert senders.stdout is not None
    try:
        assert await asyncio.wait_for(senders.stdout.readline(), PATIENCE) == b"all\n"
        yield cut
    finally:
        said, _ = await asyncio.wait_for(senders.communicate(b""), PATIENCE)
        cut.append(int(said))


@pytest.mark.rows("A16")
@pytest.mark.timeout(600)
async def test_slow_senders_do_not_hold_up_the_others(bench: Bench, bears: Nursery) -> None:
    """Beside 500 connections that trickle, 100 deliveries of 4 kB a second are all taken, and soon."""
    await bench.prepare()
    daemon = await bears.daemon(bench.config)
    await bench.answering()
    good = Sender(bench, bench.url, "good", size=4000)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=50)) as session:
        async with slowly(bench.port, 2, SLOW) as cut:
            await steadily(100, lambda number: good.send(session, number))
    print(f"\nslow: {SLOW}, {cut[0]} times cut off; good: {good.heard}, p99 {p99(good.seconds) * 1000:.0f} ms")
    assert cut[0] >= SLOW
    assert good.heard == {200: int(100 * SECONDS)}
    assert p99(good.seconds) < LONGEST
    await bench.settled()
    await daemon.stop()
    bench.acknowledged |= good.acknowledged
    assert bench.compare() == []


@pytest.mark.rows("A16")
async def test_one_address_does_not_get_all_connections(bench: Bench, bears: Nursery) -> None:
    """Of an address that opens connections and is silent, 100 stay open and more are closed at once; another address is served."""
    await bench.prepare()
    await bears.daemon(bench.config)
    await bench.answering()
    opened = [await asyncio.open_connection("127.0.0.1", bench.port, local_addr=("127.0.0.99", 0)) for _ in range(150)]
    try:
        closed = [asyncio.create_task(reader.read()) for reader, _ in opened]
        async with asyncio.timeout(PATIENCE):
            while sum(each.done() for each in closed) < 50:
                await asyncio.sleep(0.01)
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{bench.port}/") as answer:
            assert answer.status == 200
        assert sum(each.done() for each in closed) == 50
    finally:
        for _, writer in opened:
            writer.close()
        await asyncio.gather(*closed)


@pytest.mark.rows("A18")
@pytest.mark.timeout(600)
async def test_ten_times_too_much(bench: Bench, bears: Nursery) -> None:
    """A source that sends ten times its rate is told to come again, quickly; memory stays flat, the other source keeps all of its rate.

    And nothing that was acknowledged is lost.
    """
    await bench.prepare(source_rate=RATE)
    daemon = await bears.daemon(bench.config)
    await bench.answering()
    async with bench.client as client:
        made = await client.register(provider="lab", client_id="other", id="other", client_secrets=["secret"], webhook_secrets=[SECRET])
    assert made.webhook_url is not None
    other = f"http://127.0.0.1:{bench.port}/webhooks/{made.webhook_url.rpartition('/')[2]}"
    loud, quiet, sizes = Sender(bench, bench.url, "loud", size=1000), Sender(bench, other, "quiet"), list[int]()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=90)) as session:

        async def ten_times(number: int) -> None:
            await loud.send(session, number)

        async def slower(number: int) -> None:
            await quiet.send(session, number)

        async def watch(number: int) -> None:
            sizes.append(int(Path(f"/proc/{daemon.number}/statm").read_text().split()[1]))

        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for rate, send in ((10 * RATE, ten_times), (RATE * 0.9, slower), (4, watch)):
                tasks.create_task(steadily(rate, send))
    took, third = time.monotonic() - began, len(sizes) // 3
    print(
        f"\nloud: {loud.heard}, asked to come again within {p99(loud.refused) * 1000:.0f} ms (p99); "
        f"quiet: {quiet.heard}; "
        f"memory {sizes[third] * 4 / 1024:.0f} to {max(sizes[third:]) * 4 / 1024:.0f} MiB"
    )
    assert loud.heard.keys() == {200, 429}
    assert RATE * SECONDS * 0.8 <= loud.heard[200] <= RATE * (took + 2) + 1, "its rate, and twice as many at once in the beginning"
    assert min(loud.again) >= 5
    assert max(loud.again) <= 60
    assert len(set(loud.again)) > 10, "they would all come again at once"
    assert p99(loud.refused) < QUICKLY
    assert quiet.heard[200] >= 0.9 * sum(quiet.heard.values())
    assert quiet.heard.keys() == {200}
    assert max(sizes[third:]) <= 1.1 * sizes[third]
    await bench.settled()
    await daemon.stop()
    bench.acknowledged |= loud.acknowledged | quiet.acknowledged
    assert bench.compare() == []
