"""What sinks are given to work with. Made, used and closed on the guests' loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from oo_daemon.connections.outward import Outward, networks
from oo_daemon.connections.transport import AiohttpTransport
from oo_sdk import Clock, Log, Outlet, RetryLater


@dataclass(slots=True, kw_only=True, eq=False)
class Outlets:
    """Makes an outlet for each sink, once."""

    make: Callable[[Callable[[str], bool]], AiohttpTransport]
    clock: Clock
    log_for: Callable[[str], Log]
    _made: dict[str, Outlet] = field(default_factory=dict)
    _transports: list[AiohttpTransport] = field(default_factory=list)

    async def of(self, name: str, reach: Sequence[str]) -> Outlet:
        """The outlet of a sink. Raises `RetryLater` where `reach` makes no sense."""
        if name not in self._made:
            try:
                listed = networks(reach)
            except ValueError as wrong:
                raise RetryLater(f"reach in [sinks.{name}] does not fit: {wrong}") from None
            http = Outward.made(listed, self._make)
            self._made[name] = Outlet(name=name, http=http, clock=self.clock, log=self.log_for(name))
        return self._made[name]

    def _make(self, allowed: Callable[[str], bool]) -> AiohttpTransport:
        made = self.make(allowed)
        self._transports.append(made)
        return made

    async def close(self) -> None:
        """Close connections."""
        for transport in self._transports:
            await transport.close()
