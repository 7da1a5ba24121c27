"""The parts list: the one place that knows every part, puts them together, and takes them apart again in the right order."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import MappingProxyType

import msgspec

import oo_daemon
from oo_config import Settings
from oo_daemon import ports
from oo_daemon.app import connecting, doors, ground, reading, rhythm, working
from oo_daemon.app.ground import Role
from oo_daemon.connections.keys import Keys
from oo_daemon.connections.transport import Transport
from oo_daemon.host import HostChance, HostClock
from oo_daemon.ingress.server import Listening
from oo_daemon.ops import log
from oo_daemon.ops.fatal import Fatal
from oo_daemon.ops.health import Health
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.ops.watch import Watch
from oo_daemon.outbox.tail import Tail
from oo_daemon.registry import Registry
from oo_daemon.store.storage import Storage


class App(msgspec.Struct, frozen=True, kw_only=True):
    """A daemon that runs."""

    settings: Settings
    registry: Registry
    storage: Storage
    tail: Tail
    keys: Keys
    clock: ports.Clock
    metrics: MemoryMetrics
    health: Health
    fatal: Fatal
    public: Listening | None  #: None: a worker has none
    private: Listening
    public_url: str


@asynccontextmanager
async def build(
    settings: Settings,
    *,
    clock: ports.Clock | None = None,
    chance: ports.Chance | None = None,
    transport: Transport | None = None,
    sockets: Mapping[str, socket.socket] = MappingProxyType({}),
    environ: MutableMapping[str, str] = os.environ,
    role: Role = "all",
) -> AsyncIterator[App]:
    """Start a daemon; leaving the block stops it. `sockets` are doors that somebody opened for us: "public", "private".

    An "ingress" takes in what comes from outside, with a bundle in place of the keys; a "worker" does the rest, and has no public listener.

    Raises, before anything is promised: `VaultError` for a key that is missing, exposed, wrong or out of reach, `CannotOpen` and `Corrupt`
    for the database, `CannotListen` for a door.
    """
    out = log.logger()
    async with AsyncExitStack() as stack:
        base = await ground.lay(settings, stack, clock=clock or HostClock(), chance=chance or HostChance(), environ=environ, role=role)
        connections = await connecting.build(base, stack, transport=transport, given=sockets.get("public"))
        watch = Watch.over(
            settings,
            backups=base.backups,
            storage=base.storage,
            registry=base.registry,
            sources=connections.sources,
            clock=base.clock,
            metrics=base.metrics,
            log=base.log,
            fatal=base.fatal.tell,
            plugins=base.turns,
        )
        work = await working.build(base, connections, watch, stack)
        outbox = reading.build(base, stack)
        await watch.begin(stack)
        await work.uploads.tidy()
        public, private = await doors.open_(base, connections, watch, work, outbox, stack, private_door=sockets.get("private"))
        stack.callback(outbox.tail.close)  # before the doors close: they would wait for those who wait
        rhythm.begin(base, connections, watch, work, outbox, stack)
        out.info("started", public=public.address if public else None, private=private.address, version=oo_daemon.__version__)
        yield App(
            settings=settings,
            registry=base.registry,
            storage=base.storage,
            tail=outbox.tail,
            keys=connections.keys,
            clock=base.clock,
            metrics=base.metrics,
            health=watch.health,
            fatal=base.fatal,
            public=public,
            private=private,
            public_url=connections.public_url,
        )
        out.info("stopping")
    out.info("stopped")
