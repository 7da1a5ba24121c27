"""The guests' loop: plugins' coroutines in a thread of their own."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from oo_daemon.host import BLOCKS, NICENESS, Background, GuestLoop, HostChance, HostClock, SameLoop, Turn, _Hand, settle
from oo_daemon.ports import Guests
from oo_daemon.strikes import AtWork, left

#: No test waits longer for anything.
PATIENCE = 10.0


def test_what_is_there_at_the_start_stays() -> None:
    """The collector does not look through what there was."""
    try:
        settle()
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()


@pytest.fixture
async def guests() -> AsyncIterator[GuestLoop]:
    guests = GuestLoop(patience=PATIENCE)
    guests.start()
    yield guests
    if not guests.loop.is_closed():
        await guests.stop()


class Visitor:
    """A guest that waits until it is let go or cancelled, and tells the test's thread how it goes."""

    def __init__(self, *, slow_to_leave: bool = False, stays: bool = False) -> None:
        self.begun = threading.Event()
        self.cancelled = threading.Event()
        self.ended = threading.Event()
        self.may_leave = threading.Event()
        self.slow_to_leave = slow_to_leave
        self.stays = stays

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.set()
            while self.slow_to_leave and not self.may_leave.is_set():
                await asyncio.sleep(0.001)
            while self.stays and not self.may_leave.is_set():
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.001)
            raise
        finally:
            self.ended.set()


async def happened(event: threading.Event) -> None:
    """Wait for another thread."""
    assert await asyncio.get_running_loop().run_in_executor(None, event.wait, PATIENCE)


async def test_another_thread(guests: GuestLoop) -> None:
    """A guest runs on the guests' loop, in its own thread, and its result comes back."""

    async def where() -> tuple[int, bool]:
        return threading.get_ident(), asyncio.get_running_loop() is guests.loop

    ident, there = await guests.run(where())
    assert there
    assert ident != threading.get_ident()


async def test_exceptions_pass(guests: GuestLoop) -> None:
    """What a guest raises is raised where it was waited for."""

    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await guests.run(fail())


async def begun(guests: Guests, *works: Coroutine[Any, Any, None], of: object = None, item: str = "") -> list[BaseException | None]:
    """Begin them all at once, and wait for their ends; gives those in the order in which they came."""
    ends = list[BaseException | None]()
    over = asyncio.Event()

    def ended(error: BaseException | None) -> None:
        ends.append(error)
        if len(ends) == len(works):
            over.set()

    for work in works:
        guests.begin(work, ended, of=of, item=item)
    async with asyncio.timeout(PATIENCE):
        await over.wait()
    return ends


@pytest.mark.parametrize("same", [False, True], ids=["another thread", "the same loop"])
async def test_errands(guests: GuestLoop, same: bool) -> None:
    """Whoever begins something there goes on at once, and hears here what it came to."""
    home, heard = threading.get_ident(), list[int]()

    async def go(error: BaseException | None = None) -> None:
        heard.append(threading.get_ident())
        await asyncio.sleep(0)
        if error is not None:
            raise error

    wrong = KeyError("x")
    ends = await begun(SameLoop() if same else guests, go(), go(wrong), go(SystemExit(3)), go(asyncio.CancelledError()))
    assert ends[:2] == [None, wrong]
    assert str(ends[2]) == "a plugin raised SystemExit"
    assert isinstance(ends[3], asyncio.CancelledError)
    assert (set(heard) == {home}) is same


async def test_who_does_not_wait_needs_no_task(guests: GuestLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that have nothing to wait for share a task, those that wait have each their own, and none waits for another."""
    monkeypatch.setattr(_Hand, "LONGEST", PATIENCE)
    tasks = dict[str, set[object]](quick=set(), slow=set())
    let_go = asyncio.Event()
    waiting = list[asyncio.Future[None]]()

    async def quick() -> None:
        tasks["quick"].add(asyncio.current_task())

    async def slow() -> None:
        async with asyncio.timeout(PATIENCE):
            waiting.append(asyncio.get_running_loop().create_future())
            await waiting[-1]
        tasks["slow"].add(asyncio.current_task())

    def ended(error: BaseException | None) -> None:
        ends.append(error)
        if len(ends) == 60:
            for each in waiting:
                guests.loop.call_soon_threadsafe(each.set_result, None)
        if len(ends) == 63:
            let_go.set()

    ends = list[BaseException | None]()
    for number in range(63):
        guests.begin(slow() if number % 21 == 0 else quick(), ended)
    async with asyncio.timeout(PATIENCE):
        await let_go.wait()
    assert ends == [None] * 63
    assert (len(tasks["quick"]), len(tasks["slow"])) == (3, 3)


async def test_the_loop_turns_between_errands(guests: GuestLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are begun at once, others on the guests' loop come to their turn after a while."""
    monkeypatch.setattr(_Hand, "LONGEST", 0.0)
    done, seen = 0, list[int]()

    async def quick() -> None:
        nonlocal done
        done += 1
        if done == 1:
            guests.loop.call_soon(lambda: seen.append(done))

    assert await begun(guests, *(quick() for _ in range(500))) == [None] * 500
    assert seen == [1]


async def test_what_an_errand_sets_is_its_own(guests: GuestLoop) -> None:
    """What one sets in its context is not there for the next."""
    mark = ContextVar("mark", default=0)
    seen = list[int]()

    async def go(number: int) -> None:
        seen.append(mark.get())
        mark.set(number)

    await begun(guests, *(go(number) for number in range(1, 4)))
    assert seen == [0, 0, 0]


async def test_an_errand_is_cancelled(guests: GuestLoop) -> None:
    """One that waits is cancelled where it waits, and its end is told when it has ended; one that has not begun does not begin."""
    visitor = Visitor(slow_to_leave=True)
    ends = list[BaseException | None]()
    cancel = guests.begin(visitor(), ends.append)
    await happened(visitor.begun)
    cancel()
    await happened(visitor.cancelled)
    other = list[BaseException | None]()
    guests.begin(visitor(), other.append)()
    while not other:
        await asyncio.sleep(0)
    assert isinstance(other[0], asyncio.CancelledError)
    assert ends == []
    visitor.may_leave.set()
    while not ends:
        await asyncio.sleep(0)
    assert isinstance(ends[0], asyncio.CancelledError)
    assert visitor.ended.is_set()
    cancel()


async def test_an_errand_that_stays_is_left_behind() -> None:
    """One that does not end though it was cancelled is given up after a while, and told of once."""
    guests = GuestLoop(patience=0.05)
    guests.start()
    visitor = Visitor(stays=True)
    ends = list[BaseException | None]()
    cancel = guests.begin(visitor(), ends.append)
    await happened(visitor.begun)
    cancel()
    async with asyncio.timeout(PATIENCE):
        while not ends:
            await asyncio.sleep(0.001)
    visitor.may_leave.set()
    await happened(visitor.ended)
    await guests.stop()
    assert [type(error) for error in ends] == [asyncio.CancelledError]


@pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt()], ids=lambda end: type(end).__name__)
async def test_a_guest_that_wants_to_end_everything(guests: GuestLoop, end: BaseException) -> None:
    """A guest that calls sys.exit() ends itself only: the loop goes on for the others."""

    async def leave() -> None:
        raise end

    async def stay() -> int:
        return 7

    anywhere: list[Guests] = [guests, SameLoop()]
    for host in anywhere:
        with pytest.raises(RuntimeError, match=f"a plugin raised {type(end).__name__}"):
            await host.run(leave())
        assert await host.run(stay()) == 7


async def test_cancellation_reaches_the_guest(guests: GuestLoop) -> None:
    """Who stops waiting for a guest cancels it, and goes on only when it has ended."""
    visitor = Visitor(slow_to_leave=True)
    waiting = asyncio.ensure_future(guests.run(visitor()))
    await happened(visitor.begun)
    waiting.cancel()
    await happened(visitor.cancelled)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    visitor.may_leave.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert visitor.ended.is_set()


async def test_cancelled_before_it_began(guests: GuestLoop) -> None:
    """A guest that is cancelled before its loop got to it does not begin."""
    begun = []

    async def work() -> None:
        begun.append(1)

    hold = threading.Event()
    guests.loop.call_soon_threadsafe(hold.wait, PATIENCE)
    waiting = asyncio.ensure_future(guests.run(work()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    hold.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert begun == []


async def test_a_guest_that_ends_as_it_is_cancelled(guests: GuestLoop) -> None:
    """A result that comes too late is dropped without a word."""

    async def quick() -> int:
        with suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        return 7

    waiting = asyncio.ensure_future(guests.run(quick()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_guest_that_cancels_itself(guests: GuestLoop) -> None:
    """A guest that ends in a cancellation of its own ends the wait, too."""

    async def work() -> None:
        raise asyncio.CancelledError

    waiting = asyncio.ensure_future(guests.run(work()))
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait({waiting})
    assert waiting.cancelled()


async def test_a_guest_that_does_not_leave() -> None:
    """A guest that ignores its cancellation is left behind after a while, and the loop can be stopped all the same."""
    guests = GuestLoop(patience=0.05)
    guests.start()
    visitor = Visitor(stays=True)
    waiting = asyncio.ensure_future(guests.run(visitor()))
    await happened(visitor.begun)
    waiting.cancel()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert not visitor.ended.is_set()
    visitor.may_leave.set()
    await happened(visitor.ended)
    await guests.stop()


async def test_a_guest_that_blocks_its_loop(guests: GuestLoop) -> None:
    """While a guest blocks the guests' loop, the main loop goes on; who waits for a guest can still be cancelled."""
    hold, begun = threading.Event(), threading.Event()

    async def block() -> None:
        begun.set()
        hold.wait(PATIENCE)

    async def other() -> int:
        return 7

    blocked, second = asyncio.ensure_future(guests.run(block())), asyncio.ensure_future(guests.run(other()))
    await happened(begun)
    turns = 0
    for _ in range(100):
        await asyncio.sleep(0)
        turns += 1
    assert turns == 100
    assert not blocked.done()
    assert not second.done()
    hold.set()
    async with asyncio.timeout(PATIENCE):
        await blocked
        assert await second == 7


async def test_stop_with_a_blocked_loop() -> None:
    """A loop that a guest blocks for good does not keep the daemon from stopping."""
    guests = GuestLoop(patience=0.05)
    guests.start()
    hold, begun = threading.Event(), threading.Event()

    async def block() -> None:
        begun.set()
        hold.wait(PATIENCE)

    waiting = asyncio.ensure_future(guests.run(block()))
    await happened(begun)
    async with asyncio.timeout(PATIENCE):
        await guests.stop()
    assert guests.loop.is_running()
    assert guests._thread.daemon  # so that the interpreter does not wait for it
    hold.set()
    await asyncio.wait({waiting}, timeout=PATIENCE)
    guests._thread.join(PATIENCE)
    guests.loop.close()


async def test_stop_cancels_what_is_left(guests: GuestLoop) -> None:
    """A stop cancels guests that still run, and those who wait for them."""
    visitor = Visitor()
    waiting = asyncio.ensure_future(guests.run(visitor()))
    await happened(visitor.begun)
    await guests.stop()
    assert visitor.ended.is_set()
    assert guests.loop.is_closed()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_after_the_stop(guests: GuestLoop) -> None:
    """Nothing runs on a loop that was stopped, and that is said at once."""

    async def work() -> None:
        raise AssertionError("not to be run")

    await guests.stop()
    with pytest.raises(RuntimeError, match="closed"):
        await guests.run(work())


async def test_many_at_once(guests: GuestLoop) -> None:
    """Many guests wait side by side."""

    async def work(number: int) -> int:
        await asyncio.sleep(0)
        return number

    async with asyncio.timeout(PATIENCE):
        assert await asyncio.gather(*(guests.run(work(number)) for number in range(500))) == [*range(500)]


async def test_a_task_that_fails_unseen(guests: GuestLoop, caplog: pytest.LogCaptureFixture) -> None:
    """Of an error that a guest lets fall only its kind is told."""
    told = threading.Event()

    class Tell(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.set()

    async def fail() -> None:
        raise ValueError("ada's diary")

    async def careless() -> None:
        task = asyncio.ensure_future(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task

    handler = Tell()
    logging.getLogger("oo_daemon.host").addHandler(handler)
    try:
        await guests.run(careless())
        await happened(told)
    finally:
        logging.getLogger("oo_daemon.host").removeHandler(handler)
    assert [record.getMessage() for record in caplog.records] == ["a plugin's task failed unseen with ValueError"]
    assert caplog.records[0].exc_info is None


async def test_the_hosts_clock() -> None:
    """The host's clock counts microseconds since 1970, and sleeps."""
    clock = HostClock()
    before = clock.monotonic()
    assert abs(clock.now() - time.time() * 1_000_000) < 60_000_000
    await clock.sleep(0)
    assert clock.monotonic() >= before


def test_the_hosts_chance() -> None:
    """The host's randomness gives as much as was asked for, within the bounds, and not the same twice."""
    chance = HostChance()
    assert len(chance.token_bytes(16)) == 16
    assert chance.token_bytes(16) != chance.token_bytes(16)
    assert 2.0 <= chance.uniform(2.0, 3.0) <= 3.0


# --- whose turn it is ------------------------------------------------------------------------------------------------


class Watched:
    """A loop, and what it tells of turns."""

    def __init__(self, folder: Path) -> None:
        self.blocked: list[tuple[Turn, float]] = []
        self.path = folder / "at_work"
        self.loop = GuestLoop(
            patience=PATIENCE,
            named=lambda guest: f"acme-oo/{guest}",
            blocked=lambda turn, seconds: self.blocked.append((turn, seconds)),
            at_work=AtWork(self.path),
        )

    def left(self) -> list[tuple[str, str]]:
        """Who would be found at work if the process ended now."""
        return left(self.path)


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    watched = Watched(tmp_path)
    watched.loop.start()
    yield watched
    await watched.loop.stop()


@pytest.mark.rows("E12")
async def test_who_blocks_is_named(watched: Watched) -> None:
    """A turn of more than a fifth of a second is told of by its plugin, also of a task that a guest has made; waiting is none."""

    async def block() -> None:
        time.sleep(BLOCKS + 0.01)

    async def make() -> None:
        await asyncio.sleep(BLOCKS + 0.01)
        await asyncio.gather(block())

    await watched.loop.run(make(), of="notes", item="delivery 7")
    ((turn, seconds),) = watched.blocked
    assert (turn.plugin, turn.item) == ("acme-oo/notes", "delivery 7")
    assert seconds >= BLOCKS
    assert watched.loop.turn is None


@pytest.mark.rows("H10")
async def test_who_is_at_work_is_written_where_it_outlives_the_process(watched: Watched) -> None:
    """During its turn a guest stands in the file; while it waits, or after its end, nobody does."""
    seen: list[list[tuple[str, str]]] = []
    waits, go_on = threading.Event(), asyncio.Event()

    async def look() -> None:
        seen.append(watched.left())
        waits.set()
        await go_on.wait()
        seen.append(watched.left())
        raise ZeroDivisionError

    running = asyncio.ensure_future(watched.loop.run(look(), of="notes", item="action 1"))
    await happened(waits)
    while watched.loop.turn is not None:
        await asyncio.sleep(0)
    assert watched.left() == []
    watched.loop.loop.call_soon_threadsafe(go_on.set)
    with pytest.raises(ZeroDivisionError):
        await running
    assert seen == [[("acme-oo/notes", "action 1")]] * 2
    assert watched.left() == []


async def test_who_is_at_work_on_an_errand(watched: Watched) -> None:
    """Likewise of what was only begun there, and of a task that it makes."""
    seen: list[list[tuple[str, str]]] = []

    async def look(*, deeper: bool) -> None:
        seen.append(watched.left())
        if deeper:
            await asyncio.create_task(look(deeper=False))

    assert await begun(watched.loop, look(deeper=False), look(deeper=True), of="notes", item="c1") == [None, None]
    assert seen == [[("acme-oo/notes", "c1")]] * 3
    assert watched.left() == []


async def test_what_is_ours_is_nobodys(watched: Watched) -> None:
    """Work of ours on that loop has no plugin's name."""

    async def look() -> str:
        assert watched.loop.turn is not None
        return watched.loop.turn.plugin

    assert await watched.loop.run(look()) == ""
    assert await watched.loop.run(look(), of="notes") == "acme-oo/notes"
    assert await watched.loop.run(look()) == ""


@pytest.fixture
def background() -> Iterator[Background]:
    background = Background()
    yield background
    background.close()


async def test_what_nobody_waits_for_gives_way(background: Background) -> None:
    """It runs in a thread of its own, which the system gives what others leave; the others keep their places."""
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert await background.each(lambda which: os.getpriority(which, threading.get_native_id()), [os.PRIO_PROCESS]) == [
        max(NICENESS, before)
    ]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
    with pytest.raises(ZeroDivisionError):
        await background.each(lambda one: 1 // one, [1, 0])


@dataclass
class Hours:
    """Time that goes on by work and by standing aside alone, for one in the background."""

    background: Background = field(init=False)
    time: float = 1000.0
    aside: list[float] = field(default_factory=list)
    asked_by: Callable[[float], bool] = lambda time: False

    def __post_init__(self) -> None:
        self.background = Background(now=lambda: self.time)
        self.background._closes.wait = self.stand_aside  # type: ignore[method-assign]

    def stand_aside(self, timeout: float | None = None) -> bool:
        self.aside.append(timeout or 0)
        self.pass_(timeout or 0)
        return False

    def pass_(self, seconds: float) -> None:
        for _ in range(round(seconds * 1000)):  # whoever asks does so at some millisecond
            self.time += 0.001
            if self.asked_by(self.time):
                self.background.asked()

    async def work(self, seconds: float) -> None:
        """Pieces of a millisecond each."""

        def one(piece: int) -> int:
            self.pass_(0.001)
            return piece

        pieces = range(round(seconds * 1000))
        assert await self.background.each(one, pieces) == list(pieces)


@pytest.fixture
def hours() -> Iterator[Hours]:
    hours = Hours()
    yield hours
    hours.background.close()


@pytest.mark.rows("C3")
async def test_it_stands_aside_for_who_asks(hours: Hours) -> None:
    """Somebody who asks once has it stand aside for as long as most answers take, from his question on."""
    hours.background.asked()
    hours.pass_(0.004)
    await hours.work(0.1)
    assert hours.aside == [pytest.approx(Background.ASIDE - 0.004)]


@pytest.mark.rows("C3")
async def test_it_always_goes_on(hours: Hours) -> None:
    """While somebody always asks, it works in turns, and an eleventh of the time is its own, or more by what a turn ends late."""
    hours.asked_by = lambda time: True
    began = hours.time
    await hours.work(0.5)
    assert 7 * 0.5 < hours.time - began < 11.05 * 0.5
    assert max(hours.aside) == pytest.approx(Background.ASIDE)


@pytest.mark.rows("C3")
async def test_while_nobody_asks_it_works_all_the_time(hours: Hours) -> None:
    """Before the first question, and after the last one's time, it does not stand aside."""
    await hours.work(0.5)
    hours.background.asked()
    hours.pass_(Background.ASIDE + 0.001)
    await hours.work(0.5)
    assert hours.aside == []


@pytest.mark.rows("C3")
async def test_who_stands_aside_holds_up_no_end(background: Background) -> None:
    """Closed, it does what is left at once."""
    background.ASIDE = PATIENCE  # type: ignore[misc]
    background.asked()
    begun, wait = threading.Event(), background._closes.wait

    def stand_aside(timeout: float | None = None) -> bool:
        begun.set()
        return wait(timeout)

    background._closes.wait = stand_aside  # type: ignore[method-assign]
    doing = asyncio.ensure_future(background.each(lambda one: one, range(1000)))
    await happened(begun)
    assert not doing.done()
    await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(None, background.close), PATIENCE / 2)
    assert await doing == list(range(1000))
