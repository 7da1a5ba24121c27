"""One simulated life: people, providers, and a daemon that crashes, over one database file; all of it from one seed.

The daemon's own parts run as they are. What comes in by the door is simulated: the loop, the clock, chance, the network, and death.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from simulation.loop import SeededLoop
from simulation.provider import Account, Provider

from oo_daemon.connections.connect import Connect, FlowRefused, LinkGone
from oo_daemon.connections.credential import Credentials
from oo_daemon.connections.registration import Registrations
from oo_daemon.connections.transport import Request
from oo_daemon.host import SameLoop
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import own, wire
from oo_daemon.ports import SECOND
from oo_daemon.registry import Registry
from oo_daemon.store import connections, credentials, outbox, schedule
from oo_daemon.store.credentials import CredentialRows
from oo_daemon.store.database import SqliteDatabase
from oo_daemon.store.storage import InlineStorage
from oo_daemon.sync.run import Limits, Sync
from oo_daemon.sync.schedule import Dispatcher
from oo_sdk import (
    Change,
    Checkpoint,
    Connector,
    ConnectorBug,
    Context,
    Cursor,
    CursorExpired,
    Event,
    Flow,
    Listing,
    OAuth2,
    Raw,
    Response,
    Rotation,
    Scope,
    Signal,
    StoredCredential,
    Struct,
    Unreadable,
    decode,
)
from oo_sdk.vocabulary import Task
from oo_vault import Keyring, Refresher, Secret

HOUR = 3600.0


# --- a connector for the simulated providers ------------------------------------------------------------------------------


class Shown(Struct):
    """One object as the provider shows it."""

    id: str
    seq: int
    deleted: bool
    title: str | None = None


class Page(Struct):
    """A page of changes."""

    changes: list[Raw]
    cursor: str
    more: bool


class Me(Struct):
    """Whose account it is."""

    id: str


class Simulated(Connector):
    """Reads a simulated provider."""

    def __init__(self, provider: Provider) -> None:
        self.id = provider.name
        self.title = provider.name.title()
        self.hosts = [provider.host]
        self.scopes = [Scope("read", "See your things and when you change them.")]
        self.errors = {410: CursorExpired}
        self.ordered = provider.rotates  # one provider has a growing number, the other an etag
        self.auth = OAuth2(
            authorize=f"https://{provider.host}/authorize",
            token=f"https://{provider.host}/token",
            revoke=f"https://{provider.host}/revoke",
            rotation=Rotation(rotates=True, grace=None, reuse_kills=True) if provider.rotates else Rotation(),
        )

    async def finish_oauth(self, flow: Flow, code: str) -> StoredCredential:
        """Exchange, and ask whose account it is."""
        credential = await flow.exchange(code)
        return credential.of((await flow.http.get(f"https://{self.hosts[0]}/me", into=Me)).id)

    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        """Everything first, then what changed."""
        if since is None:
            yield Listing()
            number, first, whole = 0, "", True
            while True:
                page = await ctx.http.get(f"https://{self.hosts[0]}/all", params={"page": number}, into=Page)
                first = first or page.cursor
                for raw in page.changes:
                    signal = self.read(raw)
                    whole = whole and not isinstance(signal, Unreadable)
                    yield signal
                if not page.more:
                    break
                number += 1
            yield Checkpoint({"at": first}, listed=("thing",) if whole else ())
            return
        cursor = since["at"]
        while True:
            page = await ctx.http.get(f"https://{self.hosts[0]}/changes", params={"cursor": cursor}, into=Page)
            for raw in page.changes:
                yield self.read(raw)
            if int(page.cursor) < int(cursor):
                raise ConnectorBug("the cursor went backwards")
            cursor = page.cursor
            yield Checkpoint({"at": cursor})
            if not page.more:
                return

    def read(self, raw: Raw) -> Event | Unreadable:
        """One object as an event."""
        try:
            shown = decode(raw, Shown)
        except ConnectorBug as wrong:
            return Unreadable(str(wrong))
        order, version = (shown.seq, "") if self.ordered else (None, f"v{shown.seq}")
        if shown.deleted:
            return Event("thing", shown.id, Change.DELETED, order=order, version=version)
        return Event("thing", shown.id, Change.UPSERTED, order=order, version=version, payload=Task(title=shown.title or ""))


# --- what comes in by the door ----------------------------------------------------------------------------------------


@dataclass
class VirtualClock:
    """The daemon's clock: the loop's time, plus whatever somebody did to the host's."""

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


@dataclass
class SeededChance:
    """Randomness that comes again."""

    random: random.Random

    def token_bytes(self, size: int) -> bytes:
        """Bytes."""
        return self.random.randbytes(size)

    def uniform(self, low: float, high: float) -> float:
        """A number."""
        return self.random.uniform(low, high)


class Dead(BaseException):
    """The process is gone: whatever still runs of it must not touch anything."""


class MortalStorage(InlineStorage):
    """Storage that takes a moment, and that is gone when its process is."""

    def __init__(self, database: SqliteDatabase, chance: random.Random, watch: Callable[[], None]) -> None:
        super().__init__(database, wire.encode)
        self.dead = False
        self._chance = chance
        self._watch = watch

    async def _moment(self) -> None:
        # Others may run before it happens, and after it has happened before the caller knows.
        for _ in range(self._chance.randrange(3)):
            await asyncio.sleep(0)
        if self.dead:
            raise Dead

    async def read(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        """Read, in a moment."""
        await self._moment()
        return await super().read(query, *args, **kwargs)

    async def write(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        """Write, in a moment."""
        await self._moment()
        result = await super().write(query, *args, **kwargs)
        self._watch()
        await self._moment()
        return result


@dataclass
class Network:
    """Leads to the providers; a call takes a while, and nothing comes back to the dead."""

    providers: dict[str, Provider]
    chance: random.Random
    dead: bool = False

    async def send(self, request: Request) -> Response:
        """Carry a request there and an answer back."""
        await asyncio.sleep(self.chance.uniform(0.01, 0.4))
        if self.dead:
            raise Dead
        provider = next(provider for provider in self.providers.values() if f"://{provider.host}/" in request.url)
        answer = provider.answer(request)
        await asyncio.sleep(self.chance.uniform(0.01, 0.4))
        if self.dead:
            raise Dead
        return answer


class NoLog:
    """Says nothing; what is logged is tested elsewhere."""

    def debug(self, event: str, **fields: Any) -> None:
        """Nothing."""

    def info(self, event: str, **fields: Any) -> None:
        """Nothing."""

    def warning(self, event: str, **fields: Any) -> None:
        """Nothing."""


# --- the daemon as a process ------------------------------------------------------------------------------------------


@dataclass
class Machine:
    """One run of the daemon, from start to stop or death."""

    storage: MortalStorage
    network: Network
    connect: Connect
    registrations: Registrations
    dispatcher: Dispatcher
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    clock: VirtualClock | None = None

    async def live(self, tick: float) -> None:
        """Tick until cancelled."""
        assert self.clock is not None
        while True:
            await self.dispatcher.tick()
            await self.clock.sleep(tick)

    async def die(self) -> None:
        """Be gone at once: what runs is cancelled and can touch nothing any more."""
        self.storage.dead = self.network.dead = True
        mine = [*self.tasks, *self.dispatcher._running]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)


@dataclass
class World:
    """Everything in one seed."""

    seed: str
    loop: SeededLoop
    folder: Path
    people: int = 10
    names: tuple[str, ...] = ("alpha", "beta")
    hours: float = 1.5
    crashes: int = 1
    clock_steps: bool = False
    trouble: float = 0.15
    tick: float = 40.0
    interval: float = 1200.0
    workers: int = 8

    def __post_init__(self) -> None:
        self.chance = random.Random(f"world {self.seed}")
        self.clock = VirtualClock(self.loop)
        self.providers = {
            name: Provider(
                name=name,
                rotates=number % 2 == 0,
                now=self.loop.time,
                wall=lambda: 1_800_000_000 * SECOND + int(self.loop.time() * SECOND),
                chance=random.Random(f"{name} {self.seed}"),
                trouble=self.trouble,
            )
            for number, name in enumerate(self.names)
        }
        for provider in self.providers.values():
            for person in range(self.people):
                provider.accounts[f"{provider.name}-{person}"] = Account(f"{provider.name}-{person}")
        self.keyring = Keyring([self.chance.randbytes(32)])
        self.registry = Registry(plugins=(), connectors=MappingProxyType({name: Simulated(self.providers[name]) for name in self.names}))
        self.database: SqliteDatabase | None = None
        self.machine: Machine | None = None
        self.cursors: dict[int, tuple[int, str | None]] = {}
        self.touched: set[int] = set()
        self.outbox_end = 0
        self.happened: Counter[str] = Counter()

    # --- the daemon ---------------------------------------------------------------------------------------------------

    def boot(self) -> Machine:
        """Start the daemon over the database."""
        assert self.database is not None
        self.database.handle().set_update_hook(self._touch)
        chance = SeededChance(random.Random(self.chance.random()))
        storage = MortalStorage(self.database, random.Random(self.chance.random()), self.watch)
        network = Network(self.providers, random.Random(self.chance.random()))
        guests, metrics = SameLoop(), MemoryMetrics()
        registrations = Registrations(
            storage=storage, keyring=self.keyring, registry=self.registry, clock=self.clock, public_url="http://127.0.0.1:1"
        )
        owner = chance.token_bytes(8).hex()
        connect = Connect(
            storage=storage,
            keyring=self.keyring,
            registry=self.registry,
            registrations=registrations,
            guests=guests,
            transport=network,
            clock=self.clock,
            chance=chance,
            public_url="http://127.0.0.1:1",
            link_life=900,
            flow_life=600,
            connection_event=own.connection_event,
        )
        refresher = Refresher(rows=CredentialRows(storage), keyring=self.keyring, clock=self.clock, chance=chance, owner=owner)
        sync = Sync(
            storage=storage,
            registry=self.registry,
            credentials=Credentials(refresher=refresher, registrations=registrations, transport=network, clock=self.clock, metrics=metrics),
            guests=guests,
            clock=self.clock,
            chance=chance,
            metrics=metrics,
            log_for=lambda connection, provider: NoLog(),
            limits=Limits(batch=3, interval=self.interval, lease=60, heartbeat=15, run_limit=120),
            make_draft=wire.draft,
            connection_event=own.connection_event,
        )
        dispatcher = Dispatcher(
            storage=storage,
            clock=self.clock,
            metrics=metrics,
            log=NoLog(),
            owner=owner,
            run=sync.run,
            workers=self.workers,
            lease=60,
            chance=chance,
        )
        machine = Machine(storage, network, connect, registrations, dispatcher, clock=self.clock)
        machine.tasks.append(asyncio.ensure_future(self._rescue_and_live(machine)))
        self.machine = machine
        return machine

    async def _rescue_and_live(self, machine: Machine) -> None:
        await machine.storage.write(schedule.rescue, self.clock.now())
        await machine.storage.write(credentials.rescue)
        await machine.live(self.tick)

    # --- the life -----------------------------------------------------------------------------------------------------

    async def life(self) -> None:
        """Live through it: sign-ins, changes, trouble, crashes; then quiet; then everything must be as the providers say."""
        machine = self.boot()
        for name in self.names:
            await machine.registrations.add(name, "client", [Secret("client-secret-" + name)])
        for provider in self.providers.values():
            for account in provider.accounts.values():
                for _ in range(self.chance.randrange(4)):
                    provider.change(account)
        others = [asyncio.ensure_future(self._person(person)) for person in range(self.people)]
        others += [asyncio.ensure_future(self._crash()) for _ in range(self.crashes)]
        if self.clock_steps:
            others.append(asyncio.ensure_future(self._clock_steps()))
        await asyncio.gather(*others)
        await self._quiet()

    async def _person(self, person: int) -> None:
        """One person: connects, changes things, sometimes takes the grant back."""
        for name in self.names:
            await self._sign_in(name, person)
        end = self.hours * HOUR
        while self.loop.time() < end:
            await asyncio.sleep(self.chance.uniform(60, 2400))
            provider = self.providers[self.chance.choice(self.names)]
            account = provider.accounts[f"{provider.name}-{person}"]
            roll = self.chance.random()
            if roll < 0.9:
                for _ in range(self.chance.randrange(1, 4)):
                    provider.change(account)
                self.happened["changes"] += 1
            elif roll < 0.95:
                account.forgotten = account.seq
                self.happened["cursors forgotten"] += 1
            else:
                provider.end_grants(account.id)
                self.happened["grants ended"] += 1

    async def _sign_in(self, name: str, person: int) -> None:
        """Sign in until it works, as a person would."""
        provider = self.providers[name]
        for _ in range(50):
            machine = self.machine
            assert machine is not None
            with suppress(Dead, LinkGone, FlowRefused):
                session = await machine.connect.open(name, f"person{person}")
                url = await machine.connect.begin(session.link, f"browser{person}")
                state = url.partition("state=")[2].partition("&")[0]
                await asyncio.sleep(self.chance.uniform(1, 30))
                machine = self.machine  # the daemon may have been restarted meanwhile: the flow survives
                assert machine is not None
                code = provider.consent(f"{name}-{person}")
                await machine.connect.finish(registration=name, state=state, browser=f"browser{person}", code=code, error=None, iss=None)
                ended = await machine.connect.status(session.id, 0)
                if ended is not None and ended.status == "connected":
                    self.happened["sign-ins"] += 1
                    return
            await asyncio.sleep(self.chance.uniform(5, 60))
        raise AssertionError(f"{name} never let person {person} in")

    async def _crash(self) -> None:
        """The process dies at some moment, between any two steps, and is started again."""
        await asyncio.sleep(self.chance.uniform(30, self.hours * HOUR * 0.9))
        for _ in range(self.chance.randrange(40)):
            await asyncio.sleep(0)
        machine = self.machine
        assert machine is not None
        await machine.die()
        self.happened["crashes"] += 1
        await asyncio.sleep(self.chance.uniform(0.1, 300))
        self.boot()

    async def _clock_steps(self) -> None:
        """Somebody sets the host's clock by an hour, and back."""
        for step in (HOUR, -HOUR, 0.0):
            await asyncio.sleep(self.hours * HOUR / 5)
            self.clock.step = step
            self.happened["clock steps"] += 1

    async def _quiet(self) -> None:
        """No more trouble: people sign in again where they must, and every connection syncs until nothing is new."""
        for provider in self.providers.values():
            provider.trouble = 0.0
        machine = self.machine
        assert machine is not None
        for _ in range(12):
            for connection in await machine.storage.read(connections.listed):
                if connection.state == "needs_sign_in":
                    await self._sign_in(connection.provider, int(connection.user.removeprefix("person")))
                await machine.storage.write(schedule.due_now, connection.number, self.clock.now())
            await asyncio.sleep(120)
            if self.difference() == {}:
                break
        await machine.die()

    # --- what must hold -----------------------------------------------------------------------------------------------

    def _touch(self, kind: int, database: str, table: str, row: int) -> None:
        if table == "schedule":
            self.touched.add(row)

    def watch(self) -> None:
        """After each commit: cursors run forwards, positions are never used twice, nobody runs twice."""
        assert self.database is not None
        ((end,),) = self.database.rows("SELECT position FROM stream")
        assert end >= self.outbox_end, "positions ran backwards"
        self.outbox_end = end
        touched, self.touched = self.touched, set()
        for connection in touched:
            ((number, generation, cursor),) = self.database.rows(
                "SELECT connection, generation, cursor FROM schedule WHERE connection = ?", (connection,)
            )
            before = self.cursors.get(number)
            if before is not None and before[1] is not None and cursor is not None and before[0] == generation:
                assert _place(cursor) >= _place(before[1]), f"a cursor ran backwards: {before[1]} to {cursor}"
            self.cursors[number] = (generation, cursor)

    def difference(self) -> dict[str, tuple[Any, Any]]:
        """Where the outbox, read from its beginning, is not what the providers say; empty when all is well."""
        assert self.database is not None
        seen: dict[tuple[str, str], dict[str, str]] = {}
        for stored in outbox.page(self.database, 0, 1_000_000).events:
            event = wire.decode(stored.body)
            things = seen.setdefault((event.provider, event.user), {})
            if not event.type.endswith(".thing"):
                continue
            if int(event.change) == Change.DELETED:
                things.pop(event.subject, None)
            else:
                task = Task()
                event.payload.Unpack(task)
                things[event.subject] = task.title
        wrong = {}
        for name, provider in self.providers.items():
            for account in provider.accounts.values():
                found = seen.get((name, f"person{account.id.rpartition('-')[2]}"), {})
                if found != account.truth:
                    wrong[account.id] = (account.truth, found)
        return wrong

    def doubled(self) -> list[str]:
        """Event ids that are in the outbox more than once."""
        assert self.database is not None
        ids = Counter(wire.decode(stored.body).id for stored in outbox.page(self.database, 0, 1_000_000).events)
        return [id_ for id_, count in ids.items() if count > 1]


def _place(cursor: str) -> int:
    return int(cursor.partition('"at":"')[2].partition('"')[0] or 0)
