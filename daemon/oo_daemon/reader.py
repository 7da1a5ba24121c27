"""The reader: the process in which a file that somebody handed in is read, so that the daemon goes on answering meanwhile.

It has no key, no database and no network to speak of, and imports nothing that would need one; it is told by the daemon which file to read
and says what it finds. It makes the events, too: what merely occurred has no earlier revision, so that its bytes are known before the
database is asked.
"""

from __future__ import annotations

import fcntl
import gc
import io
import os
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

import msgspec

from oo_daemon.outbox import wire
from oo_daemon.ports import SECOND
from oo_daemon.registry import discover
from oo_daemon.store.values import DAY_KEY, OCCURRED, Day, Draft, Encoded, event_id
from oo_daemon.sync import frames
from oo_daemon.sync.frames import PIPE, Asks, Frame, Known, Order, Place, Things, Wrong
from oo_sdk import Checkpoint, Connector, ConnectorBug, ConnectorError, Event, Occurrences, Takes, Told, Unreadable, Upload

DAY = 86_400
#: Bytes of events in one frame.
HEAVY = 2 * 1024 * 1024
NICENESS = 10
#: Longest sentence (characters) that is told of a file.
LONGEST = 500
#: Types of which the reader keeps what is known: they follow on each other, but for those that belong together.
MET = 8
_NONE: Final[frozenset[bytes]] = frozenset()


class Watched(io.FileIO):
    """A file of which one can tell how far it was read."""

    reached = 0

    def readinto(self, buffer: object, /) -> int | None:
        """Read, and note the place."""
        count = super().readinto(buffer)  # type: ignore[arg-type]  # whatever a file reads into
        self.reached = self.tell()
        return count


#: What a reading says, and what it is told where it asks.
Saying: TypeAlias = Generator[Frame, Known | None, None]


class _Met(msgspec.Struct, frozen=True):
    """What the daemon knows of a type: the keys of each day from one on, up to another."""

    since: int
    until: int | None
    keys: Mapping[int, frozenset[bytes]]

    def covers(self, day: int) -> bool:
        return self.since <= day and (self.until is None or day < self.until)


@dataclass(slots=True, eq=False)
class Reading:
    """Reads one file."""

    order: Order
    files: list[Watched] = field(default_factory=list)
    months: dict[str, Counter[str]] = field(default_factory=dict)
    days: list[Day] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)
    count: int = 0
    weight: int = 0
    _encoded: Encoded = field(init=False)
    _makers: dict[str, wire.Occurring] = field(default_factory=dict)
    _met: dict[str, _Met] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._encoded = wire.encode(self.order.connection, self.order.observed_at)

    def frames(self) -> Saying:
        """Everything that is to be said of the file. Where it asks, it is to be sent the answer."""
        order = self.order
        provider = order.connection.provider
        connector = discover(enabled=order.enabled, settings={provider: order.settings}, sandboxes=False, only=provider).connectors.get(
            provider
        )
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
            yield Wrong("file", _sentence(wrong))
        except Exception as error:  # a guest's own
            yield Wrong("connector", _sentence(error) if isinstance(error, ConnectorBug) else type(error).__name__)
        else:
            yield from self._some()
            yield Place(None, upload.size)

    def _open(self, path: Path) -> BinaryIO:
        file = Watched(path)
        self.files.append(file)
        return io.BufferedReader(file, 256 * 1024)

    def _told(self, connector: Connector, told: Told) -> Saying:
        match told:
            case Occurrences():
                yield from self._occurrences(connector, told)
            case Event():
                draft = wire.declared_draft(connector, told)
                day = None if draft.at is None else draft.at // (DAY * SECOND)
                self._count(draft.type, day, 1)
                if draft.change == OCCURRED and day is not None:
                    id_ = event_id(self.order.connection.id, draft.type, draft.key, 1)
                    body = self._encoded(draft, id_, 1)
                    self.days.append(Day(draft.type, day, bytes.fromhex(id_)[:DAY_KEY], [body]))
                else:
                    self.drafts.append(draft)
                self.count += 1
                self.weight += len(draft.payload)
            case Checkpoint():
                yield from self._some()
                # The file that was opened last is the one that is read through.
                yield Place(dict(told.cursor), self.files[-1].reached if self.files else 0)
            case _:
                raise ConnectorBug(f"parse yielded a {type(told).__name__}, which is no signal of a file")
        if self.count >= frames.MOST or self.weight >= HEAVY:
            yield from self._some()

    def _occurrences(self, connector: Connector, told: Occurrences) -> Saying:
        if not told.rows:
            return
        maker = self._makers.get(told.name)
        if maker is None:
            maker = self._makers[told.name] = wire.Occurring(connector, self.order.connection, told.name, self.order.observed_at)
        type_, payload, identify, encode = maker.type, told.payload, maker.id, maker.encode
        met = yield from self._known(type_, told.rows[0][1] // DAY)
        day, until, known, keys, events = 0, -1, _NONE, bytearray(), list[bytes]()
        rows, room, weight = 0, 0, 0
        for subject, at, row in told.rows:
            if not day * DAY <= at < until or room <= 0 or weight <= 0:
                # Another day, or a full frame.
                self._keep(type_, day, rows, keys, events)
                if self.count >= frames.MOST or self.weight >= HEAVY:
                    yield from self._some()
                day, rows, keys, events = at // DAY, 0, bytearray(), []
                until, known = (day + 1) * DAY, met.keys.get(day, _NONE)
                room, weight = frames.MOST - self.count, HEAVY - self.weight
            rows += 1
            id_ = identify(subject)
            key = id_[:DAY_KEY]
            if key in known:
                continue
            body = encode(id_, subject, at, payload(row))
            keys += key
            events.append(body)
            room -= 1
            weight -= len(body)
        self._keep(type_, day, rows, keys, events)

    def _keep(self, type_: str, day: int, rows: int, keys: bytearray, events: list[bytes]) -> None:
        if rows:
            self._count(type_, day, rows)
        if events:
            self.days.append(Day(type_, day, bytes(keys), events))
            self.count += len(events)
            self.weight += sum(map(len, events))

    def _known(self, type_: str, day: int) -> Generator[Frame, Known | None, _Met]:
        """What the daemon knows already. What it does not say here it will see for itself."""
        met = self._met.get(type_)
        if met is None or not met.covers(day):
            told = yield Asks(type_, day)
            keys = {} if told is None else {day: frozenset(_keys(each)) for day, each in told.keys.items()}
            met = self._met[type_] = _Met(day, None if told is None else told.until, keys)
            while len(self._met) > MET:
                del self._met[next(iter(self._met))]
        return met

    def _count(self, type_: str, day: int | None, rows: int) -> None:
        self.months.setdefault(type_, Counter())["" if day is None else _month(day)] += rows

    def _some(self) -> Iterator[Things]:
        if self.months:
            yield Things(self.days, self.drafts, {type_: dict(months) for type_, months in self.months.items()})
            self.days, self.drafts, self.months, self.count, self.weight = [], [], {}, 0, 0


def _sentence(error: ConnectorError) -> str:
    return str(error).encode(errors="replace").decode().replace("\0", "")[:LONGEST]


def _keys(side_by_side: bytes) -> Iterator[bytes]:
    return (side_by_side[start : start + DAY_KEY] for start in range(0, len(side_by_side), DAY_KEY))


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
    gc.set_threshold(50_000)  # what is made of a record goes with it, and is in no circle
    with suppress(OSError):  # as large as it may be: we need not wait for the daemon after each piece of a frame
        fcntl.fcntl(out, fcntl.F_SETPIPE_SZ, PIPE)
    with suppress(BrokenPipeError):  # the daemon is gone: the next one begins at the last checkpoint
        said = Reading(frames.read_order(sys.stdin.buffer)).frames()
        with suppress(StopIteration):
            answer = None
            while True:
                frame = said.send(answer)
                _write(out, frames.encode(frame))
                answer = frames.read_known(sys.stdin.buffer) if isinstance(frame, Asks) else None


def _write(out: io.RawIOBase | BinaryIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[out.write(left) or 0 :]


if __name__ == "__main__":
    main()
