"""The outbox: accepting durably, reading, and the way from commit to a waiting reader, beside bare SQLite, bare aiohttp and two brokers."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import apsw
from aiohttp import web
from benchmarks import peers
from benchmarks.harness import Results, Sample, Shown, Side, interleaved, once, ours, percentiles
from benchmarks.side import timed

if TYPE_CHECKING:
    from oo_daemon.outbox.tail import Tail

TITLE = "Events accepted durably, and read"
OO, BARE, VALKEY, NATS = "oO", "bare", "Valkey, appendfsync always", "NATS JetStream, sync always"
PAGE = 500
SELECT = "SELECT position, body FROM outbox WHERE position > ? ORDER BY position LIMIT ?"
#: Events that each side reads in one turn: a page of what it meets, and ten looks ahead.
TURN = 20_500


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much."""

    read: int = 1_000_000
    http: int = 50_000
    write: int = 100_000
    batch: int = 64
    tail: int = 5_000
    rate: int = 500
    rounds: int = 3
    peers: bool = True


SIZES = {
    "full": Size(),
    "gate": Size(read=100_000, http=10_000, write=20_000, tail=1_000, rounds=3, peers=False),
    "tiny": Size(read=1_000, http=500, write=640, tail=20, rounds=1, peers=False),
}


def bench(size: Size, tell: Callable[[str], None]) -> Results:
    """Run it."""
    results = Results(
        benchmark="outbox",
        title=TITLE,
        settings={
            "bytes of an event": len(event(0)),
            "events read": size.read,
            "events over HTTP": size.http,
            "batch read": PAGE,
            "events written": size.write,
            "batch written": size.batch,
            "tail": f"{size.tail} events at {size.rate} a second to one waiting reader",
            "durability": "each batch flushed before it is answered, on all sides",
            "bare, accept": "INSERT of ready bytes and COMMIT; indexed: with an id, a hash and an index of what was met",
            "bare, read": f"SELECT and decode; beside oO in its process, {TURN} by turns, and once in one of its own",
        },
    )
    given = {"read": size.read, "http": size.http, "write": size.write, "batch": size.batch, "tail": size.tail, "rate": size.rate}
    sides = [Side(OO, partial(once, ours("outbox:run_oo", **given))), Side(BARE, partial(once, ours("outbox:run_bare", **given)))]
    if size.peers:
        sides += [Side(VALKEY, lambda: _peer("valkey", given), rounds=2), Side(NATS, lambda: _peer("nats", given), rounds=2)]
    interleaved(results, sides, size.rounds, warm=False, tell=tell)
    results.aim("library read/s of SELECT and decode", results.ratio("read_per_s", OO, OO, "beside_per_s"), 0.8, "more")
    results.aim("library read CPU of SELECT and decode", results.ratio("read_us", OO, OO, "beside_us"), 1.25, "less", stable=True)
    results.aim("JSON over HTTP, events/s of bare aiohttp", results.ratio("json_per_s", OO, BARE), 0.8, "more")
    results.aim("stream of protobuf, events/s of bare aiohttp", results.ratio("protobuf_per_s", OO, BARE), 0.75, "more")
    results.aim("stream of JSON lines, events/s of bare aiohttp", results.ratio("lines_per_s", OO, BARE), 0.8, "more")
    results.aim("durable accept/s of bare group commit", results.ratio("accept_per_s", OO, BARE), 0.8, "more")
    results.aim("durable accept CPU of bare with an index", _over(results, "accept_us", "indexed_us"), 1.25, "less", stable=True)
    for peer in (VALKEY, NATS):
        theirs, mine = results.median(peer, "accept_per_s"), results.median(OO, "accept_per_s")
        results.aim(f"durable accept/s of {peer}", mine / theirs if mine and theirs else None, 1.0, "more")
    results.aim("commit to waiting reader, p99 ms", results.median(OO, "tail_p99_ms"), 20, "less")
    results.shown = [
        Shown(figure="accept_per_s", title=f"Events accepted a second, {size.batch} to a commit; more is better", unit="events/s"),
        Shown(figure="read_per_s", title=f"Events read a second, {PAGE} at a time; more is better", unit="events/s"),
    ]
    return results


def _over(results: Results, mine: str, other: str) -> float | None:
    a, b = results.median(OO, mine), results.median(BARE, other)
    return None if a is None or not b else a / b


def _peer(name: str, given: dict[str, int]) -> Sample:
    return once([peers.python(name), Path(__file__).with_name("peer") / f"outbox_{name}.py", json.dumps(given)])


def event(number: int) -> bytes:
    """An event of about 300 bytes, as it lies in the outbox."""
    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.protobuf.timestamp_pb2 import Timestamp

    from oo_sdk.events import NormalizedEvent

    message = NormalizedEvent(
        id=f"{number:032x}",
        connection="0123456789abcdef",
        user="ada",
        provider="bench",
        type="bench.task",
        change=1,  # type: ignore[arg-type]  # the numbers are the same
        subject=f"task-{number}",
        revision=1,
        observed_at=Timestamp(seconds=1_795_000_000),
        payload=AnyMessage(type_url="type.googleapis.com/oo.vocabulary.v1.Task", value=_task(number)),
    )
    return message.SerializeToString(deterministic=True)


def _task(number: int) -> bytes:
    from oo_sdk.vocabulary import Task

    return Task(title=f"Task {number}", description="Call the plumber about the kitchen. " * 4).SerializeToString(deterministic=True)


def _open(path: str) -> apsw.Connection:
    database = apsw.Connection(path)
    for pragma in ("journal_mode = wal", "synchronous = full", "wal_autocheckpoint = 0"):
        database.execute(f"PRAGMA {pragma}")
    return database


# --- oO ------------------------------------------------------------------------------------------------------------------


async def run_oo(read: int, http: int, write: int, batch: int, tail: int, rate: int) -> dict[str, float]:
    """The daemon's storage and its private door."""
    from benchmarks.daemon import connect, daemon, prepare

    from oo_daemon.store import outbox
    from oo_daemon.store.accept import Batch, Draft

    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="oo-bench-") as made:
        folder = Path(made)
        prepare(folder, {})
        async with daemon(folder, {}):
            pass
        _fill(folder / "oo.sqlite3", read)
        bare = _bare_log(folder, read)
        async with daemon(folder, {}) as app:
            connection = await connect(app, "bench_idle", now=1_795_000_000_000_000, due=None)
            while not any(name == "database_well" for name, _ in app.metrics.values()):
                await asyncio.sleep(0.01)  # at its start a daemon looks its file over, and that is no part of reading
            figures |= await _read(app.tail, bare, read)
            figures |= await _json(aiohttp.UnixConnector(str(app.settings.places.socket)), "http://oo", http)
            figures |= await _streams(lambda: aiohttp.UnixConnector(str(app.settings.places.socket)), "http://oo", http)

            def drafts(start: int, count: int) -> tuple[Draft, ...]:
                return tuple(
                    Draft(
                        type="bench_idle.task",
                        key=f"task-{number}",
                        subject=f"task-{number}",
                        change=1,
                        digest=blake2b(str(number).encode(), digest_size=16).digest(),
                        payload_type="oo.vocabulary.v1.Task",
                        payload=_task(number),
                    )
                    for number in range(start, start + count)
                )

            prepared = [drafts(start, batch) for start in range(0, write, batch)]
            with timed(figures, write):
                for some in prepared:
                    await app.storage.accept(Batch(connection=connection, observed_at=1_795_000_000_000_000, drafts=some))
            figures |= {"accept_per_s": figures["per_s"], "accept_us": figures["cpu_us"]}

            async def put(number: int) -> None:
                some = drafts(write + batch + number, 1)  # past what the last batch may hold
                await app.storage.accept(Batch(connection=connection, observed_at=time.perf_counter_ns() // 1000, drafts=some))

            end = (await app.storage.read(outbox.end)).number
            figures |= await _tail(aiohttp.UnixConnector(str(app.settings.places.socket)), end, put, tail, rate)
    return {name: figures[name] for name in figures if name not in {"wall_s", "cpu_s", "per_s", "cpu_us"}}


async def _read(tail: Tail, bare: apsw.Connection, count: int) -> dict[str, float]:
    """The library's way through the log, and by turns with it the bare one, in one process: both meet the same moments of the machine."""
    from oo_daemon.outbox import wire
    from oo_daemon.store.outbox import Filter

    spent: dict[str, list[float]] = {"read": [0.0, 0.0], "beside": [0.0, 0.0]}
    done = 0
    while done < count:
        to, figures = min(done + TURN, count), dict[str, float]()
        with timed(figures, to - done):
            after = done
            while after < to:
                rows = _rows(bare, SELECT, after, min(PAGE, to - after))
                for _, body in rows:
                    wire.decode(body)
                after = rows[-1][0]
        _add(spent["beside"], figures)
        with timed(figures, to - done):
            async with aclosing(tail.onward(done, PAGE, Filter(), 0)) as pages:
                async for page in pages:
                    for _, body in page.events:
                        wire.decode(body)
                    if page.reached >= to:
                        break
        _add(spent["read"], figures)
        done = to
    bare.close()
    return {
        name: value
        for side, (wall, cpu) in spent.items()
        for name, value in ((f"{side}_per_s", count / wall), (f"{side}_us", cpu / count * 1e6))
    }


def _add(spent: list[float], figures: dict[str, float]) -> None:
    spent[0] += figures["wall_s"]
    spent[1] += figures["cpu_s"]


def _fill(path: Path, count: int) -> None:
    database = _open(str(path))
    with database:
        size = sum(len(event(number)) for number in (1, count)) // 2
        database.execute("UPDATE stream SET position = ?, events = ?, bytes = ?", (count, count, count * size))
        sql = (
            'INSERT INTO outbox (position, stream, connection, "user", type, body, accepted_at) '
            "VALUES (?, 0, 1, 'ada', 'bench.task', ?, ?)"
        )
        now = time.time_ns() // 1000  # or they would be old enough to be let go of
        database.executemany(sql, ((number, event(number), now) for number in range(1, count + 1)))
    database.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    database.close()


async def _json(connector: aiohttp.BaseConnector, origin: str, count: int) -> dict[str, float]:
    """Pages of JSON over HTTP, undecoded at this end; the CPU is that of both ends."""
    figures: dict[str, float] = {}
    async with aiohttp.ClientSession(connector=connector) as session:
        with timed(figures, count):
            position = ""
            for _ in range(-(-count // PAGE)):
                async with session.get(f"{origin}/v1/events?limit={PAGE}{position}") as answer:
                    body = await answer.read()
                    assert answer.status == 200, body
                position = "&after=" + body.rpartition(b'"position":"')[2].partition(b'"')[0].decode()
    return {"json_per_s": figures["per_s"], "json_us": figures["cpu_us"]}


async def _streams(connector: Callable[[], aiohttp.BaseConnector], origin: str, count: int) -> dict[str, float]:
    """The stream of each form until so many events have come, only counted at this end; the CPU is that of both ends."""
    found: dict[str, float] = {}
    for name, kind, counted in (("protobuf", "application/x-protobuf", _lengths), ("lines", "application/jsonl", _ends)):
        figures: dict[str, float] = {}
        async with aiohttp.ClientSession(connector=connector()) as session:
            with timed(figures, count):
                async with session.get(f"{origin}/v1/events", headers={"Accept": kind}) as answer:
                    held, left = bytearray(), count
                    while left > 0:
                        held += await answer.content.readany()
                        left -= counted(held)
                    answer.close()
        found |= {f"{name}_per_s": figures["per_s"], f"{name}_us": figures["cpu_us"]}
    return found


def _lengths(held: bytearray) -> int:
    """Take the whole messages off the front, each with its length before it; gives how many there were."""
    at = count = 0
    while True:
        length = shift = 0
        start = at
        while start < len(held):
            length |= (held[start] & 0x7F) << shift
            shift += 7
            start += 1
            if held[start - 1] < 0x80:
                break
        else:
            break
        if start + length > len(held):
            break
        at, count = start + length, count + 1
    del held[:at]
    return count


def _ends(held: bytearray) -> int:
    """Take everything off; gives how many lines ended in it."""
    count = held.count(b"\n")
    held.clear()
    return count


async def _tail(connector: aiohttp.BaseConnector, end: int, put: Callable[[int], Any], count: int, rate: int) -> dict[str, float]:
    """From the return of the commit's call on, as seen by a reader on the other side of a socket."""
    committed: list[float] = []
    waits: list[float] = []

    async def write() -> None:
        start = time.perf_counter()
        for number in range(count):
            await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
            committed.append(time.perf_counter())
            await put(number)

    async with aiohttp.ClientSession(connector=connector) as session:
        writer = asyncio.create_task(write())
        position = f"1-{end}"
        while len(waits) < count:
            async with session.get(f"http://oo/v1/events?limit=500&wait=10&after={position}") as answer:
                page = json.loads(await answer.read())
            now = time.perf_counter()
            for _ in page["events"]:
                waits.append(now - committed[len(waits)])
            position = page["position"]
        await writer
    return percentiles(waits, "tail_")


# --- bare ----------------------------------------------------------------------------------------------------------------


async def run_bare(read: int, http: int, write: int, batch: int, tail: int, rate: int) -> dict[str, float]:
    """SQLite and aiohttp without a product around them."""
    from oo_sdk.events import NormalizedEvent

    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="oo-bench-") as folder:
        database = _bare_log(Path(folder), read)
        database.execute("CREATE TABLE object (key TEXT PRIMARY KEY, digest BLOB NOT NULL) WITHOUT ROWID")
        with timed(figures, read):
            after = 0
            while rows := _rows(database, SELECT, after, PAGE):
                for _, body in rows:
                    NormalizedEvent.FromString(body)
                after = rows[-1][0]
        figures |= {"read_per_s": figures["per_s"], "read_us": figures["cpu_us"]}
        async with _bare_door(database) as origin:
            figures |= await _json(aiohttp.TCPConnector(), origin, http)
            figures |= await _streams(aiohttp.TCPConnector, origin, http)
        bodies = [[(event(number),) for number in range(start, start + batch)] for start in range(0, write, batch)]
        with timed(figures, write):
            for some in bodies:
                database.execute("BEGIN IMMEDIATE")
                database.executemany("INSERT INTO outbox (body) VALUES (?)", some)
                database.execute("COMMIT")
        figures |= {"accept_per_s": figures["per_s"], "accept_us": figures["cpu_us"]}
        figures |= _indexed(database, write, batch)
        database.close()
    return {name: figures[name] for name in figures if name not in {"wall_s", "cpu_s", "per_s", "cpu_us"}}


def _bare_log(folder: Path, count: int) -> apsw.Connection:
    """A log with nothing but positions and bytes."""
    database = _open(f"{folder}/bare.sqlite3")
    database.execute("CREATE TABLE outbox (position INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    with database:
        database.executemany("INSERT INTO outbox VALUES (?, ?)", ((number, event(number)) for number in range(1, count + 1)))
    database.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    return database


def _rows(database: apsw.Connection, sql: str, after: int, limit: int) -> Sequence[Any]:
    return database.execute(sql, (after, limit)).fetchall()


def _indexed(database: apsw.Connection, write: int, batch: int) -> dict[str, float]:
    """The same with what an outbox must do besides: know what was met, give an id, put the event together."""
    figures: dict[str, float] = {}
    met = (
        "INSERT INTO object VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET digest = excluded.digest "
        "WHERE digest <> excluded.digest RETURNING 1"
    )
    with timed(figures, write):
        for start in range(0, write, batch):
            database.execute("BEGIN IMMEDIATE")
            rows = []
            for number in range(start, start + batch):
                digest = blake2b(str(number).encode(), digest_size=16).digest()
                if database.execute(met, (f"task-{number}", digest)).fetchall():
                    rows.append((event(number),))
            database.executemany("INSERT INTO outbox (body) VALUES (?)", rows)
            database.execute("COMMIT")
    return {"indexed_per_s": figures["per_s"], "indexed_us": figures["cpu_us"]}


@asynccontextmanager
async def _bare_door(database: apsw.Connection) -> AsyncIterator[str]:
    """An aiohttp handler that decodes a page of events and writes them as JSON with protobuf's own writer."""
    from google.protobuf import json_format

    from oo_sdk.events import NormalizedEvent

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if "limit" not in request.query:
            return await stream(request)
        after = int(request.query.get("after", "0"))
        rows = _rows(database, SELECT, after, int(request.query["limit"]))
        events = [json_format.MessageToDict(NormalizedEvent.FromString(body)) for _, body in rows]
        body = json.dumps({"events": events, "position": str(rows[-1][0])}, separators=(",", ":"))
        return web.Response(body=body.encode(), content_type="application/json")

    async def stream(request: web.BaseRequest) -> web.StreamResponse:
        """Everything, a page to a write: bytes with their length before them, or lines."""
        response, after = web.StreamResponse(), 0
        await response.prepare(request)
        with suppress(ConnectionError):  # who reads has counted enough
            while rows := _rows(database, SELECT, after, PAGE):
                if request.headers["Accept"] == "application/jsonl":
                    events = [json_format.MessageToDict(NormalizedEvent.FromString(body)) for _, body in rows]
                    whole = b"".join(json.dumps(each, separators=(",", ":")).encode() + b"\n" for each in events)
                else:
                    whole = b"".join(bytes([len(body) & 0x7F | 0x80, len(body) >> 7]) + body for _, body in rows)  # of 128 bytes to 16 kB
                await response.write(whole)
                after = rows[-1][0]
        return response

    runner = web.ServerRunner(web.Server(handler), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()
