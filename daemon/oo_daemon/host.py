"""The real ones: this host's clock, its randomness, and the second thread in which plugins' coroutines run."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, Final, Generic, TypeVar

import msgspec

from oo_daemon.ports import Ended, Guests
from oo_daemon.strikes import AtWork

T = TypeVar("T")
A = TypeVar("A")


class HostClock:
    """The host's clock."""

    def now(self) -> int:
        """Microseconds since 1970, UTC."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Seconds from some start."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class HostChance:
    """The host's randomness."""

    def token_bytes(self, size: int) -> bytes:
        """Bytes that nobody can guess."""
        return secrets.token_bytes(size)

    def uniform(self, low: float, high: float) -> float:
        """A number between the two; not for secrets."""
        return random.uniform(low, high)  # noqa: S311 - spreads load, guards nothing


#: Of threads for what nobody waits for.
NICENESS: Final = 10


class Background:
    """A thread for what nobody waits for. The system gives it what others leave. While somebody asks, it works in short turns and stands
    aside in between, since it takes the interpreter's lock from whoever answers.

    It always goes on: of a time in which somebody always asks an eleventh is its own, and of one in which nobody does, all.
    """

    TURN: Final = 0.002  #: seconds that it works before it stands aside: a question that comes meanwhile is late by as much
    ASIDE: Final = 0.02  #: seconds that it stands aside, from when somebody asked: most answers are there by then

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._pool = ThreadPoolExecutor(1, "oo-background", initializer=_give_way)
        self._closes = threading.Event()
        self._asked = -math.inf  #: when somebody last did
        self._since = -math.inf  #: since when it works

    def asked(self) -> None:
        """Somebody asks. From any thread and as often as may be: all that it costs is a look at the clock."""
        self._asked = self._now()

    async def each(self, work: Callable[[A], T], of: Sequence[A]) -> list[T]:
        """Do it there with each, one after another, and give what it gives."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._each, work, of)

    def _each(self, work: Callable[[A], T], of: Sequence[A]) -> list[T]:
        done = []
        for one in of:
            if wait := self._aside():
                self._closes.wait(wait)
                self._since = self._now()
            done.append(work(one))
        return done

    def _aside(self) -> float:
        """Seconds for which it stands aside now."""
        now = self._now()
        return max(self._asked + self.ASIDE - now, 0.0) if now - self._since >= self.TURN else 0.0

    def close(self) -> None:
        """End with what is being run, which does not stand aside any more."""
        self._closes.set()
        self._pool.shutdown()


def _give_way() -> None:
    # Linux counts niceness for each thread. At 19 one that has the interpreter's lock could wait for a busy host, and all of us with it.
    mine = threading.get_native_id()
    with suppress(OSError):  # a hardened unit may forbid it
        os.setpriority(os.PRIO_PROCESS, mine, max(NICENESS, os.getpriority(os.PRIO_PROCESS, mine)))


def settle() -> None:
    """Take what the process holds now for what stays: looking through all of it for rubbish would stop everything, again and again.

    From now on there is looked for some, whether or not there was before.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


class Turn(msgspec.Struct, frozen=True):
    """A guest has the loop. Made in C, since one is made thousands of times a second."""

    plugin: str  #: its key; empty for what is ours
    item: str
    since: float  #: by the clock that only grows


#: Seconds for which a guest may have the loop at once without a word.
BLOCKS: Final = 0.2
#: Whose code a task of the loop is. Tasks that it makes are its own, too.
_NOBODY: Final = ("", "")
_OWNER: ContextVar[tuple[str, str]] = ContextVar("owner", default=_NOBODY)


class GuestLoop(Guests):
    """An event loop in a thread of its own. Start it before anything is run there, and stop it last.

    `patience` is how many seconds a guest gets to end after it was cancelled; one that does not is left behind. `named` gives the key of
    the plugin that a guest came with; `blocked` hears of each turn that took too long, in the loop's thread; `at_work` says whose turn it
    is to whoever looks after the end of the process.
    """

    def __init__(
        self,
        *,
        patience: float = 10.0,
        named: Callable[[object], str] = lambda guest: "",
        blocked: Callable[[Turn, float], None] = lambda turn, seconds: None,
        at_work: AtWork | None = None,
    ) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(_tell_kind)
        self.loop.set_task_factory(self._task)  # type: ignore[arg-type]  # typeshed's takes generators, too: asyncio has no more of them
        self._there = self._back = _Crossing(self.loop)
        self.errands: deque[_Errand] = deque()  #: that have not begun
        self._hand: asyncio.Task[None]  #: who was sent for them last; the loop itself holds tasks by weak references only
        self._patience = patience
        self._named = named
        self._names: dict[int, str] = {}
        self._blocked = blocked
        self._at_work = at_work
        self.turn: Turn | None = None  #: whose it is now; for any thread to look at
        # A daemon thread: a guest that blocks it for ever must not keep the process.
        self._thread = threading.Thread(target=self._live, name="oo-guests", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _live(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def _task(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], context: Context | None = None, **more: Any
    ) -> asyncio.Task[T]:
        owner = _OWNER.get() if context is None else context.get(_OWNER, _NOBODY)
        return asyncio.Task(_Turns(self, work, owner), loop=loop, context=context, **more)

    def _begin(self, owner: tuple[str, str], label: bytes) -> Turn:
        if self._at_work is not None:
            self._at_work.mark(AtWork.LOOP, label)
        turn = self.turn = Turn(*owner, time.monotonic())
        return turn

    def _end(self, turn: Turn) -> None:
        self.turn = None
        if self._at_work is not None:
            self._at_work.clear(AtWork.LOOP)
        if (seconds := time.monotonic() - turn.since) >= BLOCKS:
            self._blocked(turn, seconds)

    def _name(self, guest: object) -> str:
        """The key of a guest's plugin; guests live as long as the process, so each is asked for once."""
        if (name := self._names.get(id(guest))) is None:
            name = self._names[id(guest)] = self._named(guest)
        return name

    async def run(self, work: Coroutine[Any, Any, T], *, of: object = None, item: str = "") -> T:
        """Run it there and wait; cancelling the wait cancels it there, and still waits for its end."""
        context = copy_context()
        context.run(_OWNER.set, self._owner(of, item))
        home = asyncio.get_running_loop()
        visit: _Visit[T] = _Visit(back=self._way_back(home), ended=home.create_future())
        try:
            self._there.bring(lambda: visit.begin(self.loop, work, context))
        except RuntimeError:  # the loop is closed: say so, and not that a coroutine was never awaited
            work.close()
            raise
        try:
            return await visit.ended
        except asyncio.CancelledError:
            if visit.is_over():
                raise
            visit.left = home.create_future()
            with suppress(RuntimeError):  # the loop is closed, and the guest was left behind
                self._there.bring(visit.cancel)
            await asyncio.wait({visit.left}, timeout=self._patience)
            raise

    def begin(self, work: Coroutine[Any, Any, None], ended: Ended, *, of: object = None, item: str = "") -> Callable[[], object]:
        """Run it there and go on; cancelled, it gets `patience` to end before it is left behind."""
        errand = _Errand(self, work, ended, self._owner(of, item), self._way_back(asyncio.get_running_loop()))
        self._there.bring_along(errand.arrive, errand.back.loop)
        return errand.leave

    def cancel(self, errand: _Errand) -> None:
        """Cancel one that has not ended."""
        errand.back.loop.call_later(self._patience, errand.tell, asyncio.CancelledError())
        with suppress(RuntimeError):  # the loop is closed, and the guest was left behind
            self._there.bring(errand.cancel)

    def queue(self, errand: _Errand) -> None:
        """Have it taken by whoever takes the next. On the guests' loop."""
        self.errands.append(errand)
        if len(self.errands) == 1:
            self.send_a_hand()

    def send_a_hand(self) -> None:
        """Have somebody take the errands that have not begun. On the guests' loop."""
        self._hand = asyncio.Task(_Hand(self), loop=self.loop)

    def _owner(self, guest: object, item: str) -> tuple[str, str]:
        return (self._name(guest) if guest is not None else "", item)

    def _way_back(self, home: asyncio.AbstractEventLoop) -> _Crossing:
        if self._back.loop is not home:
            self._back = _Crossing(home)
        return self._back

    async def stop(self) -> None:
        """Cancel what still runs there, then end the thread. Waits no longer than twice the patience."""

        async def cancel_all() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=self._patience)
            await self.loop.shutdown_asyncgens()
            self.loop.stop()

        asyncio.run_coroutine_threadsafe(cancel_all(), self.loop)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join, 2 * self._patience)
        if not self._thread.is_alive():
            self.loop.close()


class _Crossing:
    """The way into a loop from another thread. What comes at the same time crosses together: to wake a loop costs more than most calls."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._calls: deque[Callable[[], None]] = deque()
        self._rung = False

    def bring(self, call: Callable[[], None]) -> None:
        """Have it called there, in order. It must not raise. Raises `RuntimeError` where the loop is closed."""
        self._calls.append(call)
        if not self._rung:
            self._rung = True
            try:
                self.loop.call_soon_threadsafe(self._arrive)
            except RuntimeError:
                self._rung = False
                raise

    def bring_along(self, call: Callable[[], None], home: asyncio.AbstractEventLoop) -> None:
        """Likewise, at the end of this turn of the calling loop, with whatever comes until then; where that loop is closed, never."""
        self._calls.append(call)
        if not self._rung:
            self._rung = True
            home.call_soon(self._ring)

    def _ring(self) -> None:
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._arrive)

    def _arrive(self) -> None:
        self._rung = False  # before the first: who comes from now on rings again
        while self._calls:
            self._calls.popleft()()


class _Visit(Generic[T]):
    """A coroutine on the guests' loop, and who waits for it at home. `begin` and `cancel` are called there, the rest at home."""

    def __init__(self, *, back: _Crossing, ended: asyncio.Future[T]) -> None:
        self.ended = ended  #: cancelled where nobody waits any more
        self.left: asyncio.Future[None] | None = None  #: done at the end, where that came after
        self._back = back
        self._task: asyncio.Task[T] | None = None
        self._over = False

    def begin(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], context: Context) -> None:
        self._task = loop.create_task(_contained(work), context=context)
        self._task.add_done_callback(lambda task: self._end(work))

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def is_over(self) -> bool:
        if not self.ended.cancelled():
            self.ended.exception()  # seen: it would be told of as one that nobody has met
            return True
        return self._over

    def _end(self, work: Coroutine[Any, Any, T]) -> None:
        work.close()  # likewise what `_contained` had not begun
        assert self._task is not None
        if not self._task.cancelled():
            self._task.exception()  # seen, as above
        with suppress(RuntimeError):  # the loop at home is closed: nobody waits
            self._back.bring(self._tell)

    def _tell(self) -> None:
        self._over = True
        assert self._task is not None
        if self.left is not None:
            self.left.set_result(None)
        elif self.ended.cancelled():
            pass
        elif self._task.cancelled():
            self.ended.set_exception(asyncio.CancelledError())
        elif error := self._task.exception():
            self.ended.set_exception(error)
        else:
            self.ended.set_result(self._task.result())


class _Turns(Coroutine[Any, Any, T]):
    """A coroutine that says before and after each of its turns whose it is."""

    __slots__ = ("_label", "_loop", "_owner", "_work")

    def __init__(self, loop: GuestLoop, work: Coroutine[Any, Any, T], owner: tuple[str, str]) -> None:
        self._loop, self._work, self._owner = loop, work, owner
        self._label = AtWork.label(*owner)

    def send(self, value: Any) -> Any:
        """Take a turn."""
        turn = self._loop._begin(self._owner, self._label)
        try:
            return self._work.send(value)
        finally:
            self._loop._end(turn)

    def throw(self, *error: Any) -> Any:
        """Take a turn that begins with an error: cancelled, most of all."""
        turn = self._loop._begin(self._owner, self._label)
        try:
            return self._work.throw(*error)
        finally:
            self._loop._end(turn)

    def close(self) -> None:
        """It is not wanted any more."""
        self._work.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._work.__await__()


class _Errand:
    """A coroutine that needs no task of its own unless it has to wait.

    `leave` and `tell` are called at home, `arrive` and `cancel` on the guests' loop.
    """

    __slots__ = ("_ended", "_loop", "back", "cancelled", "context", "error", "label", "owner", "task", "told", "work")

    def __init__(self, loop: GuestLoop, work: Coroutine[Any, Any, None], ended: Ended, owner: tuple[str, str], back: _Crossing) -> None:
        self._loop = loop
        self.work, self.owner, self.back = work, owner, back
        self.label = AtWork.label(*owner)
        self.context = copy_context()
        self.context.run(_OWNER.set, owner)
        self.error: BaseException | None = None
        self.task: asyncio.Task[Any] | None = None  #: while it waits
        self.cancelled = False  #: before it began
        self.told = False
        self._ended = ended

    def arrive(self) -> None:
        self._loop.queue(self)

    def leave(self) -> None:
        if not self.told:
            self._loop.cancel(self)

    def cancel(self) -> None:
        self.cancelled = True
        if self.task is not None:
            self.task.cancel()

    def tell(self, error: BaseException | None) -> None:
        if not self.told:
            self.told = True
            self._ended(error)


class _Hand(Coroutine[Any, Any, None]):
    """What a task does that takes one errand after another. One that has to wait keeps the task, and another task goes on with the rest."""

    #: Seconds after which the loop has its turn, and the rest of the errands the next.
    LONGEST: Final = 0.005

    __slots__ = ("_held", "_loop")

    def __init__(self, loop: GuestLoop) -> None:
        self._loop = loop
        self._held: _Errand | None = None

    def send(self, value: Any) -> Any:
        """Take a turn."""
        if self._held is not None:
            return self._go_on(self._held, self._held.work.send, value)
        errands, over = self._loop.errands, list[_Errand]()
        until = time.monotonic() + self.LONGEST
        try:
            while errands and (not over or time.monotonic() < until):
                errand = errands.popleft()
                if errand.cancelled:
                    errand.work.close()
                    errand.error = asyncio.CancelledError()
                elif (waits := self._turn(errand, errand.work.send, None)) is not _OVER:
                    self._held, errand.task = errand, asyncio.current_task(self._loop.loop)
                    return waits
                over.append(errand)
        finally:
            if errands:
                self._loop.send_a_hand()
            _bring_home(over)
        raise StopIteration

    def throw(self, *error: Any) -> Any:
        """Take a turn that begins with an error: cancelled, most of all."""
        if self._held is None:  # the loop ends
            while self._loop.errands:
                self._loop.errands.popleft().work.close()
            raise asyncio.CancelledError
        return self._go_on(self._held, self._held.work.throw, *error)

    def close(self) -> None:
        """It is not wanted any more."""
        if self._held is not None:
            self._held.work.close()

    def __await__(self) -> Generator[Any, Any, None]:
        raise TypeError("a hand is a task's")

    def _go_on(self, errand: _Errand, resume: Callable[..., Any], *given: Any) -> Any:
        waits = self._turn(errand, resume, *given)
        if waits is not _OVER:
            return waits
        self._held = errand.task = None
        _bring_home([errand])
        raise StopIteration

    def _turn(self, errand: _Errand, resume: Callable[..., Any], *given: Any) -> Any:
        """What it waits for now, or that it is over."""
        turn = self._loop._begin(errand.owner, errand.label)
        try:
            return errand.context.run(resume, *given)
        except StopIteration:
            pass
        except (SystemExit, KeyboardInterrupt) as exit_:  # would end the loop, and with it every other guest
            errand.error = RuntimeError(f"a plugin raised {type(exit_).__name__}")
        except BaseException as error:
            errand.error = error
        finally:
            self._loop._end(turn)
        return _OVER


_OVER: Final = object()


def _bring_home(errands: Sequence[_Errand]) -> None:
    by_home: dict[_Crossing, list[_Errand]] = {}
    for errand in errands:
        by_home.setdefault(errand.back, []).append(errand)
    for back, over in by_home.items():
        with suppress(RuntimeError):  # the loop at home is closed: nobody waits
            back.bring(partial(_tell, over))


def _tell(errands: Sequence[_Errand]) -> None:
    for errand in errands:
        errand.tell(errand.error)


class SameLoop(Guests):
    """Runs guests on the caller's loop: for simulation and small tests."""

    def begin(self, work: Coroutine[Any, Any, None], ended: Ended, *, of: object = None, item: str = "") -> Callable[[], object]:
        """Run it here."""

        def over(task: asyncio.Task[None]) -> None:
            work.close()  # it may not have begun
            ended(asyncio.CancelledError() if task.cancelled() else task.exception())

        task = asyncio.ensure_future(_contained(work))
        task.add_done_callback(over)
        return task.cancel

    async def run(self, work: Coroutine[Any, Any, T], *, of: object = None, item: str = "") -> T:
        """Run it here."""
        return await _contained(work)


async def _contained(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as exit_:  # would end the loop, and with it every other guest
        raise RuntimeError(f"a plugin raised {type(exit_).__name__}") from None


def _tell_kind(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say what kind of error a guest has let fall, and not what it says: that may quote what the guest was working on."""
    error = context.get("exception")
    logging.getLogger(__name__).warning("a plugin's task failed unseen with %s", type(error).__name__ if error else "no error")
