"""Health: what the daemon needs to keep its promises, looked at one by one, and said in words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from oo_daemon.ports import SECOND, Clock, Metrics
from oo_daemon.registry import Registry
from oo_daemon.store import consumers, probe, retention, subscriptions
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.storage import Storage
from oo_sdk import Log

#: Seconds that a write may take before the database counts as frozen, and that the loop may be late.
PATIENCE = 5.0
#: How often the loop is looked at, in seconds.
BEAT = 0.5
#: Seconds by which the host's clock may be set at once without a word, and for how long a larger step is told.
STEP, TOLD = 60.0, 3600.0
DAY, MIB = 86_400.0, 1024 * 1024


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One part. A part that is not well keeps the daemon from being ready, unless it is only worth a `warning`."""

    well: bool
    says: str = ""  #: what is wrong and what to do, for the operator; nothing personal
    warning: bool = False


Look = Callable[[], Awaitable[Finding]]


@dataclass(slots=True, kw_only=True, eq=False)
class Health:
    """Looks at each part when asked; `looks` are tried in their order, all of them."""

    looks: Mapping[str, Look]

    async def findings(self) -> dict[str, Finding]:
        """Every part, by name."""
        return {name: await _looked(look) for name, look in self.looks.items()}

    @staticmethod
    def ready(findings: Mapping[str, Finding]) -> bool:
        """Say whether new work may be sent here."""
        return all(finding.well or finding.warning for finding in findings.values())

    async def alive(self) -> bool:
        """Say whether a restart would not help: the writer writes. (That this answers at all proves the loop.)"""
        return (await self.looks["database"]()).well


async def _looked(look: Look) -> Finding:
    try:
        return await look()
    except CannotStore as refusal:  # whether that is the fault of the database, its own part says
        return Finding(well=False, warning=True, says=f"not known: {refusal}")


class WriterWrites(msgspec.Struct, frozen=True, kw_only=True):
    """A row reaches the disk in time. A disk that refuses is not well either, but a restart would not mend it."""

    storage: Storage
    clock: Clock

    async def __call__(self) -> Finding:
        """Write."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self.storage.write(probe.touch, self.clock.now())
        except TimeoutError:
            return Finding(well=False, says=f"a write takes longer than {PATIENCE:.0f} s: look at the disk")
        except CannotStore as refusal:
            return Finding(well=False, says=str(refusal))
        return Finding(well=True)


@dataclass(slots=True, kw_only=True, eq=False)
class LoopTurns:
    """The event loop turns without long stops; `run` measures it."""

    clock: Clock
    metrics: Metrics
    late: float = field(default=0.0, init=False)  #: seconds, at the last beat

    async def run(self) -> None:
        """Beat for ever."""
        while True:
            due = self.clock.monotonic() + BEAT
            await self.clock.sleep(BEAT)
            self.late = max(0.0, self.clock.monotonic() - due)
            self.metrics.observe("loop_lag_seconds", self.late)

    async def __call__(self) -> Finding:
        """Look."""
        if self.late < PATIENCE:
            return Finding(well=True)
        return Finding(well=False, says=f"the loop stood still for {self.late:.0f} s: the host is overloaded, or a plugin blocks it")


class ClocksAgree(msgspec.Struct, frozen=True, kw_only=True):
    """The host's clock and that of the database, by which other daemons are measured, too."""

    storage: Storage
    clock: Clock

    async def __call__(self) -> Finding:
        """Look."""
        ahead = await self.storage.read(probe.ahead, self.clock.now)
        if abs(ahead) <= probe.AGREED:
            return Finding(well=True)
        says = f"the clock is {ahead / SECOND:+.0f} s off that of PostgreSQL: leases of other daemons are misjudged; set both by NTP"
        return Finding(well=False, says=says)


class PluginsLoaded(msgspec.Struct, frozen=True, kw_only=True):
    """What was set aside is worth a word; the rest works."""

    registry: Registry

    async def __call__(self) -> Finding:
        """Look."""
        aside = [plugin.name for plugin in self.registry.plugins if plugin.state == "quarantined"]
        if not aside:
            return Finding(well=True)
        return Finding(well=False, warning=True, says=f"set aside: {', '.join(aside)}; see `oo plugins`")


class SubscriptionsStand(msgspec.Struct, frozen=True, kw_only=True):
    """Providers push what they were asked to; where one could not be asked, polls stand in."""

    storage: Storage

    async def __call__(self) -> Finding:
        """Look."""
        failing = await self.storage.read(subscriptions.failing)
        if not failing:
            return Finding(well=True)
        says = ", ".join(f"{count} at {provider}" for provider, count in failing.items())
        return Finding(well=False, warning=True, says=f"connections without pushes, polled in their place: {says}")


class ConsumersRead(msgspec.Struct, frozen=True, kw_only=True):
    """Consumers read in time: what is not read before retention gives it up, is lost to them. And there is room for what is kept."""

    storage: Storage
    clock: Clock
    unread: float  #: seconds that an event is kept for a consumer
    size: int  #: bytes of events that there is room for

    async def __call__(self) -> Finding:
        """Look."""
        since = await self.storage.read(retention.unread_since)
        held = await self.storage.read(retention.held)
        now = self.clock.now()
        late = {name: (now - at) / SECOND for name, at in since.items() if now - at >= self.unread / 2 * SECOND}
        says = [
            f"{name} has not read for {age / DAY:.1f} days, and what it does not read within {self.unread / DAY:.1f} is lost to it"
            for name, age in late.items()
        ]
        if says:
            says.append("see `oo consumers list`, and remove what reads no more")
        if held.bytes > self.size:
            says.append(f"the events kept take {held.bytes // MIB} MiB, more than retention.size: what is still so does not go")
        return Finding(well=not says, warning=True, says="; ".join(says)) if says else Finding(well=True)


class SinksTake(msgspec.Struct, frozen=True, kw_only=True):
    """Sinks take what they are given; one that waits, was set aside, or has dead letters is worth a word, and holds up nothing else."""

    storage: Storage
    registry: Registry

    async def __call__(self) -> Finding:
        """Look."""
        known = {each.name: each for each in await self.storage.read(consumers.listed)}
        running = {name: known[at] for name in self.registry.sinks if (at := consumers.of_sink(name)) in known}
        says = [f"{name} waits ({each.reason})" for name, each in running.items() if each.reason and not each.paused]
        says += [f"{name} is paused" for name, each in running.items() if each.paused]
        says += [f"{name} has dead letters: {each.dead_letters}" for name, each in running.items() if each.dead_letters]
        says += [f"{name} does not run" for name in self.registry.sinks_aside]
        says += [f"{name}: {warning}" for name, placed in self.registry.sinks.items() for warning in placed.sink.warnings]
        return Finding(well=not says, warning=True, says=f"{'; '.join(says)}: see `oo sinks list`") if says else Finding(well=True)


@dataclass(slots=True, kw_only=True, eq=False)
class ClockSteady:
    """The host's clock goes on as time does. `tick` compares the two: after a step, signed times of senders look too old or too new."""

    clock: Clock
    metrics: Metrics
    log: Log
    _ahead: float | None = field(default=None, init=False)  #: of the clock before the time that has passed, in seconds
    _stepped: float = field(default=0.0, init=False)
    _until: float = field(default=0.0, init=False)

    async def tick(self) -> None:
        """Look once; often enough that what drifts is no step."""
        ahead = self.clock.now() / SECOND - self.clock.monotonic()
        step, self._ahead = ahead - (ahead if self._ahead is None else self._ahead), ahead
        if abs(step) >= STEP:
            self._stepped, self._until = step, self.clock.monotonic() + TOLD
            self.metrics.count("clock_steps")
            self.log.warning("clock_stepped", seconds=round(step))

    async def __call__(self) -> Finding:
        """Look."""
        if self.clock.monotonic() >= self._until:
            return Finding(well=True)
        says = f"the clock was set by {self._stepped:+.0f} s, or the host slept: webhooks with signed times are refused if it is wrong"
        return Finding(well=False, warning=True, says=says)


class Sources(Protocol):
    """The addresses that webhooks are posted to."""

    def unverified(self) -> list[str]:
        """Those that take everything from whoever knows them."""

    def refusing(self) -> list[str]:
        """Those that refuse everything, and should not."""


class SourcesVerify(msgspec.Struct, frozen=True, kw_only=True):
    """Each address verifies what is posted to it; one that takes everything, or nothing, is worth a word."""

    sources: Sources

    async def __call__(self) -> Finding:
        """Look."""
        open_, shut = self.sources.unverified(), self.sources.refusing()
        says = [f"not verified: {', '.join(open_)}"] if open_ else []
        says += [f"all refused: {', '.join(shut)}; see `oo source list`"] if shut else []
        return Finding(well=not says, warning=True, says="; ".join(says)) if says else Finding(well=True)
