"""The clockwork: who runs when, how many at once, and how it stops."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo

import pytest
from apscheduler.schedulers import base as apscheduler_base
from daemon.sync.world import OWNER, Hub, Observed, Scripted, nap, note
from daemon.virtual import NOW, Stopped, lost, settle

from oo_daemon.ports import SECOND
from oo_daemon.store import jobs, schedule
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.schedule import Run
from oo_daemon.store.storage import Storage
from oo_daemon.sync.schedule import AT_ONCE, Dispatcher, Line, SchedulerTicker
from oo_sdk import Checkpoint, Context

#: No test waits longer for anything.
PATIENCE = 10.0


def dispatcher(
    hub: Hub, run: Callable[[Run], Awaitable[None]], *, workers: int = 3, storage: Storage | None = None, line: Line | None = None
) -> Dispatcher:
    def begin(claimed: Run, told: Callable[[asyncio.Future[None]], None]) -> asyncio.Future[None]:
        work = asyncio.ensure_future(run(claimed))
        work.add_done_callback(told)
        return work

    return Dispatcher(
        storage=storage or hub.storage,
        clock=hub.clock,
        metrics=hub.metrics,
        log=hub.log,
        owner=OWNER,
        run=begin,
        workers=workers,
        lease=hub.limits.lease,
        chance=hub.chance,
        line=line or Line(),
    )


@dataclass
class Runs:
    """Runs that go on until they are let go."""

    hub: Hub
    under_way: Counter[int] = field(default_factory=Counter)
    begun: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    most: int = 0
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, run: Run) -> None:
        self.begun.append(run.connection)
        self.under_way[run.connection] += 1
        self.most = max(self.most, self.under_way.total())
        assert self.under_way[run.connection] == 1
        try:
            await self.let_go.wait()
            self.ended.append(run.connection)
        finally:
            self.under_way[run.connection] -= 1


async def test_never_more_than_there_are_hands(hub: Hub) -> None:
    """As many run at once as there are workers, the longest due first; the next begin as soon as others have ended."""
    for number in range(7):
        await hub.connect(f"c{number}", due=NOW - number, user=f"u{number}")
    runs = Runs(hub)
    dispatch = dispatcher(hub, runs)
    for _ in range(5):
        await dispatch.tick()
        await settle()
    assert runs.begun == [7, 6, 5]
    assert hub.metrics.values()["syncs_running", ()] == 3
    runs.let_go.set()
    await settle()
    for _ in range(5):
        await dispatch.tick()
        await settle()
    assert runs.begun == [7, 6, 5, 4, 3, 2, 1]
    assert runs.most == 3


async def test_others_come_to_their_turn_while_many_begin(hub: Hub) -> None:
    """Where much is due at once, the loop turns again after a few runs have begun."""
    for number in range(3 * AT_ONCE):
        await hub.connect(f"c{number}", user=f"u{number}")
    runs = Runs(hub)
    ticking = asyncio.ensure_future(dispatcher(hub, runs, workers=1000).tick())
    most = before = 0
    while not ticking.done():
        await asyncio.sleep(0)
        most, before = max(most, len(runs.begun) - before), len(runs.begun)
    assert len(runs.begun) >= 2 * AT_ONCE
    assert most <= AT_ONCE
    runs.let_go.set()
    await settle()


@pytest.mark.rows("E4")
async def test_never_two_runs_of_one_connection(hub: Hub) -> None:
    """However often a connection is asked to sync while it does, one run of it is under way; the next comes after it."""
    connector = Scripted([nap(100), note("n1"), Checkpoint({})])
    await hub.connect()
    begun = 0
    sync = hub.sync(connector)

    async def run(claimed: Run) -> None:
        nonlocal begun
        begun += 1
        await sync.run(claimed)

    dispatch = dispatcher(hub, run)
    for _ in range(95):
        hub.database.rows("UPDATE schedule SET next_run_at = ?", (hub.clock.now(),))
        await dispatch.tick()
        await hub.clock.advance(1)
    assert begun == 1
    await hub.clock.advance(10)
    await dispatch.tick()
    await settle()
    assert begun == 2
    await hub.clock.until(dispatch.stop(0))


async def test_a_dispatcher_that_does_not_know_two_ticks_at_once(hub: Hub) -> None:
    """Two dispatchers on one database share what is due: no connection is run by both."""
    for number in range(20):
        await hub.connect(f"c{number}", user=f"u{number}")
    runs = Runs(hub)
    one, other = dispatcher(hub, runs, workers=8), dispatcher(hub, runs, workers=8)
    await asyncio.gather(one.tick(), other.tick())
    await settle()
    assert len(runs.begun) == len(set(runs.begun)) == 16
    runs.let_go.set()
    await settle()


@pytest.mark.rows("E2", "E4")
async def test_who_was_stopped_before_its_claim_takes_nobodys_lease(hub: Hub) -> None:
    """A daemon that is stopped on its way to the claim finds claimed what another has claimed meanwhile."""
    await hub.connect()

    async def meanwhile() -> None:
        hub.clock.shift(100)
        now = hub.clock.now()
        assert await hub.storage.write(schedule.claim, "you", now, now + int(hub.limits.lease * SECOND), 1)

    runs = Runs(hub)
    await dispatcher(hub, runs, storage=Stopped(hub.storage, meanwhile)).tick()
    await settle()
    assert runs.begun == []
    assert hub.database.rows("SELECT lease_owner, fence FROM schedule") == [("you", 1)]


async def test_stop_lets_runs_finish(hub: Hub) -> None:
    """A stop waits for runs that end within the grace, and claims nothing more."""
    await hub.connect("c1")
    dispatch = dispatcher(hub, hub.sync(Scripted([nap(5), note("n1"), Checkpoint({"at": 1})])).run)
    await dispatch.tick()
    await settle()
    await hub.clock.until(dispatch.stop(grace=10))
    assert hub.clock.monotonic() == 5
    assert (await hub.schedule()).outcome == "done"
    await hub.connect("c2")
    await dispatch.tick()
    await settle()
    assert not (await hub.schedule(2)).running


async def test_stop_gives_leases_back(hub: Hub) -> None:
    """A run that does not end within the grace is cut off: it keeps what it has, its connection is due at once, and it was no try."""
    await hub.connect()
    connector = Scripted([note("n1"), nap(10_000)])
    dispatch = dispatcher(hub, hub.sync(connector).run)
    await dispatch.tick()
    await settle()
    await hub.clock.until(dispatch.stop(grace=10))
    planned = await hub.schedule()
    assert hub.clock.monotonic() == 10
    assert (planned.running, planned.next_run_at, planned.tries) == (False, hub.clock.now(), 0)
    assert hub.told() == [("n1", "A", 1)]
    assert connector.closed == 1


async def test_stop_of_nothing(hub: Hub) -> None:
    """A stop with nothing under way does not wait."""
    await hub.clock.until(dispatcher(hub, Runs(hub)).stop(grace=10))
    assert hub.clock.monotonic() == 0


async def test_stop_with_a_broken_disk(hub: Hub) -> None:
    """When leases cannot be given back the stop goes on: they run out by themselves."""

    def refuse(what: str) -> None:
        raise CannotStore("the disk is full")

    await hub.clock.until(dispatcher(hub, Runs(hub), storage=Observed(hub.storage, before=refuse)).stop(grace=10))
    assert hub.log.said("leases_not_released") == [{"reason": "the disk is full"}]


async def test_a_claim_during_the_stop(hub: Hub) -> None:
    """What a tick claims while the daemon stops is not run, and given back."""
    await hub.connect()
    runs = Runs(hub)
    stopping: list[asyncio.Future[None]] = []

    def stop_now(what: str) -> None:
        if not stopping:
            stopping.append(asyncio.ensure_future(dispatch.stop(0)))
            dispatch._stopping = True  # as when the claim waits for its commit while `stop` begins

    dispatch = dispatcher(hub, runs, storage=Observed(hub.storage, after=stop_now))
    await dispatch.tick()
    await hub.clock.until(stopping[0])
    assert runs.begun == []
    assert not (await hub.schedule()).running


async def test_an_own_fault(hub: Hub) -> None:
    """A fault of ours in one run does not touch the others; it is claimed again when its lease is over, as another try."""
    await hub.connect("c1")
    await hub.connect("c2")
    tried: list[tuple[int, int]] = []

    async def run(claimed: Run) -> None:
        tried.append((claimed.connection, claimed.tries))
        if claimed.connection == 1:
            raise AssertionError("ada's diary")

    dispatch = dispatcher(hub, run)
    await dispatch.tick()
    await settle()
    assert hub.log.lines == [("warning", "run_failed", {"reason": "AssertionError"})]
    assert hub.metrics.values()["run_faults_total", ()] == 1
    await hub.clock.advance(hub.limits.lease)
    await dispatch.tick()
    await settle()
    assert (1, 2) in tried


@pytest.mark.rows("E1")
async def test_what_was_missed_is_spread(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a day without a daemon 300 connections run once each within five minutes, and not all at the beginning.

    With each tick only some of them are spread, so that none takes long.
    """
    monkeypatch.setattr("oo_daemon.sync.schedule._PAGE", 100)
    for number in range(300):
        await hub.connect(f"c{number}", user=f"u{number % 50}")
    hub.clock.shift(86_400)
    began = hub.clock.now()
    starts: dict[int, list[int]] = {}

    async def run(claimed: Run) -> None:
        starts.setdefault(claimed.connection, []).append(hub.clock.now())
        await hub.end(claimed, hub.clock.now() + 3600 * SECOND)

    dispatch = dispatcher(hub, run, workers=4)
    for _ in range(500):
        await dispatch.tick()
        await hub.clock.advance(0.2)
    assert sorted(starts) == list(range(1, 301))
    assert {len(times) for times in starts.values()} == {1}
    seconds = [(time - began) / SECOND for (time,) in starts.values()]
    assert max(seconds) <= 80
    assert max(Counter(second // 10 for second in seconds).values()) < 80


@pytest.mark.rows("E10")
async def test_a_clock_that_is_set_back_stops_nobody(hub: Hub) -> None:
    """After the clock was set back by an hour connections go on at their pace: none waits an hour, and none runs at once."""
    for number in range(5):
        await hub.connect(f"c{number}")
    connector = Scripted([Checkpoint({"at": 1})])
    dispatch = dispatcher(hub, hub.sync(connector).run, workers=8)
    await dispatch.tick()
    await hub.clock.advance(100)
    hub.clock.shift(-3600)
    for _ in range(190):
        await dispatch.tick()
        await hub.clock.advance(1)
    assert len(connector.asked) == 5
    for _ in range(30):
        await dispatch.tick()
        await hub.clock.advance(1)
    assert len(connector.asked) == 10


@pytest.mark.rows("E10")
async def test_a_clock_that_is_set_back_keeps_no_job_waiting(hub: Hub) -> None:
    """What was asked for while the clock was ahead is due; a disk that refuses meanwhile is asked again with the next tick."""
    connection = await hub.connect()
    ahead = hub.clock.now()
    await hub.storage.write(jobs.put, id_="j1", kind="act", connection=connection.number, key="k1", body={}, now=ahead)
    refusals: list[str] = []

    def refuse(what: str) -> None:
        if refusals:
            raise CannotStore(refusals.pop())

    dispatch = dispatcher(hub, Runs(hub), storage=Observed(hub.storage, before=refuse))
    await dispatch.tick()
    hub.clock.shift(-3600)
    refusals.append("the disk is full")
    await dispatch.tick()
    assert hub.log.said("claim_failed") == [{"reason": "the disk is full"}]
    await dispatch.tick()
    now = hub.clock.now()
    (job,) = await hub.storage.write(jobs.claim, "me", now, now + SECOND, 9)
    assert job.id == "j1"


async def test_seldom_ticks_are_no_downtime(hub: Hub) -> None:
    """A schedule that ticks seldom runs what is due with each tick, also where it is more than there are hands."""
    for number in range(12):
        await hub.connect(f"c{number}", user=f"u{number}")
    connector = Scripted([Checkpoint({"at": 1})])
    dispatch = dispatcher(hub, hub.sync(connector).run, workers=4)
    for _ in range(6):
        await dispatch.tick()
        await hub.clock.advance(40)
    assert len(connector.asked) == 12


@pytest.mark.rows("E8")
async def test_some_hands_stay_free(hub: Hub) -> None:
    """However much is due for one user, a quarter of the hands is left for whoever comes next; then users take turns."""
    for number in range(20):
        await hub.connect(f"hog{number}", user="hog", due=NOW - 100)
    runs = Runs(hub)
    dispatch = dispatcher(hub, runs, workers=8)
    for _ in range(3):
        await dispatch.tick()
        await settle()
    assert len(runs.begun) == 6
    for user in ("ada", "bob", "eve"):
        await hub.connect(user, user=user)
    await dispatch.tick()
    await settle()
    assert runs.begun[6:] == [21, 22]
    runs.let_go.set()
    await settle()


@pytest.mark.rows("E8")
async def test_a_user_with_much_to_do_delays_nobody(hub: Hub) -> None:
    """While one user's connections have pages without end, another's first page comes within five seconds."""
    line = Line()
    page = [nap(0.5), note("n"), Checkpoint({})]
    pages = [act for number in range(100) for act in (nap(0.5), note(f"n{number}"), Checkpoint({"at": number}))]
    for number in range(40):
        await hub.connect(f"hog{number}", user="hog")
    sync = hub.sync(Scripted(pages), line=line)
    short = hub.sync(Scripted(page), line=line)
    first: dict[int, int] = {}

    async def run(claimed: Run) -> None:
        first.setdefault(claimed.connection, hub.clock.now())
        await (sync if claimed.connection <= 40 else short).run(claimed)

    dispatch = dispatcher(hub, run, workers=4, line=line)
    made: dict[int, int] = {}
    for second in range(120):
        if second % 2 == 1:
            made[(await hub.connect(f"fresh{second}", user=f"fresh{second}")).number] = hub.clock.now()
        for _ in range(5):
            await dispatch.tick()
            await hub.clock.advance(0.2)
    waits = [first[number] - time for number, time in made.items()]
    assert len(waits) == 60
    assert max(waits) <= 5 * SECOND
    assert sum(connection <= 40 for connection in first) >= 20, "and the one with much to do is not forgotten"
    await hub.clock.until(dispatch.stop(0))


async def test_who_has_had_a_turn_lets_others_go_first(hub: Hub) -> None:
    """Where all hands are taken and somebody waits, a run stops at a checkpoint after its turn, and goes on from there later."""
    line = Line()
    pages = [act for number in range(100) for act in (nap(1), Checkpoint({"at": number}))]
    for name in ("a", "b"):
        await hub.connect(name, user=name)
    connector = Scripted(pages)
    dispatch = dispatcher(hub, hub.sync(connector, line=line).run, workers=1, line=line)
    for _ in range(20):
        await dispatch.tick()
        await hub.clock.advance(1)
    assert [(await hub.schedule(number)).outcome for number in (1, 2)] == ["done", "done"]
    assert connector.asked[:3] == [None, None, {"at": 4}]
    await hub.clock.until(dispatch.stop(0))


async def test_a_claim_whose_answer_was_lost_is_made_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has made it, and nobody here knows of what: it is given back, and was no try. What runs goes on."""
    runs = Runs(hub)
    dispatch = dispatcher(hub, runs)
    await hub.connect("c1", user="u1")
    await dispatch.tick()
    await hub.connect("c2", user="u2")
    with monkeypatch.context() as away:
        away.setattr(schedule, "claim", lost(schedule.claim))
        await dispatch.tick()
    assert [(each.running, each.tries) for each in (await hub.schedule(1), await hub.schedule(2))] == [(True, 1), (True, 1)]
    await dispatch.tick()
    await settle()
    assert runs.begun == [1, 2]
    assert [(each.fence, each.tries) for each in (await hub.schedule(1), await hub.schedule(2))] == [(1, 1), (2, 1)]
    runs.let_go.set()
    await settle()


async def test_an_end_that_cannot_be_stored(hub: Hub) -> None:
    """The run is made again with the next tick, and only the first time so soon: its tries are counted."""
    await hub.connect()
    full = set[str]()

    async def fill(ctx: Context) -> None:
        full.add("the disk is full")

    def refuse(what: str) -> None:
        if full:
            raise CannotStore(*full)

    connector = Scripted([fill, Checkpoint({"at": 1})], [fill, Checkpoint({"at": 1})], [Checkpoint({"at": 1})])
    storage = Observed(hub.storage, before=refuse)
    dispatch = dispatcher(hub, hub.sync(connector, storage=storage).run, storage=storage)
    for asked in (1, 2):
        await dispatch.tick()
        await settle()
        full.clear()
        assert (len(connector.asked), (await hub.schedule()).tries, (await hub.schedule()).running) == (asked, asked, True)
    assert hub.log.said("sync_end_not_stored") == [{"reason": "the disk is full"}] * 2
    await dispatch.tick()
    await settle()
    assert ((await hub.schedule()).running, len(connector.asked)) == (False, 2)
    await hub.clock.advance(60)
    await dispatch.tick()
    await settle()
    assert ((await hub.schedule()).outcome, (await hub.schedule()).cursor) == ("done", {"at": 1})
    assert hub.log.said("run_failed") == []


async def test_a_claim_that_fails(hub: Hub) -> None:
    """A database that refuses a claim is asked again at the next tick."""
    await hub.connect()
    refused = iter([True, False])

    def refuse(what: str) -> None:
        if next(refused, False):
            raise CannotStore("another program holds the database: try again")

    runs = Runs(hub)
    dispatch = dispatcher(hub, runs, storage=Observed(hub.storage, before=refuse))
    await dispatch.tick()
    await settle()
    assert hub.log.said("claim_failed") == [{"reason": "another program holds the database: try again"}]
    assert runs.begun == []
    await dispatch.tick()
    await settle()
    assert runs.begun == [1]
    runs.let_go.set()
    await settle()


@pytest.mark.rows("E1")
@pytest.mark.parametrize("away", [timedelta(hours=1), timedelta(days=30)], ids=["an hour", "30 days"])
async def test_after_a_long_time_away(hub: Hub, away: timedelta) -> None:
    """A daemon that was down for an hour or a month runs each due connection exactly once, soon, and then at the usual interval."""
    for number in range(20):
        await hub.connect(f"c{number}")
    hub.clock.shift(away.total_seconds())
    connector = Scripted([Checkpoint({"at": 1})])
    dispatch = dispatcher(hub, hub.sync(connector).run, workers=4)
    for _ in range(280):
        await dispatch.tick()
        await hub.clock.advance(1)
    assert len(connector.asked) == 20
    assert {(await hub.schedule(number)).outcome for number in range(1, 21)} == {"done"}
    for _ in range(60):
        await dispatch.tick()
        await hub.clock.advance(1)
    assert len(connector.asked) == 40


@pytest.mark.rows("E10")
@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_is_set(hub: Hub, hours: int) -> None:
    """When the clock is set forward or back by an hour each connection runs at most once more than it would have."""
    for number in range(5):
        await hub.connect(f"c{number}")
    connector = Scripted([Checkpoint({"at": 1})])
    dispatch = dispatcher(hub, hub.sync(connector).run, workers=5)
    for second in range(600):
        if second == 100:
            hub.clock.shift(hours * 3600)
        await dispatch.tick()
        await hub.clock.advance(1)
    assert len(connector.asked) <= 5 * 3


# --- APScheduler -----------------------------------------------------------------------------------------------------


class SetClock:
    """The wall clock as APScheduler reads it, for a test to set."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self, zone: tzinfo) -> datetime:
        return datetime.now(zone) + self.ahead


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    clock = SetClock()
    monkeypatch.setattr(apscheduler_base, "datetime", clock)
    return clock


@pytest.fixture
async def ticker() -> AsyncIterator[SchedulerTicker]:
    ticker = SchedulerTicker()
    yield ticker
    await ticker.stop()


@dataclass
class Job:
    """A job that counts its calls, and waits in each until it is let go."""

    calls: int = 0
    under_way: int = 0
    most: int = 0
    held: bool = False
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    called: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> None:
        self.calls += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.called.set()
        if self.held:
            await self.let_go.wait()
        self.under_way -= 1

    async def again(self) -> None:
        """Wait until it is called the next time."""
        self.called.clear()
        async with asyncio.timeout(PATIENCE):
            await self.called.wait()


async def test_ticks(ticker: SchedulerTicker) -> None:
    """A job is called again and again."""
    job = Job()
    ticker.every(0.01, job, "job")
    ticker.start()
    for _ in range(3):
        await job.again()


async def test_a_job_that_overruns(ticker: SchedulerTicker, caplog: pytest.LogCaptureFixture) -> None:
    """A job that takes longer than its interval is not called beside itself; others go on, and nobody is warned of it."""
    slow, quick = Job(held=True), Job()
    ticker.every(0.01, slow, "slow")
    ticker.every(0.01, quick, "quick")
    ticker.start()
    await slow.again()
    for _ in range(5):
        await quick.again()
    assert (slow.calls, slow.most) == (1, 1)
    slow.let_go.set()
    await slow.again()
    assert slow.most == 1
    assert caplog.records == []


async def test_missed_ticks_come_to_one(ticker: SchedulerTicker, wall: SetClock) -> None:
    """After a month in which the host slept a job is called once for all that was missed, and finding that out takes no time."""
    job, other = Job(held=True), Job()
    ticker.every(0.05, job, "job")
    ticker.every(0.01, other, "other")
    ticker.start()
    await other.again()
    wall.ahead = timedelta(days=30)
    calls = asyncio.get_running_loop().time()
    await job.again()
    job.held = False
    job.let_go.set()
    before = job.calls
    await job.again()
    assert job.calls == before + 1
    assert asyncio.get_running_loop().time() - calls < 2.0  # counting 52 million ticks takes a minute


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(hours=-1), timedelta(days=-400)], ids=str)
async def test_a_clock_that_is_set_does_not_stop_the_ticks(ticker: SchedulerTicker, wall: SetClock, ahead: timedelta) -> None:
    """Whether the clock is set forward or back, jobs go on being called at their interval."""
    job, slow = Job(), Job()
    ticker.every(0.02, job, "job")
    ticker.every(3600, slow, "slow")
    ticker.start()
    await job.again()
    wall.ahead = ahead
    for _ in range(4):
        await job.again()
    assert slow.calls <= 1


async def test_a_job_that_cannot_store(ticker: SchedulerTicker, caplog: pytest.LogCaptureFixture) -> None:
    """It waits, and that is no fault of its own: nobody is given a trace of it."""
    job = Job()

    async def full() -> None:
        await job()
        raise CannotStore("the disk is full")

    ticker.every(0.01, full, "job")
    ticker.start()
    for _ in range(2):
        await job.again()
    assert {(record.levelno, record.getMessage(), record.exc_info) for record in caplog.records} == {
        (logging.WARNING, "the job job waits: the disk is full", None)
    }


async def test_a_job_that_fails(ticker: SchedulerTicker, caplog: pytest.LogCaptureFixture) -> None:
    """A job that raises is told of, and called again."""
    job = Job()

    async def fail() -> None:
        await job()
        raise OSError("no")

    ticker.every(0.01, fail, "job")
    ticker.start()
    for _ in range(3):
        await job.again()
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


async def test_stop_waits_for_the_call_under_way(ticker: SchedulerTicker) -> None:
    """A stop waits until a call under way has ended, does not cut it off, and nothing is called after it."""
    job = Job(held=True)
    ticker.every(0.01, job, "job")
    ticker.start()
    await job.again()
    stopping = asyncio.ensure_future(ticker.stop())
    await settled()
    assert not stopping.done()
    assert job.under_way == 1
    job.let_go.set()
    async with asyncio.timeout(PATIENCE):
        await stopping
    assert (job.calls, job.under_way) == (1, 0)


async def test_stop_before_the_start() -> None:
    """A ticker that never began can be stopped."""
    await SchedulerTicker().stop()


async def settled() -> None:
    """Let everything that is ready run."""
    for _ in range(20):
        await asyncio.sleep(0)
