"""Group commit: what is promised is on disk, and what is not has left no trace."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from pathlib import Path

import apsw
import pytest
from daemon.store.faulty import Faults, FaultyVfs
from daemon.store.world import NOW, Book, connect, encode, occur, signed_in, upsert

from oo_daemon.store import connections, credentials, database, outbox, schedule
from oo_daemon.store import storage as storage_module
from oo_daemon.store.accept import Accepted, Batch
from oo_daemon.store.database import Database, ForMany, SqliteDatabase
from oo_daemon.store.errors import CannotStore, Corrupt
from oo_daemon.store.storage import InlineStorage, Lane, ThreadedStorage, open_database
from oo_vault import Sealed

PATIENCE = 10.0  #: seconds after which a test gives up
MIB = 1024 * 1024
#: That are written beside a reader that is stuck: of 512, which the long run sets, the times and the log are the real ones.
LOG_MIB = int(os.environ.get("OO_TEST_LOG_MIB", "16"))


class Gate:
    """Holds the writer thread until it is opened, so that what is written meanwhile waits for one commit."""

    def __init__(self, storage: ThreadedStorage) -> None:
        self._opened = threading.Event()
        self._reached = threading.Event()
        self._storage = storage
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Gate:
        self._task = asyncio.create_task(self._storage.write(self._wait))
        assert await asyncio.to_thread(self._reached.wait, PATIENCE)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)  # tasks made meanwhile bring their items
        await asyncio.sleep(0)  # and these arrive in the queue
        self._opened.set()
        assert self._task is not None
        await self._task

    def _wait(self, database: Database) -> None:
        self._reached.set()
        assert self._opened.wait(PATIENCE)


def _handle(database: Database) -> apsw.Connection:
    assert isinstance(database, SqliteDatabase)
    return database.handle()


def _hook(database: Database, hook: Callable[[], bool]) -> None:
    """Have this called within each commit of the calling thread's connection."""
    _handle(database).set_commit_hook(hook)


async def _names(storage: ThreadedStorage | InlineStorage) -> list[str]:
    return [known.id for known in await storage.read(connections.listed)]


def _put(name: str) -> Callable[[Database], str]:
    return lambda database: connections.put(database, signed_in(name), NOW).id


# --- group commit ----------------------------------------------------------------------------------------------------


async def test_many_writes_share_few_commits(storage: ThreadedStorage) -> None:
    """What waits while one commit is under way goes into the next one, up to its most."""
    commits: list[int] = []

    def count() -> bool:
        commits.append(1)
        return False  # True would refuse the commit

    await storage.write(_hook, count)
    before = len(commits)
    async with Gate(storage):
        writes = [asyncio.create_task(storage.write(_put(f"c{n}"))) for n in range(storage.MOST + 10)]
    assert await asyncio.gather(*writes) == [f"c{n}" for n in range(storage.MOST + 10)]
    assert len(commits) - before <= 3, "the gate's, a full one, and the rest"
    assert len(await _names(storage)) == storage.MOST + 10


@pytest.mark.rows("A1")
async def test_who_waits_is_told_after_the_commit(storage: ThreadedStorage) -> None:
    """A caller hears of success only when a reader can see what it wrote, and not while the commit is under way."""
    reached, go = threading.Event(), threading.Event()

    def hold() -> bool:
        reached.set()
        return not go.wait(PATIENCE)

    await storage.write(_put("c1"))

    def second(database: Database) -> None:
        _put("c2")(database)
        _hook(database, hold)

    hooked = asyncio.create_task(storage.write(second))
    assert await asyncio.to_thread(reached.wait, PATIENCE)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not hooked.done()
    assert await _names(storage) == ["c1"]
    go.set()
    await asyncio.wait_for(hooked, PATIENCE)
    assert await _names(storage) == ["c1", "c2"]


async def test_what_comes_in_one_turn_shares_a_commit(storage: ThreadedStorage) -> None:
    """Writes of one turn of the loop arrive together, so that the first of them does not get a commit for itself."""
    commits: list[int] = []

    def watched() -> AbstractContextManager[object]:
        commits.append(1)
        return nullcontext()

    storage.around_commits(watched)
    await asyncio.gather(*(storage.write(_put(f"c{n}")) for n in range(10)))
    assert len(commits) == 1


async def test_one_query_runs_for_many(storage: ThreadedStorage) -> None:
    """What waits for the same commit and can be run for many runs once, in order, and each caller is told its own."""
    ran: list[list[str]] = []

    def put_all(database: Database, names: Sequence[str]) -> list[str]:
        ran.append(list(names))
        return [_put(name)(database) for name in names]

    put = ForMany(put_all)
    async with Gate(storage):
        writes = [asyncio.create_task(storage.write(put, f"c{n}")) for n in range(3)]
        writes += [asyncio.create_task(storage.write(_put("between")))]
        writes += [asyncio.create_task(storage.write(put, f"c{n}")) for n in range(3, 5)]
    assert await asyncio.gather(*writes) == ["c0", "c1", "c2", "between", "c3", "c4"]
    assert ran == [["c0", "c1", "c2"], ["c3", "c4"]]
    assert await storage.write(put, "alone") == "alone"


@pytest.mark.parametrize("refused", ["by_rule", "by_word"])
async def test_what_cannot_be_done_for_all_is_done_for_each(storage: ThreadedStorage, refused: str) -> None:
    """One that breaks a rule, or is not known well enough, fails alone: the others stand, and nothing is there twice."""

    def put_all(database: Database, names: Sequence[str]) -> list[str] | None:
        done = [_put(name)(database) for name in names]
        if refused == "by_word" and len(names) > 1:
            return None
        if "bad" in names:
            database.rows("INSERT INTO connection SELECT * FROM connection")
        return done

    put = ForMany(put_all)
    async with Gate(storage):
        writes = [asyncio.create_task(storage.write(put, name)) for name in ("c1", "bad", "c2")]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [str, apsw.ConstraintError, str]
    assert await _names(storage) == ["c1", "c2"]


async def test_what_was_brought_before_the_end_is_kept(tmp_path: Path) -> None:
    """A write that has just begun when the storage is closed is still committed; one that comes later is refused."""
    storage = ThreadedStorage(open_database(tmp_path / "oo.sqlite3"), encode)
    brought = asyncio.create_task(storage.write(_put("c1")))
    await asyncio.sleep(0)
    await storage.close()
    assert await brought == "c1"
    with pytest.raises(CannotStore, match="stopping"):
        await storage.write(_put("c2"))


async def test_one_that_fails_takes_no_other_with_it(storage: ThreadedStorage) -> None:
    """Of several items in one commit, those that raise leave no trace and the others stand."""

    def fail_late(database: Database) -> None:
        _put("lost")(database)
        raise ZeroDivisionError

    def break_a_rule(database: Database) -> None:
        _put("lost too")(database)
        database.rows("INSERT INTO connection SELECT * FROM connection")

    async with Gate(storage):
        writes = [asyncio.create_task(storage.write(work)) for work in (_put("c1"), fail_late, _put("c2"), break_a_rule, _put("c3"))]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [str, ZeroDivisionError, str, apsw.ConstraintError, str]
    assert await _names(storage) == ["c1", "c2", "c3"]


@pytest.mark.rows("B12")
async def test_a_disk_that_fills_up_within_a_commit_fails_only_what_does_not_fit(storage: ThreadedStorage) -> None:
    """SQLITE_FULL inside a savepoint ends the whole transaction: the items are run again one by one, and nobody is told too early."""
    ran: list[str] = []

    def noted(name: str) -> Callable[[Database], str]:
        def work(database: Database) -> str:
            ran.append(name)
            return _put(name)(database)

        return work

    def too_much(database: Database) -> None:
        ran.append("too much")
        connections.put(database, signed_in("big", label="x" * 1_000_000), NOW)

    def shrink(database: Database) -> None:
        ((pages,),) = database.rows("PRAGMA page_count")
        database.rows(f"PRAGMA max_page_count = {pages + 20}")

    await storage.write(shrink)
    async with Gate(storage):
        writes = [asyncio.create_task(storage.write(work)) for work in (noted("c1"), too_much, noted("c2"))]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert results[::2] == ["c1", "c2"]
    assert isinstance(results[1], CannotStore)
    assert "full" in str(results[1])
    assert ran == ["c1", "too much", "c1", "too much", "c2"], "the first transaction was gone when the disk was full"
    assert await _names(storage) == ["c1", "c2"]
    await storage.write(too_much)  # on a connection that was opened again, and has no such limit
    assert await _names(storage) == ["c1", "c2", "big"]


async def test_ingest_goes_before_bulk(storage: ThreadedStorage) -> None:
    """Who waits at the door is not behind the batches of a sync, and a commit takes few of those."""
    connection = await storage.write(connect)
    order: list[str] = []

    def batch(name: str) -> Callable[[Database], Batch]:
        def prepare(database: Database) -> Batch:
            order.append(name)
            return Batch(connection=connection, observed_at=NOW, drafts=[occur(name)])

        return prepare

    bulk = [f"bulk {n}" for n in range(storage.BULK + 2)]
    async with Gate(storage):
        tasks = [asyncio.create_task(storage.accept(batch(name))) for name in bulk]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(storage.accept(batch(f"ingest {n}"), Lane.INGEST)) for n in range(3)]
    await asyncio.gather(*tasks)
    assert order == ["ingest 0", "ingest 1", "ingest 2", *bulk]


# --- callers that go, loops that end, a storage that stops -----------------------------------------------------------


async def test_a_cancelled_callers_write_is_kept(storage: ThreadedStorage) -> None:
    """Cancelling a caller ends its wait, not the commit under way for it, and harms no other."""
    rung: list[int] = []
    storage.on_accept(lambda: rung.append(1))
    connection = await storage.write(connect)
    async with Gate(storage):
        batch = Batch(connection=connection, observed_at=NOW, drafts=[upsert("n1")])
        gone, stays = asyncio.create_task(storage.accept(batch, Lane.INGEST)), asyncio.create_task(storage.write(_put("c2")))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
    assert await stays == "c2"
    assert len((await storage.read(outbox.page, 0, 9)).events) == 1
    assert rung == [1], "those who wait for events are told all the same"


async def test_a_listener_that_fails_stops_nobody(storage: ThreadedStorage) -> None:
    """Committed is committed: a listener's error is not the writer's, nor the caller's."""

    def fail() -> None:
        raise ZeroDivisionError

    rung: list[int] = []
    storage.on_accept(fail)
    storage.on_accept(lambda: rung.append(1))
    connection = await storage.write(connect)
    for key in ("n1", "n2"):
        assert (await storage.accept(Batch(connection=connection, observed_at=NOW, drafts=[upsert(key)]))).events == 1
    await storage.read(outbox.end)
    assert await storage.write(_put("c9")) == "c9"
    assert rung == [1, 1]


async def test_callers_may_come_from_several_loops(storage: ThreadedStorage) -> None:
    """Each caller is told in its own loop; one whose loop has ended is left alone."""

    def in_another_loop() -> str:
        return asyncio.run(storage.write(_put("c1")))

    def in_a_loop_that_ends(entered: threading.Event) -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(storage.write(_put("c2")))
        loop.run_until_complete(asyncio.sleep(0))
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()
        entered.set()

    assert await asyncio.to_thread(in_another_loop) == "c1"
    entered = threading.Event()
    async with Gate(storage):
        await asyncio.to_thread(in_a_loop_that_ends, entered)
    assert entered.is_set()
    assert await storage.write(_put("c3")) == "c3"
    assert await _names(storage) == ["c1", "c2", "c3"]


async def test_any_error_of_a_query_reaches_its_caller(storage: ThreadedStorage) -> None:
    """Also one that a future cannot carry, and one that is no `Exception`: the writer lives on."""

    def stop(database: Database) -> None:
        next(iter(()))

    def crash(database: Database) -> None:
        raise asyncio.CancelledError

    async with Gate(storage):
        writes = [asyncio.create_task(storage.write(work)) for work in (stop, crash, _put("c1"))]
    stopped, crashed, put = await asyncio.wait_for(asyncio.gather(*writes, return_exceptions=True), PATIENCE)
    assert isinstance(stopped, RuntimeError)
    assert isinstance(crashed, asyncio.CancelledError)
    assert put == "c1"


async def test_closing_commits_what_waits(path: Path) -> None:
    """A stop keeps what was handed in before it, and refuses what comes after; one file is left."""
    storage = ThreadedStorage(open_database(path), encode)
    async with Gate(storage):
        writes = [asyncio.create_task(storage.write(_put(f"c{n}"))) for n in range(5)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(storage.close())
        await asyncio.sleep(0)
    await asyncio.wait_for(closing, PATIENCE)
    assert await asyncio.gather(*writes) == [f"c{n}" for n in range(5)]
    with pytest.raises(CannotStore, match="stopping"):
        await storage.write(_put("late"))
    with pytest.raises(CannotStore, match="stopping"):
        await storage.read(connections.listed)
    with pytest.raises(CannotStore, match="stopping"):
        await storage.checkpoint()
    assert [file.name for file in path.parent.iterdir()] == ["oo.db"]
    assert len(await _names(InlineStorage(open_database(path), encode))) == 5


async def test_a_checkpoint_empties_the_log(storage: ThreadedStorage, path: Path) -> None:
    """Writes stay in the log until a checkpoint moves them; a truncating one leaves an empty log."""
    log = path.with_name("oo.db-wal")
    await storage.write(_put("c1"))
    in_log, moved = await storage.checkpoint()
    assert in_log == moved > 0
    assert log.stat().st_size > 0
    await storage.checkpoint(truncate=True)
    assert log.stat().st_size == 0


async def test_the_log_is_tended_where_something_was_written(storage: ThreadedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is made after something was written, again while something was in its way, and not for nothing: now and then."""
    await storage.write(lambda database: database.rows("SELECT 1"))
    for _ in range(storage.LOOKS):
        await storage.tend()
    made, found = 0, [(-1, -1), (9, 4), (9, 9)]

    async def checkpoint() -> tuple[int, int]:
        nonlocal made
        made += 1
        return found[made - 1]

    monkeypatch.setattr(storage, "checkpoint", checkpoint)
    for _ in range(2 * storage.LOOKS):
        await storage.write(lambda database: database.rows("SELECT 1"))
        await storage.tend()
    assert made == 0
    await storage.write(lambda database: database.rows("UPDATE stream SET epoch = epoch + 1"))
    await storage.tend()
    for _ in range(6 * storage.LOOKS):
        await storage.tend()
    assert made == 3


@pytest.mark.rows("B10", "G7")
async def test_the_log_stays_short_while_somebody_writes_all_the_time(storage: ThreadedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a commit comes before a checkpoint is done, the log is begun anew once it is long."""
    monkeypatch.setattr(ThreadedStorage, "LONG_LOG", 40)
    reader = apsw.Connection(str(storage.file))

    async def overtaken() -> tuple[int, int]:
        reader.execute("BEGIN; SELECT count(*) FROM connection").fetchall()  # it sees no later commit, and the checkpoint moves none
        await storage.write(_put(f"c{len(names)}"))
        names.append(f"c{len(names)}")
        found = await ThreadedStorage.checkpoint(storage)
        reader.execute("COMMIT")
        return found

    monkeypatch.setattr(storage, "checkpoint", overtaken)
    names: list[str] = []
    for _ in range(100):
        await storage.tend()
    reader.close()
    assert await _names(storage) == names
    assert _log(storage).stat().st_size < 2 * 40 * PAGE


@pytest.mark.rows("B10")
async def test_what_a_long_read_made_of_the_log_is_given_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody reads, writes are answered and the log grows; soon after, it is as short as before, and so is its file."""
    limit = database.PROFILE["journal_size_limit"]
    assert isinstance(limit, int)
    assert limit < 64 * 1024 * 1024, "where the alarm begins"
    monkeypatch.setattr(ThreadedStorage, "LONG_LOG", 40)
    monkeypatch.setitem(database.PROFILE, "journal_size_limit", 40 * PAGE)
    storage = ThreadedStorage(open_database(path), encode)
    looking, looked = threading.Event(), threading.Event()

    def look(database: Database) -> None:
        connections.listed(database)
        looking.set()
        assert looked.wait(PATIENCE)

    try:
        reading = asyncio.create_task(storage.read(look))
        assert await asyncio.to_thread(looking.wait, PATIENCE)
        for number in range(60):
            await storage.write(_put(f"c{number}"))
            await storage.tend()
        assert _log(storage).stat().st_size > 3 * 40 * PAGE
        looked.set()
        await reading
        await storage.tend()
        await storage.write(_put("last"))
        assert _log(storage).stat().st_size <= 41 * PAGE
    finally:
        looked.set()
        await storage.close()


@pytest.mark.rows("B10")
@pytest.mark.timeout(60 + LOG_MIB)
async def test_a_reader_that_is_stuck_holds_no_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks without an end, again as soon as that is cut: the log stays within 128 MiB, and all others are answered."""
    part = LOG_MIB / 512
    for name in ("LARGE_LOG", "LONG_LOG"):
        monkeypatch.setattr(ThreadedStorage, name, int(getattr(ThreadedStorage, name) * part))
    for name in ("LONGEST_READ", "BRIEF", "EVERY"):
        monkeypatch.setattr(ThreadedStorage, name, getattr(ThreadedStorage, name) * part)
    monkeypatch.setitem(database.PROFILE, "journal_size_limit", int(16 * MIB * part))
    storage = ThreadedStorage(open_database(path), encode)
    connection = await storage.write(connect)
    text, rounds = "x" * 16_000, LOG_MIB * 4  # of 16 such events
    cut, found, largest, slowest = 0, 0, 0, 0.0
    loop, written = asyncio.get_running_loop(), asyncio.Event()

    async def ask_without_an_end() -> None:
        nonlocal cut
        while not written.is_set():
            with pytest.raises(CannotStore, match="took too long"):
                await storage.read(lambda database: database.rows(NUMBERS, (-1,)))
            cut += 1

    async def ask() -> None:
        nonlocal found
        while not written.is_set():
            found = (await storage.read(outbox.end)).number
            await asyncio.sleep(0)

    async def tend() -> None:
        while not written.is_set():
            await storage.tend()
            with suppress(TimeoutError):
                await asyncio.wait_for(written.wait(), 0.25 * part)

    async def write() -> None:
        nonlocal largest, slowest
        for number in range(rounds):
            began = loop.time()
            drafts = [occur(f"{number}-{each}", text) for each in range(16)]
            await storage.accept(Batch(connection=connection, observed_at=NOW, drafts=drafts))
            largest, slowest = max(largest, _log(storage).stat().st_size), max(slowest, loop.time() - began)
        written.set()

    try:
        await asyncio.gather(ask_without_an_end(), ask(), tend(), write())
        assert (await storage.read(outbox.end)).number == 16 * rounds
        print(
            f"\n{LOG_MIB} MiB written, {cut} endless reads cut; the log had {largest / MIB:.1f} MiB, a write took {slowest:.2f} s at most"
        )
        assert cut
        assert found
        assert largest <= 128 * MIB * part
        assert slowest < PATIENCE / 2
    finally:
        written.set()
        await storage.close()


def _log(storage: ThreadedStorage) -> Path:
    assert storage.file is not None
    return storage.file.with_name(storage.file.name + "-wal")


#: Bytes that a page takes in the log.
PAGE = 4096 + 24


async def test_a_log_that_grows_long_is_not_waited_for(storage: ThreadedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Much that was written is moved with the next look, also where the file was opened again after a fault."""
    monkeypatch.setattr(storage, "LONG_LOG", 50)
    real, made = storage.checkpoint, list[tuple[int, int]]()

    async def checkpoint() -> tuple[int, int]:
        made.append(await real())
        return made[-1]

    def much(database: Database) -> None:
        database.rows("CREATE TABLE IF NOT EXISTS much (bytes BLOB)")
        database.rows("INSERT INTO much VALUES (zeroblob(?))", (50 * 4096,))

    def refused(database: Database) -> None:
        raise apsw.IOError

    await storage.tend()
    monkeypatch.setattr(storage, "checkpoint", checkpoint)
    for _ in range(2):
        await storage.write(much)
        await storage.tend()
        with pytest.raises(CannotStore):
            await storage.write(refused)
    assert [moved >= 50 for _, moved in made] == [True, True]


async def test_a_checkpoint_that_is_in_the_way_is_left_to_the_next(storage: ThreadedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A truncating checkpoint beside a transaction of the writer gives up and says so."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 1)
    async with Gate(storage):
        assert await storage.checkpoint(truncate=True) == (-1, -1)


# --- readers ---------------------------------------------------------------------------------------------------------


async def test_a_read_sees_one_state(storage: ThreadedStorage) -> None:
    """Two questions of one read are answered from one state, though a commit comes between them."""
    looked, written = threading.Event(), threading.Event()

    def twice(database: Database) -> tuple[int, int]:
        first = len(connections.listed(database))
        looked.set()
        assert written.wait(PATIENCE)
        return first, len(connections.listed(database))

    reading = asyncio.create_task(storage.read(twice))
    assert await asyncio.to_thread(looked.wait, PATIENCE)
    await storage.write(_put("c1"))
    written.set()
    assert await reading == (0, 0)
    assert len(await _names(storage)) == 1


NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?) SELECT max(i), (SELECT count(*) FROM connection) FROM n"


@pytest.mark.rows("B10")
async def test_a_read_without_an_end_is_cut(storage: ThreadedStorage, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meanwhile writes are answered and the log grows; after it a checkpoint empties the log, and the reader's thread reads on."""
    monkeypatch.setattr(ThreadedStorage, "LONGEST_READ", 0.2)
    log = path.with_name(path.name + "-wal")
    await storage.write(_put("c0"))
    reads = [asyncio.create_task(storage.read(lambda database: database.rows(NUMBERS, (-1,)))) for _ in range(2)]
    written = 0
    while not all(read.done() for read in reads):
        written += 1
        await storage.write(_put(f"c{written}"))
    assert written
    for read in reads:
        with pytest.raises(CannotStore, match="took too long"):
            await read
    assert len(await _names(storage)) == written + 1
    await storage.checkpoint(truncate=True)
    assert log.stat().st_size == 0


@pytest.mark.rows("B10")
async def test_who_waits_for_a_reader_is_not_cut(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read's time begins when a thread takes it up, and it has all of it."""
    loop, skipped = asyncio.get_running_loop(), 0.0
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + skipped)
    storage = ThreadedStorage(open_database(path), encode, readers=1)

    def after(seconds: float) -> Callable[[Database], object]:
        def look(database: Database) -> object:
            nonlocal skipped
            skipped += seconds
            return database.rows(NUMBERS, (100_000,))

        return look

    try:
        first, second, third = [asyncio.ensure_future(storage.read(after(seconds))) for seconds in (3, 3, 7)]
        assert await first == await second == [(100_000, 0)]
        with pytest.raises(CannotStore, match="took too long"):
            await third
    finally:
        await storage.close()


async def test_what_was_found_is_not_held(storage: ThreadedStorage) -> None:
    """A reader that has answered keeps nothing of the answer while it waits."""

    class Found:
        """Can be watched."""

    found = weakref.ref(await storage.read(lambda _: Found()))
    async with asyncio.timeout(PATIENCE):
        while found() is not None:
            await asyncio.sleep(0)


async def test_a_question_that_nobody_waits_for_is_not_looked_into(path: Path) -> None:
    """Who was cancelled while all readers were busy costs no look."""
    storage, looked = ThreadedStorage(open_database(path), encode, readers=1), list[str]()
    begun, free = threading.Event(), threading.Event()

    def hold(database: Database) -> None:
        begun.set()
        assert free.wait(PATIENCE)

    try:
        busy = asyncio.create_task(storage.read(hold))
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        left = asyncio.create_task(storage.read(lambda _: looked.append("left")))
        await asyncio.sleep(0)
        left.cancel()
        last = asyncio.create_task(storage.read(lambda _: looked.append("last")))
        await asyncio.gather(left, return_exceptions=True)
        free.set()
        await asyncio.gather(busy, last)
        assert looked == ["last"]
    finally:
        free.set()
        await storage.close()


@pytest.mark.rows("B2")
async def test_readers_cannot_write(storage: ThreadedStorage) -> None:
    """By raw statement, by model, and by asking for it: a reader's connection refuses."""
    for write in (
        lambda database: database.rows("DELETE FROM connection"),
        lambda database: connections.put(database, signed_in(), NOW),
        lambda database: database.rows("PRAGMA query_only = 0; DELETE FROM stream"),
    ):
        with pytest.raises(CannotStore):
            await storage.read(write)
    assert await storage.write(_put("c1")) == "c1"


@pytest.mark.rows("B2")
async def test_every_connection_has_the_profile(storage: ThreadedStorage) -> None:
    """The writer and the readers run with the settings that keep what was promised."""

    def profile(handed: Database) -> dict[str, object]:
        return {name: _handle(handed).pragma(name) for name in (*database.PROFILE, "busy_timeout")}

    wanted = {**database.PROFILE, "busy_timeout": database.BUSY_TIMEOUT_MS}
    assert await storage.read(profile) == wanted
    assert await storage.write(profile) == wanted


# --- faults ----------------------------------------------------------------------------------------------------------


async def test_a_held_database_is_refused_to_all_who_wait_at_once(
    path: Path, storage: ThreadedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When another program does not let go, a group fails together after one wait, nothing ran, and later writes go on."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 10)
    tried: list[int] = []
    connected = storage_module._connected

    def counted(database: SqliteDatabase) -> apsw.Connection:
        tried.append(1)
        return connected(database)

    monkeypatch.setattr(storage_module, "_connected", counted)
    ran: list[int] = []
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    try:
        writes = [asyncio.create_task(storage.write(lambda _: ran.append(1))) for _ in range(storage.MOST)]
        results = await asyncio.gather(*writes, return_exceptions=True)
    finally:
        other.close()
    assert all(isinstance(result, CannotStore) and "another program" in str(result) for result in results)
    assert not ran
    assert len(tried) < 10, "not once for each"
    assert await storage.write(_put("c1")) == "c1"


async def test_a_damaged_file_is_named(path: Path) -> None:
    """Damage that shows while the daemon runs is `Corrupt`, for readers and for the writer, and whoever ends the daemon is told of it."""
    schema = path.stat().st_size // 4096  # pages of the empty database: what comes behind them is rows
    whole = Book(open_database(path))
    with whole.transaction() as database:
        for n in range(60):
            connections.put(database, signed_in(f"c{n}", label="x" * 2000), NOW)
    whole.database.close()
    with path.open("r+b") as file:
        for page in range(schema, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 4096)
    storage = ThreadedStorage(open_database(path), encode)
    told: list[Corrupt] = []
    storage.on_damage(told.append)
    try:
        for ask in (storage.read, storage.write):
            for query in (connections.listed, lambda database: database.rows("SELECT label FROM connection")):
                with pytest.raises(Corrupt, match="restore a backup"):
                    await ask(query)
        assert len(told) == 4
    finally:
        await storage.close()


@asynccontextmanager
async def _on_a_faulty_disk(path: Path, faults: Faults) -> AsyncIterator[ThreadedStorage]:
    vfs = FaultyVfs("faulty", faults)
    storage = ThreadedStorage(open_database(path, vfs="faulty"), encode)
    try:
        yield storage
    finally:
        faults.disarm()
        await storage.close()
        vfs.unregister()


@pytest.mark.rows("B12")
@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError, apsw.CorruptError])
@pytest.mark.parametrize("lasting", [1, 3, 1000])
async def test_what_is_acknowledged_is_there_whatever_the_disk_refuses(path: Path, error: type[apsw.Error], lasting: int) -> None:
    """With each write or sync of a group refused in turn, no caller hears ok without its row, and the storage goes on afterwards."""
    faults = Faults()
    acknowledged: list[str] = []
    hit = refused = 0
    async with _on_a_faulty_disk(path, faults) as storage:
        await storage.write(_put("c0"))
        for at in range(1, 13):
            faults.arm(at, error, lasting=lasting)
            writes = [asyncio.create_task(storage.write(_put(f"{at} {n}"))) for n in range(3)]
            results = await asyncio.wait_for(asyncio.gather(*writes, return_exceptions=True), PATIENCE)
            hit += faults.hit
            faults.disarm()
            refused += sum(isinstance(result, CannotStore) for result in results)
            assert all(isinstance(result, str | CannotStore) for result in results)
            acknowledged += [result for result in results if isinstance(result, str)]
            acknowledged.append(await storage.write(_put(f"{at} after")))
            there = await _names(storage)
            assert set(acknowledged) <= set(there)
    assert hit > 0
    assert bool(refused) == (lasting > 1), "what fails once is run again"
    again = open_database(path)
    assert set(acknowledged) <= {known.id for known in connections.listed(again)}
    assert again.rows("PRAGMA integrity_check") == [("ok",)]
    again.close()


# --- in the caller's thread ------------------------------------------------------------------------------------------


async def test_a_crash_inside_a_query_leaves_no_transaction(path: Path) -> None:
    """Inline, too, what is no `Exception` takes its writes back and goes through."""

    class Crash(BaseException):
        """The process died here."""

    def crash(database: Database) -> None:
        _put("lost")(database)
        raise Crash

    storage = InlineStorage(open_database(path), encode)
    with pytest.raises(Crash):
        await storage.write(crash)
    assert await _names(storage) == []
    connection = await storage.write(connect)
    batch = Batch(connection=connection, observed_at=NOW, drafts=[upsert("n1")])
    assert await storage.accept(batch) == Accepted(events=1, last_position=1)


@pytest.mark.rows("E4")
async def test_two_dispatchers_never_own_one_connection(path: Path, storage: ThreadedStorage) -> None:
    """Two daemons' threads that claim from one file at once share out what is due, without overlap."""
    other = ThreadedStorage(open_database(path), encode)
    try:
        for n in range(60):
            await storage.write(connect, f"c{n}")
        claims = await asyncio.gather(
            *(each.write(schedule.claim, owner, NOW, NOW + 1, 2) for _ in range(20) for each, owner in ((storage, "me"), (other, "you")))
        )
        claimed = [run.connection for runs in claims for run in runs]
        assert len(claimed) == len(set(claimed)) == 60
    finally:
        await other.close()


@pytest.mark.rows("B3")
async def test_two_writers_wait_for_each_other(path: Path, storage: ThreadedStorage) -> None:
    """Two programs that read and then write in one transaction both get through: neither is told that the other was there first."""
    other = ThreadedStorage(open_database(path), encode)
    try:
        made = {each: await each.write(connect, name) for each, name in ((storage, "c1"), (other, "c2"))}

        async def write(each: ThreadedStorage, number: int) -> None:
            await each.accept(Batch(connection=made[each], observed_at=NOW, drafts=[upsert(f"n{number}")]))

        await asyncio.gather(*(write(each, number) for number in range(40) for each in made))
        assert await storage.read(lambda database: database.rows("SELECT count(*), max(position) FROM outbox")) == [(80, 80)]
    finally:
        await other.close()


@pytest.mark.rows("B2")
async def test_what_is_deleted_is_overwritten(path: Path, storage: ThreadedStorage) -> None:
    """A credential that was deleted cannot be read from the file any more, once the log has been moved into it."""
    canary = b"canary-of-a-credential" * 20
    connection = await storage.write(connect)
    await storage.write(credentials.put, connection.number, 1, Sealed(key_id="k", blob=canary), None)
    await storage.checkpoint(truncate=True)
    assert canary in path.read_bytes()
    await storage.write(credentials.delete, connection.number)
    await storage.checkpoint(truncate=True)
    assert canary not in path.read_bytes()
