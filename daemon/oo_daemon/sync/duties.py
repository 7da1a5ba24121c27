"""What one of several daemons on a database does for all: jobs that are run by whoever has taken them, until it stops or is gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from oo_daemon.ports import SECOND, Clock
from oo_daemon.store import duties
from oo_daemon.store.database import Database
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.storage import Storage

#: Seconds for which a duty is taken, after which it is kept on, and for which it is left alone where another has it.
HELD, KEPT_ON, LEFT = 60.0, 15.0, 5.0

Job = Callable[[], Awaitable[None]]


@dataclass(slots=True, kw_only=True, eq=False)
class Duties:
    """Takes duties. Belongs to the main loop."""

    storage: Storage
    clock: Clock
    owner: str  #: names this process
    _mine: set[str] = field(default_factory=set, init=False)
    _asked_at: dict[str, float] = field(default_factory=dict, init=False)

    def alone(self, name: str, job: Job) -> Job:
        """The job, run only where no other daemon does it."""

        async def run() -> None:
            try:
                mine = await self._has(name)
            except CannotStore:  # then nobody knows whose it is
                return
            if mine:
                await job()

        return run

    async def _has(self, name: str) -> bool:
        now, asked_at = self.clock.monotonic(), self._asked_at.get(name)
        if asked_at is None or now - asked_at >= (KEPT_ON if name in self._mine else LEFT):
            self._mine.discard(name)  # until it is known
            if await self.storage.write(self._take, name):
                self._mine.add(name)
            self._asked_at[name] = now
        return name in self._mine

    def _take(self, database: Database, name: str) -> bool:
        now = self.clock.now()  # in here, as the dispatcher does
        return duties.take(database, name, self.owner, now, now + int(HELD * SECOND))

    async def leave(self) -> None:
        """Leave all to the others, for a stop."""
        with suppress(CannotStore):  # they run out by themselves
            await self.storage.write(duties.leave, self.owner)
