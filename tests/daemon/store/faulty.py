"""A disk that refuses: a VFS of apsw over the real one, whose writes or syncs fail from a given call on, for so many calls."""

from __future__ import annotations

from dataclasses import dataclass

import apsw


@dataclass
class Faults:
    """What goes wrong, and when: calls are counted from 1; nothing does until `arm` is called."""

    calls: int = 0
    at: int = 0
    lasting: int = 0
    error: type[apsw.Error] = apsw.IOError
    hit: int = 0

    def arm(self, at: int, error: type[apsw.Error], *, lasting: int = 1) -> None:
        """Have the calls from this one on fail."""
        self.calls, self.hit, self.at, self.error, self.lasting = 0, 0, at, error, lasting

    def disarm(self) -> None:
        """Let everything pass."""
        self.at = 0

    def call(self) -> None:
        """Pass one call, or not."""
        self.calls += 1
        if self.at and self.at <= self.calls < self.at + self.lasting:
            self.hit += 1
            raise self.error("the disk refuses")


class FaultyVfs(apsw.VFS):
    """Registered under its name for as long as it lives."""

    def __init__(self, name: str, faults: Faults) -> None:
        super().__init__(name, "")
        self.faults = faults

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self.faults, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, faults: Faults, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self.faults = faults

    def xWrite(self, data: bytes, offset: int) -> None:
        self.faults.call()
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self.faults.call()
        super().xSync(flags)
