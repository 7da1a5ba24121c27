"""What a process has claimed and does not work on: after a fault of the storage it is given back, and waits for no lease to run out.

A claim's answer can be lost where the claim was made, and what a try came to may not be stored. Whoever holds it knows so, and nobody else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from oo_daemon.store.database import Database
from oo_daemon.store.storage import Storage


class Release(Protocol):
    """Gives back what an owner holds, but for what is in work. What was tried stays counted, and is due again when `tried` says."""

    def __call__(self, database: Database, owner: str, now: int, working: Collection[int], tried: Mapping[int, int]) -> int:
        """Gives how many there were."""


@dataclass(slots=True, eq=False)
class Left:
    """What was left. Belongs to the main loop, and to whoever claims."""

    release: Release
    any: bool = False  #: we may hold what nobody works on
    tried: dict[int, int] = field(default_factory=dict)  #: what was tried for nothing, and when it is due again

    async def give_back(self, storage: Storage, owner: str, now: int, working: Collection[int] = ()) -> None:
        """Give back all but what is in work. Raises `CannotStore`: then it is still left."""
        tried, self.any = dict(self.tried), False  # what is left meanwhile is given back the next time
        try:
            await storage.write(self.release, owner, now, frozenset(working), tried)
        except BaseException:
            self.any = True
            raise
        for number in tried:
            del self.tried[number]
