"""Plugins under watch: the loop that they share turns, and one that holds it up for a minute ends the process and has a strike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from oo_daemon.ops.health import Finding
from oo_daemon.ports import Clock, Metrics
from oo_daemon.strikes import PluginBlocks, What
from oo_sdk import Log

#: How often it is looked, in seconds; when a turn is worth a word in the health, and when it is too long.
LOOK, WORD, LONGEST = 1.0, 5.0, 60.0


class Turn(Protocol):
    """A plugin has the loop."""

    @property
    def plugin(self) -> str:
        """Its key; empty for what is ours."""

    @property
    def item(self) -> str:
        """What it works on, where that is one of many."""

    @property
    def since(self) -> float:
        """By the clock that only grows."""


class Counts(Protocol):
    """Counts strikes."""

    def give(self, plugin: str, what: What, item: str = "") -> None:
        """Count one."""

    def counted(self) -> Mapping[str, int]:
        """How many strikes each plugin has that has some."""


class PluginsTurn(msgspec.Struct, frozen=True, kw_only=True):
    """The plugins' loop goes on to the next turn."""

    turn: Callable[[], Turn | None]
    strikes: Counts
    clock: Clock
    metrics: Metrics
    log: Log
    fatal: Callable[[BaseException], None]
    counted: Callable[[], None]  #: the strike is given: whoever looks after the end need not count another

    async def tick(self) -> None:
        """Look once."""
        for plugin, count in self.strikes.counted().items():
            self.metrics.gauge("plugin_strikes", count, plugin=plugin)
        turn = self.turn()
        if turn is None or self.clock.monotonic() - turn.since < LONGEST:
            return
        self.log.warning("plugin_stands", plugin=turn.plugin, seconds=round(self.clock.monotonic() - turn.since))
        if turn.plugin:
            self.strikes.give(turn.plugin, "blocked", turn.item)
            self.counted()
        self.fatal(PluginBlocks(f"{name_of(turn.plugin)} held up all plugins for {LONGEST:.0f} s: oO must start again; see `oo plugins`"))

    def blocked(self, turn: Turn, seconds: float) -> None:
        """Hear of a turn that ended, and was too long. From the plugins' thread."""
        self.metrics.count("plugin_blocks", plugin=turn.plugin or "oo")
        self.log.warning("plugin_blocked", plugin=turn.plugin, seconds=round(seconds, 3))

    async def __call__(self) -> Finding:
        """Look at it for the health."""
        turn = self.turn()
        held = 0.0 if turn is None else self.clock.monotonic() - turn.since
        if turn is None or held < WORD:
            return Finding(well=True)
        return Finding(well=False, warning=True, says=f"{name_of(turn.plugin)} has held up all plugins for {held:.0f} s: tell its author")


def name_of(key: str) -> str:
    """The plugin as people know it."""
    return key.rpartition("/")[2] or "something of oO's own"
