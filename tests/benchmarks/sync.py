"""Sync: 100,000 tasks in pages of 200 from a local server into the outbox, durable page by page, beside the bare pipeline and peers."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import blake2b
from pathlib import Path

import aiohttp
import apsw
import msgspec
from benchmarks import feed, peers
from benchmarks.flushes import NAME as COUNTING
from benchmarks.flushes import Flushes
from benchmarks.harness import Results, Sample, Shown, Side, interleaved, once, ours, serving
from benchmarks.side import timed

TITLE = "Sync from a local server into the outbox"
OO, BARE = "oO", "bare idempotent pipeline"
PEERS = {"dlt": "dlt", "singer-sdk": "Singer SDK", "airbyte-cdk": "airbyte-cdk"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much."""

    objects: int = 100_000
    rounds: int = 9
    peers: bool = True


SIZES = {"full": Size(), "gate": Size(objects=20_000, rounds=3, peers=False), "tiny": Size(objects=400, rounds=1, peers=False)}


def bench(size: Size, tell: Callable[[str], None]) -> Results:
    """Run it."""
    results = Results(
        benchmark="sync",
        title=TITLE,
        settings={
            "objects": size.objects,
            "page": feed.PAGE,
            "bytes of an object": len(feed.pages(1)["0"]),
            "durability": "oO and bare: SQLite WAL FULL, a commit per page. dlt: one load at the end. Singer SDK, airbyte-cdk: to nowhere",
            "pinned": "server on one core, client on the other",
        },
    )
    with serving(ours("feed:serve", objects=size.objects), core=1) as server:
        address = server.ready["address"]

        def side(function: str) -> Callable[[], Sample]:
            return partial(once, ours(f"sync:{function}", address=address, objects=size.objects))

        def peer(name: str) -> Callable[[], Sample]:
            script = Path(__file__).with_name("peer") / f"sync_{name.replace('-', '_')}.py"
            return lambda: once([peers.python(name), script, address, str(size.objects)])

        sides = [Side(OO, side("run_oo")), Side(BARE, side("run_bare"))]
        if size.peers:
            sides += [Side(title, peer(name), rounds=2) for name, title in PEERS.items()]
        interleaved(results, sides, size.rounds, warm=size.rounds > 1, tell=tell)
        for name, function in ((OO, "run_oo"), (BARE, "run_bare")):
            counted = once(ours(f"sync:{function}", address=address, objects=size.objects, count_flushes=True))
            results.settings[f"flushes per 1,000 events, {name}"] = round(counted["flushes"] / size.objects * 1000, 2)
    fastest = max((results.median(title, "per_s") or 0.0 for title in PEERS.values()), default=0.0)
    ours_per_s = results.median(OO, "per_s")
    results.aim("events/s of the bare idempotent pipeline", results.ratio("per_s", OO, BARE), 0.8, "more")
    results.aim("CPU of the bare idempotent pipeline", results.ratio("cpu_us", OO, BARE), 1.3, "less", stable=True)
    results.aim("events/s of the fastest peer", ours_per_s / fastest if ours_per_s and fastest else None, 2.5, "more")
    results.aim("peak memory, MB", results.median(OO, "peak_mb"), 80, "less", stable=True)
    results.shown = [
        Shown(figure="per_s", title="Events a second; more is better", unit="events/s"),
        Shown(figure="cpu_us", title="CPU for each event; less is better", unit="µs"),
    ]
    return results


# --- oO ------------------------------------------------------------------------------------------------------------------


async def run_oo(address: str, objects: int, count_flushes: bool = False) -> dict[str, float]:
    """The whole daemon: dispatcher, signed session, guest, waist, outbox."""
    from benchmarks.daemon import connect, daemon

    from oo_daemon.store import outbox, schedule

    flushes = _counting(count_flushes)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="oo-bench-") as folder:
        tables: dict[str, dict[str, object]] = {"connectors.bench_feed": {"address": address}, "sync": {"interval": 3600}}
        async with daemon(Path(folder), tables) as app:
            now = time.time_ns() // 1000
            connection = await connect(app, "bench_feed", now=now, due=None)
            flushes.count = 0
            with timed(figures, objects):
                await app.storage.write(schedule.due_now, connection.number, time.time_ns() // 1000)
                while True:
                    planned = await app.storage.read(schedule.of, connection.number, 0)
                    if planned is not None and planned.finished_fence:
                        break
                    await asyncio.sleep(0.05)  # asking more often would be measured, too; the time is taken from the run log
            assert planned.outcome == "done", planned
            assert (await app.storage.read(outbox.end)).number == objects
            # From the claim on: the tick before it is the dispatcher's, and measured there.
            figures["wall_s"] = ((planned.finished_at or 0) - (planned.started_at or 0)) / 1e6
            figures["per_s"] = objects / figures["wall_s"]
            if count_flushes:
                figures["flushes"] = flushes.count
    return figures


def _counting(wanted: bool) -> Flushes:
    flushes = Flushes()
    if wanted:
        apsw.set_default_vfs(COUNTING)
    return flushes


# --- bare ----------------------------------------------------------------------------------------------------------------


class Item(msgspec.Struct):
    id: str
    title: str
    description: str
    labels: list[str]
    project: str
    changed_at: datetime
    version: str


class Page(msgspec.Struct):
    changes: list[Item]
    cursor: int
    more: bool


async def run_bare(address: str, objects: int, count_flushes: bool = False) -> dict[str, float]:
    """The shortest honest pipeline: fetch, decode, protobuf, hash, upsert into an index, append what is new, commit with the cursor."""
    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.protobuf.timestamp_pb2 import Timestamp

    from oo_sdk.events import NormalizedEvent
    from oo_sdk.vocabulary import Task

    flushes = _counting(count_flushes)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="oo-bench-") as folder:
        database = apsw.Connection(f"{folder}/bare.sqlite3")
        for pragma in ("journal_mode = wal", "synchronous = full", "wal_autocheckpoint = 0"):
            database.execute(f"PRAGMA {pragma}")
        database.execute("CREATE TABLE object (key TEXT PRIMARY KEY, digest BLOB NOT NULL, revision INT NOT NULL) WITHOUT ROWID")
        database.execute("CREATE TABLE outbox (position INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        database.execute("CREATE TABLE cursor (id INTEGER PRIMARY KEY, place INT NOT NULL)")
        upsert = (
            "INSERT INTO object VALUES (?, ?, 1) ON CONFLICT (key) DO UPDATE SET digest = excluded.digest, revision = revision + 1 "
            "WHERE digest <> excluded.digest RETURNING revision"
        )
        seen, changed = Timestamp(seconds=1_795_000_000), Timestamp()
        checkpointed = 0.0
        flushes.count = 0
        async with aiohttp.ClientSession() as session:
            with timed(figures, objects):
                cursor, more = 0, True
                while more:
                    async with session.get(f"{address}/changes", params={"cursor": str(cursor)}) as answer:
                        page = msgspec.json.decode(await answer.read(), type=Page)
                    database.execute("BEGIN IMMEDIATE")
                    rows: list[tuple[bytes]] = []
                    for item in page.changes:
                        task = Task(title=item.title, description=item.description, labels=item.labels, project=item.project)
                        payload = task.SerializeToString(deterministic=True)
                        digest = blake2b(payload, digest_size=16).digest()
                        for (revision,) in database.execute(upsert, (item.id, digest)):
                            changed.FromDatetime(item.changed_at)
                            event = NormalizedEvent(
                                id=blake2b(f"{item.id}:{revision}".encode(), digest_size=16).hexdigest(),
                                connection="connection-1",
                                user="ada",
                                provider="bare",
                                account="default",
                                type="bare.task",
                                change=1,  # type: ignore[arg-type]  # the numbers are the same
                                subject=item.id,
                                revision=revision,
                                version=item.version,
                                occurred_at=changed,
                                observed_at=seen,
                                payload=AnyMessage(type_url="type.googleapis.com/oo.vocabulary.v1.Task", value=payload),
                            )
                            rows.append((event.SerializeToString(),))
                    database.executemany("INSERT INTO outbox (body) VALUES (?)", rows)
                    cursor, more = page.cursor, page.more
                    database.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?)", (cursor,))
                    database.execute("COMMIT")
                    if time.monotonic() - checkpointed > 0.25:
                        database.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                        checkpointed = time.monotonic()
        ((count,),) = database.execute("SELECT count(*) FROM outbox").fetchall()
        assert count == objects
        database.close()
    return {**figures, **({"flushes": flushes.count} if count_flushes else {})}
