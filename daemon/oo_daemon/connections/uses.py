"""Counts each use of a credential: which connection, at which host, in which hour; never the token, never what was asked.

A request adds to a number in memory; a tick writes the numbers. A crash loses the last seconds of counting and nothing else.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress

from oo_daemon.ports import SECOND, Clock
from oo_daemon.store import uses
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.storage import Storage
from oo_daemon.store.uses import Use

#: Seconds for which the counts are kept, unless told otherwise.
KEPT = 90 * 86_400.0


class Uses:
    """The counts that are not written yet. `used` may be called from any thread."""

    def __init__(self, *, storage: Storage, clock: Clock, kept: float = KEPT) -> None:
        self._storage = storage
        self._clock = clock
        self._kept = kept
        self._lock = threading.Lock()
        self._counted: Counter[tuple[int, str]] = Counter()

    def used(self, connection: int, host: str) -> None:
        """Count one use."""
        with self._lock:
            self._counted[connection, host] += 1

    async def write(self) -> None:
        """Write what was counted since the last time. What the disk refuses is counted again with the next."""
        with self._lock:
            counted, self._counted = self._counted, Counter()
        if not counted:
            return
        try:
            await self._storage.write(uses.add, counted, self._clock.now())
        except BaseException:
            with self._lock:
                self._counted += counted
            raise

    async def of(self, connection: int, since: int) -> list[Use]:
        """The uses of a connection's credential from then on, newest hour first, with those of the last seconds."""
        with suppress(CannotStore):  # a full disk hides them for a while, and nothing else
            await self.write()
        return await self._storage.read(uses.of, connection, since)

    async def tidy(self) -> None:
        """Forget old hours."""
        await self._storage.write(uses.forget, self._clock.now() - int(self._kept * SECOND))
