"""Health: each part is looked at, and said in words."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from daemon.ingress.wire import Notebook
from daemon.virtual import VirtualClock

from oo_daemon.ops.disk import MIB, Disk
from oo_daemon.ops.health import ClockSteady, Finding, Health, LoopTurns, PluginsLoaded, SourcesVerify, WriterWrites
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import wire
from oo_daemon.registry import Plugin, Registry
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.storage import InlineStorage, open_database


class Refusing(InlineStorage):
    """A disk that can be told to refuse, or to take for ever."""

    fault: Exception | None = None
    frozen = False

    async def write(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        if self.fault is not None:
            raise self.fault
        if self.frozen:
            await asyncio.get_running_loop().create_future()
        return await super().write(query, *args, **kwargs)


async def test_a_writer_that_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that reached the disk is well; a refusal is told in its own words; a frozen disk is one that takes too long."""
    monkeypatch.setattr("oo_daemon.ops.health.PATIENCE", 0.05)
    storage = Refusing(open_database(tmp_path / "oo.sqlite3"), wire.encode)
    look = WriterWrites(storage=storage, clock=VirtualClock())
    assert await look() == Finding(well=True)
    storage.fault = CannotStore("the disk is full: free some space and try again")
    assert await look() == Finding(well=False, says="the disk is full: free some space and try again")
    storage.fault, storage.frozen = None, True
    assert not (await look()).well
    assert not await Health(looks={"database": look}).alive()
    storage.database.close()


async def test_ready_is_all_but_warnings() -> None:
    """A warning keeps nobody from working, a failing part does."""

    async def well() -> Finding:
        return Finding(well=True)

    async def aside() -> Finding:
        return Finding(well=False, warning=True, says="x")

    async def broken() -> Finding:
        return Finding(well=False, says="y")

    assert Health.ready(await Health(looks={"a": well, "b": aside}).findings())
    assert not Health.ready(await Health(looks={"a": well, "b": broken}).findings())


async def test_plugins_that_were_set_aside() -> None:
    """They are named, as a warning."""
    plugin = Plugin(name="odd", distribution="odd", version="1", state="quarantined", reason="x")
    found = await PluginsLoaded(registry=Registry(plugins=(plugin,)))()
    assert (found.well, found.warning, "odd" in found.says) == (False, True, True)


async def test_a_loop_that_stood_still() -> None:
    """What the loop is late is measured, and too much of it is not well."""
    clock = VirtualClock()
    turns = LoopTurns(clock=clock, metrics=MemoryMetrics())
    assert (await turns()).well
    turns.late = 6.0
    assert "6 s" in (await turns()).says


@pytest.mark.rows("B11")
async def test_a_disk_that_fills(tmp_path: Path) -> None:
    """Ballast is taken in while there is room and thrown off when there is next to none; below the least nothing new is taken."""
    left = {"bytes": 2000 * MIB}
    notebook, metrics = Notebook(), MemoryMetrics()
    disk = Disk(folder=tmp_path, least=512 * MIB, metrics=metrics, log=notebook, free=lambda _: left["bytes"], ballast=MIB)
    await disk.look()
    assert (disk.low, (tmp_path / "ballast").stat().st_size) == (False, MIB)
    left["bytes"] = 100 * MIB
    await disk.look()
    assert (disk.low, (tmp_path / "ballast").exists()) == (True, True)
    assert "512 MiB" in (await disk()).says
    left["bytes"] = 1000
    await disk.look()
    assert not (tmp_path / "ballast").exists()
    left["bytes"] = 2000 * MIB
    await disk.look()
    assert (disk.low, (await disk()).well) == (False, True)
    assert metrics.values()["disk_free_bytes", ()] == 2000 * MIB


@pytest.mark.rows("A11")
async def test_a_clock_that_was_set() -> None:
    """A step of an hour, either way, is counted, written down and told for an hour; a clock that only goes on is not."""
    clock, metrics, notebook = VirtualClock(), MemoryMetrics(), Notebook()
    steady = ClockSteady(clock=clock, metrics=metrics, log=notebook)
    for step in (0, 30, 3600, -3600):
        clock.shift(step)
        for _ in range(2):
            await steady.tick()
            await clock.until(clock.sleep(1.0))
        assert (await steady()).well == (abs(step) < 60), step
    assert [each["seconds"] for each in notebook.events("clock_stepped")] == [3600, -3600]
    await clock.until(clock.sleep(3600.0))
    assert (await steady()).well


@pytest.mark.rows("A9")
async def test_addresses_that_take_everything_or_nothing() -> None:
    """Both are worth a word, and keep nobody from working."""

    class Known:
        def __init__(self, taking: list[str], refusing: list[str]) -> None:
            self.unverified = lambda: taking
            self.refusing = lambda: refusing

    assert await SourcesVerify(sources=Known([], []))() == Finding(well=True)
    told = await SourcesVerify(sources=Known(["bell"], ["stripe"]))()
    assert told == Finding(well=False, warning=True, says="not verified: bell; all refused: stripe; see `oo source list`")
