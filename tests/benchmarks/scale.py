"""Scale: the same work by one, two and four workers on one PostgreSQL: claims, events and webhooks, beside SQLite and procrastinate.

A worker is a process with the daemon's own storage and queries and nothing around them: what is asked is whether the database gets dearer.
Where four workers and their server are more than the processors, all that they do gets dearer, whether they share anything or not. So four
workers on four databases of one server are the yardstick: the same processes, statements and flushes, and nothing in common.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.dispatch import _peer
from benchmarks.harness import Results, Sample, Shown, Side, interleaved, once, ours

TITLE = "Several workers on one database"
SQLITE, ONE, TWO, FOUR = "SQLite, 1 worker", "PostgreSQL, 1 worker", "PostgreSQL, 2 workers", "PostgreSQL, 4 workers"
APART = "PostgreSQL, 4 workers, a database each"
PROCRASTINATE = "procrastinate, 1 worker"
#: Workers and databases of each side.
SIDES = {ONE: (1, 1), TWO: (2, 1), FOUR: (4, 1), APART: (4, 4)}
PHASES = ("claim", "event", "webhook")
#: Runs that are claimed at once, events of a commit, and webhooks on their way at once in a worker.
CLAIMED, BATCH, SENDERS = 64, 64, 32
NOW = 1_795_000_000_000_000
HOUR = 3_600_000_000
#: Seconds between two looks at who waits for a lock, and after which a worker that found nothing looks again.
LOOK, TICK = 0.02, 0.05
#: Tasks that procrastinate runs at most.
PEERS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much."""

    claims: int = 20_000
    events: int = 40_000
    webhooks: int = 20_000
    rounds: int = 3
    sides: Sequence[str] = (ONE, TWO, FOUR, APART)
    peers: bool = True


SIZES = {
    "full": Size(),
    "gate": Size(claims=3_200, events=6_400, webhooks=3_200, rounds=4),
    "tiny": Size(claims=128, events=256, webhooks=64, rounds=1, sides=(ONE, FOUR, APART), peers=False),
}


def bench(size: Size, tell: Callable[[str], None]) -> Results:
    """Run it."""
    results = Results(
        benchmark="scale",
        title=TITLE,
        settings={
            "claims": f"{size.claims} connections that are due, {CLAIMED} at once, each ended",
            "events": f"{size.events}, {BATCH} to a commit",
            "webhooks": f"{size.webhooks}, {SENDERS} on their way at once in each worker",
            "durability": "PostgreSQL with fsync and synchronous_commit on; SQLite WAL FULL; the server is on the same machine",
            "db_us": "CPU of the server's processes for one of them, waits: time in waits for locks for one of them, both µs",
        },
    )
    given = {"claims": size.claims, "events": size.events, "webhooks": size.webhooks}
    sides = [Side(SQLITE, partial(once, ours("scale:run", workers=1, databases=0, **given), core=None))]
    sides += [
        Side(name, partial(once, ours("scale:run", workers=SIDES[name][0], databases=SIDES[name][1], **given), core=None))
        for name in size.sides
    ]
    if size.peers:
        sides.append(Side(PROCRASTINATE, lambda: _procrastinate(min(size.claims, PEERS)), rounds=1))
    interleaved(results, sides, size.rounds, warm=False, tell=tell)
    for phase in PHASES:
        spent = f"{phase}_db_us"
        results.aim(f"the server's CPU for each {phase}, 4 workers of 1", results.ratio(spent, FOUR, ONE), 1.15, "less")
        results.aim(f"the server's CPU for each {phase}, 4 workers of 4 apart", results.ratio(spent, FOUR, APART), 1.15, "less")
    results.aim("claims/s of procrastinate", results.ratio("claim_per_s", ONE, PROCRASTINATE), 1.0, "more")
    results.shown = [
        Shown(figure=f"{phase}_db_us", title=f"CPU of the database for each {phase}; less is better", unit="µs") for phase in PHASES
    ]
    return results


def _procrastinate(claims: int) -> Sample:
    import postgresql

    programs = postgresql.programs()
    if programs is None:
        raise peers.Missing("there is no PostgreSQL here")
    server = postgresql.Server(programs, durable=True)
    try:
        with server.database() as address:
            sample = _peer("procrastinate", "dispatch_procrastinate.py", {"rows": 300, "seconds": claims, "address": address})  # type: ignore[dict-item]
            return {"claim_per_s": sample["per_s"], "claim_us": sample["cpu_us"]}
    finally:
        server.stop()


# --- the server ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Watched:
    """A PostgreSQL: what its processes cost, and how long anybody waits there for a lock."""

    postmaster: int
    connection: Any
    waits: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)
    _looking: threading.Thread | None = None

    def cpu(self) -> float:
        """CPU seconds of all of its processes so far, those that ended included."""
        every = [self.postmaster, *self._children()]
        total = 0
        for number, pid in enumerate(every):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += int(fields[11]) + int(fields[12]) + (0 if number else int(fields[13]) + int(fields[14]))
        return total / os.sysconf("SC_CLK_TCK")

    def _children(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.postmaster}/task/{self.postmaster}/children").read_text().split()]

    def look(self) -> None:
        """Begin to look who waits."""
        self._looking = threading.Thread(target=self._look, daemon=True)
        self._looking.start()

    def _look(self) -> None:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'client backend'"
        last = time.perf_counter()
        while not self._over.wait(LOOK):
            ((waiting,),) = self.connection.execute(sql).fetchall()
            now = time.perf_counter()
            self.waits += waiting * (now - last)
            last = now

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        if self._looking is not None:
            self._looking.join()


# --- the workers ---------------------------------------------------------------------------------------------------------


def run(workers: int, databases: int, claims: int, events: int, webhooks: int) -> dict[str, float]:
    """All phases by so many workers, on so many databases of one server; on a file where there are none."""
    import postgresql

    fork = multiprocessing.get_context("fork")
    with ExitStack() as stack:
        watched = None
        if databases:
            programs = postgresql.programs()
            if programs is None:
                raise peers.Missing("there is no PostgreSQL here")
            cluster = postgresql.Server(programs, durable=True)
            stack.callback(cluster.stop)
            places = [stack.enter_context(cluster.database()) for _ in range(databases)]
            postmaster = int((cluster.root / "data" / "postmaster.pid").read_text().split()[0])
            watched = Watched(postmaster, cluster.settled())
        else:
            places = [str(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oo-bench-"))) / "oo.sqlite3")]
        for place in places:
            first = fork.Process(target=_alone, args=(place, claims // len(places), workers))
            first.start()
            first.join()
        begin, done = fork.Barrier(workers + 1), [fork.Value("i", 0) for _ in places]
        told: Any = fork.Queue()
        shares = {"claim": claims // len(places), "event": events // workers, "webhook": webhooks // workers}
        team = [
            fork.Process(target=_work, args=(places[number % len(places)], number, shares, begin, done[number % len(places)], told))
            for number in range(workers)
        ]
        for each in team:
            each.start()
        if watched is not None:
            watched.look()
            stack.callback(watched.end)
        figures: dict[str, float] = {}
        for phase, many in zip(PHASES, (claims, events, webhooks), strict=True):
            begin.wait()
            wall, cpu, waits = time.perf_counter(), watched.cpu() if watched else 0.0, watched.waits if watched else 0.0
            begin.wait()
            figures[f"{phase}_per_s"] = many / (time.perf_counter() - wall)
            if watched:
                figures[f"{phase}_db_us"] = (watched.cpu() - cpu) / many * 1e6
                figures[f"{phase}_waits_us"] = (watched.waits - waits) / many * 1e6
        begin.wait()
        spent: list[Mapping[str, float]] = [told.get() for _ in team]
        for each in team:
            each.join()
        for phase, many in zip(PHASES, (claims, events, webhooks), strict=True):
            figures[f"{phase}_us"] = sum(each[phase] for each in spent) / many * 1e6
        return figures


def _open(place: str) -> Any:
    from oo_config import Server
    from oo_daemon.outbox import wire
    from oo_daemon.store.engines import open_storage

    return open_storage(Server(place) if place.startswith("postgresql:") else Path(place), wire.encode)


def _alone(place: str, claims: int, workers: int) -> None:
    asyncio.run(_prepare(place, claims, workers))


async def _prepare(place: str, claims: int, workers: int) -> None:
    """Connections of as many people, all due; and an address for webhooks."""
    from oo_daemon.store import connections, schedule
    from oo_daemon.store.connections import SignedIn
    from oo_daemon.store.database import Database

    def put(database: Database, some: Sequence[int]) -> None:
        for number in some:
            who = {"user": f"user-{number}", "provider": "bench", "account": "default", "provider_account": str(number)}
            made = connections.put(
                database, SignedIn(id=f"connection-{number}", registration=None, label="", scopes=(), meta={}, **who), NOW
            )
            schedule.create(database, made.number, NOW)
        database.rows(
            "INSERT INTO source (id, provider, token_hash, key_id, sealed, secret_count, scheme, enabled, created_at) "
            "VALUES (?, 'bench', ?, 'k', ?, 0, 'none', 1, 1) ON CONFLICT (id) DO NOTHING",
            ("source", b"hash", b""),
        )

    storage = _open(place)
    for start in range(0, max(claims, workers), 500):
        await storage.write(put, range(start, min(start + 500, max(claims, workers))))
        if start in {0, 500}:  # else it looks for each in the whole table, which it believes to be empty
            await storage.write(lambda database: database.rows("ANALYZE"))
    await storage.write(lambda database: database.rows("ANALYZE"))
    await storage.close()


def _work(place: str, worker: int, shares: Mapping[str, int], begin: Any, done: Any, told: Any) -> None:
    asyncio.run(_phases(place, worker, shares, begin, done, told))


async def _phases(place: str, worker: int, shares: Mapping[str, int], begin: Any, done: Any, told: Any) -> None:
    storage = _open(place)
    spent = {}
    for phase, do in zip(PHASES, (_claim, _tell, _take), strict=True):
        prepared = do(storage, worker, shares[phase], done)
        begin.wait()
        cpu = time.process_time()
        await prepared
        spent[phase] = time.process_time() - cpu
        begin.wait()
    begin.wait()  # what the server's processes cost is read while they are there
    await storage.close()
    told.put(spent)


async def _claim(storage: Any, worker: int, share: int, done: Any) -> None:
    """Claim and end, until all are."""
    from oo_daemon.store import schedule
    from oo_daemon.store.runs import Tally
    from oo_daemon.store.schedule import RunEnded

    while done.value < share:
        runs = await storage.write(schedule.claim, f"worker-{worker}", NOW + 1, NOW + HOUR, CLAIMED)
        ended = [
            RunEnded(run=run, now=NOW + 2, next_run_at=NOW + HOUR, outcome="done", detail="", tally=Tally(events=0), keep_tries=False)
            for run in runs
        ]
        if ended:
            await storage.write(schedule.end, ended)
            with done.get_lock():
                done.value += len(ended)
        else:
            await asyncio.sleep(TICK)  # the others have the rest


async def _tell(storage: Any, worker: int, share: int, done: Any) -> None:
    """Accept events of a connection of its own."""
    from oo_daemon.store import connections
    from oo_daemon.store.accept import Batch, Draft

    connection = await storage.read(connections.of, f"user-{worker}", "bench", "default")
    for start in range(0, share, BATCH):
        drafts = [
            Draft(
                type="bench.task",
                key=f"task-{number}",
                subject=f"task-{number}",
                change=1,
                digest=blake2b(str(number).encode(), digest_size=16).digest(),
                payload_type="oo.vocabulary.v1.Task",
                payload=b"\n\x20" + b"x" * 0x20,
            )
            for number in range(start, min(start + BATCH, share))
        ]
        await storage.accept(Batch(connection=connection, observed_at=NOW, drafts=drafts))


async def _take(storage: Any, worker: int, share: int, done: Any) -> None:
    """Take webhooks, many at once."""
    from oo_daemon.store import inbox
    from oo_daemon.store.inbox import Arrival

    numbers = count()

    async def send() -> None:
        while (number := next(numbers)) < share:
            headers = {"Content-Type": "application/json"}
            name = f"{worker}-{number}"
            arrival = Arrival(source="source", delivery_id=name, weak=False, headers=headers, body=b"x" * 300, received_at=NOW)
            await storage.write(inbox.put, arrival)

    await asyncio.gather(*(send() for _ in range(SENDERS)))
