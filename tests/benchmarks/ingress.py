"""Webhooks: 1 KiB signed bodies, one, 64 and 256 at a time, beside a handler that does nothing, the bare durable pipeline, and peers."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw
from aiohttp import web
from benchmarks import load, peers
from benchmarks.feed import stdin_ends
from benchmarks.flushes import NAME as COUNTING
from benchmarks.flushes import Flushes
from benchmarks.harness import Results, Sample, Serving, Shown, Side, interleaved, ours, serving
from ports import free_port

TITLE = "Webhooks taken in, 1 KiB each, signed"
DOOR, WHOLE = "oO, the door", "oO, whole daemon"
BARE, NOTHING = "bare durable pipeline", "aiohttp that does nothing"
NODE_RED, WEBHOOK = "Node-RED (no signature, no fsync)", "Debian webhook"
SECRET = "a secret between the two"
BODY = load.body_of(1024)
SIGNATURE = hmac.digest(SECRET.encode(), BODY, hashlib.sha256).hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much."""

    seconds: float = 6
    at_once: Sequence[int] = (1, 64, 256)
    rate: int = 1000
    rounds: int = 3
    peers: bool = True
    sides: Sequence[str] = (DOOR, BARE, WHOLE, NOTHING)


SIZES = {
    "full": Size(),
    "gate": Size(seconds=3, at_once=(64,), rounds=3, peers=False, sides=(DOOR, BARE)),
    "tiny": Size(seconds=0.5, at_once=(8,), rate=50, rounds=1, peers=False, sides=(DOOR, BARE)),
}


def bench(size: Size, tell: Callable[[str], None]) -> Results:
    """Run it."""
    results = Results(
        benchmark="ingress",
        title=TITLE,
        settings={
            "body": f"{len(BODY)} bytes, HMAC-SHA256 over it, an id of its own in a header",
            "at once": ", ".join(map(str, size.at_once)),
            "seconds each": size.seconds,
            "open loop": f"{size.rate} a second over 64 connections",
            "load by": _generator(),
            "durability": "oO and bare: SQLite WAL FULL, group commit, before the answer. Node-RED: appended to a file, no fsync",
            "pinned": "server on one core, load on the other; Node-RED and webhook free to use both",
            "Debian webhook": "keeps nothing; CPU without that of the /bin/true it starts for each",
            DOOR: "what was taken in is not worked on while it is measured",
        },
    )
    starters: dict[str, Callable[[], AbstractContextManager[Serving]]] = {
        DOOR: lambda: serving(ours("ingress:serve_oo", hold=True)),
        BARE: lambda: serving(ours("ingress:serve_bare")),
        WHOLE: lambda: serving(ours("ingress:serve_oo", hold=False)),
        NOTHING: lambda: serving(ours("ingress:serve_nothing")),
    }
    sides = [Side(name, _side(starters[name], size)) for name in size.sides]
    if size.peers:
        sides += [Side(NODE_RED, _side(_node_red, size), rounds=2), Side(WEBHOOK, _side(_webhook, size), rounds=1)]
    interleaved(results, sides, size.rounds, warm=False, tell=tell)
    for name, command in (
        (DOOR, ours("ingress:serve_oo", hold=True, count_flushes=True)),
        (BARE, ours("ingress:serve_bare", count_flushes=True)),
    ):
        for at_once in size.at_once:
            results.settings[f"flushes for each delivery at {at_once}, {name}"] = _flushes(command, at_once, size.seconds)
    for at_once in (number for number in size.at_once if number > 1):
        results.aim(f"requests/s of the bare pipeline, {at_once} at once", results.ratio(f"per_s_{at_once}", DOOR, BARE), 0.9, "more")
        results.aim(f"p99 of the bare pipeline, {at_once} at once", results.ratio(f"p99_ms_{at_once}", DOOR, BARE), 1.2, "less")
        results.aim(
            f"CPU of the bare pipeline, {at_once} at once", results.ratio(f"cpu_us_{at_once}", DOOR, BARE), 1.11, "less", stable=True
        )
        red = results.median(NODE_RED, f"per_s_{at_once}")
        mine = results.median(DOOR, f"per_s_{at_once}")
        results.aim(f"requests/s of Node-RED, {at_once} at once", mine / red if red and mine else None, 3.0, "more")
    results.aim("p50 one at a time, ms", results.median(DOOR, "p50_ms_1"), 0.6, "less")
    middle = size.at_once[len(size.at_once) // 2]
    results.shown = [
        Shown(figure=f"per_s_{middle}", title=f"Requests a second, {middle} at once; more is better", unit="requests/s"),
        Shown(figure=f"cpu_us_{middle}", title=f"CPU for each request, {middle} at once; less is better", unit="µs"),
    ]
    return results


def _generator() -> str:
    try:
        return f"wrk ({peers.program('wrk')})"
    except peers.Missing as why:
        return f"our own loop; wrk is {why}"


def _side(start: Callable[[], AbstractContextManager[Serving]], size: Size) -> Callable[[], Sample]:
    def run() -> Sample:
        found: dict[str, float] = {}
        with start() as server:
            for at_once in size.at_once:
                _hit(server, at_once, min(1.0, size.seconds))
                before = server.cpu()
                made = _hit(server, at_once, size.seconds)
                if made["requests"] == made["refused"]:
                    raise peers.Missing("it answered nothing, or refused everything")
                found |= {f"{name}_{at_once}": made[name] for name in ("per_s", "p50_ms", "p99_ms", "max_ms", "refused", "broken")}
                found[f"cpu_us_{at_once}"] = (server.cpu() - before) / max(1, made["requests"]) * 1e6
            made = load.opened(server.ready["url"], _halves(server.ready["url"]), rate=size.rate, seconds=size.seconds)
            found |= {f"open_{name}": made[name] for name in ("p50_ms", "p99_ms", "max_ms", "refused", "broken") if name in made}
            found["peak_mb"] = server.memory("VmHWM")
        return found

    return run


def _halves(url: str) -> tuple[bytes, bytes]:
    return load.request(url, {"X-Signature": SIGNATURE}, BODY, "X-Delivery")


def _hit(server: Serving, at_once: int, seconds: float) -> dict[str, float]:
    return load.closed(server.ready["url"], _halves(server.ready["url"]), at_once=at_once, seconds=seconds)


def _flushes(command: Sequence[str], at_once: int, seconds: float) -> float:
    with serving(command) as server:
        before = _counted(server)
        made = _hit(server, at_once, min(2.0, seconds))
        return round((_counted(server) - before) / max(1, made["requests"]), 4)


def _counted(server: Serving) -> int:
    return int(Path(server.ready["flushes"]).read_text())


# --- servers -------------------------------------------------------------------------------------------------------------


async def serve_oo(hold: bool, count_flushes: bool = False) -> dict[str, float]:
    """The whole daemon; `hold`: what arrives stays in the inbox, so that only the door is measured."""
    from benchmarks.daemon import daemon

    from oo_client import Client
    from oo_daemon.sync.intake import Intake

    if hold:
        Intake.wake = lambda self: None  # type: ignore[method-assign]

        async def rest(self: Intake) -> None: ...

        Intake.tick = rest  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory(prefix="oo-bench-") as folder, _told(Path(folder) / "flushes", count_flushes) as told:
        async with daemon(Path(folder), {}) as app, Client(app.settings.places.socket) as client:
            await client.register(provider="bench_hook", client_id="c", client_secrets=["s"], webhook_secrets=[SECRET])
            (known,) = await client.registrations()
            print(json.dumps({"url": known.webhook_url, "flushes": told}), flush=True)
            await stdin_ends()
    return {}


@contextmanager
def _told(path: Path, wanted: bool) -> Iterator[str]:
    """A file that says how many flushes there were."""
    if not wanted:
        yield ""
        return
    flushes, ended = Flushes(), threading.Event()
    apsw.set_default_vfs(COUNTING)
    path.write_text("0")

    def tell() -> None:
        while not ended.wait(0.02):
            fresh = path.with_suffix(".new")
            fresh.write_text(str(flushes.count))
            fresh.replace(path)

    teller = threading.Thread(target=tell)
    teller.start()
    yield str(path)
    ended.set()
    teller.join()


async def serve_nothing() -> dict[str, float]:
    """An aiohttp application that reads the body and says 200."""

    async def handler(request: web.Request) -> web.Response:
        await request.read()
        return web.Response()

    await _serve(handler)
    return {}


async def serve_bare(count_flushes: bool = False) -> dict[str, float]:
    """HMAC, then one INSERT in a group commit of whatever waits, then 200."""
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(prefix="oo-bench-") as folder, _told(Path(folder) / "flushes", count_flushes) as told:
        database = apsw.Connection(f"{folder}/bare.sqlite3")
        for pragma in ("journal_mode = wal", "synchronous = full", "wal_autocheckpoint = 0"):
            database.execute(f"PRAGMA {pragma}")
        database.execute("CREATE TABLE delivery (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL)")
        waiting: list[tuple[str, bytes, asyncio.Future[bool]]] = []
        ready, ended = threading.Condition(), False

        def write() -> None:
            while True:
                with ready:
                    while not waiting and not ended:
                        ready.wait()
                    group = waiting[:128]
                    del waiting[: len(group)]
                if not group:
                    return
                database.execute("BEGIN IMMEDIATE")
                for id_, body, _ in group:
                    database.execute("INSERT INTO delivery (id, body) VALUES (?, ?) ON CONFLICT DO NOTHING", (id_, body))
                database.execute("COMMIT")
                loop.call_soon_threadsafe(answer, group)

        def answer(group: list[tuple[str, bytes, asyncio.Future[bool]]]) -> None:
            for _, _, future in group:
                if not future.done():
                    future.set_result(True)

        def checkpoint() -> None:
            other = apsw.Connection(f"{folder}/bare.sqlite3")
            while not stopped.wait(0.25):
                other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

        async def handler(request: web.Request) -> web.Response:
            body = await request.read()
            wanted = hmac.digest(SECRET.encode(), body, hashlib.sha256).hex()
            if not hmac.compare_digest(wanted, request.headers.get("X-Signature", "")):
                return web.Response(status=404)
            future = loop.create_future()
            with ready:
                waiting.append((request.headers["X-Delivery"], body, future))
                ready.notify()
            await future
            return web.Response()

        stopped = threading.Event()
        threads = [threading.Thread(target=write), threading.Thread(target=checkpoint)]
        for thread in threads:
            thread.start()
        await _serve(handler, told)
        stopped.set()
        with ready:
            ended = True
            ready.notify()
        for thread in threads:
            thread.join()
    return {}


async def _serve(handler: Callable[[web.Request], object], told: str = "") -> None:
    app = web.Application()
    app.router.add_post("/webhooks/{token}", handler)  # type: ignore[arg-type]
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(json.dumps({"url": f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/token", "flushes": told}), flush=True)
    await stdin_ends()
    await runner.cleanup()


@contextmanager
def _node_red() -> Iterator[Serving]:
    with tempfile.TemporaryDirectory(prefix="oo-bench-") as folder:
        port = free_port()
        url = f"http://127.0.0.1:{port}/hook"
        command = node_red(Path(folder), port)
        with serving(command, core=None, ready=lambda line: {"url": url} if "Started flows" in line else None) as server:
            yield server


def node_red(folder: Path, port: int) -> list[str | Path]:
    """The command that starts Node-RED with one flow: HTTP in, append to a file, HTTP out."""
    red = peers.node("node-red") / "node-red" / "red.js"
    flow = [
        {"id": "tab", "type": "tab", "label": "bench"},
        {"id": "in", "type": "http in", "z": "tab", "url": "/hook", "method": "post", "wires": [["append"]]},
        {
            "id": "append",  # an id that is the name of a type is not met
            "type": "file",
            "z": "tab",
            "filename": str(folder / "out.jsonl"),
            "filenameType": "str",
            "appendNewline": True,
            "overwriteFile": "false",
            "encoding": "none",
            "wires": [["out"]],
        },
        {"id": "out", "type": "http response", "z": "tab", "statusCode": "200", "wires": []},
    ]
    (folder / "flows.json").write_text(json.dumps(flow))
    (folder / "settings.js").write_text(f"module.exports = {{uiHost: '127.0.0.1', uiPort: {port}, flowFile: 'flows.json'}}")
    return [peers.interpreter_of_node(), red, "--userDir", folder, "--settings", folder / "settings.js"]


@contextmanager
def _webhook() -> Iterator[Serving]:
    program = peers.program("webhook")
    rule = {"type": "payload-hmac-sha256", "secret": SECRET, "parameter": {"source": "header", "name": "X-Signature"}}
    with tempfile.TemporaryDirectory(prefix="oo-bench-") as folder:
        hooks = Path(folder) / "hooks.json"
        hooks.write_text(json.dumps([{"id": "hook", "execute-command": "/bin/true", "trigger-rule": {"match": rule}}]))
        port = free_port()
        url = f"http://127.0.0.1:{port}/hooks/hook"
        command: list[str | Path] = [program, "-hooks", hooks, "-ip", "127.0.0.1", "-port", str(port), "-verbose"]
        with serving(command, core=None, ready=lambda line: {"url": url} if "serving hooks" in line else None) as server:
            yield server
