"""Integrity: the database is looked over at the start, and looked through every night, beside everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from oo_daemon.ops.health import Finding
from oo_daemon.ports import Metrics
from oo_daemon.store.check import quick_check, whole_check
from oo_daemon.store.errors import CannotStore, Corrupt
from oo_sdk import Log

#: Seconds between two looks.
NIGHTLY = 24 * 3600.0


@dataclass(slots=True, kw_only=True, eq=False)
class Integrity:
    """Looks the file over in a thread of its own, and tells of damage."""

    database: Path
    metrics: Metrics
    log: Log
    fatal: Callable[[BaseException], None]
    _damage: str = field(default="", init=False)

    async def look(self) -> None:
        """Look its pages over now."""
        await self._look(quick_check)

    async def look_through(self) -> None:
        """Look now whether its parts agree, too."""
        await self._look(whole_check)

    async def _look(self, check: Callable[[Path], None]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(None, check, self.database)
        except Corrupt as damage:
            self._damage = str(damage)
            self.log.warning("database_damaged", reason=str(damage))
            self.fatal(damage)
        except CannotStore as fault:
            self.log.warning("database_not_looked_over", reason=str(fault))
            return
        self.metrics.gauge("database_well", 0 if self._damage else 1)

    async def __call__(self) -> Finding:
        """Say what the last look found."""
        return Finding(well=not self._damage, says=self._damage)
