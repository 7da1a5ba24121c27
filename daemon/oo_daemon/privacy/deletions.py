"""The deletion log: which connections were erased and when, in a file outside the database and its backups.

A restored older database has them again; at the start they are erased again. A line holds a time and a random id, and nothing of anybody.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

_LINE = re.compile(r"(\d+) ([0-9a-f]{32})")


class DeletionLog(msgspec.Struct, frozen=True):
    """One file, only ever added to."""

    path: Path

    def add(self, connections: Iterable[str], now: int) -> None:
        """Note these, through to the disk: before anybody is told that they will be erased. Raises `OSError`."""
        text = "".join(f"{now} {id_}\n" for id_ in connections)
        new = not self.path.exists()
        if not new and self._is_torn():
            text = f"\n{text}"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, text.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _is_torn(self) -> bool:
        """A power cut has left a line without its end: what is added must not become a part of it."""
        with self.path.open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"

    def read(self) -> dict[str, int]:
        """Random id → when it was last erased (microseconds). A line that was cut off by a power cut is passed over."""
        try:
            lines = self.path.read_text("ascii", "replace").splitlines()
        except FileNotFoundError:
            return {}
        return {match[2]: int(match[1]) for match in map(_LINE.fullmatch, lines) if match is not None}
