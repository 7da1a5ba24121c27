"""Patience: an end to waits that are all equally long, with one timer for all of them.

`asyncio.timeout` makes a timer for each, which for thousands a second costs as much as all else that is done with a webhook.
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class Patience:
    """`with patience:` around an await: after so many seconds it ends with a `TimeoutError`. For one loop; not for waits within waits."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: dict[asyncio.Task[object], float] = {}  #: until when, soonest first, since all wait equally long
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._waiting[task] = until = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(until, self._look)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        late = self._waiting.pop(task, None) is None
        # As `asyncio.timeout` does: whoever else has cancelled it too is told of that instead.
        if late and task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _look(self) -> None:
        """End the waits that are over, and come again when the next may be."""
        loop, self._timer = asyncio.get_running_loop(), None
        now = loop.time()
        while self._waiting:
            task, until = next(iter(self._waiting.items()))
            if until > now:
                self._timer = loop.call_at(until, self._look)
                return
            del self._waiting[task]
            task.cancel()
