"""Memory: new work is turned away before everything is killed (H11)."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemon.ingress.wire import Notebook

from oo_daemon.ops.memory import Memory, resident_bytes, unit_limit
from oo_daemon.ops.metrics import MemoryMetrics


@pytest.mark.rows("H11")
async def test_short_of_memory() -> None:
    """Above nine tenths nothing new is taken, until there is clearly more room again."""
    used = {"bytes": 100}
    memory = Memory(limit=1000, metrics=MemoryMetrics(), log=Notebook(), used=lambda: used["bytes"])
    seen = []
    for used["bytes"] in (100, 899, 901, 870, 849, 880):
        await memory.look()
        seen.append(memory.low)
    assert seen == [False, False, True, True, False, False]
    used["bytes"] = 950
    await memory.look()
    assert "MemoryMax" in (await memory()).says


async def test_no_limit() -> None:
    """Where nothing is limited, nothing is turned away."""
    memory = Memory(limit=None, metrics=MemoryMetrics(), log=Notebook(), used=lambda: 10**12)
    await memory.look()
    assert (memory.low, (await memory()).well) == (False, True)


def test_the_least_limit_around_us(tmp_path: Path) -> None:
    """A slice may be tighter than the unit in it; "max" limits nothing."""
    unit = tmp_path / "system.slice" / "oo.service"
    unit.mkdir(parents=True)
    text = tmp_path / "cgroup"
    text.write_text("12:cpu:/x\n0::/system.slice/oo.service\n")
    assert unit_limit(text, tmp_path) is None
    (unit / "memory.max").write_text("max\n")
    (unit.parent / "memory.max").write_text("5000\n")
    assert unit_limit(text, tmp_path) == 5000
    (unit / "memory.max").write_text("4000\n")
    assert unit_limit(text, tmp_path) == 4000


def test_what_we_use() -> None:
    """The kernel knows: this process has some megabytes, and not terabytes."""
    assert 10**6 < resident_bytes() < 10**12
