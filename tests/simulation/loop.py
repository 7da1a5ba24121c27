"""An event loop with time of its own: nothing waits, and which of the ready handles runs next is drawn from a seed.

One handle runs at a time, so a seed is one interleaving, and the same seed is the same interleaving again. A handle may belong to a
simulated process, which can be frozen in the middle of whatever it does, and die there.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from typing import Any


class Stuck(Exception):
    """Nothing is ready and nothing is scheduled: somebody waits for what will never come."""


class Dead(BaseException):
    """The process is gone: whatever still runs of it must not touch anything, and nobody in it may catch this."""


@dataclass(eq=False)
class Process:
    """One run of a daemon. Tasks that it makes are its own."""

    owner: str = ""  #: its name in leases
    frozen: bool = False
    frozen_until: float = -1.0  #: virtual seconds: when it was last thawed
    dead: bool = False
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    held: list[asyncio.Handle] = field(default_factory=list)  #: what would have run while it was frozen
    _fuse: tuple[str, int, Callable[[], None]] | None = None

    def light(self, place: str, times: int, then: Callable[[], None]) -> None:
        """Do something when it has reached a place so many times: after a commit, or before an answer arrives."""
        self._fuse = (place, times, then)

    def put_out(self) -> None:
        """It is not to happen any more."""
        self._fuse = None

    def reached(self, place: str) -> None:
        """Say that it is at a place."""
        if self._fuse is not None and self._fuse[0] == place:
            _, times, then = self._fuse
            self._fuse = (place, times - 1, then) if times > 1 else None
            if times == 1:
                then()


#: The process that a task or a handle belongs to; None: the world outside.
PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
PRUNED = 256


class SeededLoop(asyncio.BaseEventLoop):
    """Virtual time, and a seed that chooses among what is ready. No sockets, no threads."""

    def __init__(self, seed: str) -> None:
        super().__init__()
        self._chance = random.Random(seed)
        self._virtual = 0.0
        self._frozen: list[Process] = []
        self.steps = 0
        self.after_step: Callable[[], None] = lambda: None
        self.set_task_factory(_task)  # type: ignore[arg-type]  # typeshed's factories take no context
        self.set_exception_handler(lambda *_: None)  # what the dead leave behind
        self.get_debug = bool  # type: ignore[method-assign]  # False; each future and each handle asks, and this costs them the least

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual

    def freeze(self, process: Process) -> None:
        """Stop a process where it is, as SIGSTOP does."""
        process.frozen = True
        self._frozen.append(process)

    def thaw(self, process: Process) -> None:
        """Let it go on: whatever came due meanwhile is due now."""
        process.frozen, process.frozen_until = False, self._virtual
        self._frozen = [each for each in self._frozen if each is not process]
        self._ready.extend(process.held)  # type: ignore[attr-defined]
        process.held.clear()

    def call_soon(self, callback: Callable[..., object], *arguments: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]  # typeshed's is stricter
        """Have it run among what is ready."""
        handle = asyncio.Handle(callback, arguments, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def _run_once(self) -> None:
        """One handle after another, until the loop is stopped: asyncio calls this for as long as it is not."""
        # The two queues are asyncio's own; their names have been the same since 3.4.
        ready: Any = self._ready  # type: ignore[attr-defined]
        scheduled: Any = self._scheduled  # type: ignore[attr-defined]
        chance = self._chance.random
        while not self._stopping:  # type: ignore[attr-defined]
            while scheduled and scheduled[0]._cancelled:
                heapq.heappop(scheduled)._scheduled = False
            if not ready:
                if not scheduled:
                    raise Stuck(f"after {self.steps} steps, at {self._virtual:.3f} s")
                self._virtual = max(self._virtual, scheduled[0]._when)
            while scheduled and scheduled[0]._when <= self._virtual:
                handle = heapq.heappop(scheduled)
                handle._scheduled = False
                if not handle._cancelled:
                    ready.append(handle)
            if len(ready) > 1:
                place = int(chance() * len(ready))  # a third of what `randrange` costs
                handle = ready[place]
                del ready[place]
            elif ready:
                handle = ready.popleft()
            else:
                continue
            if handle._cancelled:
                continue
            context = handle._context
            process = context.get(PROCESS)
            if process is not None and process.frozen:
                process.held.append(handle)
                continue
            self.steps += 1
            try:
                context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException:
                pass  # what the dead leave behind
            self.after_step()

    def run_in_executor(self, executor: Any, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """At once: there are no threads."""
        future = self.create_future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def _process_events(self, event_list: Any) -> None:
        raise AssertionError("there are no sockets here")

    def _write_to_self(self) -> None:
        """Nobody sleeps, so nobody must be woken."""


def _task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], *, context: Context | None = None) -> asyncio.Task[Any]:
    task = asyncio.Task(work, loop=loop, context=context)
    process = PROCESS.get() if context is None else context.get(PROCESS)
    if process is not None:
        if len(process.tasks) > PRUNED:
            process.tasks = [each for each in process.tasks if not each.done()]
        process.tasks.append(task)
    return task


def run(loop: SeededLoop, main: Any) -> Any:
    """Run to the end on this loop."""
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main)
    finally:
        loop.after_step = lambda: None
        for process in loop._frozen:
            loop.thaw(process)
        leftovers = asyncio.all_tasks(loop)
        for task in leftovers:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*leftovers, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()
