"""The disk: enough of it is left for what was promised, and a ballast file to be thrown off when it is not.

A full disk refuses deletions and checkpoints, too. So a file is kept that can be given up: that makes room to move the write-ahead log into
the database and to erase.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from oo_daemon.ops.health import Finding
from oo_daemon.ports import Metrics
from oo_sdk import Log

MIB = 1024 * 1024
#: Seconds between two looks.
LOOK = 2.0
BALLAST = 64 * MIB


def free_bytes(folder: Path) -> int:
    """Bytes that we may still write there."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


@dataclass(slots=True, kw_only=True, eq=False)
class Disk:
    """Watches the folder of the database. `low` is what the doors ask before they take anything new."""

    folder: Path
    least: int  #: bytes; below it nothing new is taken
    metrics: Metrics
    log: Log
    free: Callable[[Path], int] = free_bytes
    ballast: int = BALLAST  #: 0: none is kept
    low: bool = field(default=False, init=False)

    @property
    def _file(self) -> Path:
        return self.folder / "ballast"

    async def look(self) -> None:
        """Measure; take ballast in where there is plenty, throw it off where there is next to nothing."""
        free = self.free(self.folder)
        self.metrics.gauge("disk_free_bytes", free)
        was, self.low = self.low, free < self.least
        if self.low and not was:
            self.log.warning("disk_low", free_mib=free // MIB, least_mib=self.least // MIB)
        elif was and not self.low:
            self.log.info("disk_well", free_mib=free // MIB)
        if free < self.ballast // 4:
            self.throw_off()
        elif self.ballast and free > self.least + 2 * self.ballast and not self._file.exists():
            self._take_in()

    def throw_off(self) -> None:
        """Give the ballast up."""
        if self._file.exists():
            self._file.unlink()
            self.log.warning("ballast_thrown_off", mib=self.ballast // MIB)

    def _take_in(self) -> None:
        with suppress(OSError):  # then there is none; the look that finds room tries again
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self.ballast)
            finally:
                os.close(descriptor)

    async def __call__(self) -> Finding:
        """Say whether there is room."""
        if not self.low:
            return Finding(well=True)
        return Finding(
            well=False, says=f"less than {self.least // MIB} MiB are left in {self.folder}: free some, or erase what is not needed"
        )
