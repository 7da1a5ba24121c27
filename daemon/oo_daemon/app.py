"""The parts list: the one place that knows every part, puts them together, and takes them apart again in the right order."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import msgspec

import oo_daemon
from oo_config import ConfigError, Problem, Server, Settings
from oo_daemon import listeners, ports
from oo_daemon.connections import key_keeping
from oo_daemon.connections import subscriptions as subscriptions_
from oo_daemon.connections.breaker import Breakers
from oo_daemon.connections.budgets import Budgets
from oo_daemon.connections.connect import Connect
from oo_daemon.connections.credential import Credentials
from oo_daemon.connections.disconnect import Disconnect
from oo_daemon.connections.forward import Forward
from oo_daemon.connections.give_back import GiveBack
from oo_daemon.connections.guest import Contexts, GuestClock, LogFor
from oo_daemon.connections.keep_alive import KeepAlive
from oo_daemon.connections.keys import Keys, check
from oo_daemon.connections.metadata import Published
from oo_daemon.connections.outlets import Outlets
from oo_daemon.connections.registration import Registrations
from oo_daemon.connections.sources import Sources
from oo_daemon.connections.subscriptions import Subscriptions
from oo_daemon.connections.transport import AiohttpTransport, Transport
from oo_daemon.connections.uploads import Files, Uploads
from oo_daemon.connections.uses import Uses
from oo_daemon.connections.visits import Visits
from oo_daemon.host import GuestLoop, HostChance, HostClock
from oo_daemon.identity.person import Claims
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
from oo_daemon.ingress.proving import Proving, ReadsTickets, SignsIn
from oo_daemon.ingress.proxy import ProxyRoutes
from oo_daemon.ingress.server import Listening
from oo_daemon.ingress.sinks import SinkRoutes
from oo_daemon.ingress.tokens import Tokens, Vouching
from oo_daemon.ingress.uploads import UploadRoutes
from oo_daemon.ingress.view import time
from oo_daemon.ingress.webhooks import Webhooks
from oo_daemon.ops import log
from oo_daemon.ops import metrics as numbers
from oo_daemon.ops.backup import Backups, Elsewhere
from oo_daemon.ops.disk import free_bytes
from oo_daemon.ops.fatal import Fatal
from oo_daemon.ops.files import DatabaseFile, DatabaseServer, HeadFile
from oo_daemon.ops.health import Health
from oo_daemon.ops.levels import CommitTimes
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.ops.plugins import PluginsTurn
from oo_daemon.ops.watch import Watch
from oo_daemon.outbox import own, wire
from oo_daemon.outbox.consumers import Consumers, parsed
from oo_daemon.outbox.relay import Relay
from oo_daemon.outbox.retention import EVERY as RETENTION_EVERY
from oo_daemon.outbox.retention import Keep, Retention
from oo_daemon.outbox.sinks import Sinks
from oo_daemon.outbox.tail import Tail
from oo_daemon.privacy.audit import Audit
from oo_daemon.privacy.deletions import DeletionLog
from oo_daemon.privacy.erase import Erasures
from oo_daemon.privacy.export import Export
from oo_daemon.reader_process import Process
from oo_daemon.registry import Registry, discover
from oo_daemon.store import consumers, credentials, inbox, jobs, lock, probe, runs, schedule, uploads
from oo_daemon.store.accept import event_id
from oo_daemon.store.connections import Connection
from oo_daemon.store.credentials import CredentialRows
from oo_daemon.store.engines import open_storage, upgrade_of
from oo_daemon.store.errors import CannotOpen, CannotStore
from oo_daemon.store.storage import Engine, Storage
from oo_daemon.strikes import Strikes
from oo_daemon.sync.act import Actions
from oo_daemon.sync.duties import Duties, Job
from oo_daemon.sync.imports import Imports
from oo_daemon.sync.intake import Intake
from oo_daemon.sync.jobs import Worker
from oo_daemon.sync.latency import Latency
from oo_daemon.sync.run import Limits, Sync
from oo_daemon.sync.schedule import Dispatcher, Line, SchedulerTicker
from oo_daemon.sync.timetable import Timetables
from oo_sdk import Log
from oo_vault import Keyring, Refresher

#: Seconds that running syncs get to finish when the daemon stops.
GRACE = 10.0
#: Multiples of the tick, as it usually is, so that they wake the loop together.
CHECKPOINT_EVERY, IMPORTS_EVERY = 0.2, 0.6
#: How often the inbox is looked at; what arrives is worked on at once.
INTAKE_EVERY = 1.0
#: How often jobs are looked at that are to be tried again; what is asked for is begun at once.
JOBS_EVERY = 1.0
ERASING_EVERY = 1.0
TIDY_EVERY = 3600.0
#: Bytes of an answer that a sink may read: it is about the status.
ANSWER_OF_A_RECEIVER = 64 * 1024
#: How often grants that no connection has are given back.
GIVE_BACK_EVERY = 10.0
#: How often a rotation that was cut off is looked for.
KEYS_EVERY = 60.0
#: How often it is measured what is left of limits.
BUDGETS_EVERY = 15.0
#: How often it is looked whose provider may be asked about a code.
DEVICES_EVERY = 1.0
#: Words by which daemons on one database tell each other where something is new.
SOURCES, ERASED, ARRIVED, CONFIRMED = "sources", "erased", "arrived", "confirmed"
#: How often is looked all the same whether sources have changed.
SOURCES_EVERY = 15.0
#: How often what was counted is written: uses of credentials, times of deliveries.
USES_EVERY = 10.0


#: What a daemon does: all, or on a PostgreSQL that several share its part of that.
Role = Literal["all", "ingress", "worker"]


class App(msgspec.Struct, frozen=True, kw_only=True):
    """A daemon that runs."""

    settings: Settings
    registry: Registry
    storage: Storage
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
    clock, chance, metrics = clock or HostClock(), chance or HostChance(), MemoryMetrics()
    owner = chance.token_bytes(8).hex()
    out = log.logger()
    async with AsyncExitStack() as stack:
        trace = _traces(settings, owner, stack)
        if role != "all" and not isinstance(settings.places.database, Server):
            raise CannotOpen(
                f"Only daemons on one PostgreSQL share the work: leave out --role {role}, or set places.database to its address."
            )
        # First of all, so that no plugin finds it.
        given = key_keeping.in_environment(environ) if settings.vault.keys_from == "environment" else None
        if role == "ingress":
            given = key_keeping.bundle(settings.vault.bundle_file)
        stack.enter_context(lock.held(settings.places.locked))
        strikes = Strikes(settings.places.beside, clock)
        at_work = stack.enter_context(strikes.watching())
        registry = discover(
            enabled=settings.plugins.enabled,
            settings=settings.connectors,
            sinks=settings.sinks,
            key_sources=settings.key_sources,
            sandboxes=False,
            aside=strikes.aside,
            loading=at_work.loading,
        )
        _tell_plugins(registry, settings, strikes, out)
        fatal = Fatal()
        guests = GuestLoop(named=registry.named, blocked=lambda turn, seconds: turns.blocked(turn, seconds), at_work=at_work)
        turns = PluginsTurn(
            turn=lambda: guests.turn,
            strikes=strikes,
            clock=clock,
            metrics=metrics,
            log=out,
            fatal=fatal.tell,
            counted=lambda: at_work.clear(at_work.LOOP),
        )
        guests.start()
        stack.push_async_callback(guests.stop)
        kept = given or key_keeping.chosen(settings.vault.keys_from, settings.vault.key_file, registry.key_sources, guests, environ)
        keyring = await kept.load()
        backups = _backups(settings, keyring, clock, metrics, out)
        if upgrade := upgrade_of(settings.places.database):  # no older program lives on what a newer one has changed
            if isinstance(backups, Backups):
                await backups.make()
            else:
                out.warning("schema_not_backed_up", before=upgrade[0])
        storage = open_storage(settings.places.database, wire.encode, trace=trace)
        stack.push_async_callback(storage.close)
        if upgrade:
            out.info("schema_upgraded", before=upgrade[0], now=upgrade[1])
        storage.on_damage(fatal.tell)
        storage.around_commits(CommitTimes(clock=clock, metrics=metrics))
        await _agree(storage, clock)
        await check(storage, keyring, clock)
        if storage.file is not None:
            await _rescue(storage, clock, metrics, out)
        await storage.write(runs.trim, settings.retention.runs)

        if transport is None:
            real = await guests.run(_transport(settings))
            stack.push_async_callback(lambda: guests.run(real.close()))
            transport = real

        door, public_url = None, settings.public.url
        if role != "worker":
            door, public_url = (sockets["public"], settings.public.url) if "public" in sockets else listeners.claim_public(settings)
        if door is not None:
            stack.callback(door.close)
        registrations = Registrations(storage=storage, keyring=keyring, registry=registry, clock=clock, public_url=public_url)
        sources = Sources(
            storage=storage,
            keyring=keyring,
            registry=registry,
            registrations=registrations,
            clock=clock,
            chance=chance,
            public_url=public_url,
            connection_event=own.connection_event,
            told=lambda: storage.tell(SOURCES),
        )
        await sources.prepare()
        for source in sources.closed():
            out.warning("source_closed", source=source.id, reason=source.closed)
        watch = Watch.over(
            settings,
            backups=backups,
            storage=storage,
            registry=registry,
            sources=sources,
            clock=clock,
            metrics=metrics,
            log=out,
            fatal=fatal.tell,
            plugins=turns,
        )
        published = Published(transport=transport, guests=guests, clock=clock)
        identity = _identity(settings, published, keyring, chance, clock, public_url, out)
        connect = Connect(
            storage=storage,
            keyring=keyring,
            registry=registry,
            registrations=registrations,
            guests=guests,
            transport=transport,
            clock=clock,
            chance=chance,
            public_url=public_url,
            link_life=settings.oauth.link_ttl,
            flow_life=settings.oauth.flow_ttl,
            pushes_kept=settings.retention.deliveries,
            connection_event=own.connection_event,
            proofs=frozenset(settings.identity.connect),
            published=published,
            return_to=frozenset({*settings.oauth.return_to, f"{public_url}/person"}),
            log=out,
            handed=(lambda: storage.tell(CONFIRMED)) if role == "ingress" else None,
        )
        visits = Visits(
            storage=storage,
            clock=clock,
            chance=chance,
            public_url=public_url,
            link_life=settings.oauth.link_ttl,
            proofs=frozenset(settings.identity.connect),
        )
        stack.push_async_callback(connect.settle)
        refresher = Refresher(rows=CredentialRows(storage), keyring=keyring, clock=clock, chance=chance, owner=owner)
        stack.push_async_callback(lambda: guests.run(refresher.finish()))
        keys = Keys(
            storage=storage,
            keyring=keyring,
            source=kept.where,
            load=kept.load,
            settle=lambda: guests.run(refresher.finish()),
            clock=clock,
            log=out,
        )
        stack.push_async_callback(keys.stop)
        if role != "ingress":
            await keys.go_on()
        uses = Uses(storage=storage, clock=clock, kept=settings.retention.uses)
        stack.push_async_callback(uses.write)
        budgets = Budgets(storage=storage, clock=clock, metrics=metrics)
        sessions = Credentials(
            refresher=refresher,
            registrations=registrations,
            transport=transport,
            clock=clock,
            metrics=metrics,
            used=uses.used,
            budgets=budgets,
            breakers=Breakers(monotonic=clock.monotonic, metrics=metrics),
            trace=trace,
        )
        streams = transport if isinstance(transport, AiohttpTransport) else await guests.run(_transport(settings))
        if streams is not transport:
            stack.push_async_callback(lambda: guests.run(streams.close()))
        forward = Forward(credentials=sessions, streams=streams, clock=clock)
        keep_alive = KeepAlive(storage=storage, registry=registry, credentials=sessions, guests=guests, clock=clock)
        log_for = _log_for(keyring)
        give_back = GiveBack(
            storage=storage,
            keyring=keyring,
            registry=registry,
            registrations=registrations,
            guests=guests,
            transport=transport,
            clock=clock,
            log_for=log_for,
            log=out,
        )
        line = Line()
        sync = Sync(
            storage=storage,
            registry=registry,
            credentials=sessions,
            guests=guests,
            clock=clock,
            chance=chance,
            metrics=metrics,
            log_for=log_for,
            limits=Limits(
                batch=settings.sync.batch,
                lease=settings.sync.lease,
                heartbeat=settings.sync.heartbeat,
                run_limit=settings.sync.run_limit,
                interval=settings.sync.interval,
                first_fetch_days=settings.sync.first_fetch_days,
            ),
            make_draft=wire.declared_draft,
            connection_event=own.connection_event,
            line=line,
            trace=trace,
            poisoned=strikes.poisoned,
        )
        dispatcher = Dispatcher(
            storage=storage,
            clock=clock,
            metrics=metrics,
            log=out,
            owner=owner,
            run=sync.run,
            workers=settings.sync.workers,
            lease=settings.sync.lease,
            chance=chance,
            remembered=settings.retention.runs,
            line=line,
        )
        stack.push_async_callback(lambda: dispatcher.stop(GRACE))
        latency = Latency(storage=storage, clock=clock)
        stack.push_async_callback(latency.write)
        intake = Intake(
            storage=storage,
            registry=registry,
            guests=guests,
            clock=clock,
            chance=chance,
            metrics=metrics,
            log=out,
            owner=owner,
            make_draft=wire.declared_draft,
            nudged=dispatcher.tick,
            withdrawn=lambda connection: erasing.of_connection(connection, "withdrawn"),
            keep_bodies=int(settings.retention.deliveries * ports.SECOND),
            keep_ids=int(settings.retention.delivery_ids * ports.SECOND),
            poisoned=strikes.poisoned,
            trace=trace,
            took=latency.took,
        )
        stack.push_async_callback(lambda: intake.stop(GRACE))
        contexts = Contexts(credentials=sessions, clock=clock, log_for=log_for)
        actions = Actions(
            storage=storage,
            registry=registry,
            contexts=contexts,
            guests=guests,
            clock=clock,
            chance=chance,
            metrics=metrics,
            connection_event=own.connection_event,
            action_event=own.action_event,
            remembered=settings.retention.actions,
            poisoned=strikes.poisoned,
        )
        subscribing = Subscriptions(
            storage=storage,
            registry=registry,
            sources=sources,
            contexts=contexts,
            guests=guests,
            clock=clock,
            chance=chance,
            metrics=metrics,
            log=out,
            public_url=public_url,
            interval=settings.sync.interval,
        )
        disconnect = Disconnect(
            storage=storage,
            registry=registry,
            contexts=contexts,
            refresher=refresher,
            guests=guests,
            clock=clock,
            chance=chance,
            metrics=metrics,
            connection_event=own.connection_event,
            action_event=own.action_event,
            unsubscribed=subscribing.end,
            closed=sources.changed,
        )
        worker = Worker(
            storage=storage,
            clock=clock,
            chance=chance,
            metrics=metrics,
            log=out,
            log_for=log_for,
            owner=owner,
            handlers={"act": actions, "revoke": disconnect},
            workers=settings.sync.workers,
        )
        stack.push_async_callback(lambda: worker.stop(GRACE))

        files = Files(settings.places.state / "uploads", place=await _place(storage, settings.places.state, chance))
        imports = Imports(
            storage=storage,
            files=files,
            clock=clock,
            metrics=metrics,
            log=out,
            keep=settings.imports.keep == "files",
            open=Process.open,
            enabled=settings.plugins.enabled,
            settings=settings.connectors,
            short=lambda: watch.disk.low,
        )
        stack.push_async_callback(imports.stop)
        taking = Uploads(
            storage=storage,
            registry=registry,
            files=files,
            clock=clock,
            chance=chance,
            room=lambda size: free_bytes(settings.places.state) - size >= settings.disk.least_free,
            largest=settings.imports.largest,
            life=settings.imports.ticket_ttl,
            public_url=public_url,
            connection_event=own.connection_event,
            stopped=imports.stop_one,
        )

        async def erased() -> None:
            await sources.changed()
            storage.tell(ERASED)

        erasing = Erasures(
            storage=storage,
            deletions=DeletionLog(settings.places.beside / "deletions.log"),
            file=DatabaseFile(storage=storage) if storage.file else DatabaseServer(),
            clock=clock,
            chance=chance,
            metrics=metrics,
            log=out,
            erased_event=own.erased_event,
            wake_jobs=worker.wake,
            closed=erased,
            purges={"uploads": taking.purge},
        )
        # Before anything can be asked: what was erased is not there again because an older backup was restored.
        if role != "ingress" and (again := await erasing.again()):
            out.warning("erased_again", connections=again)

        notes = Audit(
            storage=storage,
            keyring=keyring,
            head=HeadFile(settings.places.beside / "audit.head"),
            clock=clock,
            chance=chance,
            log=out,
            shared=storage.file is None,
        )

        retention = Retention(
            storage=storage,
            checkpoint=storage.checkpoint,
            clock=clock,
            metrics=metrics,
            log=out,
            keep=Keep(
                read=settings.retention.read,
                unread=settings.retention.unread,
                tombstones=settings.retention.tombstones,
                size=settings.retention.size,
            ),
        )
        tail = Tail(storage, clock)
        outlets = _outlets(settings, clock)
        stack.push_async_callback(lambda: guests.run(outlets.close()))
        relay = Relay(
            storage=storage,
            reader=tail,
            guests=guests,
            clock=clock,
            chance=chance,
            metrics=metrics,
            log=out,
            outlet=lambda placed: guests.run(outlets.of(placed.name, placed.terms.reach)),
            suspects=strikes,
            trace=trace,
        )
        stack.push_async_callback(relay.stop)
        if role != "ingress":
            relay.start(registry.sinks.values())

        await watch.begin(stack)
        await taking.tidy()

        tokens = Tokens(storage=storage, clock=clock, chance=chance)
        events = EventRoutes(
            storage=storage,
            reader=tail,
            consumers=Consumers(storage=storage, reader=tail, clock=clock, chance=chance, metrics=metrics),
            parsed=parsed,
            as_json=wire.as_json,
            entry=wire.entry,
            stretch=wire.stretch,
            views=wire.VIEWS,
            clock=clock,
        )
        api = Api(
            storage=storage,
            registry=registry,
            registrations=registrations,
            sources=sources,
            connect=connect,
            disconnect=disconnect,
            actions=actions,
            wake=worker.wake,
            tokens=tokens,
            keys=keys,
            uses=uses,
            strikes=strikes,
            budgets=budgets,
            timetables=Timetables(storage=storage, clock=clock, interval=settings.sync.interval),
            as_json=wire.as_json,
            rehearse=_rehearse(intake, clock),
            arrived=intake.wake,
            clock=clock,
            status={
                "version": oo_daemon.__version__,
                "instance": owner,
                "public_url": public_url,
                "database": str(settings.places.database),
                "engine": storage.engine,
                "started_at": time(clock.now()),
            },
        )
        webhooks = Webhooks(
            keep=lambda arrival: storage.begin(inbox.put, arrival),
            sources=sources,
            clock=clock,
            chance=chance,
            metrics=metrics,
            log=out,
            arrived=intake.wake if role != "ingress" else lambda: storage.tell(ARRIVED),
            short=watch.short,
            limit=settings.public.body_limit,
            rate=settings.public.source_rate,
            trace=trace,
        )
        export = Export(storage=storage, folder=settings.places.beside, clock=clock, as_json=wire.as_json).of_user
        proving = Proving(
            public_url=public_url,
            token=_tokens(chance),
            clock=clock,
            rate=settings.oauth.rate,
            links={"connect": connect, "visit": visits},
            at_issuer=identity.sign_in if "sign_in" in settings.identity.connect else None,
            tickets=identity.tickets,
        )
        person = PersonPages(
            visits=visits,
            proving=proving,
            connect=connect,
            disconnect=disconnect,
            uploads=taking,
            erasures=erasing,
            export=export,
            notes=notes,
            storage=storage,
            registry=registry,
            clock=clock,
            wake=worker.wake,
            pushes_kept=settings.retention.deliveries,
        )
        looked_at = HealthRoutes(health=watch.health, numbers=lambda: numbers.exposition(metrics), numbers_type=numbers.CONTENT_TYPE)
        public, private = await listeners.listen(
            settings,
            stack,
            door=door,
            private_door=sockets.get("private"),
            to_the_public=None
            if role == "worker"
            else [
                *proving.routes(),
                *ConnectPages(connecting=connect, proving=proving, clock=clock, own_page=f"{public_url}/person").routes(),
                *person.routes(),
                *webhooks.routes(),
                *ImportPages(uploads=taking).routes(),
            ],
            straight=webhooks.straight(),
            private_rooms=[looked_at]
            if role == "ingress"  # what else is asked there takes keys
            else [
                looked_at,
                BackupRoutes(backups=watch.backups),
                events,
                ProxyRoutes(storage=storage, registry=registry, guests=guests, forward=forward),
                SinkRoutes(sinks=Sinks(storage=storage, placed=registry.sinks, aside=registry.sinks_aside, call=relay.call)),
                AuditRoutes(notes=notes),
                PrivacyRoutes(
                    storage=storage,
                    erasures=erasing,
                    on_file=storage.file is not None,
                    export=export,
                    visits=visits,
                    clock=clock,
                ),
                UploadRoutes(uploads=taking, clock=clock),
                api,
            ],
            console=None
            if role == "ingress"
            else Console(
                storage=storage,
                registry=registry,
                strikes=strikes,
                tokens=tokens,
                sources=sources,
                keys=keys,
                disconnect=disconnect,
                budgets=budgets,
                erasures=erasing,
                health=watch.health,
                wake=worker.wake,
                arrived=intake.wake,
                rehearse=_rehearse(intake, clock),
                as_json=wire.as_json,
                as_text=wire.as_text,
                clock=clock,
                chance=chance,
                log=out,
                issuer=identity.sign_in if settings.identity.operator_roles or settings.identity.viewer_roles else None,
            ),
            notes=notes,
            tokens=tokens,
            vouching=identity.callers,
            trace=trace,
            out=out,
        )
        stack.callback(tail.close)  # before the doors close: they would wait for those who wait
        ticker = SchedulerTicker()

        async def dispatch() -> None:
            if not watch.disk.low:  # what a sync would bring could not be kept
                await dispatcher.tick()

        duties = Duties(storage=storage, clock=clock, owner=owner)
        alone: Callable[[str, Job], Job] = (lambda name, job: job) if storage.file else duties.alone
        if storage.file is None:
            _hear(storage, role, sources=sources, taking=taking, intake=intake, connect=connect)
            ticker.every(SOURCES_EVERY, partial(_quietly, sources.load), "sources")
            stack.push_async_callback(duties.leave)
        jobs_here: list[tuple[float, Job, str]] = [
            (IMPORTS_EVERY, imports.tick, "imports"),
            (USES_EVERY, uses.write, "uses"),
            (USES_EVERY, latency.write, "latency"),
            (BUDGETS_EVERY, budgets.tell, "budgets"),
            (TIDY_EVERY, taking.tidy, "tidy_uploads"),
            *watch.jobs(),
        ]
        if role != "ingress":
            jobs_here += [
                (settings.sync.tick, dispatch, "dispatch"),
                (JOBS_EVERY, worker.tick, "jobs"),
                (INTAKE_EVERY, intake.tick, "intake"),
                (ERASING_EVERY, alone("erasing", erasing.tick), "erasing"),
                (RETENTION_EVERY, alone("retention", retention.tick), "retention"),
                (subscriptions_.EVERY, alone("subscriptions", subscribing.tick), "subscriptions"),
                (GIVE_BACK_EVERY, alone("give_back", give_back.tick), "give_back"),
                (DEVICES_EVERY, connect.poll, "devices"),
                (KEYS_EVERY, alone("keys", keys.go_on), "keys"),
                (TIDY_EVERY, alone("keep_alive", keep_alive.tick), "keep_alive"),
                (TIDY_EVERY, alone("tidy", connect.tidy), "tidy"),
                (TIDY_EVERY, alone("tidy_visits", visits.tidy), "tidy_visits"),
                (TIDY_EVERY, alone("tidy_inbox", intake.tidy), "tidy_inbox"),
                (TIDY_EVERY, alone("tidy_actions", actions.tidy), "tidy_actions"),
                (TIDY_EVERY, alone("tidy_budgets", budgets.tidy), "tidy_budgets"),
                (TIDY_EVERY, alone("tidy_uses", uses.tidy), "tidy_uses"),
                (TIDY_EVERY, alone("tidy_latency", latency.tidy), "tidy_latency"),
            ]
        if storage.file is not None:
            jobs_here.append((CHECKPOINT_EVERY, storage.tend, "checkpoint"))
        elif role != "ingress":
            jobs_here.append((DEVICES_EVERY, connect.finish_confirmed, "confirmed"))
        for seconds, job, name in jobs_here:
            ticker.every(seconds, job, name)
        ticker.start()
        stack.push_async_callback(ticker.stop)
        out.info("started", public=public.address if public else None, private=private.address, version=oo_daemon.__version__)
        yield App(
            settings=settings,
            registry=registry,
            storage=storage,
            keys=keys,
            clock=clock,
            metrics=metrics,
            health=watch.health,
            fatal=fatal,
            public=public,
            private=private,
            public_url=public_url,
        )
        out.info("stopping")
    out.info("stopped")


class _Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who vouches for people, as far as the operator has set it up."""

    callers: Vouching | None = None
    sign_in: SignsIn | None = None
    tickets: ReadsTickets | None = None


def _identity(
    settings: Settings, published: Published, keyring: Keyring, chance: ports.Chance, clock: ports.Clock, public_url: str, out: Log
) -> _Identity:
    """Raises `ConfigError` for a file of identity's that cannot be read."""
    known = settings.identity
    if not known.issuer and "ticket" not in known.connect:
        return _Identity()
    # Here, since it brings 20 MB and half a second that only those should pay who use it.
    from oo_daemon.identity import files
    from oo_daemon.identity.issuer import Callers, Issuer
    from oo_daemon.identity.sign_in import OpenId
    from oo_daemon.identity.tickets import Tickets

    tickets = None
    if "ticket" in known.connect:
        tickets = Tickets(keys=files.public_keys(known.ticket_keys), audience=public_url, clock=clock)
    if not known.issuer:
        return _Identity(tickets=tickets)
    claims = Claims(user=known.user_claim, roles=known.roles_claim, operators=known.operator_roles, viewers=known.viewer_roles)
    issuer = Issuer(name=known.issuer, algorithms=known.algorithms, claims=claims, published=published, clock=clock, log=out)
    sign_in = None
    if known.client_id:
        secret = files.secret(known.client_secret_file)
        sign_in = OpenId(issuer=issuer, client_id=known.client_id, secret=secret, scopes=known.scopes, keyring=keyring, chance=chance)
    callers = Callers(issuer=issuer, audience=known.audience) if known.audience else None
    return _Identity(callers=callers, sign_in=sign_in, tickets=tickets)


def _traces(settings: Settings, instance: str, stack: AsyncExitStack) -> ports.Trace:
    """Raises `ConfigError` where they are wanted and what sends them is not installed."""
    if not settings.traces.endpoint:
        return ports.UNTRACED
    try:  # here, since it brings half a second that only those should pay who use it
        from oo_daemon.ops.traces import Traces
    except ImportError:
        sentence, remedy = "What sends traces is not installed.", "Run `pip install 'oo-integrations[traces]'`, or leave it out."
        raise ConfigError((Problem(place="traces.endpoint", sentence=sentence, remedy=remedy),)) from None
    traces = Traces(endpoint=settings.traces.endpoint, percent=settings.traces.percent, version=oo_daemon.__version__, instance=instance)
    stack.push_async_callback(traces.close)
    return traces


def _rehearse(intake: Intake, clock: ports.Clock) -> Rehearse:
    async def rehearse(connection: Connection, headers: Mapping[str, str], body: bytes, id_: str) -> list[bytes]:
        drafts = await intake.rehearse(connection, headers, body, id_)
        encoded = wire.encode(connection, clock.now())
        return [encoded(draft, event_id(connection.id, draft.type, draft.key, 1), 1) for draft in drafts]

    return rehearse


async def _agree(storage: Storage, clock: ports.Clock) -> None:
    """Leases are by each daemon's own clock: one whose clock is far off would take from others what they hold. Raises `CannotOpen`."""
    ahead = await storage.read(probe.ahead, clock.now)
    if abs(ahead) > probe.AGREED:
        raise CannotOpen(
            f"This host's clock is {ahead / ports.SECOND:+.0f} s off that of PostgreSQL, and no daemon's may be off by more than "
            f"{probe.AGREED // ports.SECOND} s: set both by NTP."
        )


def _hear(storage: Engine, role: Role, *, sources: Sources, taking: Uploads, intake: Intake, connect: Connect) -> None:
    """Look where other daemons on the database say that something is new. Each of it is looked at every now and then all the same."""
    loop = asyncio.get_running_loop()
    wanted: set[asyncio.Task[None]] = set()

    def soon(look: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        def begin() -> None:
            task = asyncio.ensure_future(_quietly(look))
            wanted.add(task)
            task.add_done_callback(wanted.discard)

        return begin

    def there(look: Callable[[], None]) -> Callable[[], None]:
        def ring() -> None:
            loop.call_soon_threadsafe(look)

        return ring

    for word, look in ((SOURCES, soon(sources.load)), (ERASED, soon(taking.tidy))):
        storage.on_word(word, there(look))
    if role != "ingress":
        for word, look in ((ARRIVED, intake.wake), (CONFIRMED, soon(connect.finish_confirmed))):
            storage.on_word(word, there(look))


async def _quietly(look: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with suppress(CannotStore):  # it is looked at again
        await look()


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


async def _rescue(storage: Storage, clock: ports.Clock, metrics: ports.Metrics, out: Log) -> None:
    """Free what the dead held: the lock says that no other daemon lives on this file."""
    if rescued := await storage.write(schedule.rescue, clock.now()):
        out.warning("runs_rescued", runs=rescued)
        metrics.count("leases_rescued", rescued, kind="sync")
    if rescued := await storage.write(jobs.rescue):
        out.warning("jobs_rescued", jobs=rescued)
        metrics.count("leases_rescued", rescued, kind="job")
    if rescued := await storage.write(inbox.rescue):
        out.warning("deliveries_rescued", deliveries=rescued)
        metrics.count("leases_rescued", rescued, kind="delivery")
    if rescued := await storage.write(uploads.rescue, ""):
        out.warning("imports_rescued", imports=rescued)
        metrics.count("leases_rescued", rescued, kind="import")
    await storage.write(credentials.rescue)
    await storage.write(consumers.rescue_sinks)


def _tokens(chance: ports.Chance) -> Callable[[], str]:
    return lambda: base64.urlsafe_b64encode(chance.token_bytes(32)).rstrip(b"=").decode()


def _log_for(keyring: Keyring) -> LogFor:
    return lambda connection, provider: log.Lazy(lambda: log.logger(connection=keyring.log_tag(connection), provider=provider))


async def _transport(settings: Settings) -> AiohttpTransport:
    return AiohttpTransport(
        connect_timeout=settings.http.connect_timeout,
        read_timeout=settings.http.read_timeout,
        response_limit=settings.http.response_limit,
        user_agent=f"oo-integrations/{oo_daemon.__version__}",
    )


def _backups(settings: Settings, keyring: Keyring, clock: ports.Clock, metrics: ports.Metrics, out: Log) -> Backups | Elsewhere:
    file = settings.places.database
    if not isinstance(file, Path):
        return Elsewhere()
    return Backups(
        database=file,
        folder=settings.backup.folder,
        keep=settings.backup.keep,
        keyring=keyring,
        clock=clock,
        metrics=metrics,
        log=out,
    )


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


def _tell_plugins(registry: Registry, settings: Settings, strikes: Strikes, out: Log) -> None:
    for name, count in strikes.counted().items():
        out.warning("plugin_has_strikes", plugin=name, strikes=count)
    for plugin in registry.plugins:
        if plugin.state == "loaded":
            out.info("plugin_loaded", plugin=plugin.name, distribution=plugin.distribution, version=plugin.version)
        else:
            out.warning("plugin_not_loaded", plugin=plugin.name, distribution=plugin.distribution, state=plugin.state, reason=plugin.reason)
    for sink, reason in registry.sinks_aside.items():
        out.warning("sink_not_loaded", sink=sink, reason=reason)
