"""Patience: an end to waits that are all equally long, with one timer for all of them.

`asyncio.timeout` makes a timer for each, which for thousands a second costs as much as all else that is done with a webhook.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any


class Patience:
    """`with patience:` around an await: after so many seconds it ends with a `TimeoutError`. For one loop; not for waits within waits.

    `begin` and `end` are for what is waited for without a coroutine: it is cancelled.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: dict[asyncio.Future[Any], float] = {}  #: until when, soonest first, since all wait equally long
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, awaited: asyncio.Future[Any]) -> None:
        """Cancel it after so many seconds."""
        loop = asyncio.get_running_loop()
        self._waiting[awaited] = until = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(until, self._look)

    def end(self, awaited: asyncio.Future[Any]) -> bool:
        """It need not be cancelled any more. True: it was."""
        return self._waiting.pop(awaited, None) is None

    def __enter__(self) -> None:
        self.begin(_this())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        task = _this()
        # As `asyncio.timeout` does: whoever else has cancelled it too is told of that instead.
        if self.end(task) and task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _look(self) -> None:
        """End the waits that are over, and come again when the next may be."""
        loop, self._timer = asyncio.get_running_loop(), None
        now = loop.time()
        while self._waiting:
            awaited, until = next(iter(self._waiting.items()))
            if until > now:
                self._timer = loop.call_at(until, self._look)
                return
            del self._waiting[awaited]
            awaited.cancel()


def _this() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task
