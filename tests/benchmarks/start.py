"""Start and idle: from the command to an open door, and memory at rest, beside the bare imports of all our libraries and Node-RED."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.daemon import prepare
from benchmarks.harness import Results, Sample, Shown, Side, interleaved, serving
from benchmarks.ingress import node_red
from ports import free_port

TITLE = "From the command to an open door, and memory at rest"
OO, BARE, NODE_RED = "oO", "bare imports of all our libraries", "Node-RED"
IMPORTS = (
    "aiohttp, apscheduler.schedulers.asyncio, apsw, click, google.protobuf.message, jinja2, msgspec, nacl.public, peewee, pluggy, structlog"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much."""

    rest: float = 2.0
    rounds: int = 7
    peers: bool = True


SIZES = {"full": Size(), "gate": Size(rest=1, rounds=3, peers=False), "tiny": Size(rest=0.1, rounds=1, peers=False)}


def bench(size: Size, tell: Callable[[str], None]) -> Results:
    """Run it."""
    results = Results(benchmark="start", title=TITLE, settings={"imports": IMPORTS, "seconds at rest": size.rest, "guests": "all of ours"})
    sides = [Side(OO, lambda: _oo(size.rest)), Side(BARE, lambda: _bare(size.rest))]
    if size.peers:
        sides.append(Side(NODE_RED, lambda: _node_red(size.rest), rounds=3))
    interleaved(results, sides, size.rounds, warm=size.rounds > 1, tell=tell)
    results.aim("listening, of the bare imports' time", results.ratio("ready_s", OO, BARE), 1.4, "less")
    results.aim("CPU until listening, of the bare imports'", results.ratio("cpu_s", OO, BARE), 1.4, "less", stable=True)
    results.aim("memory at rest, MB", results.median(OO, "rest_mb"), 75, "less", stable=True)
    results.shown = [
        Shown(figure="ready_s", title="Seconds until the door is open; less is better", unit="s"),
        Shown(figure="rest_mb", title="Memory at rest; less is better", unit="MB"),
    ]
    return results


def _oo(rest: float) -> Sample:
    with tempfile.TemporaryDirectory(prefix="oo-bench-") as made:
        port = free_port()
        settings = prepare(Path(made), {"public": {"port": port}, "plugins": {"enabled": []}})
        return _started([sys.executable, "-m", "oo_daemon", "--config", settings, "run"], port, rest)


def _bare(rest: float) -> Sample:
    port = free_port()
    code = f"import {IMPORTS}, socket, sys; door = socket.create_server(('127.0.0.1', {port})); sys.stdin.read()"
    return _started([sys.executable, "-c", code], port, rest)


def _node_red(rest: float) -> Sample:
    with tempfile.TemporaryDirectory(prefix="oo-bench-") as made:
        port = free_port()
        return _started(node_red(Path(made), port), port, rest)


def _started(command: Sequence[str | Path], port: int, rest: float) -> Sample:
    began = time.perf_counter()
    with serving(command, port=port) as server:
        ready = time.perf_counter() - began
        cpu = server.cpu()
        time.sleep(rest)
        return {"ready_s": ready, "cpu_s": cpu, "rest_mb": server.memory(), "peak_mb": server.memory("VmHWM")}
