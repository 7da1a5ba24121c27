"""An event loop with time of its own: nothing waits, and which of the ready handles runs next is drawn from a seed.

One handle runs at a time, so a seed is one interleaving, and the same seed is the same interleaving again.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from typing import Any


class Stuck(Exception):
    """Nothing is ready and nothing is scheduled: somebody waits for what will never come."""


class SeededLoop(asyncio.BaseEventLoop):
    """Virtual time, and a seed that chooses among what is ready. No sockets, no threads."""

    def __init__(self, seed: str) -> None:
        super().__init__()
        self._chance = random.Random(seed)
        self._virtual = 0.0
        self.steps = 0
        self.after_step: Callable[[], None] = lambda: None

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual

    def _run_once(self) -> None:
        # The two queues are asyncio's own; their names have been the same since 3.4.
        ready: Any = self._ready  # type: ignore[attr-defined]
        scheduled: Any = self._scheduled  # type: ignore[attr-defined]
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
        if not ready:
            return
        place = self._chance.randrange(len(ready))
        ready.rotate(-place)
        handle = ready.popleft()
        ready.rotate(place)
        self.steps += 1
        if not handle._cancelled:
            handle._run()
        self.after_step()

    def _process_events(self, event_list: Any) -> None:
        raise AssertionError("there are no sockets here")

    def _write_to_self(self) -> None:
        """Nobody sleeps, so nobody must be woken."""


def run(loop: SeededLoop, main: Any) -> Any:
    """Run to the end on this loop."""
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main)
    finally:
        leftovers = asyncio.all_tasks(loop)
        for task in leftovers:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*leftovers, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()
