"""What PostgreSQL alone must do: order what several write at once, notice what is lost, and tell others."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import postgresql as servers
import psycopg
import pytest
from daemon.store.inbox_contract import arrival, furnish
from daemon.store.world import LEASE, NOW, connect, decode, encode, occur, upsert

from oo_config import Server
from oo_daemon.connections.budgets import Budgets, bucket
from oo_daemon.host import HostClock
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox.tail import Tail
from oo_daemon.ports import SECOND
from oo_daemon.store import accept, engines, inbox, outbox, postgresql, schedule
from oo_daemon.store.accept import Batch
from oo_daemon.store.connections import Connection
from oo_daemon.store.copy import is_half
from oo_daemon.store.database import Database
from oo_daemon.store.errors import CannotOpen, CannotStore, Corrupt, Erased, LeaseLost
from oo_daemon.store.migrations import MIGRATIONS, migrate
from oo_daemon.store.outbox import Filter
from oo_daemon.store.pool import TRIES, PooledStorage
from oo_daemon.store.postgresql import PostgresqlDatabase
from oo_daemon.store.storage import Lane
from oo_sdk import Connector, RateLimit

WRITERS, COMMITS = 8, int(os.environ.get("OO_TEST_WRITER_COMMITS", "40"))
#: For which several daemons spend what all may spend, at least.
SECONDS = float(os.environ.get("OO_TEST_BUDGET_SECONDS", "1"))


@pytest.fixture
async def storage(shared: PostgresqlDatabase) -> AsyncIterator[PooledStorage]:
    pooled = PooledStorage(shared, encode)
    yield pooled
    await pooled.close()
    shared.connect()


async def eventually(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0)


class Readers:
    """Writers that take their time between their events and their commit, and a reader that goes on from the last one it has seen."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self.database = database
        self.connections = [connect(database, f"c{number}") for number in range(WRITERS)]
        self.wrote: set[int] = set()
        self.read: list[int] = []
        self._over = threading.Event()

    def _write(self, connection: Connection) -> None:
        chance = random.Random(connection.number)  # spreads load
        self.database.connect()
        for number in range(COMMITS):
            self.database.rows("BEGIN")
            drafts = [occur(f"{number}-{each}") for each in range(chance.randint(1, 3))]
            accepted = accept.accept(self.database, Batch(connection=connection, observed_at=NOW, drafts=drafts), encode)
            self.database.rows("SELECT pg_sleep(?)", (chance.choice((0, 0, 0.001, 0.004)),))
            self.database.rows("COMMIT")
            assert accepted.last_position is not None
            self.wrote |= {*range(accepted.last_position - accepted.events + 1, accepted.last_position + 1)}
        self.database.close()

    def _read(self) -> None:
        self.database.connect()
        last = False
        while True:
            last = self._over.is_set()
            self.database.rows("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            found = outbox.page(self.database, self.read[-1] if self.read else 0, 500)
            self.database.rows("COMMIT")
            self.read += [stored[0] for stored in found.events]
            if last and not found.events:
                break
        self.database.close()

    def run(self) -> None:
        """Let them all work to their end."""
        writers = [threading.Thread(target=self._write, args=(connection,)) for connection in self.connections]
        reader = threading.Thread(target=self._read)
        for thread in (reader, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        self._over.set()
        reader.join()


@pytest.mark.timeout(3600)
@pytest.mark.rows("B18")
def test_no_reader_passes_what_is_not_committed(shared: PostgresqlDatabase) -> None:
    """However long writers take, positions become visible in order: a reader misses none, and meets none twice."""
    readers = Readers(shared)
    readers.run()
    assert readers.read == sorted(readers.wrote)
    assert len(readers.wrote) >= WRITERS * COMMITS


@pytest.mark.timeout(3600)
@pytest.mark.rows("B18")
def test_without_the_lock_events_are_missed(shared: PostgresqlDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness sees what the lock is for: with positions from a sequence, a reader passes what commits later."""
    shared.rows("CREATE SEQUENCE unlocked")

    def take(database: Database, count: int, size: int) -> list[int]:
        return [place for (place,) in database.rows("SELECT nextval('unlocked') FROM generate_series(1, ?)", (count,))]

    monkeypatch.setattr(accept, "_take_positions", take)
    readers = Readers(shared)
    try:
        readers.run()
        ((stored,),) = shared.rows("SELECT count(*) FROM outbox")
        assert len(set(readers.read)) < stored
    finally:
        shared.rows("DROP SEQUENCE unlocked")


@pytest.mark.rows("H8")
def test_of_several_one_migrates(server: servers.Server) -> None:
    """Daemons that start at once on an empty database all find its schema whole: one makes it while the others wait."""
    together = threading.Barrier(WRITERS)

    def start(address: str) -> int:
        database = PostgresqlDatabase(address, forgetful=True)
        database.connect()
        try:
            together.wait()
            return migrate(database)
        finally:
            database.close()

    with server.database() as address, ThreadPoolExecutor(WRITERS) as pool:
        assert {*pool.map(start, [address] * WRITERS)} == {MIGRATIONS[-1].number}


@pytest.mark.rows("B19")
@pytest.mark.parametrize("name", postgresql.PROMISES)
def test_a_server_that_forgets_is_refused(server: servers.Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What a power cut would lose was never promised: the start is refused, with what to change."""
    monkeypatch.setattr(postgresql, "PROMISES", (name,))
    with server.database() as address, pytest.raises(CannotOpen, match=f"{name}=off.*set it to on"):
        postgresql.open_database(address)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda address: address.replace("/oo_", "/no_"), "cannot be used.*does not exist.*check that"),
        (lambda address: address.replace("?host=", "?host=/nowhere"), "cannot be used.*check that it runs"),
        (lambda address: address.replace("?host=", "?hoost="), "no address that PostgreSQL knows"),
    ],
)
def test_what_cannot_be_opened(server: servers.Server, change: Callable[[str], str], word: str) -> None:
    """One sentence, with the remedy."""
    with server.database() as address, pytest.raises(CannotOpen, match=word):
        postgresql.open_database(change(address))


def test_a_server_that_goes_away_while_it_is_opened(server: servers.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, too: whoever keeps the daemon running tries again."""

    def away(asked: Callable[[PostgresqlDatabase], object]) -> Callable[[PostgresqlDatabase], object]:
        def ask(database: PostgresqlDatabase) -> object:
            end(database, database.handle().info.backend_pid)
            return asked(database)

        return ask

    monkeypatch.setattr(postgresql, "PROMISES", ())
    with server.database() as address:
        with monkeypatch.context() as patch:
            patch.setattr(engines, "is_half", away(is_half))
            with pytest.raises(CannotOpen, match=r"cannot be used.*check that it runs"):
                engines.open_storage(Server(address=address), encode)
        monkeypatch.setattr(PostgresqlDatabase, "others", away(PostgresqlDatabase.others))
        with pytest.raises(CannotOpen, match=r"cannot be used.*check that it runs"), engines.alone_on(Server(address=address)):
            pass


def end(database: PostgresqlDatabase, backend: int) -> None:
    """End a connection of the server's, as its administrator does."""
    with database.fresh() as other:
        assert other.execute("SELECT pg_terminate_backend(%s::int, 5000)", (backend,)).fetchone() == (True,)


def test_a_server_that_is_none_of_ours_is_refused(server: servers.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is too old, and a database that cannot hold every text, with what to do."""
    monkeypatch.setattr(postgresql, "PROMISES", ())
    main = server.settled()
    main.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(CannotOpen, match=r"encoded in LATIN1.*make one with ENCODING 'UTF8'"):
            postgresql.open_database(server.address("latin"))
    finally:
        main.execute("DROP DATABASE latin WITH (FORCE)")
    monkeypatch.setattr(postgresql, "OLDEST", 99)
    with server.database() as address, pytest.raises(CannotOpen, match="is too old: install 99 or newer"):
        postgresql.open_database(address)


def _raising(state: str) -> Callable[[Database], None]:
    """A query that makes the server raise this."""

    def query(database: Database) -> None:
        assert isinstance(database, PostgresqlDatabase)
        database.run(f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$")

    return query


@pytest.mark.rows("B12")
@pytest.mark.parametrize(
    ("state", "kind", "word"),
    [
        ("XX001", Corrupt, "restore a backup"),
        ("XX002", Corrupt, "restore a backup"),
        ("53100", CannotStore, "disk of PostgreSQL is full"),
        ("55P03", CannotStore, "try again"),
        ("57014", CannotStore, "try again"),
        ("40P01", CannotStore, "try again"),
        ("40001", CannotStore, "try again"),
        ("23503", Erased, "was erased"),
        ("25006", CannotStore, "name the primary"),
        ("53300", CannotStore, "see whether it runs"),
        ("XX000", CannotStore, "see whether it runs"),
        ("22012", psycopg.DataError, "22012"),
    ],
)
async def test_what_a_server_refuses(storage: PooledStorage, state: str, kind: type[Exception], word: str) -> None:
    """Is said in our words, with what to do; nothing is left of it, damage is told, and the next write goes through."""
    damaged: list[Corrupt] = []
    storage.on_damage(damaged.append)

    def write(database: Database) -> None:
        connect(database, "c1")
        _raising(state)(database)

    with pytest.raises(kind, match=word):
        await storage.write(write)
    with pytest.raises(kind, match=word):
        await storage.read(_raising(state))
    assert len(damaged) == 2 * (kind is Corrupt)
    assert await storage.read(lambda database: database.rows("SELECT count(*) FROM connection")) == [(0,)]
    await storage.write(connect)


async def test_what_others_have_ended_is_tried_again(storage: PooledStorage) -> None:
    """A transaction that lost a deadlock is run anew, from its beginning, before anybody hears of it."""
    tries: list[int] = []

    def write(database: Database) -> int:
        connect(database, "c1")
        tries.append(len(tries))
        if len(tries) < TRIES:
            _raising("40P01")(database)
        return len(tries)

    assert await storage.write(write) == TRIES
    assert await storage.read(lambda database: database.rows("SELECT count(*) FROM connection")) == [(1,)]


def of_a_standby(server: servers.Server, address: str) -> str:
    """The server becomes one that follows another."""
    server.kill()
    (server.root / "data" / "standby.signal").touch()
    server.start()
    return address


def in_bytes(server: servers.Server, address: str) -> str:
    """A database that holds bytes and knows no letters."""
    server.settled().execute("CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0")
    return server.address("bytes")


def of_a_guest(server: servers.Server, address: str) -> str:
    """A user who may make nothing."""
    server.settled().execute("CREATE ROLE guest LOGIN")
    return address.replace("postgres@", "guest@")


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (in_bytes, "encoded in SQL_ASCII, which cannot hold every text: make one with ENCODING 'UTF8'"),
        (of_a_guest, "this user make no tables: make it the owner"),
        (of_a_standby, "is a standby, which takes no writes: let places.database name the primary"),
    ],
)
def test_what_cannot_keep_promises(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[servers.Server, str], str], word: str, alone: servers.Server
) -> None:
    """A server, database or user that cannot do what a daemon needs is refused with the remedy."""
    monkeypatch.setattr(postgresql, "PROMISES", ())
    with pytest.raises(CannotOpen, match=word):
        postgresql.open_database(make(alone, alone.address("postgres")))


@pytest.fixture(scope="module")
def alone(server: servers.Server) -> Iterator[servers.Server]:
    """A server that a test may spoil."""
    programs = servers.programs()
    assert programs is not None
    running = servers.Server(programs)
    yield running
    running.stop()


def test_a_server_whose_host_is_gone_is_noticed(server: servers.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel gives a connection up after 10 s without a word from the other side, unless the address says otherwise."""
    for more, seconds in (("", 10), ("?tcp_user_timeout=3000", 3)):
        database = PostgresqlDatabase(server.over_tcp("postgres") + more, forgetful=True)
        database.connect()
        with socket.socket(fileno=os.dup(database.handle().fileno())) as wire:
            assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == seconds * 1000
            assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            quiet = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            assert [wire.getsockopt(socket.IPPROTO_TCP, each) for each in quiet] == [5, 2, 3]
        database.close()


@pytest.mark.parametrize("uses", range(8))
def test_what_went_down_with_a_batch_can_be_asked_again(shared: PostgresqlDatabase, uses: int) -> None:
    """However often a statement was used before: one that was to be prepared in a batch that was refused is prepared once more."""
    refused = "INSERT INTO latency (hour, stretch, deliveries) VALUES (?, ?, 1)"
    asked = "INSERT INTO latency (hour, stretch, deliveries) VALUES (?, ?, 2) ON CONFLICT (hour, stretch) DO NOTHING"
    shared.close()
    shared.connect()
    shared.run("BEGIN")
    shared.run("ROLLBACK")
    shared.many(refused, [(1, 1)])
    for _ in range(uses):
        shared.many(asked, [(2, uses)])

    def batch() -> None:
        with shared.ahead():
            shared.many(refused, [(1, 1)])
            shared.many(asked, [(3, uses)])

    shared.run("BEGIN")
    with pytest.raises(psycopg.errors.UniqueViolation):
        batch()
    shared.run("ROLLBACK")
    shared.many(asked, [(4, uses)])
    assert shared.rows("SELECT hour FROM latency WHERE hour > 2") == [(4,)]


class Behind(HostClock):
    """A host whose clock is some seconds behind."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def now(self) -> int:
        return super().now() - int(self.seconds * SECOND)


@pytest.mark.rows("E7")
async def test_what_all_may_spend_is_spent_once(storage: PooledStorage, shared: PostgresqlDatabase) -> None:
    """Three daemons draw chunks as fast as they may, with clocks as far apart as is let pass: no more is spent than the bucket held."""
    connection = await storage.write(connect)
    daemons = [PooledStorage(PostgresqlDatabase(shared.database, forgetful=True), encode, writers=2) for _ in range(2)]
    limit = RateLimit(400, per="second")
    size, spent = bucket(limit), 0

    class Quick(Connector):
        id = "acme"
        limits = (limit,)

    async def spend(budgets: Budgets) -> None:
        nonlocal spent
        while True:
            await budgets.take(Quick(), connection, waited_for=False)
            spent += 1

    began = time.monotonic()
    hosts = zip((storage, *daemons), (0, 2, 4.5), strict=True)
    budgets = [Budgets(storage=each, clock=Behind(behind), metrics=MemoryMetrics()) for each, behind in hosts]
    await budgets[0].take(Quick(), connection, waited_for=False)  # from here on it is filled by the clock that is first
    spent += 1
    tasks = [asyncio.ensure_future(spend(each)) for each in budgets for _ in range(3)]
    try:
        async with asyncio.timeout(20 + SECONDS):
            while time.monotonic() < began + SECONDS or spent < 2 * size.burst:
                await asyncio.sleep(0)
        assert spent <= size.burst + size.rate * (time.monotonic() - began)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in daemons:
            await each.close()


@pytest.mark.rows("B18")
def test_the_profile_of_a_connection(shared: PostgresqlDatabase) -> None:
    """Who dies in the middle of a transaction stops the others for 30 s at most; nobody waits for a lock for longer than 5 s."""
    shown = "current_setting('idle_in_transaction_session_timeout'), current_setting('lock_timeout'), current_setting('statement_timeout')"
    assert shared.rows(f"SELECT {shown}") == [("30s", "5s", "1min")]


async def test_a_connection_that_was_cut_is_opened_again(storage: PooledStorage, server: servers.Server) -> None:
    """Between two writes nobody notices; in the middle of one it is refused, and nothing of it stays."""
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'oo-integrations'"
    for name in ("c1", "c2", "c3"):
        await storage.write(connect, name)
        await storage.read(outbox.end)
        server.settled().execute(cut)

    def cut_off(database: Database) -> None:
        connect(database, "c4")
        database.rows("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(CannotStore, match="PostgreSQL cannot be used now"):
        await storage.write(cut_off)
    found = await storage.read(lambda database: database.rows("SELECT id FROM connection ORDER BY id"))
    assert found == [("c1",), ("c2",), ("c3",)]


async def test_many_go_together(storage: PooledStorage) -> None:
    """What waits at the same time is one commit; what fails among it leaves no trace, and the others stay."""
    await storage.write(furnish)
    held, go = threading.Event(), threading.Event()

    def wait(database: Database) -> None:
        held.set()
        go.wait(20)

    waiting = [asyncio.ensure_future(storage.write(wait)) for _ in storage._writers]
    await eventually(held.is_set)

    def number(database: Database) -> int:
        ((found,),) = database.rows("SELECT txid_current()")
        return int(found)

    def wrong(database: Database) -> None:
        inbox.put(database, arrival("wrong"))
        database.rows("SELECT 1 / 0")

    puts = [asyncio.ensure_future(storage.write(inbox.put, arrival(f"d{each}"))) for each in range(10)]
    bad = asyncio.ensure_future(storage.write(wrong))
    numbers = [asyncio.ensure_future(storage.write(number)) for _ in range(5)]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*waiting)
    assert await asyncio.gather(*puts) == [True] * 10
    with pytest.raises(Exception, match="division by zero"):
        await bad
    assert len(set(await asyncio.gather(*numbers))) < 5
    assert await storage.read(inbox.depth) == 10


async def test_a_commit_whose_answer_is_lost_is_not_made_again(storage: PooledStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be done: whoever has asked hears that nobody knows, whether it went alone or with others."""
    await storage.write(furnish)
    real, losing = PostgresqlDatabase.run, threading.Event()

    def run(database: PostgresqlDatabase, statements: str) -> None:
        real(database, statements)
        if statements == "COMMIT" and losing.is_set():
            losing.clear()
            end(database, database.handle().info.backend_pid)
            real(database, "SELECT 1")  # which raises what a lost answer does

    def count(database: Database) -> None:
        database.rows("UPDATE latency SET deliveries = deliveries + 1")

    await storage.write(lambda database: database.rows("INSERT INTO latency (hour, stretch, deliveries) VALUES (1, 1, 0)"))
    monkeypatch.setattr(PostgresqlDatabase, "run", run)
    for many in (1, 5):
        async with _kept_busy(storage):
            asked = [asyncio.ensure_future(storage.write(count)) for _ in range(many)]
            await asyncio.sleep(0)
            losing.set()
        assert [type(await outcome) for outcome in map(_outcome, asked)] == [CannotStore] * many
    found = await storage.read(lambda database: database.rows("SELECT deliveries FROM latency"))
    assert found == [(6,)]


async def _outcome(asked: asyncio.Future[None]) -> BaseException | None:
    await asyncio.wait({asked})
    return asked.exception()


@asynccontextmanager
async def _kept_busy(storage: PooledStorage) -> AsyncIterator[None]:
    """All writers wait; what is asked for meanwhile goes together."""
    go, held = threading.Event(), [threading.Event() for _ in storage._writers]

    def wait(_: Database, number: int) -> None:
        held[number].set()
        go.wait(20)
        raise LeaseLost("so that it commits nothing")

    waiting = [storage._submit(partial(wait, number=number), Lane.INGEST, alone=True) for number in range(len(held))]
    await eventually(lambda: all(each.is_set() for each in held))
    yield
    go.set()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_what_is_refused_at_last_is_refused(storage: PooledStorage, caplog: pytest.LogCaptureFixture) -> None:
    """A batch hears of a write it had not waited for: nothing stays of it, nothing is logged of it, and the next goes well."""
    connection = await storage.write(connect)
    taken = "INSERT INTO outbox SELECT position + 1, 0, ?, 'ada', 'acme.note', NULL, '', 0 FROM stream"
    await storage.write(lambda database: database.rows(taken, (connection.number,)))
    batch = Batch(connection=connection, observed_at=NOW, drafts=[upsert("n1")])

    def gives_up(database: Database) -> Batch:
        database.rows(taken, (connection.number,))
        raise LeaseLost("another run has taken over this connection")

    with pytest.raises(psycopg.errors.UniqueViolation):
        await storage.accept(batch)
    with pytest.raises(LeaseLost):
        await storage.accept(gives_up)
    assert caplog.records == []
    assert await storage.read(lambda database: database.rows("SELECT position FROM object UNION ALL SELECT position FROM stream")) == [(0,)]
    await storage.write(lambda database: database.rows("DELETE FROM outbox"))
    assert (await storage.accept(batch)).last_position == 1


async def test_who_would_wait_is_run_alone(storage: PooledStorage, server: servers.Server, shared: PostgresqlDatabase) -> None:
    """A row that another daemon holds keeps those waiting that want it, and nobody who happened to be in the same commit."""
    connection = await storage.write(connect)
    await storage.write(furnish)
    other = shared.fresh()
    other.execute("BEGIN")
    other.execute("SELECT 1 FROM schedule FOR UPDATE")
    stuck = asyncio.ensure_future(storage.write(schedule.due_now, connection.number, NOW + 1))
    async with asyncio.timeout(4):
        assert all(await asyncio.gather(*(storage.write(inbox.put, arrival(f"d{each}")) for each in range(20))))
    assert not stuck.done()
    other.execute("COMMIT")
    other.close()
    assert await stuck == 0


@pytest.mark.rows("E13")
@dataclass
class Waits:
    """A mark that takes its time."""

    held: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    def apply(self, database: Database) -> None:
        self.held.set()
        self.go.wait(20)


async def test_a_claim_waits_for_no_batch(storage: PooledStorage) -> None:
    """Nor one for the other in turn: a batch goes on to the schedule, which the claim has when it notes its run."""
    connection, waits = await storage.write(connect), Waits()
    batch = asyncio.ensure_future(storage.accept(Batch(connection=connection, observed_at=NOW, drafts=[occur("k")], marks=[waits])))
    await eventually(waits.held.is_set)
    async with asyncio.timeout(4):
        assert len(await storage.write(schedule.claim, "w1", NOW, NOW + LEASE, 100)) == 1
    waits.go.set()
    await batch


async def test_two_claim_at_once(storage: PooledStorage, shared: PostgresqlDatabase) -> None:
    """What another has locked is passed over, not waited for; and each is claimed once."""
    for number in range(10):
        await storage.write(connect, f"c{number}")
    other = shared.fresh()
    other.execute("BEGIN")
    other.execute("SELECT 1 FROM schedule WHERE connection IN (SELECT connection FROM schedule ORDER BY 1 LIMIT 4) FOR UPDATE")
    async with asyncio.timeout(4):
        assert len(await storage.write(schedule.claim, "w1", NOW, NOW + LEASE, 100)) == 6
    other.execute("COMMIT")
    other.close()
    claimed = await asyncio.gather(*(storage.write(schedule.claim, f"w{each}", NOW, NOW + LEASE, 100) for each in range(4)))
    assert sorted(len(each) for each in claimed) == [0, 0, 0, 4]


@pytest.mark.rows("E13")
async def test_hints_wake_others_and_nothing_depends_on_them(
    storage: PooledStorage, server: servers.Server, migrated: PostgresqlDatabase
) -> None:
    """A reader of another daemon is woken by a commit; while the listener is cut off it looks by itself, and later it is told again."""
    connection = await storage.write(connect)
    other = PooledStorage(PostgresqlDatabase(migrated.connect_params.get("conninfo", migrated.database), forgetful=True), encode)
    tail = Tail(other, HostClock())
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%' AND pid <> pg_backend_pid()"
    listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%' AND pid <> pg_backend_pid()"

    def listeners() -> int:
        row = server.settled().execute(listening).fetchone()
        assert row is not None
        return int(row[0])

    async def accepted(key: str) -> int:
        await eventually(lambda: True)
        done = await storage.accept(Batch(connection=connection, observed_at=NOW, drafts=[upsert(key)]))
        assert done.last_position is not None
        return done.last_position

    try:
        await eventually(lambda: listeners() == 2)
        for key in ("n1", "n2"):
            after = (await other.read(outbox.end)).number
            waiting = asyncio.ensure_future(tail.page(after, 10, Filter(), 30))
            position = await accepted(key)
            async with asyncio.timeout(5):
                assert [told.position for told in decode((await waiting).events)] == [position]
            server.settled().execute(cut)
            after, waiting = position, asyncio.ensure_future(tail.page(position, 10, Filter(), 0.3))
            position = await accepted(f"{key} again")
            assert [told.position for told in decode((await waiting).events)] == [position]
            await eventually(lambda: listeners() == 2)
    finally:
        await other.close()
