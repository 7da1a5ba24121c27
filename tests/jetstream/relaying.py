"""A process that relays an outbox to a stream, and kills itself in the moment between an acknowledgement and the note of it.

Arguments: the database, the settings of the sink as JSON, and the how-many-eth note it dies before; 0: it ends when nothing is left.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
from daemon.virtual import Notes
from oo_nats import server as _server  # borne with it
from oo_nats.sink import Nats
from sinks.test_http import Receiver

from oo_daemon.connections.guest import GuestClock
from oo_daemon.host import HostChance, HostClock, SameLoop
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import relay, wire
from oo_daemon.outbox.relay import Relay
from oo_daemon.outbox.tail import Tail
from oo_daemon.registry import Placed, Terms
from oo_daemon.store import consumers, outbox
from oo_daemon.store.storage import InlineStorage, Query, open_database
from oo_daemon.strikes import Strikes
from oo_sdk import Outlet

__all__ = ["_server", "main", "relaying"]
#: Events in a delivery.
BATCH = 5


class Deadly(InlineStorage):
    """Kills the process before a note of what was acknowledged."""

    dies_at = 0
    notes = 0

    async def write(self, query: Query[..., Any], *args: Any, **kwargs: Any) -> Any:
        if getattr(query, "__name__", "") == "moved" and args[-1]:
            self.notes += 1
            if self.notes == self.dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return await super().write(query, *args, **kwargs)


def relaying(storage: InlineStorage, settings: dict[str, Any], notes: Notes, batch: int = BATCH) -> Relay:
    """A relay that serves one sink of NATS, by the host's time."""
    sink, clock = Nats(), HostClock()
    sink.settings = msgspec.convert(settings, Nats.Settings)

    async def outlet(placed: Placed) -> Outlet:
        return Outlet(name=placed.name, http=Receiver(), clock=GuestClock(clock), log=notes)

    it = Relay(
        storage=storage,
        reader=Tail(storage, clock),
        guests=SameLoop(),
        clock=clock,
        chance=HostChance(),
        metrics=MemoryMetrics(),
        log=notes,
        outlet=outlet,
        suspects=Strikes(storage.database.path.parent, clock),
        lease=60.0,
    )
    it.start([Placed(name="nats", sink=sink, terms=Terms(batch=batch))])
    return it


async def _live(database: Path, settings: dict[str, Any], dies_at: int) -> None:
    storage = Deadly(open_database(database), wire.encode)
    storage.dies_at = dies_at
    await storage.write(consumers.rescue_sinks)  # as the daemon does when it starts
    it = relaying(storage, settings, Notes())
    end = (await storage.read(outbox.end)).number
    while True:
        known = await storage.read(consumers.of, "sink:nats")
        if known is not None and known.position == end:
            break
        await asyncio.sleep(0.01)
    await it.stop()


def main() -> None:
    """Begin."""
    relay.BASE = 0.01
    database, settings, dies_at = sys.argv[1:]
    asyncio.run(_live(Path(database), json.loads(settings), int(dies_at)))
    print("done", flush=True)
