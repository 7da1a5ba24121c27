"""Import of an export of the Health app, from the zip into the outbox: known ones dropped, durable; beside peers and bare parsers.

The export is generated: records grouped by type and ordered by time as a phone writes them, with metadata, workouts, routes and summaries.
It is made once for each size, under build/.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat

import apsw
from apple_health.generator import Phone
from benchmarks import load, peers
from benchmarks.feed import stdin_ends
from benchmarks.harness import ROOT, Results, Sample, Serving, Shown, Side, interleaved, memory, once, ours, serving
from benchmarks.side import timed

TITLE = "Import of an export of the Health app"
OO, BARE = "oO", "bare pipeline, durable"
EXPAT, REGEX = "expat to tuples, kept nowhere", "regular expression to tuples, kept nowhere"
MCP, SQLITE, PARSER = "apple-health-export-mcp (no flush)", "healthkit-to-sqlite", "apple-health-parser (into memory)"
#: environment of a peer → how it is called here.
PEERS = {"apple-health-export-mcp": MCP, "healthkit-to-sqlite": SQLITE, "apple-health-parser": PARSER}
#: What a record of the generator comes to, unpacked (bytes), and how many a day a watch and a phone make.
RECORD, A_DAY = 455, 1_300
PIECE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much. OO_TEST_IMPORT_MB says another size of the export."""

    megabytes: float = 300
    rounds: int = 3
    peers: bool = True
    rate: int = 100  #: webhooks a second beside an import
    seconds: float = 20


SIZES = {
    "full": Size(),
    "gate": Size(megabytes=30, rounds=2, peers=False, seconds=4),
    "tiny": Size(megabytes=0.5, rounds=1, peers=False, rate=50, seconds=0.5),
}


def bench(size: Size, tell: Callable[[str], None]) -> Results:
    """Run it."""
    megabytes = float(os.environ.get("OO_TEST_IMPORT_MB", size.megabytes))
    path, records, bytes_ = export(megabytes, tell)
    results = Results(
        benchmark="import",
        title=TITLE,
        settings={
            "records": records,
            "MB unpacked": round(bytes_ / 1e6, 1),
            "MB of the zip": round(path.stat().st_size / 1e6, 1),
            "durability": "oO and bare: SQLite WAL FULL. apple-health-export-mcp: synchronous=OFF. healthkit-to-sqlite: SQLite's default, "
            "one transaction for each chunk. The others keep nothing",
            "wall of oO": "from the first byte handed in until the import has ended, in a daemon that runs",
            "memory of oO": "of the daemon and its reader together, pages that they share counted once",
            "webhooks": f"{size.rate} a second over 64 connections, signed, 1 KiB, beside imports that follow on each other",
        },
    )
    given = {"path": str(path), "records": records}

    def peer(name: str) -> Callable[[], Sample]:
        script = Path(__file__).with_name("peer") / f"import_{name.replace('-', '_')}.py"
        return lambda: _per_record(once([peers.python(name), script, path], core=None), records)

    sides = [
        Side(OO, partial(once, ours("imports:run_oo", **given), core=None)),
        Side(BARE, partial(once, ours("imports:run_bare", **given), core=None)),
        Side(EXPAT, partial(once, ours("imports:run_expat", **given), core=None), rounds=2),
        Side(REGEX, partial(once, ours("imports:run_regex", **given), core=None), rounds=2),
    ]
    if size.peers:
        slow = {SQLITE, PARSER}
        sides += [Side(title, peer(name), rounds=1 if title in slow else size.rounds) for name, title in PEERS.items()]
    interleaved(results, sides, size.rounds, warm=False, tell=tell)
    tell("webhooks beside an import")
    interleaved(results, [Side("oO, webhooks beside it", partial(_webhooks, path, size))], 1, warm=False, tell=tell)
    results.aim("wall time of apple-health-export-mcp, times as fast", results.ratio("wall_s", MCP, OO), 1.5, "more")
    results.aim("wall time of healthkit-to-sqlite, times as fast", results.ratio("wall_s", SQLITE, OO), 5, "more")
    theirs, ours_ = results.median(MCP, "cpu_s"), results.median(OO, "busier_s")
    # On a machine that does other work, wall time tells of that: of two processes on two processors, the busier one is what counts.
    results.aim("CPU of apple-health-export-mcp, of oO's busier process", theirs / ours_ if theirs and ours_ else None, 1.5, "more")
    results.aim("CPU of the bare pipeline", results.ratio("cpu_us", OO, BARE), 1.5, "less", stable=True)
    results.aim("peak memory, MB", results.median(OO, "peak_mb"), 120, "less", stable=True)
    results.aim("events of the second import", results.median(OO, "second_events"), 0, "less", stable=True)
    first, second = results.median(OO, "wall_s"), results.median(OO, "second_wall_s")
    results.aim("wall time of the second import, of the first", second / first if first and second else None, 0.6, "less")
    first, second = results.median(OO, "cpu_s"), results.median(OO, "second_cpu_s")
    results.aim("CPU of the second import, of the first", second / first if first and second else None, 0.6, "less", stable=True)
    idle, beside = (results.median("oO, webhooks beside it", figure) for figure in ("idle_p99_ms", "p99_ms"))
    allowed = max(2 * idle, 100) if idle else None
    results.aim("webhook p99 beside an import, of what it may be", beside / allowed if beside and allowed else None, 1, "less")
    results.shown = [
        Shown(figure="per_s", title="Records a second; more is better", unit="records/s"),
        Shown(figure="cpu_us", title="CPU for each record; less is better", unit="µs"),
        Shown(figure="peak_mb", title="Peak memory; less is better", unit="MB"),
    ]
    return results


def export(megabytes: float, tell: Callable[[str], None]) -> tuple[Path, int, int]:
    """The export of that size: where it lies, its records, and its bytes unpacked."""
    records = max(int(megabytes * 1e6 / RECORD), 500)
    folder = ROOT / "build" / "exports" / str(records)
    path, about = folder / "export.zip", folder / "about.json"  # one of the peers wants it to be called so
    if not about.exists():
        tell(f"generating an export of {megabytes:g} MB")
        folder.mkdir(parents=True, exist_ok=True)
        Phone(records=records, days=max(records // A_DAY, 30)).zip(path)
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo("apple_health_export/export.xml").file_size
            with archive.open("apple_health_export/export.xml") as main:
                found = sum(line.lstrip().startswith(b"<Record ") for line in main)
        about.write_text(json.dumps({"records": found, "bytes": size}))
    known = json.loads(about.read_text())
    return path, known["records"], known["bytes"]


def _per_record(sample: Sample, records: int) -> Sample:
    return {**sample, "per_s": records / sample["wall_s"], "cpu_us": sample["cpu_s"] / records * 1e6}


# --- oO ------------------------------------------------------------------------------------------------------------------


async def run_oo(path: str, records: int) -> dict[str, float]:
    """The whole daemon: handed in over the socket, read by the reader, into the outbox; then the same file once more."""
    from benchmarks.daemon import daemon

    from oo_client import Client

    with tempfile.TemporaryDirectory(prefix="oo-bench-") as folder:
        async with daemon(Path(folder), {}) as app, Client(app.settings.places.socket) as client:
            with _peak() as peak:
                first = await _import(client, Path(path), "ada", records, peak)
                second = await _import(client, Path(path), "ada", records, peak)
    assert first["events"] > records * 0.95, "records that are equal are one; more than a few are not"
    return {**first, **{f"second_{name}": value for name, value in second.items()}, "peak_mb": peak["mb"]}


async def _import(client: Any, path: Path, user: str, records: int, peak: dict[str, float]) -> dict[str, float]:
    figures: dict[str, float] = {}
    children, looking = _children(), peak["cpu_s"]
    with timed(figures, records):
        id_ = await _hand_in(client, path, user)
        while (found := await client.upload(id_, wait=20)).state in {"awaited", "queued", "running"}:
            pass
    assert found.state == "done", found
    reader = _children() - children
    figures["cpu_s"] -= peak["cpu_s"] - looking  # looking at the memory is no part of it
    figures["busier_s"] = max(figures["cpu_s"], reader)
    figures["cpu_s"] += reader
    figures["cpu_us"] = figures["cpu_s"] / records * 1e6
    return {**figures, "events": found.events}


async def _hand_in(client: Any, path: Path, user: str) -> str:
    size = path.stat().st_size
    made = await client.await_upload(provider="apple_health", user=user, name="export.zip", size=size)
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            await client.send_upload(made.upload.id, piece, offset=file.tell() - len(piece))
    return str(made.upload.id)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _peak() -> Iterator[dict[str, float]]:
    """The most memory that this process and its children had together while the block ran, and what looking at it took of the processor."""
    peak, over = {"mb": 0.0, "cpu_s": 0.0}, threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            peak["cpu_s"] = time.thread_time()
            children = [pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]
            peak["mb"] = max(peak["mb"], sum(map(_proportional, ["self", *children])))

    watch = threading.Thread(target=look)
    watch.start()
    yield peak
    over.set()
    watch.join()
    peak["mb"] = peak["mb"] or memory(os.getpid(), "VmHWM")


def _proportional(pid: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0.0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0) / 1024


def _webhooks(path: Path, size: Size) -> Sample:
    """How long webhooks wait: of a daemon that has nothing else to do, and of one that imports."""
    from benchmarks.ingress import BODY, SIGNATURE

    def waits(server: Serving) -> dict[str, float]:
        halves = load.request(server.ready["url"], {"X-Signature": SIGNATURE}, BODY, "X-Delivery")
        return load.opened(server.ready["url"], halves, rate=size.rate, seconds=size.seconds)

    with serving(ours("imports:serve_oo"), core=None) as server:
        if size.rounds > 1:
            waits(server)  # a warm-up
        idle = waits(server)
        with serving(ours("imports:keep_on", socket=server.ready["socket"], path=str(path)), core=None):
            beside = waits(server)
    idle = {f"idle_{name}": idle[name] for name in ("p50_ms", "p99_ms", "max_ms")}
    return idle | {name: value for name, value in beside.items() if name not in {"per_s", "peak_mb"}}  # no records; the load's memory


async def serve_oo() -> dict[str, float]:
    """A daemon that takes webhooks."""
    from benchmarks.daemon import daemon
    from benchmarks.ingress import SECRET

    from oo_client import Client

    with tempfile.TemporaryDirectory(prefix="oo-bench-") as folder:
        async with daemon(Path(folder), {}) as app, Client(app.settings.places.socket) as client:
            await client.register(provider="bench_hook", client_id="c", client_secrets=["s"], webhook_secrets=[SECRET])
            (known,) = await client.registrations()
            print(json.dumps({"url": known.webhook_url, "socket": str(app.settings.places.socket)}), flush=True)
            await stdin_ends()
    return {}


async def keep_on(socket: str, path: str) -> dict[str, float]:
    """Have a daemon import one export after the other, each for another user, until our starter is done with us."""
    from oo_client import Client

    async def hand_in() -> None:
        async with Client(Path(socket)) as client:
            for number in count():
                id_ = await _hand_in(client, Path(path), f"user-{number}")
                while (found := await client.upload(id_)).state in {"awaited", "queued"}:
                    await asyncio.sleep(0.05)  # its end can be waited for, its beginning only asked about
                if not number:
                    print(json.dumps({"upload": id_}), flush=True)
                while found.state == "running":
                    found = await client.upload(id_, wait=20)

    importing = asyncio.ensure_future(hand_in())
    await stdin_ends()
    importing.cancel()
    await asyncio.gather(importing, return_exceptions=True)
    return {}


# --- bare ----------------------------------------------------------------------------------------------------------------

#: The attributes of a record as nearly every export has them.
USUAL = re.compile(
    rb' <Record type="([^"]*)" sourceName="([^"]*)"(?: sourceVersion="[^"]*")?(?: device="([^"]*)")?(?: unit="([^"]*)")?'
    rb' creationDate="[^"]*" startDate="([^"]*)" endDate="([^"]*)" value="([^"]*)"/?>'
)


@contextmanager
def _main(path: str) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(path) as archive, archive.open("apple_health_export/export.xml") as stream:
        yield stream


def run_expat(path: str, records: int) -> dict[str, float]:
    """The standard library's parser; each record becomes a tuple, which is dropped."""
    figures: dict[str, float] = {}
    found = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal found
        if tag == "Record":
            found += 1
            get = attributes.get
            (get("type"), get("sourceName"), get("device"), get("unit"), get("startDate"), get("endDate"), get("value"))

    with timed(figures, records), _main(path) as stream:
        parser = expat.ParserCreate()
        parser.StartElementHandler = start
        parser.ParseFile(stream)
    assert found == records
    return figures


def _usual(path: str) -> Iterator[list[tuple[bytes, ...]]]:
    with _main(path) as stream:
        rest = b""
        while more := stream.read(1024 * 1024):
            whole, newline, rest = (rest + more).rpartition(b"\n")
            yield USUAL.findall(whole + newline)


def run_regex(path: str, records: int) -> dict[str, float]:
    """A regular expression that knows one order of the attributes, and passes over what it does not know."""
    figures: dict[str, float] = {}
    with timed(figures, records):
        found = sum(map(len, _usual(path)))
    assert found > records * 0.99
    return figures


def run_bare(path: str, records: int) -> dict[str, float]:
    """The shortest honest pipeline in one process: regular expression, protobuf, keys of eight bytes in a tree, SQLite, FULL."""
    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.protobuf.timestamp_pb2 import Timestamp

    from oo_sdk.events import NormalizedEvent
    from oo_sdk.vocabulary import HealthSample

    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="oo-bench-") as folder:
        database = apsw.Connection(f"{folder}/bare.sqlite3")
        for pragma in ("journal_mode = wal", "synchronous = full"):
            database.execute(f"PRAGMA {pragma}")
        database.execute("CREATE TABLE met (key INTEGER PRIMARY KEY)")
        database.execute("CREATE TABLE outbox (position INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        days: dict[bytes, int] = {}
        seen = Timestamp(seconds=1_795_000_000)

        def seconds(written: bytes) -> int:
            day = days.get(written[:10])
            if day is None:
                day = days[written[:10]] = int(datetime.strptime(written[:10].decode() + written[19:].decode(), "%Y-%m-%d %z").timestamp())
            return day + int(written[11:13]) * 3600 + int(written[14:16]) * 60 + int(written[17:19])

        with timed(figures, records):
            for rows in _usual(path):
                database.execute("BEGIN IMMEDIATE")
                bodies = []
                for type_, source, device, unit, began, ended, value in rows:
                    start, end = seconds(began), seconds(ended)
                    digest = blake2b(b"%b %b %d %d %b" % (type_, source, start, end, value), digest_size=16).digest()
                    database.execute("INSERT OR IGNORE INTO met VALUES (?)", (int.from_bytes(digest[:8], signed=True),))
                    if not database.changes():
                        continue
                    sample = HealthSample(
                        kind=type_.decode(), source=source.decode(), device=device.decode(), unit=unit.decode(),
                        start=Timestamp(seconds=start), end=Timestamp(seconds=end),
                    )  # fmt: skip
                    if unit:
                        sample.value = float(value)
                    else:
                        sample.category = value.decode()
                    event = NormalizedEvent(
                        id=digest.hex(), connection="connection-1", user="ada", provider="bare", type="bare.sample", subject=digest.hex(),
                        revision=1, observed_at=seen, occurred_at=Timestamp(seconds=start),
                        payload=AnyMessage(type_url="type.googleapis.com/oo.vocabulary.v1.HealthSample", value=sample.SerializeToString()),
                    )  # fmt: skip
                    bodies.append((event.SerializeToString(),))
                database.executemany("INSERT INTO outbox (body) VALUES (?)", bodies)
                database.execute("COMMIT")
        database.close()
    return figures
