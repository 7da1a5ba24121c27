"""The reader: the process in which a file that somebody handed in is read, so that the daemon goes on answering meanwhile.

It has no key, no database and no network to speak of; it is told by the daemon which file to read and says what it finds. It makes the
events, too: what merely occurred has no earlier revision, so that its bytes are known before the database is asked.
"""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO, Final

from oo_daemon.connections.guest import sentence
from oo_daemon.outbox import wire
from oo_daemon.ports import SECOND
from oo_daemon.registry import discover
from oo_daemon.store.accept import OCCURRED, Draft
from oo_daemon.sync import frames
from oo_daemon.sync.frames import Frame, Order, Place, Things, Wrong
from oo_daemon.sync.imports import ReaderDied
from oo_sdk import Checkpoint, Connector, ConnectorBug, Event, Occurrences, Takes, Told, Unreadable, Upload

DAY = 86_400
#: Bytes of events in one frame.
HEAVY = 2 * 1024 * 1024
NICENESS = 10
#: Largest frame (bytes): a few megabytes of events, and their keys.
LARGEST_FRAME: Final = 64 * 1024 * 1024
#: What the reader is given of our environment: none of our secrets.
ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")


class Watched(io.FileIO):
    """A file of which one can tell how far it was read."""

    reached = 0

    def readinto(self, buffer: object, /) -> int | None:
        """Read, and note the place."""
        count = super().readinto(buffer)  # type: ignore[arg-type]  # whatever a file reads into
        self.reached = self.tell()
        return count


@dataclass(slots=True)
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
            env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        )
        assert process.stdin is not None
        with suppress(ConnectionError):  # it died already: reading will say so
            process.stdin.write(frames.encode(order))
            await process.stdin.drain()
            process.stdin.close()
        return cls(process)

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """What it says. Raises `ReaderDied`."""
        out = self.process.stdout
        assert out is not None
        try:
            while True:
                size = int.from_bytes(await out.readexactly(4))
                if size > LARGEST_FRAME:
                    raise ReaderDied
                frame = frames.decode(await out.readexactly(size))
                yield frame
                if isinstance(frame, Wrong) or (isinstance(frame, Place) and frame.cursor is None):
                    return
        except asyncio.IncompleteReadError:
            raise ReaderDied from None

    async def kill(self) -> None:
        """End it, and wait."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        # Python 3.11 leaves the pipes to the collector otherwise, which complains.
        self.process._transport.close()  # type: ignore[attr-defined]  # asyncio's own, without a public way to it


@dataclass(slots=True)
class Reading:
    """Reads one file."""

    order: Order
    files: list[Watched] = field(default_factory=list)
    months: dict[str, Counter[str]] = field(default_factory=dict)
    happened: list[tuple[str, str, int, bytes]] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)
    weight: int = 0

    def frames(self) -> Iterator[Frame]:
        """Everything that is to be said of the file."""
        order = self.order
        provider = order.connection.provider
        connector = discover(enabled=order.enabled, settings={provider: order.settings}, sandboxes=False).connectors.get(provider)
        if connector is None or not isinstance(connector, Takes):
            yield Wrong("connector", f"the connector {provider} is not loaded, or takes no files: see `oo plugins`")
            return
        path = Path(order.path)
        upload = Upload(name=order.name, size=path.stat().st_size, open=partial(self._open, path))
        try:
            for told in connector.parse(upload, order.since):
                yield from self._told(connector, told)
        except Unreadable as wrong:
            yield from self._some()
            yield Wrong("file", sentence(wrong))
        except Exception as error:  # a guest's own
            yield Wrong("connector", sentence(error) if isinstance(error, ConnectorBug) else type(error).__name__)
        else:
            yield from self._some()
            yield Place(None, upload.size)

    def _open(self, path: Path) -> BinaryIO:
        file = Watched(path)
        self.files.append(file)
        return io.BufferedReader(file, 256 * 1024)

    def _told(self, connector: Connector, told: Told) -> Iterator[Frame]:
        match told:
            case Occurrences():
                yield from self._occurrences(connector, told)
            case Event():
                draft = wire.declared_draft(connector, told)
                day = None if draft.at is None else draft.at // (DAY * SECOND)
                self.drafts.append(_of_day(draft, day) if draft.change == OCCURRED else draft)
                self.weight += len(draft.payload)
                self.months.setdefault(draft.type, Counter())["" if day is None else _month(day)] += 1
            case Checkpoint():
                yield from self._some()
                # The file that was opened last is the one that is read through.
                yield Place(dict(told.cursor), self.files[-1].reached if self.files else 0)
            case _:
                raise ConnectorBug(f"parse yielded a {type(told).__name__}, which is no signal of a file")
        if len(self.drafts) >= frames.MOST or self.weight >= HEAVY:
            yield from self._some()

    def _occurrences(self, connector: Connector, told: Occurrences) -> Iterator[Frame]:
        type_ = f"{self.order.connection.provider}.{told.name}"
        encode, payload = wire.occurrences(connector, self.order.connection, told.name, self.order.observed_at), told.payload
        months = self.months.setdefault(type_, Counter())
        for subject, at, row in told.rows:
            day = at // DAY
            body = encode(subject, at, payload(row))
            self.happened.append((type_, subject, day, body))
            self.weight += len(body)
            months[_month(day)] += 1
            if len(self.happened) >= frames.MOST or self.weight >= HEAVY:
                yield from self._some()
                months = self.months.setdefault(type_, Counter())

    def _some(self) -> Iterator[Things]:
        if self.happened or self.drafts:
            yield Things(self.happened, self.drafts, {type_: dict(months) for type_, months in self.months.items()})
            self.happened, self.drafts, self.months, self.weight = [], [], {}, 0


def _of_day(draft: Draft, day: int | None) -> Draft:
    return Draft(
        type=draft.type,
        key=draft.key,
        subject=draft.subject,
        change=draft.change,
        digest=draft.digest,
        at=draft.at,
        payload_type=draft.payload_type,
        payload=draft.payload,
        day=day,
    )


@lru_cache(maxsize=20_000)
def _month(day: int) -> str:
    try:
        return f"{datetime.fromtimestamp(day * DAY, UTC):%Y-%m}"
    except (ValueError, OverflowError, OSError):
        return ""


def main() -> None:
    """Read the order from standard input, and write frames to standard output."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever a plugin prints
    with suppress(OSError):  # a hardened unit may forbid it
        os.nice(NICENESS)
    with suppress(BrokenPipeError):  # the daemon is gone: the next one begins at the last checkpoint
        for frame in Reading(frames.read_order(sys.stdin.buffer)).frames():
            _write(out, frames.encode(frame))


def _write(out: io.RawIOBase | BinaryIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[out.write(left) or 0 :]


if __name__ == "__main__":
    main()
