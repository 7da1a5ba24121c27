"""The real ones: this host's clock, its randomness, and the second thread in which plugins' coroutines run."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from oo_daemon.ports import Guests

T = TypeVar("T")


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


class GuestLoop(Guests):
    """An event loop in a thread of its own. Start it before anything is run there, and stop it last.

    `patience` is how many seconds a guest gets to end after it was cancelled; one that does not is left behind.
    """

    def __init__(self, *, patience: float = 10.0) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(_tell_kind)
        self._patience = patience
        # A daemon thread: a guest that blocks it for ever must not keep the process.
        self._thread = threading.Thread(target=self._live, name="oo-guests", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _live(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it there and wait; cancelling the wait cancels it there, and still waits for its end."""
        there: Future[asyncio.Task[T]] = Future()
        ended: Future[T] = Future()
        # Never cancelled itself, as the future of run_coroutine_threadsafe would be, which then ends before the guest does.
        ended.set_running_or_notify_cancel()

        def begin() -> None:
            task = self.loop.create_task(_contained(work))
            task.add_done_callback(lambda task: _copy(task, ended))
            task.add_done_callback(lambda _: work.close())  # which it had not begun, where it was cancelled at once
            there.set_result(task)

        try:
            self.loop.call_soon_threadsafe(begin)
        except RuntimeError:  # the loop is closed: say so, and not that a coroutine was never awaited
            work.close()
            raise
        here = asyncio.wrap_future(ended)
        try:
            return await asyncio.shield(here)
        except asyncio.CancelledError:
            here.add_done_callback(lambda here: here.exception())  # nobody waits for it any more
            with suppress(RuntimeError):  # the loop is closed, and the guest was left behind
                self.loop.call_soon_threadsafe(lambda: there.result().cancel())  # it has begun by then: calls keep their order
            await asyncio.wait({here}, timeout=self._patience)
            raise

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


class SameLoop(Guests):
    """Runs guests on the caller's loop: for simulation and small tests."""

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it here."""
        return await _contained(work)


async def _contained(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as exit_:  # would end the loop, and with it every other guest
        raise RuntimeError(f"a plugin raised {type(exit_).__name__}") from None


def _copy(task: asyncio.Task[T], ended: Future[T]) -> None:
    if task.cancelled():
        ended.set_exception(asyncio.CancelledError())
    elif error := task.exception():
        ended.set_exception(error)
    else:
        ended.set_result(task.result())


def _tell_kind(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say what kind of error a guest has let fall, and not what it says: that may quote what the guest was working on."""
    error = context.get("exception")
    logging.getLogger(__name__).warning("a plugin's task failed unseen with %s", type(error).__name__ if error else "no error")
