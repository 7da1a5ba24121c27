"""The vault: sealing and opening beside bare PyNaCl, rotation beside its cryptography alone, a signed request beside bare aiohttp."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import LONGEST, Results, Shown, Side, interleaved, once, ours, serving
from benchmarks.side import timed

if TYPE_CHECKING:
    from oo_daemon.app import App
    from oo_daemon.store.connections import Connection

TITLE = "Seal, open, rotate, sign"
OO, BARE = "oO", "bare"
PLAIN = os.urandom(500)
#: Questions before those that count, and the seconds from one's answer to the next: a process of its own looks in a hundred times a second.
WARM, EVERY = 50, 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much."""

    values: int = 20_000
    rows: int = 100_000
    requests: int = 5_000
    asked_s: float = 5.0  #: seconds of questions before and after the rotations, and at least beside them
    rounds: int = 5


SIZES = {
    "full": Size(),
    "gate": Size(values=5_000, rows=5_000, requests=2_000, rounds=3),
    "tiny": Size(values=100, rows=100, requests=20, asked_s=0.1, rounds=1),
}


def bench(size: Size, tell: Callable[[str], None]) -> Results:
    """Run it."""
    results = Results(
        benchmark="vault",
        title=TITLE,
        settings={
            "payload": f"{len(PLAIN)} bytes",
            "values": size.values,
            "rows to rotate": size.rows,
            "questions": f"about {1 / EVERY:.0f} a second by a process of its own, beside a second rotation, before and after",
            "signed requests, one after another": size.requests,
            "bare": "PyNaCl's SealedBox without a context; for rotation the same boxes opened and sealed in memory; an aiohttp client",
        },
    )
    with serving(ours("feed:serve", objects=200), core=1) as server:
        given = {"values": size.values, "rows": size.rows, "requests": size.requests, "address": server.ready["address"]}
        sides = [
            Side(OO, partial(once, ours("vault:run_oo", **given, asked_s=size.asked_s))),
            Side(BARE, partial(once, ours("vault:run_bare", **given))),
        ]
        interleaved(results, sides, size.rounds, warm=size.rounds > 1, tell=tell)
    results.aim("CPU to seal, of PyNaCl", results.ratio("seal_us", OO, BARE), 1.3, "less", stable=True)
    results.aim("CPU to open, of PyNaCl", results.ratio("open_us", OO, BARE), 1.3, "less", stable=True)
    results.aim("rotation/s of cryptography alone", results.ratio("rotate_per_s", OO, BARE), 0.7, "more")
    results.aim("p99 of an answer beside a rotation, of before", results.median(OO, "p99_beside"), 1.2, "less")
    results.aim("CPU of a signed request, of bare aiohttp", results.ratio("request_us", OO, BARE), 1.05, "less", stable=True)
    results.aim("time of a signed request, of bare aiohttp", results.ratio("request_wall_us", OO, BARE), 1.05, "less")
    results.shown = [Shown(figure="open_us", title="CPU to open a credential; less is better", unit="µs")]
    return results


async def run_oo(values: int, rows: int, requests: int, address: str, asked_s: float) -> dict[str, float]:
    """The keyring, rotations of the running daemon, and a connector's session."""
    from oo_vault import Context, Keyring

    keyring = Keyring([os.urandom(32)])
    context = Context(purpose="credential", connection="c" * 22, user="ada", provider="acme", account="default", token_version=3)
    figures: dict[str, float] = {}
    part: dict[str, float] = {}
    with timed(part, values):
        sealed = [keyring.seal(context, PLAIN) for _ in range(values)]
    figures["seal_us"] = part["cpu_us"]
    with timed(part, values):
        for each in sealed:
            keyring.open(context, each)
    figures["open_us"] = part["cpu_us"]
    del sealed
    return {**figures, **await _daemon(rows, requests, address, asked_s)}


async def _daemon(rows: int, requests: int, address: str, asked_s: float) -> dict[str, float]:
    from benchmarks.daemon import connect, daemon, many_credentials

    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="oo-bench-") as made:
        folder = Path(made)
        tables: dict[str, dict[str, object]] = {"connectors.bench_feed": {"address": address}, "sync": {"interval": 3600}}
        async with daemon(folder, tables) as app:
            connection = await connect(app, "bench_feed", now=time.time_ns() // 1000, due=None)
            figures |= await _requests(app, connection, requests, address)
            await app.storage.write(many_credentials, app.settings.vault.key_file, rows)
            cpu, began = time.process_time(), time.perf_counter()
            await _rotated(app, rows)
            figures["rotate_per_s"] = rows / (time.perf_counter() - began)
            figures["rotate_us"] = (time.process_time() - cpu) / rows * 1e6

            async def again() -> None:
                began, rotated = time.perf_counter(), 0
                while time.perf_counter() - began < asked_s:
                    await _rotated(app, rows)
                    rotated += rows
                figures["rotate_asked_per_s"] = rotated / (time.perf_counter() - began)

            before = await _asked(app, asyncio.sleep(asked_s))
            beside = await _asked(app, again())
            quiet = [*before, *await _asked(app, asyncio.sleep(asked_s))]
            figures |= {"p99_ms": _p99(quiet) * 1000, "p99_beside_ms": _p99(beside) * 1000, "p99_beside": _p99(beside) / _p99(quiet)}
    return figures


async def _rotated(app: App, rows: int) -> None:
    from oo_vault import add_key

    add_key(app.settings.vault.key_file)
    await app.keys.begin()
    await app.keys.ended(LONGEST)
    state = await app.keys.status()
    assert not state.rotation.running, state
    assert state.rotation.done == state.rotation.total >= rows, state


async def _asked(app: App, meanwhile: Coroutine[Any, Any, None]) -> list[float]:
    """Seconds that each question took which a process of its own asked meanwhile."""
    process = await asyncio.create_subprocess_exec(
        *ours("vault:ask", socket=str(app.settings.places.socket)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=partial(os.sched_setaffinity, 0, range(os.cpu_count() or 1)),  # not where the daemon is, unless there is nowhere else
    )
    assert process.stdout is not None
    await process.stdout.readline()
    await meanwhile
    said, _ = await process.communicate(b"")  # its end
    took: list[float] = json.loads(said)
    return took


async def ask(socket: str) -> list[float]:
    """Ask until standard input ends. Gives the seconds that each question took."""
    from oo_client import Client

    took: list[float] = []
    async with Client(Path(socket)) as client:
        ends = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        while not ends.done():
            began = time.perf_counter()
            await client.status()
            took.append(time.perf_counter() - began)
            if len(took) == WARM:
                print(flush=True)
            await asyncio.sleep(EVERY)
    return took[WARM:]


def _p99(took: Sequence[float]) -> float:
    return sorted(took)[len(took) * 99 // 100]


async def _requests(app: App, connection: Connection, requests: int, address: str) -> dict[str, float]:
    """CPU and wall microseconds of one signed request on the guests' loop, of all that the daemon does meanwhile."""
    guests, credentials = _part("GuestLoop"), _part("Credentials")
    connector = app.registry.connectors["bench_feed"]

    async def ask() -> dict[str, float]:
        session = await credentials.session(connector, connection)
        part: dict[str, float] = {}
        for count in (min(requests, 200), requests):
            with timed(part, count):
                for _ in range(count):
                    await session.get(f"{address}/changes?cursor=1000000")
        return {"request_us": part["cpu_us"], "request_wall_us": part["wall_s"] / requests * 1e6}

    spent: dict[str, float] = await guests.run(ask())
    return spent


def _part(name: str) -> Any:
    """A part of the daemon that runs here: what `build` gives away does not name it."""
    gc.unfreeze()  # the collector does not tell of what stays
    return next(each for each in gc.get_objects() if type(each).__name__ == name)


async def run_bare(values: int, rows: int, requests: int, address: str) -> dict[str, float]:
    """libsodium by PyNaCl, and aiohttp."""
    import aiohttp
    from nacl.public import PrivateKey, SealedBox

    private = PrivateKey.generate()
    sealing, opening = SealedBox(private.public_key), SealedBox(private)
    figures: dict[str, float] = {}
    part: dict[str, float] = {}
    with timed(part, values):
        sealed = [sealing.encrypt(PLAIN) for _ in range(values)]
    figures["seal_us"] = part["cpu_us"]
    with timed(part, values):
        for each in sealed:
            opening.decrypt(each)
    figures["open_us"] = part["cpu_us"]
    number = min(rows, values)
    with timed(part, number):
        for each in sealed[:number]:
            sealing.encrypt(opening.decrypt(each))
    figures["rotate_per_s"], figures["rotate_us"] = part["per_s"], part["cpu_us"]
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer " + "t" * 40}) as session:
        for count in (min(requests, 200), requests):
            with timed(part, count):
                for _ in range(count):
                    async with session.get(f"{address}/changes?cursor=1000000") as answer:
                        answer.raise_for_status()
                        await answer.read()
    figures["request_us"], figures["request_wall_us"] = part["cpu_us"], part["wall_s"] / requests * 1e6
    return figures
