"""The standard-output sink: one JSON object a line, for whoever starts the daemon; its log goes to standard error."""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import Sequence
from typing import Final

from oo_sdk import NormalizedEvent, Outlet, RetryLater, Sink
from oo_sinks.forms import Form, shown, written

#: Bytes that a pipe takes whole once it takes any (POSIX's PIPE_BUF on Linux).
WHOLE: Final = 4096
#: Milliseconds for which the writer waits for the reader before it looks whether it is still wanted.
LOOK: Final = 100


class Stdout(Sink):
    """Writes lines. A reader that is slow only makes this sink wait."""

    id = "stdout"

    class Settings(Sink.Settings):
        """In which form."""

        form: Form = "json"

    settings: Settings
    descriptor = 1
    _torn = False  #: what was written last did not end its line
    _turn: Final = threading.Lock()  #: of whoever writes: there is one standard output, and one who was broken off may not have left yet

    async def open(self, outlet: Outlet) -> None:
        """Nothing to take: it is there from the start."""

    async def deliver(self, events: Sequence[NormalizedEvent]) -> None:
        """Write them."""
        lines = b"".join(written(shown(event, self.settings.form)) + b"\n" for event in events)
        gone = threading.Event()
        try:
            await asyncio.to_thread(self._write, lines, gone)
        except OSError as wrong:
            raise RetryLater(f"standard output takes nothing ({type(wrong).__name__})") from None
        finally:
            gone.set()

    def _write(self, lines: bytes, gone: threading.Event) -> None:
        with self._turn:
            rest = memoryview(b"\n" + lines if self._torn else lines)
            ready = select.poll()
            ready.register(self.descriptor, select.POLLOUT)
            while rest and not gone.is_set():
                if ready.poll(LOOK):
                    count = os.write(self.descriptor, rest[:WHOLE])
                    self._torn = bytes(rest[count - 1 : count]) != b"\n"
                    rest = rest[count:]
