"""The file sink: one JSON object a line, in a file that is set aside when it is full."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from oo_sdk import NormalizedEvent, Outlet, Sink
from oo_sinks.forms import Form, shown, written

#: Bytes of the end of a file that are looked at at once.
LOOK: Final = 65_536


class File(Sink):
    """Appends lines, and returns once they are on the disk."""

    id = "file"

    class Settings(Sink.Settings):
        """Where to, and how much."""

        path: str
        largest: int = 100_000_000  #: bytes from which on a file is set aside as `path.1`, and what was `path.1` as `path.2`
        keep: int = 10  #: files set aside; the oldest goes
        form: Form = "json"

        def __post_init__(self) -> None:
            """Refuse what could not work."""
            if not self.path.startswith("/"):
                raise ValueError("path must begin with /")
            if self.largest < 1 or not 0 <= self.keep <= 10_000:
                raise ValueError("largest must be at least 1, and keep from 0 to 10000")

    settings: Settings
    _turn: threading.Lock | None = None  #: of whoever works on the file

    async def open(self, outlet: Outlet) -> None:
        """Cut off what a writer that was killed left of a line: those events come again."""
        if self._turn is None:
            self._turn = threading.Lock()
        await asyncio.to_thread(self._alone, self._mend)

    async def deliver(self, events: Sequence[NormalizedEvent]) -> None:
        """Append them."""
        lines = [written(shown(event, self.settings.form)) + b"\n" for event in events]
        await asyncio.to_thread(self._alone, self._append, b"".join(lines))

    def _alone(self, work: Callable[..., None], *given: bytes) -> None:
        """Work on the file once whoever did has left it: one who was broken off may still be waiting for the disk."""
        assert self._turn is not None, "it was not opened"
        with self._turn:
            work(*given)

    def _mend(self) -> None:
        path = Path(self.settings.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600)
        with path.open("rb+") as file:
            size = at = file.seek(0, os.SEEK_END)
            while at:
                start = max(0, at - LOOK)
                file.seek(start)
                found = file.read(at - start).rfind(b"\n")
                if found >= 0:
                    at = start + found + 1
                    break
                at = start
            if at < size:
                file.truncate(at)
                os.fsync(file.fileno())

    def _append(self, lines: bytes) -> None:
        path = Path(self.settings.path)
        if path.exists() and path.stat().st_size >= self.settings.largest:
            self._set_aside(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            rest = memoryview(lines)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _set_aside(self, path: Path) -> None:
        """Move each file one place on, from the oldest to the newest: whenever this is cut off, no file takes another's place."""
        aside = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, self.settings.keep + 1))]
        aside[-1].unlink(missing_ok=True)
        for older, newer in zip(reversed(aside[1:]), reversed(aside[:-1]), strict=True):
            if newer.exists():
                newer.rename(older)
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
