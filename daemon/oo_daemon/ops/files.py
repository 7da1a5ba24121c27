"""Files beside the database, and the database as a file, for those who must know of them without opening any themselves."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from oo_daemon.ops.disk import free_bytes
from oo_daemon.store.storage import Engine


class DatabaseFile(msgspec.Struct, frozen=True, kw_only=True):
    """The database as a file, for whoever must know how large it is and have it packed."""

    storage: Engine

    async def pack(self) -> None:
        """Write it anew without what was deleted. Raises `CannotStore`."""
        await self.storage.pack()

    def size(self) -> int:
        """Bytes, the write-ahead log included."""
        names = (self._path.name, f"{self._path.name}-wal")
        return sum(path.stat().st_size for path in map(self._path.with_name, names) if path.exists())

    def free(self) -> int:
        """Bytes left beside it."""
        return free_bytes(self._path.parent)

    @property
    def _path(self) -> Path:
        assert self.storage.file is not None
        return self.storage.file


class DatabaseServer(msgspec.Struct, frozen=True):
    """The database on a server, which packs by itself: nothing is to be done here, and nothing to be waited for."""

    async def pack(self) -> None:
        """Leave it to autovacuum."""

    def size(self) -> int:
        """Nothing is here."""
        return 0

    def free(self) -> int:
        """Room is no matter."""
        return 1


class HeadFile(msgspec.Struct, frozen=True):
    """A number and a link in a file of their own, replaced as a whole."""

    path: Path

    def read(self) -> tuple[int, str] | None:
        """What was written last."""
        try:
            number, _, link = self.path.read_text("ascii").strip().partition(" ")
            return int(number), link
        except (FileNotFoundError, ValueError):
            return None

    def write(self, number: int, link: str) -> None:
        """Replace it, through to the disk. Raises `OSError`."""
        new = self.path.with_name(self.path.name + ".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, f"{number} {link}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        new.rename(self.path)
