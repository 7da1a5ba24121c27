"""The reader as the daemon has it: a process, and a pipe to it and one back."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from oo_daemon.sync import frames
from oo_daemon.sync.frames import PIPE, Frame, Known, Order, Place, Wrong
from oo_daemon.sync.imports import ReaderDied

#: Largest frame (bytes): a few megabytes of events, and their keys.
LARGEST_FRAME: Final = 64 * 1024 * 1024
#: Seconds without a word after which a reader hangs. It runs behind everything else, and unpacks much that holds nothing.
SILENCE: Final = 600.0
#: What the reader is given of our environment: none of our secrets.
ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")


@dataclass(slots=True, eq=False)
class Process:
    """A reader as the daemon has it. Its pipe ends with us: where the daemon is killed, it ends at its next word."""

    process: asyncio.subprocess.Process

    @classmethod
    async def open(cls, order: Order) -> Process:
        """Start one. Raises `OSError`."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "oo_daemon.reader",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # a traceback may quote the file
            limit=PIPE,
            env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        )
        assert process.stdin is not None
        process.stdin.write(frames.encode(order))
        return cls(process)

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """What it says. Raises `ReaderDied`."""
        out = self.process.stdout
        assert out is not None
        try:
            while True:
                async with asyncio.timeout(SILENCE):
                    size = int.from_bytes(await out.readexactly(4))
                    if size > LARGEST_FRAME:
                        raise ReaderDied
                    frame = frames.decode(await out.readexactly(size))
                yield frame
                if isinstance(frame, Wrong) or (isinstance(frame, Place) and frame.cursor is None):
                    return
        except (asyncio.IncompleteReadError, TimeoutError):
            raise ReaderDied from None

    async def answer(self, known: Known) -> None:
        """Say what it asked for. It reads that, or is silent for too long."""
        assert self.process.stdin is not None
        self.process.stdin.write(frames.encode(known))

    async def kill(self) -> None:
        """End it, and wait."""
        with suppress(ProcessLookupError):
            self.process.kill()
        try:
            await self.process.wait()
        finally:
            # Python 3.11 leaves the pipes to the collector otherwise, which complains.
            self.process._transport.close()  # type: ignore[attr-defined]  # asyncio's own, without a public way to it
