"""What the daemon does by itself: syncs, deliveries, actions, ends of connections, imports, erasures."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from oo_daemon import ports
from oo_daemon.app.connecting import Connecting
from oo_daemon.app.ground import ERASED, Ground
from oo_daemon.connections.disconnect import Disconnect
from oo_daemon.connections.guest import Contexts
from oo_daemon.connections.subscriptions import Subscriptions
from oo_daemon.connections.uploads import Files, Uploads
from oo_daemon.ops.disk import free_bytes
from oo_daemon.ops.files import DatabaseFile, DatabaseServer
from oo_daemon.ops.watch import Watch
from oo_daemon.outbox import own, wire
from oo_daemon.privacy.deletions import DeletionLog
from oo_daemon.privacy.erase import Erasures
from oo_daemon.reader_process import Process
from oo_daemon.store import uploads
from oo_daemon.store.storage import Engine
from oo_daemon.sync.act import Actions
from oo_daemon.sync.imports import Imports
from oo_daemon.sync.intake import Intake
from oo_daemon.sync.jobs import Worker
from oo_daemon.sync.latency import Latency
from oo_daemon.sync.run import Limits, Sync
from oo_daemon.sync.schedule import Dispatcher, Line

#: Seconds that running syncs get to finish when the daemon stops.
GRACE = 10.0


class Working(msgspec.Struct, frozen=True, kw_only=True):
    """What works through what is due."""

    dispatcher: Dispatcher
    latency: Latency
    intake: Intake
    actions: Actions
    subscribing: Subscriptions
    disconnect: Disconnect
    worker: Worker
    imports: Imports
    uploads: Uploads
    erasing: Erasures


async def build(ground: Ground, connecting: Connecting, watch: Watch, stack: AsyncExitStack) -> Working:
    """What was erased is erased again before anybody can ask for it."""
    line = Line()
    sync = Sync(
        storage=ground.storage,
        registry=ground.registry,
        credentials=connecting.credentials,
        guests=ground.guests,
        clock=ground.clock,
        chance=ground.chance,
        metrics=ground.metrics,
        log_for=connecting.log_for,
        limits=Limits(
            batch=ground.settings.sync.batch,
            lease=ground.settings.sync.lease,
            heartbeat=ground.settings.sync.heartbeat,
            run_limit=ground.settings.sync.run_limit,
            interval=ground.settings.sync.interval,
            first_fetch_days=ground.settings.sync.first_fetch_days,
        ),
        make_draft=wire.declared_draft,
        connection_event=own.connection_event,
        line=line,
        trace=ground.trace,
        poisoned=ground.strikes.poisoned,
    )
    dispatcher = Dispatcher(
        storage=ground.storage,
        clock=ground.clock,
        metrics=ground.metrics,
        log=ground.log,
        owner=ground.owner,
        run=sync.run,
        workers=ground.settings.sync.workers,
        lease=ground.settings.sync.lease,
        chance=ground.chance,
        remembered=ground.settings.retention.runs,
        line=line,
    )
    stack.push_async_callback(lambda: dispatcher.stop(GRACE))
    latency = Latency(storage=ground.storage, clock=ground.clock)
    stack.push_async_callback(latency.write)
    intake = Intake(
        storage=ground.storage,
        registry=ground.registry,
        guests=ground.guests,
        clock=ground.clock,
        chance=ground.chance,
        metrics=ground.metrics,
        log=ground.log,
        owner=ground.owner,
        lease=ground.settings.sync.lease,
        make_draft=wire.declared_draft,
        nudged=dispatcher.tick,
        withdrawn=lambda connection: erasing.of_connection(connection, "withdrawn"),
        keep_bodies=int(ground.settings.retention.deliveries * ports.SECOND),
        keep_ids=int(ground.settings.retention.delivery_ids * ports.SECOND),
        poisoned=ground.strikes.poisoned,
        trace=ground.trace,
        took=latency.took,
    )
    stack.push_async_callback(lambda: intake.stop(GRACE))
    contexts = Contexts(credentials=connecting.credentials, clock=ground.clock, log_for=connecting.log_for)
    actions = Actions(
        storage=ground.storage,
        registry=ground.registry,
        contexts=contexts,
        guests=ground.guests,
        clock=ground.clock,
        chance=ground.chance,
        metrics=ground.metrics,
        connection_event=own.connection_event,
        action_event=own.action_event,
        remembered=ground.settings.retention.actions,
        poisoned=ground.strikes.poisoned,
    )
    subscribing = Subscriptions(
        storage=ground.storage,
        registry=ground.registry,
        sources=connecting.sources,
        contexts=contexts,
        guests=ground.guests,
        clock=ground.clock,
        chance=ground.chance,
        metrics=ground.metrics,
        log=ground.log,
        public_url=connecting.public_url,
        interval=ground.settings.sync.interval,
    )
    disconnect = Disconnect(
        storage=ground.storage,
        registry=ground.registry,
        contexts=contexts,
        refresher=connecting.refresher,
        guests=ground.guests,
        clock=ground.clock,
        chance=ground.chance,
        metrics=ground.metrics,
        connection_event=own.connection_event,
        action_event=own.action_event,
        unsubscribed=subscribing.end,
        closed=connecting.sources.changed,
    )
    worker = Worker(
        storage=ground.storage,
        clock=ground.clock,
        chance=ground.chance,
        metrics=ground.metrics,
        log=ground.log,
        log_for=connecting.log_for,
        owner=ground.owner,
        handlers={"act": actions, "revoke": disconnect},
        workers=ground.settings.sync.workers,
    )
    stack.push_async_callback(lambda: worker.stop(GRACE))

    files = Files(ground.settings.places.state / "uploads", place=await _place(ground.storage, ground.settings.places.state, ground.chance))
    imports = Imports(
        storage=ground.storage,
        files=files,
        clock=ground.clock,
        metrics=ground.metrics,
        log=ground.log,
        keep=ground.settings.imports.keep == "files",
        open=Process.open,
        enabled=ground.settings.plugins.enabled,
        settings=ground.settings.connectors,
        short=lambda: watch.disk.low,
    )
    stack.push_async_callback(imports.stop)
    taking = Uploads(
        storage=ground.storage,
        registry=ground.registry,
        files=files,
        clock=ground.clock,
        chance=ground.chance,
        room=lambda size: free_bytes(ground.settings.places.state) - size >= ground.settings.disk.least_free,
        largest=ground.settings.imports.largest,
        life=ground.settings.imports.ticket_ttl,
        public_url=connecting.public_url,
        connection_event=own.connection_event,
        stopped=imports.stop_one,
    )

    async def erased() -> None:
        await connecting.sources.changed()
        ground.storage.tell(ERASED)

    erasing = Erasures(
        storage=ground.storage,
        deletions=DeletionLog(ground.settings.places.beside / "deletions.log"),
        file=DatabaseFile(storage=ground.storage) if ground.storage.file else DatabaseServer(),
        clock=ground.clock,
        chance=ground.chance,
        metrics=ground.metrics,
        log=ground.log,
        erased_event=own.erased_event,
        wake_jobs=worker.wake,
        closed=erased,
        purges={"uploads": taking.purge},
    )
    # Before anything can be asked: what was erased is not there again because an older backup was restored.
    if ground.role != "ingress" and (again := await erasing.again()):
        ground.log.warning("erased_again", connections=again)
    return Working(
        dispatcher=dispatcher,
        latency=latency,
        intake=intake,
        actions=actions,
        subscribing=subscribing,
        disconnect=disconnect,
        worker=worker,
        imports=imports,
        uploads=taking,
        erasing=erasing,
    )


async def _place(storage: Engine, state: Path, chance: ports.Chance) -> str:
    """What tells the folder of files from those of other daemons on the database; nothing where there can be none."""
    if storage.file is not None:
        return ""
    kept = state / "place"
    if not kept.exists():
        kept.write_text(chance.token_bytes(16).hex(), "ascii")
    place = kept.read_text("ascii")
    await storage.write(uploads.adopt, place)
    await storage.write(uploads.rescue, place)  # of our own life before
    return place
