"""A SQLite file system that counts flushes. It costs time of its own, so flushes are counted in rounds that are not timed."""

from __future__ import annotations

from typing import Any

import apsw

NAME, BASE = "counting", "unix"


class Flushes(apsw.VFS):
    """The usual file system, with a count of fsync and fdatasync calls."""

    def __init__(self) -> None:
        super().__init__(NAME, BASE)
        self.count = 0

    def xOpen(self, name: Any, flags: Any) -> apsw.VFSFile:
        """Open a file that reports to us."""
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, flushes: Flushes, name: Any, flags: Any) -> None:
        super().__init__(BASE, name, flags)
        self._flushes = flushes

    def xSync(self, flags: int) -> None:
        self._flushes.count += 1
        super().xSync(flags)
