"""What everything else stands on: the plugins, their loop, the key, and the database."""

from __future__ import annotations

from collections.abc import MutableMapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal

import msgspec

import oo_daemon
from oo_config import ConfigError, Problem, Server, Settings
from oo_daemon import ports
from oo_daemon.connections import key_keeping
from oo_daemon.connections.keys import check
from oo_daemon.host import Background, GuestLoop
from oo_daemon.ops import log
from oo_daemon.ops.backup import Backups, Elsewhere
from oo_daemon.ops.fatal import Fatal
from oo_daemon.ops.levels import CommitTimes
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.ops.plugins import PluginsTurn
from oo_daemon.outbox import wire
from oo_daemon.registry import Registry, discover
from oo_daemon.store import consumers, credentials, inbox, jobs, lock, probe, runs, schedule, uploads
from oo_daemon.store.engines import open_storage, upgrade_of
from oo_daemon.store.errors import CannotOpen
from oo_daemon.store.storage import Engine, Storage
from oo_daemon.strikes import Strikes
from oo_sdk import Log
from oo_vault import Keyring

#: Words by which daemons on one database tell each other where something is new.
SOURCES, ERASED, ARRIVED, CONFIRMED = "sources", "erased", "arrived", "confirmed"

#: What a daemon does: all, or on a PostgreSQL that several share its part of that.
Role = Literal["all", "ingress", "worker"]


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What is there before anything is done."""

    settings: Settings
    role: Role
    owner: str  #: This daemon's name in leases.
    clock: ports.Clock
    chance: ports.Chance
    metrics: MemoryMetrics
    log: Log
    trace: ports.Trace
    strikes: Strikes
    registry: Registry
    fatal: Fatal
    guests: GuestLoop
    turns: PluginsTurn
    background: Background
    key: key_keeping.Kept
    keyring: Keyring
    backups: Backups | Elsewhere
    storage: Engine


async def lay(
    settings: Settings, stack: AsyncExitStack, *, clock: ports.Clock, chance: ports.Chance, environ: MutableMapping[str, str], role: Role
) -> Ground:
    """Lay it. Raises as `build` does."""
    metrics, owner, out = MemoryMetrics(), chance.token_bytes(8).hex(), log.logger()
    trace = _traces(settings, owner, stack)
    if role != "all" and not isinstance(settings.places.database, Server):
        raise CannotOpen(f"Only daemons on one PostgreSQL share the work: leave out --role {role}, or set places.database to its address.")
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
    background = Background()
    stack.callback(background.close)
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
    return Ground(
        settings=settings,
        role=role,
        owner=owner,
        clock=clock,
        chance=chance,
        metrics=metrics,
        log=out,
        trace=trace,
        strikes=strikes,
        registry=registry,
        fatal=fatal,
        guests=guests,
        turns=turns,
        background=background,
        key=kept,
        keyring=keyring,
        backups=backups,
        storage=storage,
    )


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


async def _agree(storage: Storage, clock: ports.Clock) -> None:
    """Leases are by each daemon's own clock: one whose clock is far off would take from others what they hold. Raises `CannotOpen`."""
    ahead = await storage.read(probe.ahead, clock.now)
    if abs(ahead) > probe.AGREED:
        raise CannotOpen(
            f"This host's clock is {ahead / ports.SECOND:+.0f} s off that of PostgreSQL, and no daemon's may be off by more than "
            f"{probe.AGREED // ports.SECOND} s: set both by NTP."
        )


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
