"""Counts how long deliveries took to become events. A delivery adds to a number in memory; a tick writes the numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from oo_daemon.ports import SECOND, Clock
from oo_daemon.store import latency
from oo_daemon.store.latency import HOUR
from oo_daemon.store.storage import Storage

#: Seconds for which it is known.
KEPT = 2 * 86_400.0


@dataclass(slots=True, kw_only=True, eq=False)
class Latency:
    """The numbers that are not written yet. Belongs to the main loop."""

    storage: Storage
    clock: Clock
    _counted: Counter[tuple[int, int]] = field(default_factory=Counter)

    def took(self, received_at: int) -> None:
        """A delivery that arrived then is in the outbox now."""
        now = self.clock.now()
        self._counted[now - now % HOUR, latency.stretch((now - received_at) / SECOND)] += 1

    async def write(self) -> None:
        """Write what was counted since the last time. What the disk refuses is counted again with the next."""
        counted, self._counted = self._counted, Counter()
        if not counted:
            return
        try:
            await self.storage.write(latency.add, counted)
        except BaseException:
            self._counted += counted
            raise

    async def tidy(self) -> None:
        """Forget old hours."""
        await self.storage.write(latency.forget, self.clock.now() - int(KEPT * SECOND))
