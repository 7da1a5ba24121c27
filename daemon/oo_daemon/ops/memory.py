"""Memory: before the unit's limit is reached, new work is turned away rather than everything killed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from oo_daemon.ops.health import Finding
from oo_daemon.ports import Metrics
from oo_sdk import Log

#: Seconds between two looks.
LOOK = 1.0
#: Of the limit: above the first nothing new is taken, until it is below the second again.
SHED, RESUME = 0.90, 0.85


def resident_bytes() -> int:
    """Bytes of this process that are in memory (proc(5): the second number of statm, in pages)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def unit_limit(cgroup: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The least MemoryMax of our unit and those around it; None where nothing is limited."""
    place = next((line.removeprefix("0::") for line in cgroup.read_text().splitlines() if line.startswith("0::")), "/")
    folder = root / place.lstrip("/")
    limits = []
    while folder == root or root in folder.parents:
        try:
            text = (folder / "memory.max").read_text().strip()
        except OSError:
            text = "max"
        if text.isdigit():
            limits.append(int(text))
        folder = folder.parent
    return min(limits, default=None)


@dataclass(slots=True, kw_only=True, eq=False)
class Memory:
    """Watches what we use of what we may. `low` is what the doors ask before they take anything new."""

    limit: int | None
    metrics: Metrics
    log: Log
    used: Callable[[], int] = resident_bytes
    low: bool = field(default=False, init=False)

    async def look(self) -> None:
        """Measure."""
        used = self.used()
        self.metrics.gauge("resident_bytes", used)
        if self.limit is None:
            return
        share = used / self.limit
        was, self.low = self.low, share > (RESUME if self.low else SHED)
        if self.low and not was:
            self.log.warning("memory_low", used_bytes=used, limit_bytes=self.limit)
        elif was and not self.low:
            self.log.info("memory_well", used_bytes=used)

    async def __call__(self) -> Finding:
        """Say whether there is room."""
        if not self.low:
            return Finding(well=True)
        return Finding(well=False, says="more than nine tenths of the unit's MemoryMax are used: raise it, or see what grows in /metrics")
