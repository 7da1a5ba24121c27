"""The watch over the daemon: the parts of this room, put together, and what each is to do and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import msgspec

from oo_config import Settings
from oo_daemon.connections.sources import Sources
from oo_daemon.ops import disk, levels, memory
from oo_daemon.ops.backup import Backups, Elsewhere
from oo_daemon.ops.disk import BALLAST, Disk
from oo_daemon.ops.health import (
    ClocksAgree,
    ClockSteady,
    ConsumersRead,
    Health,
    Look,
    LoopTurns,
    PluginsLoaded,
    SinksTake,
    SourcesVerify,
    SubscriptionsStand,
    WriterWrites,
)
from oo_daemon.ops.integrity import NIGHTLY, Integrity
from oo_daemon.ops.levels import Levels
from oo_daemon.ops.memory import Memory, unit_limit
from oo_daemon.ops.plugins import LOOK as PLUGINS_EVERY
from oo_daemon.ops.plugins import PluginsTurn
from oo_daemon.ports import Clock, Metrics
from oo_daemon.registry import Registry
from oo_daemon.store.storage import Engine
from oo_sdk import Log

#: How often it is looked at, in seconds, how far the clock is off, and how old the newest backup is.
CLOCK_EVERY, BACKUPS_EVERY = 1.0, 60.0

Job = Callable[[], Awaitable[None]]


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that looks after the daemon."""

    health: Health
    disk: Disk
    memory: Memory
    backups: Backups | Elsewhere
    _integrity: Integrity | None  #: None: the database is on a server, which looks after it
    _turns: LoopTurns
    _steady: ClockSteady
    _levels: Levels
    _plugins: PluginsTurn

    @classmethod
    def over(
        cls,
        settings: Settings,
        *,
        backups: Backups | Elsewhere,
        storage: Engine,
        registry: Registry,
        sources: Sources,
        clock: Clock,
        metrics: Metrics,
        log: Log,
        fatal: Callable[[BaseException], None],
        plugins: PluginsTurn,
    ) -> Watch:
        """Put it together."""
        file = storage.file
        ballast = BALLAST if file else 0  # what it makes room for is the file's own
        disk_ = Disk(folder=settings.places.beside, least=settings.disk.least_free, metrics=metrics, log=log, ballast=ballast)
        memory_ = Memory(limit=unit_limit(), metrics=metrics, log=log)
        integrity = Integrity(database=file, metrics=metrics, log=log, fatal=fatal) if file else None
        turns, steady = LoopTurns(clock=clock, metrics=metrics), ClockSteady(clock=clock, metrics=metrics, log=log)
        looks: dict[str, Look] = {
            "database": WriterWrites(storage=storage, clock=clock),
            **({"integrity": integrity} if integrity else {"clocks": ClocksAgree(storage=storage, clock=clock)}),
            "disk": disk_,
            "memory": memory_,
            "loop": turns,
            "clock": steady,
            "plugins": PluginsLoaded(registry=registry),
            "plugins_turn": plugins,
            "sources": SourcesVerify(sources=sources),
            "subscriptions": SubscriptionsStand(storage=storage),
            "sinks": SinksTake(storage=storage, registry=registry),
            "consumers": ConsumersRead(storage=storage, clock=clock, unread=settings.retention.unread, size=settings.retention.size),
        }
        return cls(
            health=Health(looks=looks),
            disk=disk_,
            memory=memory_,
            backups=backups,
            _integrity=integrity,
            _turns=turns,
            _steady=steady,
            _levels=Levels(storage=storage, database=file, clock=clock, metrics=metrics),
            _plugins=plugins,
        )

    def short(self) -> bool:
        """Say whether the host is short of disk or memory, so that nothing new is to be taken."""
        return self.disk.low or self.memory.low

    async def begin(self, stack: AsyncExitStack) -> None:
        """Look at the disk, and begin what goes on by itself until the stack ends."""
        await self.disk.look()
        for work in (self._integrity.look() if self._integrity else None, self._turns.run()):
            if work is not None:
                stack.callback(asyncio.ensure_future(work).cancel)

    def jobs(self) -> Iterator[tuple[float, Job, str]]:
        """What is to be called how often (seconds), and by which name."""
        yield disk.LOOK, self.disk.look, "disk"
        yield memory.LOOK, self.memory.look, "memory"
        yield CLOCK_EVERY, self._steady.tick, "clock"
        yield levels.LOOK, self._levels.look, "levels"
        if isinstance(self.backups, Backups):
            yield BACKUPS_EVERY, self.backups.look, "backups"
        yield PLUGINS_EVERY, self._plugins.tick, "plugins"
        if self._integrity:
            yield NIGHTLY, self._integrity.look_through, "integrity"
