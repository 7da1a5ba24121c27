"""What can be asked: the routes of both listeners, and the console."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

import oo_daemon
from oo_daemon import listeners, ports
from oo_daemon.app.connecting import Connecting
from oo_daemon.app.ground import ARRIVED, Ground
from oo_daemon.app.reading import Reading
from oo_daemon.app.working import Working
from oo_daemon.ingress.api import Api, Rehearse
from oo_daemon.ingress.audit import AuditRoutes
from oo_daemon.ingress.backups import BackupRoutes
from oo_daemon.ingress.connect import ConnectPages
from oo_daemon.ingress.console.rooms import Console
from oo_daemon.ingress.events import EventRoutes
from oo_daemon.ingress.health import HealthRoutes
from oo_daemon.ingress.imports import ImportPages
from oo_daemon.ingress.person import PersonPages
from oo_daemon.ingress.privacy import PrivacyRoutes
from oo_daemon.ingress.proving import Proving
from oo_daemon.ingress.proxy import ProxyRoutes
from oo_daemon.ingress.server import Listening
from oo_daemon.ingress.sinks import SinkRoutes
from oo_daemon.ingress.tokens import Tokens
from oo_daemon.ingress.uploads import UploadRoutes
from oo_daemon.ingress.view import time
from oo_daemon.ingress.webhooks import Webhooks
from oo_daemon.ops import metrics as numbers
from oo_daemon.ops.watch import Watch
from oo_daemon.outbox import wire
from oo_daemon.outbox.consumers import Consumers, parsed
from oo_daemon.outbox.sinks import Sinks
from oo_daemon.privacy.export import Export
from oo_daemon.store import inbox
from oo_daemon.store.accept import event_id
from oo_daemon.store.connections import Connection
from oo_daemon.sync.intake import Intake
from oo_daemon.sync.timetable import Timetables


async def open_(
    ground: Ground,
    connecting: Connecting,
    watch: Watch,
    working: Working,
    reading: Reading,
    stack: AsyncExitStack,
    *,
    private_door: socket.socket | None,
) -> tuple[Listening | None, Listening]:
    """The public listener, which a worker has not, and the private one. `private_door` is one that somebody opened for us."""
    tokens = Tokens(storage=ground.storage, clock=ground.clock, chance=ground.chance)
    events = EventRoutes(
        storage=ground.storage,
        reader=reading.tail,
        consumers=Consumers(storage=ground.storage, reader=reading.tail, clock=ground.clock, chance=ground.chance, metrics=ground.metrics),
        parsed=parsed,
        as_json=wire.as_json,
        entry=wire.entry,
        stretch=wire.stretch,
        views=wire.VIEWS,
        clock=ground.clock,
    )
    api = Api(
        storage=ground.storage,
        registry=ground.registry,
        registrations=connecting.registrations,
        sources=connecting.sources,
        connect=connecting.connect,
        disconnect=working.disconnect,
        actions=working.actions,
        wake=working.worker.wake,
        tokens=tokens,
        keys=connecting.keys,
        uses=connecting.uses,
        strikes=ground.strikes,
        budgets=connecting.budgets,
        timetables=Timetables(storage=ground.storage, clock=ground.clock, interval=ground.settings.sync.interval),
        as_json=wire.as_json,
        rehearse=_rehearse(working.intake, ground.clock),
        arrived=working.intake.wake,
        clock=ground.clock,
        status={
            "version": oo_daemon.__version__,
            "instance": ground.owner,
            "public_url": connecting.public_url,
            "database": str(ground.settings.places.database),
            "engine": ground.storage.engine,
            "started_at": time(ground.clock.now()),
        },
    )
    webhooks = Webhooks(
        keep=lambda arrival: ground.storage.begin(inbox.put, arrival),
        sources=connecting.sources,
        clock=ground.clock,
        chance=ground.chance,
        metrics=ground.metrics,
        log=ground.log,
        arrived=working.intake.wake if ground.role != "ingress" else lambda: ground.storage.tell(ARRIVED),
        short=watch.short,
        limit=ground.settings.public.body_limit,
        rate=ground.settings.public.source_rate,
        trace=ground.trace,
    )
    export = Export(storage=ground.storage, folder=ground.settings.places.beside, clock=ground.clock, as_json=wire.as_json).of_user
    proving = Proving(
        public_url=connecting.public_url,
        token=_tokens(ground.chance),
        clock=ground.clock,
        rate=ground.settings.oauth.rate,
        links={"connect": connecting.connect, "visit": connecting.visits},
        at_issuer=connecting.identity.sign_in if "sign_in" in ground.settings.identity.connect else None,
        tickets=connecting.identity.tickets,
    )
    person = PersonPages(
        visits=connecting.visits,
        proving=proving,
        connect=connecting.connect,
        disconnect=working.disconnect,
        uploads=working.uploads,
        erasures=working.erasing,
        export=export,
        notes=reading.notes,
        storage=ground.storage,
        registry=ground.registry,
        clock=ground.clock,
        wake=working.worker.wake,
        pushes_kept=ground.settings.retention.deliveries,
    )
    looked_at = HealthRoutes(health=watch.health, numbers=lambda: numbers.exposition(ground.metrics), numbers_type=numbers.CONTENT_TYPE)
    public, private = await listeners.listen(
        ground.settings,
        stack,
        door=connecting.door,
        private_door=private_door,
        to_the_public=None
        if ground.role == "worker"
        else [
            *proving.routes(),
            *ConnectPages(
                connecting=connecting.connect, proving=proving, clock=ground.clock, own_page=f"{connecting.public_url}/person"
            ).routes(),
            *person.routes(),
            *webhooks.routes(),
            *ImportPages(uploads=working.uploads).routes(),
        ],
        straight=webhooks.straight(),
        private_rooms=[looked_at]
        if ground.role == "ingress"  # what else is asked there takes keys
        else [
            looked_at,
            BackupRoutes(backups=watch.backups),
            events,
            ProxyRoutes(storage=ground.storage, registry=ground.registry, guests=ground.guests, forward=connecting.forward),
            SinkRoutes(
                sinks=Sinks(
                    storage=ground.storage, placed=ground.registry.sinks, aside=ground.registry.sinks_aside, call=reading.relay.call
                )
            ),
            AuditRoutes(notes=reading.notes),
            PrivacyRoutes(
                storage=ground.storage,
                erasures=working.erasing,
                on_file=ground.storage.file is not None,
                export=export,
                visits=connecting.visits,
                clock=ground.clock,
            ),
            UploadRoutes(uploads=working.uploads, clock=ground.clock),
            api,
        ],
        console=None
        if ground.role == "ingress"
        else Console(
            storage=ground.storage,
            registry=ground.registry,
            strikes=ground.strikes,
            tokens=tokens,
            sources=connecting.sources,
            keys=connecting.keys,
            disconnect=working.disconnect,
            budgets=connecting.budgets,
            erasures=working.erasing,
            health=watch.health,
            wake=working.worker.wake,
            arrived=working.intake.wake,
            rehearse=_rehearse(working.intake, ground.clock),
            as_json=wire.as_json,
            as_text=wire.as_text,
            clock=ground.clock,
            chance=ground.chance,
            log=ground.log,
            issuer=connecting.identity.sign_in
            if ground.settings.identity.operator_roles or ground.settings.identity.viewer_roles
            else None,
        ),
        notes=reading.notes,
        tokens=tokens,
        vouching=connecting.identity.callers,
        asked=ground.background.asked,
        trace=ground.trace,
        out=ground.log,
    )
    return public, private


def _rehearse(intake: Intake, clock: ports.Clock) -> Rehearse:
    async def rehearse(connection: Connection, headers: Mapping[str, str], body: bytes, id_: str) -> list[bytes]:
        drafts = await intake.rehearse(connection, headers, body, id_)
        encoded = wire.encode(connection, clock.now())
        return [encoded(draft, event_id(connection.id, draft.type, draft.key, 1), 1) for draft in drafts]

    return rehearse


def _tokens(chance: ports.Chance) -> Callable[[], str]:
    return lambda: base64.urlsafe_b64encode(chance.token_bytes(32)).rstrip(b"=").decode()
