"""The parts of the hub that a sync meets: one database on a virtual clock, and connectors that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from daemon.virtual import FixedChance, Notes, VirtualClock
from declared import everything

from oo_daemon.connections.credential import Credentials
from oo_daemon.host import SameLoop
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import own, wire
from oo_daemon.ports import SECOND, Guests
from oo_daemon.registry import Registry
from oo_daemon.store import connections, outbox, schedule
from oo_daemon.store.accept import Accepted
from oo_daemon.store.connections import Connection, SignedIn, StateChanged
from oo_daemon.store.database import Database
from oo_daemon.store.runs import Tally
from oo_daemon.store.schedule import Run, RunEnded, Schedule
from oo_daemon.store.storage import InlineStorage, Lane, Prepared, Storage
from oo_daemon.sync.run import Limits, Sync
from oo_sdk import Change, Checkpoint, Connector, Context, Cursor, Event, Session, Signal
from oo_sdk.events import NormalizedEvent
from oo_sdk.vocabulary import Document

OWNER = "me"
PROVIDER = "acme"


def note(subject: str, title: str = "A", **fields: Any) -> Event:
    """A note that now has this title."""
    return Event("note", subject, Change.UPSERTED, payload=Document(title=title), **fields)


def gone(subject: str) -> Event:
    return Event("note", subject, Change.DELETED)


#: What a scripted connector does next: yield, raise, or do something and wait for it.
Act = Signal | BaseException | Callable[[Context], Awaitable[None]]


class Scripted(Connector):
    """Does with each sync what it was told to; the last script for ever."""

    id = PROVIDER
    stores = everything(Document)

    def __init__(self, *scripts: Sequence[Any]) -> None:
        self.scripts = list(scripts)
        self.asked: list[Cursor | None] = []
        self.contexts: list[Context] = []
        self.closed = 0

    def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        script = self.scripts[0] if len(self.scripts) == 1 else self.scripts.pop(0)
        self.asked.append(since)
        self.contexts.append(ctx)
        return self._play(ctx, script)

    async def _play(self, ctx: Context, script: Sequence[Any]) -> AsyncIterator[Signal]:
        try:
            for act in script:
                if isinstance(act, BaseException) and not isinstance(act, Signal):
                    raise act
                if callable(act):
                    await act(ctx)
                else:
                    yield act
        finally:
            self.closed += 1


class Feed(Connector):
    """A provider with an append-only feed: the cursor says how much of it was read, with a checkpoint after every few changes."""

    id = PROVIDER
    stores = everything(Document)

    def __init__(self, changes: Sequence[Event], every: int) -> None:
        self.changes = changes
        self.every = every
        self.fail_at: int | None = None  #: raise instead of yielding this one

    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        begin: int = since["read"] if since else 0
        for number, change in enumerate(self.changes[begin:], begin + 1):
            if self.fail_at == number:
                raise OSError("the network is down")
            yield change
            if number % self.every == 0:
                yield Checkpoint({"read": number})
        yield Checkpoint({"read": len(self.changes)})


class Sessions:
    """Gives no session: the connectors of these tests call nobody."""

    def unopened(self, connector: Connector, connection: Connection, calls: object) -> Session:
        return cast(Session, None)

    async def session(self, connector: Connector, connection: Connection, **more: Any) -> Session:
        return cast(Session, None)


@dataclass
class Observed:
    """A storage that can be watched and made to fail; everything else it leaves to the real one."""

    real: InlineStorage
    before: Callable[[str], None] = lambda what: None  #: called with "accept" or "write" before each
    after: Callable[[str], None] = lambda what: None  #: likewise, after its commit
    batches: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)  #: events given and marks, of each accepted batch

    async def read(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        return await self.real.read(query, *args, **kwargs)

    async def write(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        self.before("write")
        result = await self.real.write(query, *args, **kwargs)
        self.after("write")
        return result

    async def accept(self, batch: Prepared, lane: Lane = Lane.BULK) -> Accepted:
        self.before("accept")

        def watched(database: Database) -> Any:
            made = batch(database) if callable(batch) else batch
            self.batches.append((len(made.drafts), tuple(type(mark).__name__ for mark in made.marks)))
            return made

        accepted = await self.real.accept(watched, lane)
        self.after("accept")
        return accepted

    def on_accept(self, listener: Callable[[], None]) -> None:
        self.real.on_accept(listener)


@dataclass
class Hub:
    """One database, one virtual clock."""

    storage: InlineStorage
    clock: VirtualClock = field(default_factory=VirtualClock)
    chance: FixedChance = field(default_factory=FixedChance)
    metrics: MemoryMetrics = field(default_factory=MemoryMetrics)
    log: Notes = field(default_factory=Notes)
    limits: Limits = field(default_factory=Limits)

    @property
    def database(self) -> Database:
        return self.storage.database

    def sync(self, *connectors: Connector, storage: Storage | None = None, guests: Guests | None = None, **changes: Any) -> Sync:
        return Sync(
            storage=storage or self.storage,
            registry=Registry(plugins=(), connectors={connector.id: connector for connector in connectors}),
            credentials=cast(Credentials, Sessions()),
            guests=guests or SameLoop(),
            clock=self.clock,
            chance=self.chance,
            metrics=self.metrics,
            log_for=lambda connection, provider: self.log,
            limits=self.limits,
            make_draft=wire.declared_draft,
            connection_event=own.connection_event,
            **changes,
        )

    async def connect(self, name: str = "c1", provider: str = PROVIDER, due: int | None = None, user: str = "ada") -> Connection:
        """A connection that is due."""
        signed_in = SignedIn(
            id=name,
            user=user,
            provider=provider,
            account=name,
            registration=None,
            provider_account="a-1",
            label="",
            scopes=("notes.read",),
            meta={"zone": "Europe/Berlin"},
        )

        def put(database: Database) -> Connection:
            connection = connections.put(database, signed_in, self.clock.now())
            schedule.create(database, connection.number, self.clock.now() if due is None else due)
            return connection

        return await self.storage.write(put)

    async def claim(self, owner: str = OWNER) -> Run:
        """Claim the one connection that is due."""
        now = self.clock.now()
        (run,) = await self.storage.write(schedule.claim, owner, now, now + int(self.limits.lease * SECOND), 10)
        return run

    async def change_state(self, connection: Connection, state: Any) -> None:
        changed = StateChanged(number=connection.number, state=state, reason="", now=self.clock.now())
        await self.storage.write(lambda database: changed.apply(database))

    async def end(self, run: Run, next_run_at: int | None) -> None:
        """End a run as one that went well."""
        ended = RunEnded(run=run, now=self.clock.now(), next_run_at=next_run_at, outcome="done", detail="", tally=Tally(), keep_tries=False)
        await self.storage.write(lambda database: ended.apply(database))

    async def once(self, sync: Sync) -> None:
        """Claim the one connection that is due, and run it to its end."""
        await self.clock.until(sync.run(await self.claim()))

    async def when_due(self, sync: Sync) -> None:
        """Let time pass until the one connection is due, and run it."""
        planned = await self.schedule()
        assert planned.next_run_at is not None
        await self.clock.advance(max(0, planned.next_run_at - self.clock.now()) / SECOND)
        await self.once(sync)

    async def schedule(self, number: int = 1) -> Schedule:
        found = await self.storage.read(schedule.of, number, self.clock.now())
        assert found is not None
        return found

    async def connection(self, number: int = 1) -> Connection:
        found = await self.storage.read(connections.by_number, number)
        assert found is not None
        return found

    def events(self) -> list[NormalizedEvent]:
        """Everything in the outbox."""
        return [wire.decode(stored[1]) for stored in outbox.page(self.database, 0, 1_000_000).events]

    def told(self) -> list[tuple[str, str, int]]:
        """Everything in the outbox, in short: subject, title (empty: gone), revision."""
        return [(event.subject, titled(event), event.revision) for event in self.events()]


def titled(event: NormalizedEvent) -> str:
    document = Document()
    return document.title if event.payload.Unpack(document) else ""


def gate() -> tuple[asyncio.Event, Callable[[Context], Awaitable[None]]]:
    """Something for a connector to wait at, and the event that opens it."""
    opened = asyncio.Event()

    async def wait(_: Context) -> None:
        await opened.wait()

    return opened, wait


def nap(seconds: float) -> Callable[[Context], Awaitable[None]]:
    """A connector's wait."""

    async def wait(ctx: Context) -> None:
        await ctx.clock.sleep(seconds)

    return wait


def numbered(count: int) -> Iterator[Event]:
    return (note(f"n{number}") for number in range(count))
