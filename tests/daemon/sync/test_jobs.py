"""The worker: jobs are done at once, again later or given up, whatever their handlers do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from daemon.sync.world import Hub, Observed
from daemon.virtual import NOW, Stopped, lost, settle

from oo_daemon.ports import SECOND
from oo_daemon.store import jobs
from oo_daemon.store.connections import Connection
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.jobs import Ended, Job, Later
from oo_daemon.store.storage import Storage
from oo_daemon.sync.jobs import BASE, CAP, LIMIT, Worker, next_try

Play = Ended | Later | BaseException | Callable[[], Any]


@dataclass
class Handler:
    """Comes to what it was told, in turn; the last for ever."""

    plays: list[Play] = field(default_factory=lambda: [Ended(state="done")])
    tried: list[str] = field(default_factory=list)

    async def attempt(self, job: Job, connection: Connection) -> Ended | Later:
        self.tried.append(job.key)
        play = self.plays[0] if len(self.plays) == 1 else self.plays.pop(0)
        if callable(play):
            play = await play()
        if isinstance(play, BaseException):
            raise play
        return play

    def give_up(self, job: Job, connection: Connection, reason: str) -> Ended:
        return Ended(state="failed", reason=f"given up: {reason}")


def a_worker(hub: Hub, handler: Handler, *, storage: Storage | None = None, owner: str = "me", workers: int = 4) -> Worker:
    return Worker(
        storage=storage or hub.storage,
        clock=hub.clock,
        chance=hub.chance,
        metrics=hub.metrics,
        log=hub.log,
        log_for=lambda connection, provider: hub.log,
        owner=owner,
        handlers={"act": handler},
        workers=workers,
    )


async def put(hub: Hub, connection: Connection, key: str = "k1") -> Job:
    now, number = hub.clock.now(), connection.number
    return await hub.storage.write(jobs.put, id_=f"{number} {key}", kind="act", connection=number, key=key, body={}, now=now)


async def found(hub: Hub, job: Job) -> Job:
    seen = await hub.storage.read(jobs.by_id, job.id)
    assert seen is not None
    return seen


@pytest.mark.parametrize(
    ("tries", "after", "spread", "seconds"),
    [
        (1, None, 1.0, BASE),
        (1, None, 0.0, 0.0),
        (4, None, 1.0, 8 * BASE),
        (4, None, 0.5, 4 * BASE),
        (99, None, 1.0, CAP),
        (1, 30.0, 1.0, 30.0),
        (9, 30.0, 1.0, 256.0),
    ],
)
def test_next_try(tries: int, after: float | None, spread: float, seconds: float) -> None:
    """Anywhere in a window that doubles up to the cap, and never before the provider's own time."""
    assert next_try(created_at=NOW, now=NOW, tries=tries, after=after, spread=spread) == NOW + int(seconds * SECOND)


def test_no_next_try_after_a_day() -> None:
    """A try that would come after the limit does not come."""
    end = NOW + int(LIMIT * SECOND)
    assert next_try(created_at=NOW, now=end - SECOND, tries=1, after=1.0, spread=0.0) == end
    assert next_try(created_at=NOW, now=end - SECOND, tries=1, after=1.1, spread=0.0) is None
    assert next_try(created_at=NOW, now=end + SECOND, tries=1, after=None, spread=0.0) is None


@pytest.mark.rows("E2", "E4")
async def test_who_was_stopped_before_its_claim_takes_nobodys_lease(hub: Hub) -> None:
    """A worker that is stopped on its way to the claim finds claimed what another has claimed meanwhile."""
    await put(hub, await hub.connect())

    async def meanwhile() -> None:
        hub.clock.shift(200)
        now = hub.clock.now()
        assert await hub.storage.write(jobs.claim, "you", now, now + 150 * SECOND, 1)

    handler = Handler()
    await a_worker(hub, handler, storage=Stopped(hub.storage, meanwhile)).tick()
    await settle()
    assert handler.tried == []
    assert hub.database.rows("SELECT lease_owner, fence FROM job") == [("you", 1)]


async def test_woken_at_once(hub: Hub) -> None:
    """A job is done without a tick, and so is the next one of its connection."""
    connection, handler = await hub.connect(), Handler()
    worker = a_worker(hub, handler)
    first, second = await put(hub, connection, "k1"), await put(hub, connection, "k2")
    worker.wake()
    await settle()
    assert handler.tried == ["k1", "k2"]
    assert [(await found(hub, job)).state for job in (first, second)] == ["done", "done"]
    assert hub.clock.elapsed == 0


async def test_one_at_a_time_for_each_connection(hub: Hub) -> None:
    """While a job runs the next one of its connection waits, and those of others do not, as far as there are hands."""
    opened = asyncio.Event()

    async def wait() -> Ended:
        await opened.wait()
        return Ended(state="done")

    handler = Handler([wait])
    worker = a_worker(hub, handler, workers=2)
    for name in ("c1", "c2", "c3"):
        connection = await hub.connect(name)
        for key in ("1", "2"):
            await put(hub, connection, f"{name} {key}")
    for _ in range(3):
        worker.wake()
        await worker.tick()
    await settle()
    assert handler.tried == ["c1 1", "c2 1"]
    opened.set()
    await settle()
    assert sorted(handler.tried) == ["c1 1", "c1 2", "c2 1", "c2 2", "c3 1", "c3 2"]


async def test_again_later(hub: Hub) -> None:
    """What could not be done is tried again at its time, not before, and says meanwhile why."""
    handler = Handler([Later(reason="down", after=30.0), Later(reason="still down"), Ended(state="done", result={"subject": "T1"})])
    worker = a_worker(hub, handler)
    job = await put(hub, await hub.connect())
    await worker.tick()
    await settle()
    assert ((await found(hub, job)).reason, (await found(hub, job)).next_try_at) == ("down", NOW + 30 * SECOND)
    await hub.clock.advance(29)
    await worker.tick()
    await settle()
    assert len(handler.tried) == 1
    await hub.clock.advance(1)
    await worker.tick()
    await settle()
    await hub.clock.advance(1)  # half of the second window, which is 2 s
    await worker.tick()
    await settle()
    done = await found(hub, job)
    assert (done.state, done.tries, done.result) == ("done", 3, {"subject": "T1"})


async def test_given_up_after_a_day(hub: Hub) -> None:
    """A job that is never done ends within a day, with the last reason, after not too many tries."""
    handler = Handler([Later(reason="down")])
    worker = a_worker(hub, handler)
    job = await put(hub, await hub.connect())
    while (waiting := await found(hub, job)).next_try_at is not None:
        await hub.clock.advance(max(0, waiting.next_try_at - hub.clock.now()) / SECOND)
        await worker.tick()
        await settle()
    assert (waiting.state, waiting.reason) == ("failed", "given up: down")
    assert LIMIT - CAP <= hub.clock.monotonic() <= LIMIT
    assert 24 < len(handler.tried) < 100


async def test_what_kills_the_process_is_not_tried_for_ever(hub: Hub) -> None:
    """A job whose tries never came to an end is given up without another once its day is over; a fresh one is tried whatever its age."""
    handler = Handler()
    worker = a_worker(hub, handler)
    job = await put(hub, await hub.connect())
    await hub.storage.write(jobs.claim, "the dead", hub.clock.now(), hub.clock.now() + SECOND, 1)
    late = await put(hub, await hub.connect("c2"))
    hub.clock.shift(LIMIT + 2)
    await worker.tick()
    await settle()
    assert (await found(hub, job)).reason == "given up: it was not done within a day"
    assert (await found(hub, late)).state == "done"
    assert handler.tried == ["k1"]


async def test_a_try_that_takes_too_long(hub: Hub) -> None:
    """A handler that hangs is cut off before its lease runs out, and tried again."""
    handler = Handler([asyncio.Event().wait, Ended(state="done")])
    worker = a_worker(hub, handler)
    job = await put(hub, await hub.connect())
    await worker.tick()
    await hub.clock.advance(worker.attempt_limit)
    assert "took longer" in (await found(hub, job)).reason
    await hub.clock.advance(1)
    await worker.tick()
    await settle()
    assert (await found(hub, job)).state == "done"


async def test_a_fault_of_ours(hub: Hub) -> None:
    """A handler that fails unforeseen leaves the job to be claimed again when its lease has run out; its words are not logged."""
    handler = Handler([ZeroDivisionError("s3cret"), Ended(state="done")])
    worker = a_worker(hub, handler)
    job = await put(hub, await hub.connect())
    await worker.tick()
    await settle()
    assert hub.log.said("job_fault") == [{"kind": "act", "reason": "ZeroDivisionError"}]
    hub.clock.shift(worker.attempt_limit + 31)
    await worker.tick()
    await settle()
    assert ((await found(hub, job)).state, (await found(hub, job)).tries) == ("done", 2)


async def test_a_disk_that_refuses_the_end(hub: Hub) -> None:
    """An end that could not be written is no end: the job is tried again like one that failed, and waits for no lease."""
    full = [False, True]

    def refuse(what: str) -> None:
        if what == "accept" and full and full.pop():
            raise CannotStore("the disk is full")

    handler = Handler()
    worker = a_worker(hub, handler, storage=Observed(hub.storage, before=refuse))
    job = await put(hub, await hub.connect())
    await worker.tick()
    await settle()
    assert hub.log.said("job_not_stored") == [{"kind": "act", "reason": "the disk is full"}]
    assert ((await found(hub, job)).state, (await found(hub, job)).tries) == ("queued", 1)
    assert handler.tried == ["k1"], "not at once"
    await hub.clock.advance(BASE)
    await worker.tick()
    await settle()
    assert ((await found(hub, job)).state, (await found(hub, job)).tries) == ("done", 2)


async def test_what_the_provider_asks_for_is_kept_where_it_cannot_be_stored(hub: Hub) -> None:
    """It is not asked again before."""
    full = [True]

    def refuse(what: str) -> None:
        if handler.tried and full and full.pop():
            raise CannotStore("the disk is full")

    handler = Handler([Later(reason="not yet", after=90.0), Ended(state="done")])
    worker = a_worker(hub, handler, storage=Observed(hub.storage, before=refuse))
    job = await put(hub, await hub.connect())
    for _ in range(90):
        await worker.tick()
        await settle()
        assert handler.tried == ["k1"]
        await hub.clock.advance(1)
    await worker.tick()
    await settle()
    assert (await found(hub, job)).state == "done"


async def test_a_claim_whose_answer_was_lost_is_made_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has made it, and nobody here knows of what: it is given back, and was no try. What is in work stays so."""
    opened = asyncio.Event()

    async def wait() -> Ended:
        await opened.wait()
        return Ended(state="done")

    handler = Handler([wait, Ended(state="done")])
    worker = a_worker(hub, handler)
    slow = await put(hub, await hub.connect("c1"), "slow")
    await worker.tick()
    await settle()
    job = await put(hub, await hub.connect("c2"))
    with monkeypatch.context() as away:
        away.setattr(jobs, "claim", lost(jobs.claim))
        await worker.tick()
        await settle()
    assert (len(hub.log.said("claim_failed")), (await found(hub, job)).tries) == (1, 1)
    await worker.tick()
    await settle()
    assert ((await found(hub, job)).state, (await found(hub, job)).tries) == ("done", 1)
    opened.set()
    await settle()
    assert ((await found(hub, slow)).state, handler.tried) == ("done", ["slow", "k1"])


async def test_ended_by_something_else_meanwhile(hub: Hub) -> None:
    """Whoever ended a job meanwhile has the last word."""
    opened = asyncio.Event()

    async def wait() -> Ended:
        await opened.wait()
        return Ended(state="done")

    worker = a_worker(hub, Handler([wait]))
    connection = await hub.connect()
    job = await put(hub, connection)
    await worker.tick()
    await hub.storage.write(jobs.fail, "act", connection.number, "disconnected", hub.clock.now())
    opened.set()
    await settle()
    assert ((await found(hub, job)).state, (await found(hub, job)).reason) == ("failed", "disconnected")
    assert hub.log.said("job_lost_lease")


async def test_a_stop_waits_a_while(hub: Hub) -> None:
    """A stop lets jobs come to their end; what does not is cancelled, given back, and does not count as a try."""
    opened = asyncio.Event()

    async def soon() -> Ended:
        await hub.clock.sleep(5)
        return Ended(state="done")

    handler = Handler([soon, opened.wait])
    worker = a_worker(hub, handler)
    quick, slow = await put(hub, await hub.connect("c1")), await put(hub, await hub.connect("c2"))
    await worker.tick()
    await settle()
    assert len(handler.tried) == 2
    await hub.clock.until(worker.stop(10))
    assert hub.clock.monotonic() == 10
    assert (await found(hub, quick)).state == "done"
    assert ((await found(hub, slow)).state, (await found(hub, slow)).tries) == ("queued", 0)
    worker.wake()
    await worker.tick()
    await settle()
    assert len(handler.tried) == 2, "it claims nothing more"
    (again,) = await hub.storage.write(jobs.claim, "next", hub.clock.now(), hub.clock.now() + SECOND, 10)
    assert again.id == slow.id


async def test_a_disk_that_refuses_the_claim_and_the_release(hub: Hub) -> None:
    """Neither ends the worker: the next tick claims, and a lease that could not be given back runs out by itself."""
    storage, full = Observed(hub.storage), [True]

    def refuse(what: str) -> None:
        if full[0]:
            raise CannotStore("the disk is full")

    storage.before = refuse
    handler = Handler([Later(reason="not yet")])
    worker = a_worker(hub, handler, storage=storage)
    await put(hub, await hub.connect())
    await worker.tick()
    assert (handler.tried, len(hub.log.said("claim_failed"))) == ([], 1)
    full[0] = False
    await worker.tick()
    await settle()
    assert handler.tried == ["k1"]
    full[0] = True
    await hub.clock.until(worker.stop(0))
    assert len(hub.log.said("leases_not_released")) == 1


async def test_a_stop_during_a_claim(hub: Hub) -> None:
    """What is claimed while the worker is being stopped is given back untried."""
    job = await put(hub, await hub.connect())
    stopping: list[asyncio.Future[None]] = []

    async def meanwhile() -> None:
        stopping.append(asyncio.ensure_future(worker.stop(0)))
        await asyncio.sleep(0)

    handler = Handler()
    worker = a_worker(hub, handler, storage=Stopped(hub.storage, meanwhile))
    await worker.tick()
    await hub.clock.until(stopping[0])
    assert handler.tried == []
    assert ((await found(hub, job)).tries, hub.database.rows("SELECT lease_owner FROM job")) == (0, [(None,)])


async def test_a_connection_that_is_erased_after_the_claim(hub: Hub) -> None:
    """There is nothing to do for it any more."""
    storage = Observed(hub.storage)
    await put(hub, await hub.connect())

    def erase(what: str) -> None:
        hub.database.rows("DELETE FROM connection")

    storage.after = erase
    handler = Handler()
    await a_worker(hub, handler, storage=storage).tick()
    await settle()
    assert handler.tried == []
    assert hub.log.said("job_fault") == []
