"""Dispatch: many connections on a five-minute interval with a connector that does nothing, beside the bare claim loop and APScheduler."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import apsw
from benchmarks import peers
from benchmarks.harness import Results, Sample, Shown, Side, interleaved, once, ours, percentiles

TITLE = "Dispatch of connections that are due"
OO, BARE, APS, PROCRASTINATE = "oO", "bare claim loop", "APScheduler, a job each in memory", "procrastinate (PostgreSQL)"
INTERVAL, TICK, WORKERS = 300.0, 0.2, 512
MICRO = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much."""

    rows: int = 100_000
    seconds: float = 20
    burst: int = 10_000
    rounds: int = 3
    peers: bool = True


SIZES = {
    "full": Size(),
    "gate": Size(rows=20_000, seconds=10, burst=1_000, rounds=3, peers=False),
    "tiny": Size(rows=300, seconds=1, burst=50, rounds=1, peers=False),
}


def bench(size: Size, tell: Callable[[str], None]) -> Results:
    """Run it."""
    results = Results(
        benchmark="dispatch",
        title=TITLE,
        settings={
            "rows": size.rows,
            "interval": f"{INTERVAL:.0f} s, so {size.rows / INTERVAL:.0f} due each second",
            "tick": f"{TICK} s",
            "workers of oO": WORKERS,
            "seconds": size.seconds,
            "due at once, in a run of its own": size.burst,
            "durability": "oO and bare: SQLite WAL FULL, claims and ends with the run log. APScheduler: none. procrastinate: PostgreSQL",
        },
    )
    given = {"rows": size.rows, "seconds": size.seconds}

    def oo() -> Sample:
        steady = once(ours("dispatch:run_oo", **given, burst=0))
        burst = once(ours("dispatch:run_oo", rows=size.rows, seconds=size.seconds, burst=size.burst))
        return {**steady, **{f"burst_{name}": burst[name] for name in ("stall_ms", "stall_cpu_ms", "drained_s", "cpu_us")}}

    sides = [Side(OO, oo), Side(BARE, partial(once, ours("dispatch:run_bare", **given)))]
    if size.peers:
        sides += [
            Side(APS, lambda: _peer("apscheduler", "dispatch_apscheduler.py", given)),
            Side(PROCRASTINATE, lambda: _postgres(given), rounds=1),
        ]
    interleaved(results, sides, size.rounds, warm=False, tell=tell)
    results.aim("CPU for a dispatch, of the bare claim", results.ratio("cpu_us", OO, BARE), 2.0, "less", stable=True)
    results.aim("CPU for a dispatch, of APScheduler", results.ratio("cpu_us", OO, APS), 0.6, "less", stable=True)
    # Whether the start depends on the number of rows: the same daemon with none beside it.
    results.aim("start-up for all rows, ms more than for none", results.median(OO, "rows_start_ms"), 50, "less")
    results.aim("lateness p99, of the tick", _by(results.median(OO, "late_p99_ms"), TICK * 1000), 1.2, "less")
    results.aim("loop stall with many due at once, ms", results.median(OO, "burst_stall_ms"), 50, "less")
    results.aim("work of the loop in one turn with many due at once, ms", results.median(OO, "burst_stall_cpu_ms"), 50, "less", stable=True)
    results.shown = [Shown(figure="cpu_us", title="CPU for each dispatch; less is better", unit="µs")]
    return results


def _by(value: float | None, of: float) -> float | None:
    return None if value is None else value / of


def _peer(name: str, script: str, given: dict[str, float]) -> Sample:
    return once([peers.python(name), Path(__file__).with_name("peer") / script, json.dumps(given)])


def _postgres(given: dict[str, float]) -> Sample:
    import postgresql

    programs = postgresql.programs()
    if programs is None:
        raise peers.Missing("there is no PostgreSQL here")
    server = postgresql.Server(programs, durable=True)
    try:
        with server.database() as address:
            return _peer("procrastinate", "dispatch_procrastinate.py", {**given, "address": address})  # type: ignore[dict-item]
    finally:
        server.stop()


async def run_oo(rows: int, seconds: float, burst: int) -> dict[str, float]:
    """The whole daemon for a while; `burst`: so many are due at once, and their end is waited for."""
    from benchmarks.daemon import daemon, prepare

    figures: dict[str, float] = {}
    tables: dict[str, dict[str, Any]] = {
        "sync": {"interval": INTERVAL, "tick": TICK, "workers": WORKERS},
        "plugins": {"enabled": ["bench-oo"]},
    }
    with tempfile.TemporaryDirectory(prefix="oo-bench-") as made:
        folder = Path(made)
        prepare(folder, tables)
        for _ in range(2):  # the first start imports, and writes the schema
            began = time.perf_counter()
            async with daemon(folder, tables):
                empty = time.perf_counter() - began
        due = time.time_ns() // 1000 + (4 if rows > 1000 else 1) * MICRO
        _fill(folder / "oo.sqlite3", rows, due, burst)
        began = time.perf_counter()
        async with daemon(folder, tables) as app:
            figures["start_ms"] = (time.perf_counter() - began) * 1000
            figures["rows_start_ms"] = figures["start_ms"] - empty * 1000
            stalls: list[tuple[float, float]] = [(0.0, 0.0)]
            stall = asyncio.create_task(_watch(stalls)) if burst else None  # watching costs, too
            await asyncio.sleep(max(0.0, due / MICRO - time.time()))
            cpu, began = time.process_time(), time.perf_counter()
            if burst:
                while await app.storage.read(_done) < burst and time.perf_counter() - began < 120:
                    await asyncio.sleep(0.02)  # asking more often would be measured, too; what is told is when each run began
                figures["drained_s"] = time.perf_counter() - began
            else:
                await asyncio.sleep(seconds)
            cpu = time.process_time() - cpu
            late = await app.storage.read(
                lambda database: database.rows("SELECT started_at, connection FROM schedule WHERE finished_fence > 0")
            )
            if stall is not None:
                stall.cancel()
                figures["stall_ms"], figures["stall_cpu_ms"] = (max(each) * 1000 for each in zip(*stalls, strict=True))
    step = INTERVAL * MICRO / rows
    waits = [(started - due - (0 if burst else (number - 1) * step)) / MICRO for started, number in late]
    return {**figures, "dispatched": len(waits), "cpu_us": cpu / max(1, len(waits)) * 1e6, **percentiles(waits, "late_")}


async def _watch(stalls: list[tuple[float, float]]) -> None:
    """Note how long the main loop did not come round, and how long of that it was at work: on a busy machine it waits for its turn, too."""
    while True:
        began, worked = time.perf_counter(), time.thread_time()
        await asyncio.sleep(0.005)  # what is measured: how much later than asked the loop comes round
        stalls.append((time.perf_counter() - began - 0.005, time.thread_time() - worked))


def _done(database: Any) -> int:
    ((count,),) = database.rows("SELECT count(*) FROM schedule WHERE finished_fence > 0")
    return int(count)


def _fill(path: Path, rows: int, due: int, burst: int) -> None:
    """Connections, each due a little after the one before; or `burst` of them at once and the rest never."""
    database = apsw.Connection(str(path))
    step = INTERVAL * MICRO / rows
    with database:
        database.executemany(
            'INSERT INTO connection (number, id, "user", provider, account, state, reason, provider_account, label, scopes, meta, '
            "created_at, changed_at, version) VALUES (?, ?, ?, 'bench_idle', 'default', 'active', '', '', '', '', '{}', 1, 1, 1)",
            ((number, f"connection-{number}", f"user-{number}") for number in range(1, rows + 1)),
        )
        database.executemany(
            "INSERT INTO schedule (connection, next_run_at, generation, tries, fence, finished_fence, events) VALUES (?, ?, 0, 0, 0, 0, 0)",
            ((number, (due if number <= burst else None) if burst else int(due + (number - 1) * step)) for number in range(1, rows + 1)),
        )
    database.close()


async def run_bare(rows: int, seconds: float) -> dict[str, float]:
    """What one would write by hand for the same promises, and nothing around it: see `Bare`."""
    with tempfile.TemporaryDirectory(prefix="oo-bench-") as folder:
        bare = Bare(Path(folder) / "bare.sqlite3")
        bare.fill(rows)
        waits: list[float] = []
        cpu, began = time.process_time(), time.perf_counter()
        tick = 0
        while time.perf_counter() - began < seconds:
            now = time.time_ns() // 1000
            claimed = bare.claim(now)
            await asyncio.gather(*(bare.call() for _ in claimed))
            bare.end(claimed, now)
            waits += [(now - due) / MICRO for _, due, _ in claimed]
            tick += 1
            await asyncio.sleep(max(0.0, began + tick * TICK - time.perf_counter()))
        cpu = time.process_time() - cpu
        bare.database.close()
    return {"dispatched": len(waits), "cpu_us": cpu / max(1, len(waits)) * 1e6, **percentiles(waits, "late_")}


class Bare:
    """SQLite, two tables and a loop.

    A claim takes what is due with a lease and a fence, and notes it in the run log, whose index allows one live run of each connection.
    All that were claimed are called at once, each in a task, since connectors wait for their providers. An end keeps to the fence, plans
    the next run with the same jitter, and is noted in the log. All of a tick is claimed in one commit, and ended in one.
    """

    def __init__(self, path: Path) -> None:
        self.database = apsw.Connection(str(path))
        for statement in (
            "PRAGMA journal_mode = wal",
            "PRAGMA synchronous = full",
            "CREATE TABLE schedule (connection INTEGER PRIMARY KEY, due INT NOT NULL, lease INT, fence INT NOT NULL, ended INT)",
            "CREATE INDEX due ON schedule (due)",
            "CREATE TABLE run (connection INT NOT NULL, slot INT NOT NULL, fence INT NOT NULL, started INT NOT NULL, ended INT, "
            "outcome TEXT NOT NULL, PRIMARY KEY (connection, slot)) WITHOUT ROWID",
            "CREATE UNIQUE INDEX live ON run (connection) WHERE ended IS NULL",
        ):
            self.database.execute(statement)

    def fill(self, rows: int) -> None:
        """Connections, each due a little after the one before, from now on."""
        start, step = time.time_ns() // 1000, INTERVAL * MICRO / rows
        with self.database:
            self.database.executemany(
                "INSERT INTO schedule VALUES (?, ?, NULL, 0, NULL)", ((n, int(start + n * step)) for n in range(rows))
            )
        late = time.time_ns() // 1000 - start
        self.database.execute("UPDATE schedule SET due = due + ?", (late,)).fetchall()

    def claim(self, now: int) -> list[Any]:
        """What is due: connection, since when, and fence."""
        with self.database:
            claimed: list[Any] = self.database.execute(
                "UPDATE schedule SET lease = ?, fence = fence + 1 WHERE connection IN "
                "(SELECT connection FROM schedule WHERE due <= ? AND (lease IS NULL OR lease < ?) ORDER BY due LIMIT 500) "
                "RETURNING connection, due, fence",
                (now + 60 * MICRO, now, now),
            ).fetchall()
            self.database.executemany(
                "INSERT INTO run VALUES (?, ?, ?, ?, NULL, 'running') ON CONFLICT (connection, slot) DO UPDATE SET "
                "fence = excluded.fence, started = excluded.started, ended = NULL, outcome = 'running'",
                [(connection, fence % 50, fence, now) for connection, _, fence in claimed],
            )
        return claimed

    async def call(self) -> None:
        """The connector that does nothing."""

    def end(self, claimed: list[Any], now: int) -> None:
        """Plan the next run of each."""
        with self.database:
            self.database.executemany(
                "UPDATE schedule SET lease = NULL, due = ?, ended = ? WHERE connection = ? AND fence = ?",
                [(now + int(INTERVAL * MICRO * random.uniform(0.95, 1.05)), now, n, fence) for n, _, fence in claimed],
            )
            self.database.executemany(
                "UPDATE run SET ended = ?, outcome = 'done' WHERE connection = ? AND slot = ? AND fence = ?",
                [(now, connection, fence % 50, fence) for connection, _, fence in claimed],
            )
