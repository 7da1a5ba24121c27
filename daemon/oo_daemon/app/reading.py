"""What is read of the outbox, sent on from it, and dropped from it; and the audit log."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

import msgspec

import oo_daemon
from oo_config import Settings
from oo_daemon import ports
from oo_daemon.app.ground import Ground
from oo_daemon.connections.guest import GuestClock
from oo_daemon.connections.outlets import Outlets
from oo_daemon.connections.transport import AiohttpTransport
from oo_daemon.ops import log
from oo_daemon.ops.files import HeadFile
from oo_daemon.outbox.relay import Relay
from oo_daemon.outbox.retention import Keep, Retention
from oo_daemon.outbox.tail import Tail
from oo_daemon.privacy.audit import Audit

#: Bytes of an answer that a sink may read: it is about the status.
ANSWER_OF_A_RECEIVER = 64 * 1024


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What comes after an event is kept."""

    notes: Audit
    retention: Retention
    tail: Tail
    relay: Relay


def build(ground: Ground, stack: AsyncExitStack) -> Reading:
    """The relay sends from now on."""
    notes = Audit(
        storage=ground.storage,
        keyring=ground.keyring,
        head=HeadFile(ground.settings.places.beside / "audit.head"),
        clock=ground.clock,
        chance=ground.chance,
        log=ground.log,
        shared=ground.storage.file is None,
    )

    retention = Retention(
        storage=ground.storage,
        checkpoint=ground.storage.checkpoint,
        clock=ground.clock,
        metrics=ground.metrics,
        log=ground.log,
        keep=Keep(
            read=ground.settings.retention.read,
            unread=ground.settings.retention.unread,
            tombstones=ground.settings.retention.tombstones,
            size=ground.settings.retention.size,
        ),
    )
    tail = Tail(ground.storage, ground.clock)
    outlets = _outlets(ground.settings, ground.clock)
    stack.push_async_callback(lambda: ground.guests.run(outlets.close()))
    relay = Relay(
        storage=ground.storage,
        reader=tail,
        guests=ground.guests,
        clock=ground.clock,
        chance=ground.chance,
        metrics=ground.metrics,
        log=ground.log,
        outlet=lambda placed: ground.guests.run(outlets.of(placed.name, placed.terms.reach)),
        suspects=ground.strikes,
        lease=ground.settings.sync.lease,
        trace=ground.trace,
    )
    stack.push_async_callback(relay.stop)
    if ground.role != "ingress":
        relay.start(ground.registry.sinks.values())
    return Reading(notes=notes, retention=retention, tail=tail, relay=relay)


def _outlets(settings: Settings, clock: ports.Clock) -> Outlets:
    """What sinks are given to work with."""

    def make(allowed: Callable[[str], bool]) -> AiohttpTransport:
        return AiohttpTransport(
            connect_timeout=settings.http.connect_timeout,
            read_timeout=settings.http.read_timeout,
            response_limit=ANSWER_OF_A_RECEIVER,
            user_agent=f"oo-integrations/{oo_daemon.__version__}",
            allowed=allowed,
        )

    return Outlets(make=make, clock=GuestClock(clock), log_for=lambda name: log.logger(sink=name))
