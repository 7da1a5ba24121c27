"""The end of the outbox: readers wait here for what comes next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Final

from oo_daemon.ports import Clock
from oo_daemon.store import outbox
from oo_daemon.store.outbox import Filter, Page
from oo_daemon.store.storage import Storage

#: Seconds for which a page that was read ahead is still given out: what is erased meanwhile may be in it.
FRESH: Final = 0.05


class Tail:
    """Wakes readers when events were committed. Belongs to the main loop; `wake` may come from any thread."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self.closed = False  #: the daemon stops: nobody waits any more
        storage.on_accept(self.wake)

    def wake(self) -> None:
        """Say that there is something new."""
        self._loop.call_soon_threadsafe(self._ring)

    def close(self) -> None:
        """Let nobody wait any more."""
        self.closed = True
        self._ring()

    def _ring(self) -> None:
        self._news.set()
        self._news = asyncio.Event()  # those who wait hold the old one

    async def page(self, after: int, limit: int, wanted: Filter, wait: float, present_until: int = 0) -> Page:
        """A page of events after a position; an empty one only after `wait` seconds without a fitting event."""
        deadline = self._clock.monotonic() + wait
        missing = 0
        while True:
            news = self._news
            page = await self._storage.read(outbox.page, after, limit, wanted, present_until)
            missing += page.missing
            left = deadline - self._clock.monotonic()
            if page.events or left <= 0 or self.closed:
                return replace(page, missing=missing)
            after = page.reached  # up to there nothing fits: not to be looked through again
            patience = asyncio.ensure_future(self._clock.sleep(left))
            ringing = asyncio.ensure_future(news.wait())
            try:
                await asyncio.wait({patience, ringing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                patience.cancel()
                ringing.cancel()

    async def onward(self, after: int, limit: int, wanted: Filter, wait: float) -> AsyncGenerator[Page, None]:
        """The pages after a position, one after the other, without end; an empty one only after `wait` seconds without a fitting event.

        While there is more, several are read with one look, for a reader who takes them at once: to look costs as much as half a page.
        """
        while True:
            page = await self.page(after, limit, wanted, wait)
            seen = self._clock.monotonic()
            yield page
            after = page.reached
            while page.more and self._clock.monotonic() - seen <= FRESH:
                ahead = deque(await self._storage.read(outbox.pages, after, limit, wanted))
                seen = self._clock.monotonic()
                while ahead and self._clock.monotonic() - seen <= FRESH:  # what a slow reader has not taken by then is read anew
                    yield (page := ahead.popleft())
                    after = page.reached
                    await self._clock.sleep(0)  # others have the loop between any two pages, whether or not they are read together
