"""One simulated life: people, providers, and a daemon or two that crash and freeze, over one database; all of it from one seed.

The daemon's own parts run as they are. What comes in by the door is simulated: the loop, the clock, chance, the network, and death.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from simulation import machine as machines
from simulation import pushes
from simulation.connector import Simulated
from simulation.loop import Dead, SeededLoop
from simulation.machine import Disk, Machine, NoReply, VirtualClock
from simulation.provider import CANARY, Account, Provider
from simulation.watch import Watch

from oo_daemon.connections.connect import FlowRefused, LinkGone
from oo_daemon.connections.errors import Declined
from oo_daemon.outbox import wire
from oo_daemon.ports import SECOND
from oo_daemon.registry import Registry
from oo_daemon.store import connections, erasures, outbox, schedule
from oo_daemon.store.connections import Connection
from oo_daemon.store.database import SqliteDatabase
from oo_daemon.store.errors import CannotStore
from oo_sdk import Change
from oo_sdk.vocabulary import Record, Task
from oo_vault import Keyring, Secret

HOUR = 3600.0
#: What may go wrong between somebody and a daemon that dies, hangs or cannot write: they try again.
LOST = (Dead, NoReply, CannotStore)
#: Rounds of two minutes in which everything must come to rest.
ROUNDS = 40


@dataclass(frozen=True, kw_only=True)
class Life:
    """What kind of a life it is."""

    people: int = 10
    names: tuple[str, ...] = ("alpha", "beta")
    each: int = 2  #: how many of the providers a person has an account at
    daemons: int = 1
    hours: float = 0.25
    crashes: int = 2
    freezes: int = 1
    stops: int = 1
    bad_disks: int = 1
    clock_steps: bool = False
    trouble: float = 0.15
    tick: float = 60.0
    interval: float = 700.0
    workers: int = 8


class World:
    """Everything in one seed."""

    def __init__(self, seed: str, life: Life, loop: SeededLoop, database: SqliteDatabase, folder: Path) -> None:
        self.life, self.loop, self.database, self.folder = life, loop, database, folder
        self.chance = random.Random(f"world {seed}")
        self.clock = VirtualClock(loop)
        self.keyring = Keyring([self.chance.randbytes(32)])
        self.watch = Watch(database, loop, self.clock.now, self.keyring)
        self.providers: dict[str, Provider] = {}
        connectors = {}
        kinds = self.chance.sample(("lasting", "rotating", "graceful"), 3)
        for number, name in enumerate(life.names):
            kind = kinds[number % 3]
            provider = self.providers[name] = Provider(
                name=name,
                rotates=kind != "lasting",
                now=loop.time,
                wall=lambda: 1_800_000_000 * SECOND + int(loop.time() * SECOND),
                chance=random.Random(f"{name} {seed}"),
                trouble=life.trouble,
                accounts={f"{name}-{person}": Account(f"{name}-{person}") for person in range(life.people)},
            )
            connectors[name] = Simulated(provider, kind, ordered=number % 2 == 0)
        self.watch.providers = self.providers
        self.registry = Registry(plugins=(), connectors=MappingProxyType(connectors))
        self.watch.ordered = {connector.id for connector in connectors.values() if connector.ordered}
        self.disk = Disk(random.Random(f"disk {seed}"))
        self.machines: list[Machine] = []
        self.addresses: dict[str, str] = {}  #: provider → token of the address that webhooks are posted to
        self.acknowledged: dict[tuple[str, str], pushes.Push] = {}
        self.erased: dict[str, str] = {}  #: erasures that were taken: id → whose
        self.wishes: dict[str, tuple[Account, str, Provider]] = {}  #: actions that were taken: id → whose, title, where
        self.happened: Counter[str] = Counter()
        self._started = 0

    def push_secret(self, provider: str) -> str:
        """What a provider signs its webhooks with."""
        return f"{CANARY}push-{provider}"

    # --- the daemons --------------------------------------------------------------------------------------------------

    def boot(self) -> Machine:
        """Start a daemon over the database."""
        self._started += 1
        machine = machines.build(
            owner=f"daemon-{self._started}",
            database=self.database,
            folder=self.folder,
            providers=self.providers,
            registry=self.registry,
            keyring=self.keyring,
            clock=self.clock,
            watch=self.watch,
            chance=self.chance,
            disk=self.disk,
            interval=self.life.interval,
            workers=self.life.workers,
        )
        self.machines.append(machine)
        machine.begin(self.life.tick, alone=lambda: self.machines == [machine])
        return machine

    def anyone(self) -> Machine:
        """A daemon that is asked: any that lives and is up. Raises `Dead` where there is none."""
        up = [machine for machine in self.machines if machine.ready.is_set() and not machine.process.dead]
        if not up:
            raise Dead
        return self.chance.choice(up)

    async def _strike(self, fall: Any) -> None:
        """Something befalls a daemon: at any moment, just after a commit or one with events, or just before an answer arrives."""
        await asyncio.sleep(self.chance.uniform(30, self.life.hours * HOUR * 0.9))
        if not self.machines:
            return
        machine, struck = self.chance.choice(self.machines), asyncio.Event()
        place = self.chance.choice(("accept", "accept", "commit", "answer", "ask", ""))
        if place:
            machine.process.light(place, self.chance.randint(1, 40), lambda: self._struck(machine, fall, struck))
            patience = asyncio.ensure_future(struck.wait())
            await asyncio.wait({patience}, timeout=600)
            patience.cancel()
            machine.process.put_out()
        else:
            for _ in range(self.chance.randrange(40)):
                await asyncio.sleep(0)
            if not machine.process.dead:
                self._struck(machine, fall, struck)
        if struck.is_set():
            await fall(machine)

    def _struck(self, machine: Machine, fall: Any, struck: asyncio.Event) -> None:
        """At once, in the middle of what it does; the rest follows."""
        if fall == self._crash:
            machine.process.dead = True
        else:
            self.loop.freeze(machine.process)
        struck.set()

    async def _crash(self, machine: Machine) -> None:
        """It is dead, and after a while it is started again."""
        if machine not in self.machines:
            return
        self.machines.remove(machine)
        self.loop.thaw(machine.process)
        await machine.die()
        self.happened["crashes"] += 1
        await asyncio.sleep(self.chance.uniform(0.1, 150))
        self.boot()

    async def _freeze(self, machine: Machine) -> None:
        """It is stopped, as by SIGSTOP, mostly for longer than its leases; then it goes on as if nothing had been."""
        self.happened["freezes"] += 1
        await asyncio.sleep(self.chance.uniform(5, 250))
        if not machine.process.dead:
            self.loop.thaw(machine.process)

    async def _stop(self) -> None:
        """Somebody restarts a daemon in order, and is patient."""
        await asyncio.sleep(self.chance.uniform(30, self.life.hours * HOUR * 0.9))
        up = [machine for machine in self.machines if machine.ready.is_set()]
        if not up:
            return
        machine = self.chance.choice(up)
        stopping = machine.process_task(machine.stop())
        await asyncio.wait({stopping}, timeout=300)
        if machine not in self.machines:
            return  # it died over it
        self.machines.remove(machine)
        self.loop.thaw(machine.process)
        await machine.die()
        self.happened["stops"] += 1
        self.boot()

    async def _bad_disk(self) -> None:
        """The disk is full, or cannot write, for a while."""
        await asyncio.sleep(self.chance.uniform(30, self.life.hours * HOUR * 0.9))
        self.disk.bad = True
        await asyncio.sleep(self.chance.uniform(1, 90))
        self.disk.bad = False
        self.happened["bad disks"] += 1

    async def _clock_steps(self) -> None:
        """Somebody sets the host's clock by an hour, and back."""
        for step in (HOUR, -HOUR, 0.0):
            await asyncio.sleep(self.life.hours * HOUR / 5)
            self.clock.step = step
            self.happened["clock steps"] += 1

    # --- the people ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Live through it: sign-ins, changes, trouble, crashes; then quiet; then everything must be as the providers say."""
        first = self.boot()
        for name in self.providers:
            secret, pushed = Secret(f"{CANARY}client-{name}"), [Secret(self.push_secret(name))]
            registration = await first.registrations.add(name, "client", [secret])
            await first.sources.keep(registration, pushed)
            source = first.sources.of(registration.id)
            assert source is not None
            self.addresses[name] = source.url.rpartition("/")[2]
        for _ in range(self.life.daemons - 1):
            self.boot()
        for provider in self.providers.values():
            for account in provider.accounts.values():
                for _ in range(self.chance.randrange(4)):
                    provider.change(account)
        lives = [self._person(person) for person in range(self.life.people)]
        lives += [self._strike(self._crash) for _ in range(self.life.crashes)]
        lives += [self._strike(self._freeze) for _ in range(self.life.freezes)]
        lives += [self._stop() for _ in range(self.life.stops)]
        lives += [self._bad_disk() for _ in range(self.life.bad_disks)]
        if self.life.clock_steps:
            lives.append(self._clock_steps())
        await asyncio.gather(*lives)
        await self._quiet()

    async def _person(self, person: int) -> None:
        """One person: connects, changes things, wishes for things, leaves, comes back."""
        mine = self.chance.sample([*self.providers.values()], self.life.each)
        for provider in mine:
            await self._sign_in(provider.name, person)
        end = self.life.hours * HOUR
        while self.loop.time() < end:
            await asyncio.sleep(self.chance.uniform(30, 700))
            provider = self.chance.choice(mine)
            account = provider.accounts[f"{provider.name}-{person}"]
            roll = self.chance.random()
            if roll < 0.55:
                self._change(provider, account)
            elif roll < 0.75:
                await self._wish(provider, account, person)
            elif roll < 0.8:
                await self._leave(provider, person)
            elif roll < 0.83:
                await self._erase(provider, person)
            elif roll < 0.88:
                await self._sign_in(provider.name, person)
            elif roll < 0.94:
                account.forgotten = account.seq
                self.happened["cursors forgotten"] += 1
            else:
                provider.end_grants(account.id)
                self.happened["grants ended"] += 1

    def _change(self, provider: Provider, account: Account) -> None:
        """Some things change, and the provider tells of it."""
        for _ in range(self.chance.randrange(1, 4)):
            thing = provider.change(account)
            asyncio.ensure_future(pushes.send(self, provider, account.id, thing))  # noqa: RUF006  # the loop keeps what it waits for
        self.happened["changes"] += 1

    async def _sign_in(self, name: str, person: int) -> None:
        """Sign in until it works, as a person would."""
        provider, browser = self.providers[name], f"browser{person}"
        # While a connection is being erased nobody can sign in; and what waits for a try waits longer where the clock is set back.
        for _ in range(400 if self.life.clock_steps else 60):
            try:
                machine = self.anyone()
                session = await machine.ask(machine.connect.open(name, f"person{person}"))
                url = await machine.ask(machine.connect.begin(session.link, browser))
                state = url.partition("state=")[2].partition("&")[0]
                await asyncio.sleep(self.chance.uniform(1, 30))
                machine = self.anyone()  # perhaps another: the flow is in the database
                code = provider.consent(f"{name}-{person}")
                finish = machine.connect.finish(registration=name, state=state, browser=browser, code=code, error=None, iss=None)
                await machine.ask(finish)
                await machine.ask(machine.connect.confirm(session.id, browser))
                ended = await machine.ask(machine.connect.status(session.id, 0))
                if ended is not None and ended.status == "connected":
                    self.happened["sign-ins"] += 1
                    return
            except (*LOST, LinkGone, FlowRefused, Declined):
                pass
            await asyncio.sleep(self.chance.uniform(5, 60))
        raise AssertionError(f"{name} never let person {person} in")

    async def _connection(self, name: str, person: int) -> Connection | None:
        machine = self.anyone()
        return await machine.ask(machine.storage.read(connections.of, f"person{person}", name, "default"))

    async def _hurry(self, connection: Connection) -> None:
        """Sometimes ask for a sync first, so that what comes next comes in the middle of it, perhaps at another daemon."""
        if self.chance.random() < 0.5:
            machine = self.anyone()
            await machine.ask(machine.storage.write(schedule.due_now, connection.number, self.clock.now()))
            await machine.ask(machine.dispatcher.tick())
            await asyncio.sleep(self.chance.uniform(0, 1.5))

    async def _wish(self, provider: Provider, account: Account, person: int) -> None:
        """Ask for an action, again and again under the same key until it is taken; and sometimes once more after that."""
        number = sum(self.happened[word] for word in ("wishes", "wishes declined", "wishes for nothing"))
        title, more = f"wish {number} of {person}", self.chance.random() < 0.3
        for _ in range(20):
            try:
                connection = await self._connection(provider.name, person)
                if connection is None:
                    self.happened["wishes for nothing"] += 1
                    return  # erased
                await self._hurry(connection)
                machine = self.anyone()
                job = await machine.ask(machine.actions.ask(connection, "make_thing", {"title": title}, title))
                machine.worker.wake()
            except LOST:
                await asyncio.sleep(self.chance.uniform(1, 60))
                continue
            except Declined:
                self.happened["wishes declined"] += 1
                return
            self.watch.promised("job", id=job.id)
            self.wishes[job.id] = (account, title, provider)
            if not more:
                break
            more = False
        self.happened["wishes"] += 1

    async def _leave(self, provider: Provider, person: int) -> None:
        """Disconnect, often just after something has changed."""
        self._change(provider, provider.accounts[f"{provider.name}-{person}"])
        for _ in range(20):
            try:
                connection = await self._connection(provider.name, person)
                if connection is None:
                    return  # erased
                await self._hurry(connection)
                machine = self.anyone()
                await machine.ask(machine.disconnect.begin(connection))
                machine.worker.wake()
            except LOST:
                await asyncio.sleep(self.chance.uniform(1, 60))
            else:
                self.happened["disconnects"] += 1
                return

    async def _erase(self, provider: Provider, person: int) -> None:
        """Ask to be forgotten, and sometimes come back. What was wished for is forgotten, too."""
        self._change(provider, provider.accounts[f"{provider.name}-{person}"])
        for _ in range(20):
            try:
                connection = await self._connection(provider.name, person)
                if connection is not None:
                    await self._hurry(connection)
                machine = self.anyone()
                begun = await machine.ask(machine.erasures.of_user(f"person{person}"))
            except LOST:
                await asyncio.sleep(self.chance.uniform(1, 60))
                continue
            self.watch.promised("erasure", id=begun.id)
            self.erased[begun.id] = f"person{person}"
            self.wishes = {id_: wish for id_, wish in self.wishes.items() if not wish[0].id.endswith(f"-{person}")}
            self.happened["erasures"] += 1
            break
        if self.chance.random() < 0.5:
            await self._sign_in(provider.name, person)

    async def _quiet(self) -> None:
        """No more trouble: people sign in again where they must, and connections sync until nothing is new."""
        for provider in self.providers.values():
            provider.trouble = 0.0
        behind: set[str] | None = None  #: accounts whose events are not what the provider says; None: all, to begin with
        for _ in range(ROUNDS):
            while not any(machine.ready.is_set() for machine in self.machines):
                await asyncio.sleep(1)
            machine = self.anyone()
            for connection in await machine.storage.read(connections.listed):
                if connection.state == "needs_sign_in":
                    await self._sign_in(connection.provider, int(connection.user.removeprefix("person")))
                if behind is None or connection.provider_account in behind:
                    await machine.storage.write(schedule.due_now, connection.number, self.clock.now())
            await asyncio.sleep(120)
            behind = set(self.difference())
            if not behind and not self._restless():
                break

    def _restless(self) -> bool:
        """Whether anything that was promised is still to be done."""
        sql = (
            "SELECT (SELECT count(*) FROM job WHERE state = 'queued'), "
            "(SELECT count(*) FROM delivery WHERE state = 'received' AND waiting = 0), "
            "(SELECT count(*) FROM erasure WHERE finished_at IS NULL)"
        )
        return self.database.rows(sql) != [(0, 0, 0)]

    # --- what must hold at the end ------------------------------------------------------------------------------------

    def faults(self) -> list[str]:
        """What is wrong after all has come to rest."""
        found = [*self.watch.broken, *self._doubled(), *self._promises(), *self._erasures()]
        for account, (truth, told) in self.difference().items():
            found.append(f"{account} has {truth}, the outbox says {told}")
        if self._restless():
            found.append("jobs, deliveries or erasures never came to an end")
        return found

    def difference(self) -> dict[str, tuple[Any, Any]]:
        """Where the outbox, read from its beginning, is not what the providers say; empty when all is well."""
        seen: dict[tuple[str, str], dict[str, str]] = {}
        for stored in outbox.page(self.database, 0, 1_000_000).events:
            event = wire.decode(stored[1])
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
        for connection in connections.listed(self.database):
            account = self.providers[connection.provider].accounts[connection.provider_account]
            found = seen.get((connection.provider, connection.user), {})
            if connection.state not in {"disconnected", "erasing"} and found != account.truth:
                wrong[account.id] = (account.truth, found)
        return wrong

    def _doubled(self) -> list[str]:
        ids = Counter(wire.decode(stored[1]).id for stored in outbox.page(self.database, 0, 1_000_000).events)
        doubled = [id_ for id_, count in ids.items() if count > 1]
        return [f"{len(doubled)} events are in the outbox twice"] if doubled else []

    def _promises(self) -> list[str]:
        """Each action that was taken is done once, and told once; what was acknowledged has become events."""
        wrong = []
        ended = {id_: (state, reason) for id_, state, reason in self.database.rows("SELECT id, state, reason FROM job WHERE kind = 'act'")}
        told: Counter[str] = Counter()
        for stored in outbox.page(self.database, 0, 1_000_000, outbox.Filter()).events:
            event = wire.decode(stored[1])
            if event.type in {"action.done", "action.failed"}:
                told[event.subject] += 1
        for id_, (account, title, _) in self.wishes.items():
            state, reason = ended[id_]
            done = sum(thing.wished == title for thing in account.things.values())
            gone = any(word in reason for word in ("disconnected", "signed", "grant", "sign", "credential", "not active", "needs sign in"))
            if done > 1 or (state == "done" and done != 1) or (state == "failed" and not gone):
                wrong.append(f"an action {state} ({reason}) was done {done} times")
            if told[id_] != 1:
                wrong.append(f"an action was told {told[id_]} times")
        forgotten = {*self.erased.values()}
        states = {
            (source, id_): (state, reason)
            for source, id_, state, reason in self.database.rows(
                "SELECT source, delivery_id, state, reason FROM delivery WHERE waiting = 0"
            )
        }
        for (source, id_), push in self.acknowledged.items():
            state, reason = states.get((source, id_), ("waiting", ""))
            if state == "dead" and push.body != b"not JSON" and f"person{push.account.rpartition('-')[2]}" not in forgotten:
                wrong.append(f"a webhook died: {reason}")
        return wrong

    def _told(self, type_: str, erasure: str) -> int:
        found, record = 0, Record()
        for stored in outbox.page(self.database, 0, 1_000_000).events:
            event = wire.decode(stored[1])
            found += event.type == type_ and event.payload.Unpack(record) and record.fields["erasure"] == erasure
        return found

    def _erasures(self) -> list[str]:
        """Of whoever was erased nothing from before is there, and consumers were told, once."""
        wrong = []
        for id_, user in self.erased.items():
            found = erasures.by_id(self.database, id_)
            if found is None or found.finished_at is None:
                wrong.append("an erasure that was taken is not done")
                continue
            for part in found.parts:
                rows = self.database.rows("SELECT DISTINCT type FROM outbox WHERE connection = ?", (part.number,))
                left = [type_ for (type_,) in rows if not type_.endswith(".erased")]
                if left or self.database.rows("SELECT 1 FROM connection WHERE number = ?", (part.number,)):
                    wrong.append(f"what came before an erasure is still there: {', '.join(left) or 'the connection'}")
            if self._told("user.erased", id_) + self._told("connection.erased", id_) != bool(found.parts):
                wrong.append("consumers were not told of an erasure, or twice")
            sql = 'SELECT count(*) FROM flow WHERE "user" = ? AND created_at < ?'
            if not self.life.clock_steps and self.database.rows(sql, (user, found.created_at)) != [(0,)]:
                wrong.append("a sign-in from before an erasure is still there")
        return wrong
