"""The watch over plugins: one that stands is told of, has a strike, and ends the daemon."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemon.virtual import Notes, VirtualClock

from oo_daemon.host import Turn
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.ops.plugins import LONGEST, WORD, PluginsTurn
from oo_daemon.strikes import PluginBlocks, Strikes


@pytest.mark.rows("E12")
async def test_a_plugin_that_stands(tmp_path: Path) -> None:
    """After five seconds the health has a word for it; after a minute it has a strike, and the daemon is to start again."""
    clock, metrics, log, ended = VirtualClock(), MemoryMetrics(), Notes(), list[BaseException]()
    strikes, turns = Strikes(tmp_path, clock), list[Turn | None]([None])
    watch = PluginsTurn(
        turn=lambda: turns[0], strikes=strikes, clock=clock, metrics=metrics, log=log, fatal=ended.append, counted=lambda: None
    )
    await watch.tick()
    assert (await watch()).well
    turns[0] = Turn(plugin="acme-oo/acme", item="delivery 7", since=clock.monotonic())
    assert (await watch()).well
    await clock.advance(WORD)
    found = await watch()
    assert (found.well, found.warning) == (False, True)
    assert found.says == "acme has held up all plugins for 5 s: tell its author"
    await clock.advance(LONGEST - WORD - 1)
    await watch.tick()
    assert not ended
    await clock.advance(1)
    await watch.tick()
    (error,) = ended
    assert isinstance(error, PluginBlocks)
    assert str(error) == "acme held up all plugins for 60 s: oO must start again; see `oo plugins`"
    assert log.said("plugin_stands") == [{"plugin": "acme-oo/acme", "seconds": 60}]
    assert strikes.counted() == {"acme-oo/acme": 1}
    turns[0] = None
    await watch.tick()
    assert metrics.values()["plugin_strikes", (("plugin", "acme-oo/acme"),)] == 1


async def test_what_stands_and_is_ours(tmp_path: Path) -> None:
    """Nobody is blamed, and the daemon starts again."""
    clock, ended = VirtualClock(), list[BaseException]()
    strikes = Strikes(tmp_path, clock)
    turn = Turn(plugin="", item="", since=clock.monotonic())
    watch = PluginsTurn(
        turn=lambda: turn, strikes=strikes, clock=clock, metrics=MemoryMetrics(), log=Notes(), fatal=ended.append, counted=lambda: None
    )
    await clock.advance(LONGEST)
    await watch.tick()
    assert len(ended) == 1
    assert strikes.counted() == {}
