"""One run of the daemon over the database: its own parts, and what comes in by the door simulated."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import apsw
from simulation.loop import PROCESS, Dead, Process, SeededLoop
from simulation.provider import Provider
from simulation.watch import Watch

from oo_daemon.connections.breaker import Breakers
from oo_daemon.connections.budgets import Budgets
from oo_daemon.connections.connect import Connect
from oo_daemon.connections.credential import Credentials
from oo_daemon.connections.disconnect import Disconnect
from oo_daemon.connections.give_back import GiveBack
from oo_daemon.connections.guest import Contexts
from oo_daemon.connections.registration import Registrations
from oo_daemon.connections.sources import Sources
from oo_daemon.connections.transport import Request
from oo_daemon.connections.uses import Uses
from oo_daemon.host import SameLoop
from oo_daemon.ingress.webhooks import Webhooks
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import own, wire
from oo_daemon.ports import SECOND
from oo_daemon.privacy.deletions import DeletionLog
from oo_daemon.privacy.erase import Erasures
from oo_daemon.registry import Registry
from oo_daemon.store import accept, credentials, inbox, jobs, schedule
from oo_daemon.store.connections import Connection
from oo_daemon.store.credentials import CredentialRows
from oo_daemon.store.database import Database, ForMany, SqliteDatabase
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.storage import InlineStorage, Lane, Prepared
from oo_daemon.sync.act import Actions
from oo_daemon.sync.intake import Intake
from oo_daemon.sync.jobs import Worker
from oo_daemon.sync.run import Limits, Sync
from oo_daemon.sync.schedule import MISSED, Dispatcher, Line
from oo_sdk import Connector, Response
from oo_vault import Keyring, Refresher

T = TypeVar("T")

PUBLIC = "http://127.0.0.1:1"
#: Seconds between two looks at the schedule: with more, the dispatcher believes that nobody ticked.
DISPATCH = MISSED * 0.9
#: Seconds that a stop waits for what is under way.
GRACE = 20.0


async def _nothing_withdrawn(connection: Connection) -> None:
    """No provider here says that access was taken back."""


async def _nothing_to_end(connector: Connector, connection: Connection) -> bool:
    """No provider here pushes for a while only."""
    return True


class NoReply(Exception):
    """Whoever asked has waited long enough; what was asked for may still be done."""


@dataclass
class VirtualClock:
    """The host's clock: the loop's time, plus whatever somebody did to it."""

    loop: SeededLoop
    step: float = 0.0

    def now(self) -> int:
        """Microseconds."""
        return 1_800_000_000 * SECOND + int((self.loop.time() + self.step) * SECOND)

    def monotonic(self) -> float:
        """Seconds."""
        return self.loop.time()

    async def sleep(self, seconds: float) -> None:
        """Wait, in virtual time."""
        await asyncio.sleep(max(0.0, seconds))


class SeededChance:
    """Randomness from the seed."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def token_bytes(self, size: int) -> bytes:
        """Bytes."""
        return self._chance.randbytes(size)

    def uniform(self, low: float, high: float) -> float:
        """A number."""
        return self._chance.uniform(low, high)


class NoLog:
    """Says nothing; what is logged is tested elsewhere."""

    def debug(self, event: str, **fields: Any) -> None:
        """Nothing."""

    def info(self, event: str, **fields: Any) -> None:
        """Nothing."""

    def warning(self, event: str, **fields: Any) -> None:
        """Nothing."""


@dataclass
class Disk:
    """The disk under the database. While it is bad most commits are refused: it is full, or it cannot write."""

    chance: random.Random
    bad: bool = False
    refused: int = 0

    def write(self) -> None:
        """Raises what SQLite raises."""
        if self.bad and self.chance.random() < 0.7:
            self.refused += 1
            raise self.chance.choice((apsw.FullError, apsw.IOError))("the disk is bad")


class MortalStorage(InlineStorage):
    """Storage that takes a moment, that is watched, and that is gone when its process is."""

    def __init__(self, database: SqliteDatabase, process: Process, chance: random.Random, watch: Watch, disk: Disk) -> None:
        super().__init__(database, wire.encode)
        self._process = process
        self._chance = chance
        self._watch = watch
        self._disk = disk

    async def _moment(self) -> None:
        # Others may run before it happens, and after it has happened before the caller knows.
        if self._chance.random() < 0.5:
            await asyncio.sleep(0)
        if self._process.dead:
            raise Dead

    async def _asked(self) -> None:
        # Between a process's look at the clock and what it writes by it.
        if not self._process.dead:
            self._process.reached("ask")
        if self._process.frozen:
            await asyncio.sleep(0)
        await self._moment()

    async def read(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        """Read, in a moment."""
        await self._moment()
        return query(self.database, *args, **kwargs)

    async def write(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        """Write, in a moment."""
        await self._asked()
        lost: list[str] = []

        def watched(database: Database) -> Any:
            lost[:] = self._watch.fenced(database, args)
            result = query(database, *args, **kwargs)
            self._disk.write()
            return result

        name = (query.many if isinstance(query, ForMany) else query).__qualname__
        return await self._committed(name, watched, lost)

    async def accept(self, batch: Prepared, lane: Lane = Lane.BULK) -> accept.Accepted:
        """Write events and their mark, in a moment."""
        await self._asked()
        lost: list[str] = []

        def watched(database: Database) -> accept.Accepted:
            made = batch(database) if callable(batch) else batch
            lost[:] = self._watch.fenced(database, made.marks)
            told = accept.accept(database, made, wire.encode)
            self._disk.write()
            return told

        accepted: accept.Accepted = await self._committed("accept", watched, lost)
        return accepted

    async def _committed(self, what: str, watched: Any, lost: list[str]) -> Any:
        try:
            result = await super().write(watched)
        except Exception:
            self._watch.refused()
            raise
        self._watch.committed(self._process, what)
        self._watch.went_through(lost)
        self._process.reached("commit")
        self._process.reached(what)
        await self._moment()
        return result


@dataclass
class Network:
    """Leads to the providers; a call takes a while, and nothing comes back to the dead."""

    providers: Mapping[str, Provider]
    process: Process
    chance: random.Random
    watch: Watch

    async def send(self, request: Request) -> Response:
        """Carry a request there and an answer back."""
        await asyncio.sleep(self.chance.uniform(0.01, 0.4))
        if self.process.dead:
            raise Dead
        provider = self.providers[request.url.partition("://")[2].partition(".")[0]]
        if request.url.endswith("/token"):
            form = dict(parse_qsl((request.body or b"").decode()))
            if form["grant_type"] == "refresh_token":
                self.watch.refreshing(self.process, form["refresh_token"])
        try:
            return provider.answer(request)
        finally:
            self.watch.answered(self.process, provider)
            self.process.reached("answer")
            await asyncio.sleep(self.chance.uniform(0.01, 0.4))
            if self.process.dead:
                raise Dead


@dataclass(kw_only=True)
class Machine:
    """One run of the daemon, from start to death."""

    process: Process
    context: Context
    storage: MortalStorage
    connect: Connect
    registrations: Registrations
    sources: Sources
    webhooks: Webhooks
    dispatcher: Dispatcher
    worker: Worker
    intake: Intake
    actions: Actions
    disconnect: Disconnect
    erasures: Erasures
    give_back: GiveBack
    refresher: Refresher
    clock: VirtualClock
    disk: Disk
    watch: Watch
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, work: Coroutine[Any, Any, T], patience: float = 30.0) -> T:
        """Ask it for something from outside. Raises `Dead` where it died over it, and `NoReply` where it takes too long."""
        if self.process.dead:
            work.close()
            raise Dead
        task = self.process_task(work)
        await asyncio.wait({task}, timeout=patience)
        if not task.done():
            raise NoReply
        if task.cancelled():
            raise Dead
        return task.result()

    def process_task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something as a part of it."""
        return asyncio.get_running_loop().create_task(work, context=self.context)

    def begin(self, tick: float, *, alone: Callable[[], bool]) -> None:
        """Start it. `alone`: no other runs on this database, so that leases which are left belong to the dead."""

        async def start() -> None:
            if alone():
                await self.storage.write(schedule.rescue, self.clock.now())
                for rescue in (jobs.rescue, inbox.rescue, credentials.rescue):
                    await self.storage.write(rescue)
            await self.sources.prepare()
            await self.erasures.again()

        async def live() -> None:
            while True:
                try:
                    await start()
                except CannotStore:
                    await self.clock.sleep(5)  # it ends, and whoever watches over it starts it again
                else:
                    break
            self.ready.set()
            self.process_task(self._every(DISPATCH, self.dispatcher.tick))
            for ticking in (self.worker.tick, self.intake.tick, self.erasures.tick, self.give_back.tick):
                self.process_task(self._every(tick, ticking))

        self.process_task(live())

    async def _every(self, seconds: float, job: Any) -> None:
        while True:
            try:
                await job()
            except CannotStore:
                pass  # whoever ticks tries again
            except Exception as error:
                self.watch.broken.append(f"{job.__qualname__} raised {type(error).__name__}: {error}")
            await self.clock.sleep(seconds)

    async def stop(self) -> None:
        """End in order, as at SIGTERM: what can end does, and nothing is held afterwards."""
        self.ready.clear()
        refused = self.disk.refused
        for part in (self.worker, self.intake, self.dispatcher):
            await part.stop(GRACE)
        await self.connect.settle()
        await self.refresher.finish()
        if not self.process.dead and self.disk.refused == refused:
            self.watch.stopped(self.process, refused=bool(refused))

    async def die(self) -> None:
        """Be gone at once: what runs is cancelled and can touch nothing any more."""
        self.process.dead = True
        mine = [task for task in self.process.tasks if not task.done()]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)


@dataclass(frozen=True)
class _File:
    """The database as a file: what packing does to its bytes is tested elsewhere."""

    async def pack(self) -> None:
        """Nothing, in a moment."""
        await asyncio.sleep(0)

    def size(self) -> int:
        """Bytes."""
        return 1

    def free(self) -> int:
        """Bytes."""
        return 10


def build(
    *,
    owner: str,
    database: SqliteDatabase,
    folder: Path,
    providers: Mapping[str, Provider],
    registry: Registry,
    keyring: Keyring,
    clock: VirtualClock,
    watch: Watch,
    chance: random.Random,
    disk: Disk,
    interval: float,
    workers: int,
) -> Machine:
    """Put the daemon's parts together, as `app.build` does."""
    process = Process(owner=owner)
    context = copy_context()
    context.run(PROCESS.set, process)
    drawn = SeededChance(random.Random(chance.random()))
    storage = MortalStorage(database, process, random.Random(chance.random()), watch, disk)
    network = Network(providers, process, random.Random(chance.random()), watch)
    guests, metrics, log = SameLoop(), MemoryMetrics(), NoLog()
    registrations = Registrations(storage=storage, keyring=keyring, registry=registry, clock=clock, public_url=PUBLIC)
    sources = Sources(
        storage=storage,
        keyring=keyring,
        registry=registry,
        registrations=registrations,
        clock=clock,
        chance=drawn,
        public_url=PUBLIC,
        connection_event=own.connection_event,
    )
    connect = Connect(
        storage=storage,
        keyring=keyring,
        registry=registry,
        registrations=registrations,
        guests=guests,
        transport=network,
        clock=clock,
        chance=drawn,
        public_url=PUBLIC,
        link_life=900,
        flow_life=600,
        connection_event=own.connection_event,
    )
    refresher = Refresher(rows=CredentialRows(storage), keyring=keyring, clock=clock, chance=drawn, owner=owner)
    uses = Uses(storage=storage, clock=clock)
    sessions = Credentials(
        refresher=refresher,
        registrations=registrations,
        transport=network,
        clock=clock,
        metrics=metrics,
        used=uses.used,
        budgets=Budgets(storage=storage, clock=clock, metrics=metrics),
        breakers=Breakers(monotonic=clock.monotonic, metrics=metrics),
    )
    line = Line()
    contexts = Contexts(credentials=sessions, clock=clock, log_for=lambda connection, provider: log)
    sync = Sync(
        storage=storage,
        registry=registry,
        credentials=sessions,
        guests=guests,
        clock=clock,
        chance=drawn,
        metrics=metrics,
        log_for=lambda connection, provider: log,
        limits=Limits(batch=3, interval=interval, lease=60, heartbeat=15, run_limit=120),
        make_draft=wire.declared_draft,
        connection_event=own.connection_event,
        line=line,
    )
    dispatcher = Dispatcher(
        storage=storage,
        clock=clock,
        metrics=metrics,
        log=log,
        owner=owner,
        run=sync.run,
        workers=workers,
        lease=60,
        chance=drawn,
        line=line,
    )
    intake = Intake(
        storage=storage,
        registry=registry,
        guests=guests,
        clock=clock,
        chance=drawn,
        metrics=metrics,
        log=log,
        owner=owner,
        lease=60.0,
        make_draft=wire.declared_draft,
        withdrawn=_nothing_withdrawn,
        nudged=dispatcher.tick,
    )
    actions = Actions(
        storage=storage,
        registry=registry,
        contexts=contexts,
        guests=guests,
        clock=clock,
        chance=drawn,
        metrics=metrics,
        connection_event=own.connection_event,
        action_event=own.action_event,
    )
    disconnect = Disconnect(
        storage=storage,
        registry=registry,
        contexts=contexts,
        refresher=refresher,
        guests=guests,
        clock=clock,
        chance=drawn,
        metrics=metrics,
        connection_event=own.connection_event,
        action_event=own.action_event,
        unsubscribed=_nothing_to_end,
        closed=sources.load,
    )
    worker = Worker(
        storage=storage,
        clock=clock,
        chance=drawn,
        metrics=metrics,
        log=log,
        log_for=lambda connection, provider: log,
        owner=owner,
        handlers={"act": actions, "revoke": disconnect},
        workers=workers,
    )
    give_back = GiveBack(
        storage=storage,
        keyring=keyring,
        registry=registry,
        registrations=registrations,
        guests=guests,
        transport=network,
        clock=clock,
        log_for=lambda connection, provider: log,
        log=log,
    )
    erasures = Erasures(
        storage=storage,
        deletions=DeletionLog(folder / "deletions.log"),
        file=_File(),
        clock=clock,
        chance=drawn,
        metrics=metrics,
        log=log,
        erased_event=own.erased_event,
        wake_jobs=worker.wake,
        closed=sources.load,
    )
    webhooks = Webhooks(
        keep=lambda arrival: asyncio.ensure_future(storage.write(inbox.put, arrival)),
        sources=sources,
        clock=clock,
        chance=drawn,
        metrics=metrics,
        log=log,
        arrived=intake.wake,
        short=lambda: False,
        limit=65536,
        rate=50,
    )
    return Machine(
        process=process,
        context=context,
        storage=storage,
        connect=connect,
        registrations=registrations,
        sources=sources,
        webhooks=webhooks,
        dispatcher=dispatcher,
        worker=worker,
        intake=intake,
        actions=actions,
        disconnect=disconnect,
        erasures=erasures,
        give_back=give_back,
        refresher=refresher,
        clock=clock,
        disk=disk,
        watch=watch,
    )
