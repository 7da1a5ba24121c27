"""The vault: sealing and opening beside bare PyNaCl, rotation beside its cryptography alone, a signed request beside bare aiohttp."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Results, Shown, Side, interleaved, once, ours, serving
from benchmarks.side import timed

if TYPE_CHECKING:
    from oo_client import Client
    from oo_daemon.app import App
    from oo_daemon.store.connections import Connection

TITLE = "Seal, open, rotate, sign"
OO, BARE = "oO", "bare"
PLAIN = os.urandom(500)
#: Questions before those that count, as many as count, and the seconds between two: somebody looks in, beside a rotation as before it.
WARM, ASKED, EVERY = 20, 500, 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much."""

    values: int = 20_000
    rows: int = 100_000
    requests: int = 5_000
    rounds: int = 5


SIZES = {
    "full": Size(),
    "gate": Size(values=5_000, rows=5_000, requests=2_000, rounds=3),
    "tiny": Size(values=100, rows=100, requests=20, rounds=1),
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
            "signed requests, one after another": size.requests,
            "bare": "PyNaCl's SealedBox without a context; for rotation the same boxes opened and sealed in memory; an aiohttp client",
        },
    )
    with serving(ours("feed:serve", objects=200), core=1) as server:
        given = {"values": size.values, "rows": size.rows, "requests": size.requests, "address": server.ready["address"]}
        sides = [Side(OO, partial(once, ours("vault:run_oo", **given))), Side(BARE, partial(once, ours("vault:run_bare", **given)))]
        interleaved(results, sides, size.rounds, warm=size.rounds > 1, tell=tell)
    results.aim("CPU to seal, of PyNaCl", results.ratio("seal_us", OO, BARE), 1.3, "less", stable=True)
    results.aim("CPU to open, of PyNaCl", results.ratio("open_us", OO, BARE), 1.3, "less", stable=True)
    results.aim("rotation/s of cryptography alone", results.ratio("rotate_per_s", OO, BARE), 0.7, "more")
    results.aim("p99 of an answer beside a rotation, of before", results.median(OO, "p99_beside"), 1.2, "less")
    results.aim("CPU of a signed request, of bare aiohttp", results.ratio("request_us", OO, BARE), 1.05, "less", stable=True)
    results.aim("time of a signed request, of bare aiohttp", results.ratio("request_wall_us", OO, BARE), 1.05, "less")
    results.shown = [Shown(figure="open_us", title="CPU to open a credential; less is better", unit="µs")]
    return results


async def run_oo(values: int, rows: int, requests: int, address: str) -> dict[str, float]:
    """The keyring, a rotation of the running daemon, and a connector's session."""
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
    return {**figures, **await _daemon(rows, requests, address)}


async def _daemon(rows: int, requests: int, address: str) -> dict[str, float]:
    from benchmarks.daemon import connect, daemon, many_credentials

    from oo_client import Client
    from oo_vault import add_key

    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="oo-bench-") as made:
        folder = Path(made)
        tables: dict[str, dict[str, object]] = {"connectors.bench_feed": {"address": address}, "sync": {"interval": 3600}}
        async with daemon(folder, tables) as app, Client(app.settings.places.socket) as client:
            connection = await connect(app, "bench_feed", now=time.time_ns() // 1000, due=None)
            figures |= await _requests(app, connection, requests, address)
            await app.storage.write(many_credentials, app.settings.vault.key_file, rows)
            await _answers(client, WARM)
            quiet = await _answers(client, min(requests, ASKED))
            add_key(app.settings.vault.key_file)
            cpu, began = time.process_time(), time.perf_counter()
            await app.keys.begin()
            beside = await _answers(client, None, until=lambda: app.keys.idle)
            figures["p99_beside"] = _p99(beside) / _p99(quiet)
            state = await client.vault()
            figures["rotate_per_s"] = state.rotation.rate
            figures["rotate_us"] = (time.process_time() - cpu) / rows * 1e6
            figures["rotate_s"] = time.perf_counter() - began
            assert state.rotation.done >= rows, state
    return figures


async def _answers(client: Client, count: int | None, until: Callable[[], bool] = lambda: False) -> list[float]:
    """Seconds that each of some questions took, one after another, a hundred a second at most."""
    took: list[float] = []
    while (count is None or len(took) < count) and not until():
        began = time.perf_counter()
        await client.status()
        took.append(time.perf_counter() - began)
        await asyncio.sleep(EVERY)
    return took


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
