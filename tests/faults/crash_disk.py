"""A disk that can lose power: SQLite writes through it, and it is rebuilt as it may have been at any moment.

`kill -9` proves nothing about durability, since the page cache survives it. So a VFS logs every write, truncation, deletion and sync, and
`Disk.crashes` gives the files as a power cut right after so many operations may have left them: what was synced is there; what was not is
there, is missing, or is torn by sector.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import apsw

#: `make crash POINTS=…` sets it; 5,000 in the ordinary run, 100,000 in the long one.
POINTS = int(os.environ.get("OO_TEST_CRASH_POINTS", "5000"))
#: For the mutation: enough to find what NORMAL loses.
SOME = 1500

SECTOR = 512
#: What becomes of unsynced writes: all there, all gone, or each as the seed says, torn by sector.
Fate = Literal["kept", "dropped", "torn"]
FATES: tuple[Fate, ...] = ("kept", "dropped", "torn")


@dataclass(slots=True)
class Operation:
    """One thing that was done to a file."""

    kind: Literal["write", "truncate", "sync", "delete"]
    file: str
    offset: int = 0
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Crash:
    """A power cut right after so many operations, and the files that it left: name → content."""

    point: int
    fate: Fate
    files: Mapping[str, bytes]


@dataclass(slots=True)
class Disk:
    """What was done, in order. Enter it, run a workload through the VFS of its name, then ask for crashes."""

    name: str
    log: list[Operation] = field(default_factory=list)
    vfs: Any = None

    def __enter__(self) -> Disk:
        self.vfs = _Vfs(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.vfs.unregister()

    @property
    def now(self) -> int:
        """How many operations there were so far."""
        return len(self.log)

    def crashes(self, count: int, *, start: int = 0) -> Iterator[Crash]:
        """So many power cuts, spread over the log from `start` on: each moment with each fate, then torn again, each time elsewhere."""
        moments = max(1, count // len(FATES))
        stride = max(1, (self.now - start) // moments)
        given = seed = 0
        while given < count:
            # What is kept or dropped is the same each time.
            for crash in self._pass(start + seed % stride, stride, seed, FATES if seed < stride else ("torn",)):
                if given >= count:
                    return
                given += 1
                yield crash
            seed += 1

    def _pass(self, start: int, stride: int, seed: int, fates: Sequence[Fate]) -> Iterator[Crash]:
        chance = random.Random(f"{self.name} {seed}")
        live: dict[str, bytearray] = {}
        durable: dict[str, bytes] = {}
        pending: dict[str, list[Operation]] = {}
        for point, operation in enumerate(self.log, 1):
            content = live.setdefault(operation.file, bytearray())
            match operation.kind:
                case "sync":
                    durable[operation.file] = bytes(content)
                    pending[operation.file] = []
                case "delete":
                    # A change of the folder, not of the file: it is taken as done, since SQLite syncs the folder where it matters.
                    for state in (live, durable, pending):
                        state.pop(operation.file, None)
                case _:
                    _apply(content, operation, range(len(operation.data)))
                    pending.setdefault(operation.file, []).append(operation)
            if point < start or (point - start) % stride:
                continue
            left: dict[Fate, Callable[[str], bytes]] = {
                "kept": lambda name: bytes(live[name]),
                "dropped": lambda name: durable.get(name, b""),
                "torn": lambda name: _torn(durable.get(name, b""), pending.get(name, []), chance),
            }
            for fate in fates:
                yield Crash(point, fate, {name: left[fate](name) for name in live})


async def hunt(disk: Disk, count: int, check: Callable[[Crash, Path], Awaitable[str]], what: str, *, start: int = 0) -> list[str]:
    """Crash so often from some operation on, and check the file that is left each time; gives what was wrong, and prints the figures."""
    began, tried, wrong = time.perf_counter(), 0, []
    # In memory where there is such a folder: what is tested is what SQLite makes of the files.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        place = Path(folder)
        for crash in disk.crashes(count, start=start):
            tried += 1
            for name, content in crash.files.items():
                (place / name).write_bytes(content)
            try:
                fault = await check(crash, place / "oo.sqlite3")
            except (apsw.CorruptError, apsw.NotADBError) as damaged:
                fault = f"corrupt: {damaged}"
            if fault:
                wrong.append(f"after {crash.point} operations, unsynced writes {crash.fate}: {fault}")
            for path in place.iterdir():
                path.unlink()
    rate = tried / (time.perf_counter() - began)
    print(f"\ncrash: {what}: {tried} points over {disk.now} operations, {len(wrong)} wrong, {rate:.0f} a second")
    assert tried == count
    return wrong


def _torn(durable: bytes, pending: Sequence[Operation], chance: random.Random) -> bytes:
    """What was synced, and of the rest each sector by chance."""
    content = bytearray(durable)
    for operation in pending:
        if operation.kind == "truncate":
            if chance.random() < 0.5:
                _apply(content, operation, range(0))
            continue
        for start in range(0, len(operation.data), SECTOR):
            if chance.random() < 0.5:
                _apply(content, operation, range(start, min(start + SECTOR, len(operation.data))))
    return bytes(content)


def _apply(content: bytearray, operation: Operation, part: range) -> None:
    if operation.kind == "truncate":
        del content[operation.offset :]
        return
    if not part:
        return
    start = operation.offset + part.start
    if len(content) < start:
        content.extend(bytes(start - len(content)))
    content[start : start + len(part)] = operation.data[part.start : part.stop]


class _Vfs(apsw.VFS):
    """The ordinary VFS, with every change of a file noted."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        super().__init__(disk.name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> _File:
        return _File(self.disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self.disk.log.append(Operation("delete", Path(filename).name))


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self.disk = disk
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self.name = Path(path or "").name
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self.disk.log.append(Operation("write", self.name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self.disk.log.append(Operation("truncate", self.name, newsize))

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self.disk.log.append(Operation("sync", self.name))
