"""Sinks as their operator sees them: which run and how each is; to pause, to resume, and to have dead letters given again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from oo_daemon.connections.errors import Declined
from oo_daemon.outbox.consumers import parsed
from oo_daemon.registry import Placed
from oo_daemon.store import consumers
from oo_daemon.store.consumers import Consumer
from oo_daemon.store.outbox import Position
from oo_daemon.store.storage import Storage

#: `off`: it has no table, or one that does not fit.
State = Literal["running", "waiting", "paused", "off"]


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One sink."""

    name: str
    kind: str  #: empty where it is not known
    state: State
    reason: str
    consumer: Consumer | None  #: None: it has not run yet


class Sinks(msgspec.Struct, frozen=True, kw_only=True):
    """Shows and moves them."""

    storage: Storage
    placed: Mapping[str, Placed]
    aside: Mapping[str, str]
    call: Callable[[str], None]  #: has one looked at anew

    async def listed(self) -> tuple[list[Shown], Position]:
        """All, by name, also those that do not run, and where the log ends."""
        found, end = await self.storage.read(consumers.listed_with_end)
        known = {each.name.removeprefix(consumers.of_sink("")): each for each in found if each.name.startswith(consumers.of_sink(""))}
        return [self._shown(name, known.get(name)) for name in sorted({*known, *self.placed, *self.aside})], end

    async def known(self, name: str) -> tuple[Shown, Position]:
        """One, and where the log ends. Raises `Declined`."""
        found, end = await self.listed()
        for each in found:
            if each.name == name:
                return each, end
        raise Declined("unknown_sink", f"There is no sink {name}.", "See `oo sinks list`.")

    async def pause(self, name: str, paused: bool) -> tuple[Shown, Position]:
        """Have one wait until it is resumed, or go on. Raises `Declined`."""
        await self.known(name)
        if not await self.storage.write(consumers.pause, consumers.of_sink(name), paused):
            raise Declined("sink_off", f"The sink {name} has never run.", "See `oo sinks list` for why.")
        self.call(name)
        return await self.known(name)

    async def give_again(self, name: str, positions: Sequence[str] | None) -> int:
        """Have some dead letters given again, or all; gives how many. Raises `Declined`."""
        _, end = await self.known(name)
        places = None if positions is None else [parsed(each, end) for each in positions]
        count = await self.storage.write(consumers.give_again, consumers.of_sink(name), places)
        self.call(name)
        return count

    def _shown(self, name: str, known: Consumer | None) -> Shown:
        placed = self.placed.get(name)
        if placed is None:
            reason = self.aside.get(name) or f"it has no table [sinks.{name}]: `oo consumers remove sink:{name}` forgets it"
            return Shown(name=name, kind="", state="off", reason=reason, consumer=known)
        state: State = "paused" if known and known.paused else "waiting" if known and known.reason else "running"
        reason = known.reason if known else ""
        return Shown(name=name, kind=placed.sink.id, state=state, reason=reason or "; ".join(placed.sink.warnings), consumer=known)
