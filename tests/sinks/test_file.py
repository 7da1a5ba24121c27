"""The file sink and standard output: whole lines, on the disk before anybody is told, and never more than there is room for."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from daemon.virtual import Notes
from oo_sinks.file import File
from oo_sinks.stdout import Stdout
from sinks.test_http import Now, Receiver

from oo_sdk import Change, NormalizedEvent, Outlet, RetryLater


def event(number: int) -> NormalizedEvent:
    made = NormalizedEvent(id=f"{number:032x}", connection="c", provider="acme", type="acme.note", subject=f"n{number}", revision=1)
    made.change = Change.OCCURRED  # type: ignore[assignment]  # the numbers are the same
    made.observed_at.FromDatetime(datetime(2026, 11, 22, 9, 30, tzinfo=UTC))
    return made


OUTLET = Outlet(name="file", http=Receiver(), clock=Now(), log=Notes())


async def opened(path: Path, **settings: Any) -> File:
    sink = File()
    sink.settings = msgspec.convert({"path": str(path), **settings}, File.Settings)
    await sink.open(OUTLET)
    return sink


def subjects(path: Path) -> list[str]:
    return [json.loads(line)["subject"] for line in path.read_text().splitlines()]


async def test_lines_in_order(tmp_path: Path) -> None:
    """Each event is a line, in order, over as many deliveries and starts as there are; only the daemon's user reads them."""
    path = tmp_path / "new" / "events.jsonl"
    sink = await opened(path)
    await sink.deliver([event(1), event(2)])
    await (await opened(path)).deliver([event(3)])
    assert subjects(path) == ["n1", "n2", "n3"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await (await opened(path, form="cloudevents")).deliver([event(4)])
    assert json.loads(path.read_text().splitlines()[-1])["specversion"] == "1.0"


@pytest.mark.parametrize("torn", [b'{"id": "ab', b"x" * 200_000])
@pytest.mark.parametrize("before", [0, 1])
async def test_a_torn_line_is_cut_away(tmp_path: Path, torn: bytes, before: int) -> None:
    """What a writer that was killed left of a line goes, and nothing else."""
    path = tmp_path / "events.jsonl"
    if before:
        await (await opened(path)).deliver([event(1)])
    with path.open("ab") as file:
        file.write(torn)
    await (await opened(path)).deliver([event(2)])
    assert subjects(path) == [*["n1"] * before, "n2"]


async def test_a_file_is_written_by_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for the disk when it is broken off writes on; whoever comes next begins after it, also once the sink is opened anew."""
    path = tmp_path / "events.jsonl"
    sink = await opened(path)
    about, go, write = threading.Event(), threading.Event(), os.write

    def slow(descriptor: int, some: memoryview) -> int:
        if not about.is_set():
            written = write(descriptor, some[:20])
            about.set()
            go.wait(20)
            return written
        return write(descriptor, some)

    monkeypatch.setattr("oo_sinks.file.os.write", slow)
    cut = asyncio.ensure_future(sink.deliver([event(1)]))
    while not about.is_set():
        await asyncio.sleep(0)
    cut.cancel()
    following = asyncio.gather(sink.open(OUTLET), sink.deliver([event(2)]))
    for _ in range(100):  # turns in which they could overtake
        await asyncio.to_thread(int)
    go.set()
    await following
    assert subjects(path) == ["n1", "n2"]


async def test_full_files_are_set_aside(tmp_path: Path) -> None:
    """A file that is full is set aside, the newest as .1, and only so many are kept; none is overwritten."""
    path = tmp_path / "events.jsonl"
    sink = await opened(path, largest=1, keep=2)
    for number in range(1, 6):
        await sink.deliver([event(number)])
    assert sorted(it.name for it in tmp_path.iterdir()) == ["events.jsonl", "events.jsonl.1", "events.jsonl.2"]
    assert [subjects(it) for it in (path, tmp_path / "events.jsonl.1", tmp_path / "events.jsonl.2")] == [["n5"], ["n4"], ["n3"]]
    lone = await opened(tmp_path / "lone", largest=1, keep=0)
    for number in (1, 2):
        await lone.deliver([event(number)])
    assert subjects(tmp_path / "lone") == ["n2"]


async def test_a_full_disk_is_said(tmp_path: Path) -> None:
    """What the disk does not take is raised, so that it comes again; the next start mends what is torn."""
    full = await opened(tmp_path / "events.jsonl")
    full.settings = msgspec.convert({"path": "/dev/full"}, File.Settings)
    with pytest.raises(OSError, match="No space left"):
        await full.deliver([event(1)])


@pytest.mark.parametrize("settings", [{"path": "relative"}, {"path": "/x", "largest": 0}, {"path": "/x", "keep": -1}])
async def test_settings_that_could_not_work(settings: dict[str, Any]) -> None:
    """They are refused before anything runs."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(settings, File.Settings)


async def test_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines come whole and in order; a reader that does not read makes the sink wait, and one that went away is said."""
    reading, writing = os.pipe()
    sink = Stdout()
    sink.settings = Stdout.Settings()
    monkeypatch.setattr(sink, "descriptor", writing)
    await sink.open(OUTLET)
    many = [event(number) for number in range(1000)]  # more than a pipe holds
    delivering = asyncio.ensure_future(sink.deliver(many))
    got = b""
    while got.count(b"\n") < len(many):
        got += await asyncio.to_thread(os.read, reading, 65536)
    await delivering
    assert [json.loads(line)["subject"] for line in got.splitlines()] == [f"n{number}" for number in range(1000)]
    os.close(reading)
    with pytest.raises(RetryLater, match="standard output takes nothing"):
        await sink.deliver(many)
    os.close(writing)


async def test_who_was_broken_off_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was just about to write when it was broken off writes that, and whoever comes next begins after it."""
    reading, writing = os.pipe()
    sink = Stdout()
    sink.settings = Stdout.Settings()
    monkeypatch.setattr(sink, "descriptor", writing)
    about, go, write = threading.Event(), threading.Event(), os.write

    def slow(descriptor: int, some: memoryview) -> int:
        if descriptor == writing and not about.is_set():
            about.set()
            go.wait(20)
        return write(descriptor, some)

    monkeypatch.setattr("oo_sinks.stdout.os.write", slow)
    cut = asyncio.ensure_future(sink.deliver([event(1)]))
    await asyncio.to_thread(about.wait, 20)
    cut.cancel()
    following = asyncio.ensure_future(sink.deliver([event(2)]))
    for _ in range(100):  # turns in which it could overtake
        await asyncio.to_thread(int)
    go.set()
    await following
    got = os.read(reading, 65536).splitlines()
    assert [json.loads(line)["subject"] for line in got] == ["n1", "n2"]
    os.close(reading)
    os.close(writing)


async def test_standard_output_after_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivery that was broken off leaves its thread, and what comes next begins on a line of its own."""
    reading, writing = os.pipe()
    sink = Stdout()
    sink.settings = Stdout.Settings()
    monkeypatch.setattr(sink, "descriptor", writing)
    cut = asyncio.ensure_future(sink.deliver([event(number) for number in range(1000)]))
    while not sink._torn:
        await asyncio.sleep(0)
    cut.cancel()
    await asyncio.gather(cut, return_exceptions=True)
    lines, got = asyncio.ensure_future(sink.deliver([event(1007)])), b""
    while b'"n1007"' not in got.rpartition(b"\n")[0]:
        got += await asyncio.to_thread(os.read, reading, 65536)
    await lines
    assert json.loads(got.splitlines()[-1])["subject"] == "n1007"
    os.close(reading)
    os.close(writing)
