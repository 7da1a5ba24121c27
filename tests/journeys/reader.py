"""A reader of the outbox as a process of its own, which writes what it got into a file and kills itself in the middle.

Arguments: the daemon's socket, the file, `consume` or `stream`, the subject at which it ends, and after how many lines it dies (0: never).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from oo_client import Client

#: Events in a batch, and seconds for which one is leased.
SIZE, LEASE = 100, 1.0


async def _got(client: Client, how: str, after: str | None) -> AsyncIterator[str]:
    """Lines of what comes: a position and a subject."""
    if how == "consume":
        async with aclosing(client.consume("backend", size=SIZE, lease=LEASE)) as events:
            async for event in events:
                yield f"{event.position} {event.subject}"
    else:
        async with aclosing(client.stream(after=after)) as entries:
            async for position, message in entries:
                yield f"{position} {message.subject}"


async def read(socket: Path, file: Path, how: str, last: str, dies_after: int) -> None:
    """Read to the last event, unless it dies before."""
    known = file.read_text().splitlines() if file.exists() else []
    after = known[-1].split()[0] if known else None
    lines = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    async with Client(socket) as client:
        written = 0
        async for line in _got(client, how, after):
            os.write(lines, f"{line}\n".encode())
            written += 1
            if written == dies_after:
                os.kill(os.getpid(), signal.SIGKILL)
            if line.split()[1] == last:
                return


if __name__ == "__main__":
    asyncio.run(read(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])))
