"""Load on an HTTP server: `wrk` in a closed loop for throughput, and our own open loop for latency.

In a closed loop a slow server is asked less often, and looks better than it is; in the open one requests leave on time, whatever comes of
those before, and the wait is counted from when each was due.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import peers
from benchmarks.harness import once, ours, percentiles, pinned

_LUA = """
local head, tail, n = "{head}", "{tail}", 0
request = function() n = n + 1; return head .. n .. tail end
done = function(summary, latency, requests)
  io.write(string.format('{{"requests":%d,"seconds":%f,"refused":%d,"broken":%d,"p50_ms":%f,"p99_ms":%f,"max_ms":%f}}\\n',
    summary.requests, summary.duration / 1e6, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
"""


def request(url: str, headers: dict[str, str], body: bytes, id_header: str) -> tuple[bytes, bytes]:
    """A POST as bytes, in two halves: between them goes a number that makes its delivery id its own."""
    address = urlsplit(url)
    lines = [f"POST {address.path} HTTP/1.1", f"Host: {address.netloc}", f"Content-Length: {len(body)}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join([*lines, f"{id_header}: {secrets.token_hex(8)}-"])
    return head.encode(), b"\r\n\r\n" + body


def closed(url: str, halves: tuple[bytes, bytes], *, at_once: int, seconds: float) -> dict[str, float]:
    """As many as it takes, so many at once; by `wrk`, else by our own."""
    try:
        wrk = peers.program("wrk")
    except peers.Missing:
        return once(_own(url, halves, at_once=at_once, seconds=seconds, rate=0), core=1)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        head, tail = (half.decode().replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r").replace("\n", "\\n") for half in halves)
        script.write(_LUA.format(head=head, tail=tail))
        script.flush()
        command: list[str | Path] = [
            wrk,
            "-t1",
            f"-c{at_once}",
            f"-d{max(1, round(seconds))}s",
            "--timeout",
            "10s",
            "--latency",
            "-s",
            script.name,
            url,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=pinned(1))
    found: dict[str, float] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return {**found, "per_s": (found["requests"] - found["refused"]) / found["seconds"]}


def opened(url: str, halves: tuple[bytes, bytes], *, rate: int, seconds: float) -> dict[str, float]:
    """So many a second, on time."""
    return once(_own(url, halves, at_once=64, seconds=seconds, rate=rate), core=1)


def _own(url: str, halves: tuple[bytes, bytes], **how: float) -> list[str]:
    return ours("load:run", url=url, head=halves[0].decode(), tail=halves[1].decode(), **how)


class _Connection(asyncio.Protocol):
    """One connection: a request at a time, the answer told by its head and length."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[int] | None = None
        self._said = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._said += data
        head, end, body = self._said.partition(b"\r\n\r\n")
        if not end:
            return
        fields = head.lower().split(b"\r\n")
        length = next((int(field.partition(b":")[2]) for field in fields if field.startswith(b"content-length:")), 0)
        if len(body) >= length and self.answered is not None and not self.answered.done():
            self._said = b""
            self.answered.set_result(int(head.split(b" ", 2)[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answered is not None and not self.answered.done():
            self.answered.set_result(0)

    async def ask(self, message: bytes) -> int:
        self.answered = asyncio.get_running_loop().create_future()
        self.transport.write(message)
        return await self.answered


async def run(url: str, head: str, tail: str, at_once: int, seconds: float, rate: int) -> dict[str, float]:
    """Send, from a process of its own. A rate of 0 is the closed loop."""
    address, loop = urlsplit(url), asyncio.get_running_loop()
    connections = [(await loop.create_connection(_Connection, address.hostname or "", address.port or 80))[1] for _ in range(at_once)]
    waits: list[float] = []
    wrong = 0
    number = 0
    start = time.perf_counter()

    async def send(connection: _Connection, due: float) -> None:
        nonlocal wrong, number
        number += 1
        status = await connection.ask(head.encode() + str(number).encode() + tail.encode())
        waits.append(time.perf_counter() - due)
        wrong += not 200 <= status < 300

    async def loops(connection: _Connection) -> None:
        while time.perf_counter() - start < seconds:
            await send(connection, time.perf_counter())

    if rate:
        await _on_time(connections, send, rate, start, seconds)
    else:
        await asyncio.gather(*map(loops, connections))
    spent = time.perf_counter() - start
    answered = {"requests": len(waits), "seconds": spent, "per_s": (len(waits) - wrong) / spent}
    return {**answered, "refused": wrong, "broken": number - len(waits), **percentiles(waits)}


async def _on_time(connections: Sequence[_Connection], send: Any, rate: int, start: float, seconds: float) -> None:
    free, waiting, under_way = deque(connections), deque[float](), set[asyncio.Task[None]]()

    async def one(connection: _Connection, due: float) -> None:
        await send(connection, due)
        while waiting:
            await send(connection, waiting.popleft())
        free.append(connection)

    for number in range(int(rate * seconds)):
        due = start + number / rate
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        if free:
            task = asyncio.create_task(one(free.popleft(), due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        else:
            waiting.append(due)
    if under_way:
        _, left = await asyncio.wait(under_way, timeout=10.0)  # what a server then owes is owed for good
        for task in left:
            task.cancel()


def body_of(size: int) -> bytes:
    """A JSON body of so many bytes."""
    return json.dumps({"event": "item:updated", "note": "x" * (size - 36)}).encode()
