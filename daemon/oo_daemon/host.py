"""The real ones: this host's clock, its randomness, and the second thread in which plugins' coroutines run."""

from __future__ import annotations

import asyncio
import random
import secrets
import threading
import time
from collections.abc import Coroutine
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
    """An event loop in a thread of its own. Start it before anything is run there, and stop it last."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._live, name="oo-guests")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _live(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it there and wait; cancelling the wait cancels it there, and still waits for its end."""
        there = asyncio.run_coroutine_threadsafe(_ended(work), self.loop)
        here = asyncio.wrap_future(there)
        try:
            return await asyncio.shield(here)
        except asyncio.CancelledError:
            there.cancel()
            await asyncio.wait({here})
            raise

    async def stop(self) -> None:
        """Cancel what still runs there, then end the thread."""

        async def cancel_all() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.loop.shutdown_asyncgens()

        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(cancel_all(), self.loop))
        self.loop.call_soon_threadsafe(self.loop.stop)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        self.loop.close()


class SameLoop(Guests):
    """Runs guests on the caller's loop: for simulation and small tests."""

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it here."""
        return await work


async def _ended(work: Coroutine[Any, Any, T]) -> T:
    return await work
