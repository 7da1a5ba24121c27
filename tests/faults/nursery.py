"""Bears processes quickly: everything is imported once, and each process is a fork that begins with its own `main`.

Run it with `python -m faults.nursery`. Each line that it reads is a JSON object with `main` ("module:function"), `arguments` and `said`
(a file); for each it writes the number of the process that it has borne: a daemon that takes a second to start is there in a tenth of that.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from oo_daemon.strikes import AT_WORK

TESTS = Path(__file__).parents[1]
LAB = Path(__file__).parent / "lab"
#: Imported before the first birth.
KNOWN = ("oo_daemon.app", "oo_daemon.cli.run", "oo_daemon.cli.terminal", "oo_todoist", "faults.worker", "jetstream.relaying")
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Borne:
    """A process, and what it writes."""

    number: int
    said: Path
    _handle: int  #: tells of its end, whoever its parent is

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; it may have ended already."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    @property
    def ended(self) -> bool:
        """Whether it is gone."""
        return bool(select.select([self._handle], [], [], 0)[0])

    async def end(self) -> None:
        """Wait for its end."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._handle, over.set)
        try:
            async with asyncio.timeout(PATIENCE):
                await over.wait()
        finally:
            loop.remove_reader(self._handle)

    async def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        self.signal(signal.SIGKILL)
        await self.end()

    async def stop(self) -> None:
        """SIGTERM: in order."""
        self.signal(signal.SIGTERM)
        await self.end()


@dataclass(slots=True)
class Nursery:
    """The one that bears."""

    folder: Path
    child: asyncio.subprocess.Process
    borne: list[Borne] = field(default_factory=list)

    async def bear(self, main: str, *arguments: str) -> Borne:
        """Begin a process."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        said = self.folder / f"{len(self.borne)}.log"
        self.child.stdin.write(json.dumps({"main": main, "arguments": arguments, "said": str(said)}).encode() + b"\n")
        number = int(await asyncio.wait_for(self.child.stdout.readline(), PATIENCE))
        self.borne.append(Borne(number, said, os.pidfd_open(number)))
        return self.borne[-1]

    async def daemon(self, config: Path, role: str = "all") -> Borne:
        """Begin a daemon. What was killed before was killed by us: no plugin has a strike for it."""
        (config.parent / AT_WORK).unlink(missing_ok=True)
        return await self.bear("oo_daemon.cli:main", "--config", str(config), "run", "--role", role)

    async def suspicious(self, config: Path) -> Borne:
        """Begin a daemon that holds whoever was at work for the end of the one before it."""
        return await self.bear("oo_daemon.cli:main", "--config", str(config), "run")


@asynccontextmanager
async def nursery(folder: Path) -> AsyncIterator[Nursery]:
    """A nursery whose processes end with the block. What they write goes into files in the folder."""
    folder.mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OO_")}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TESTS), str(LAB), environ.get("PYTHONPATH")]))
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "faults.nursery", stdin=pipe, stdout=pipe, env=environ)
    made = Nursery(folder, child)
    try:
        yield made
    finally:
        for borne in made.borne:
            borne.signal(signal.SIGKILL)
        for borne in made.borne:
            await borne.end()
            os.close(borne._handle)
        await child.communicate(b"")  # nothing more to bear


def _live(main: str, arguments: Sequence[str], said: str) -> None:
    """Be the new process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    module, _, function = main.partition(":")
    sys.argv = [main, *arguments]
    begin: Any = getattr(import_module(module), function)
    begin()


def main() -> None:
    """Bear a process for each line."""
    for name in KNOWN:
        import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries them
    for line in sys.stdin:
        asked = json.loads(line)
        number = os.fork()
        if number == 0:
            _live(asked["main"], asked["arguments"], asked["said"])
            return
        print(number, flush=True)


if __name__ == "__main__":
    main()
