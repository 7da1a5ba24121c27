"""Disconnecting, over the real store and the real vault: what the provider was told, what is left, and what is kept of it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from daemon.connections.world import CANARIES, REFRESH, SECRET, TOKEN, Acme, Script, form_of, says
from daemon.sync.world import Hub
from daemon.virtual import SeededChance, settle
from msgspec.structs import force_setattr, replace

from oo_daemon.connections.credential import Credentials
from oo_daemon.connections.disconnect import Disconnect
from oo_daemon.connections.guest import Contexts
from oo_daemon.connections.registration import Registrations
from oo_daemon.connections.transport import NoAnswer
from oo_daemon.host import SameLoop
from oo_daemon.outbox import own, wire
from oo_daemon.ports import SECOND
from oo_daemon.registry import Registry
from oo_daemon.store import connections, credentials, jobs, schedule
from oo_daemon.store.connections import Connection, SignedIn
from oo_daemon.store.credentials import CredentialRows
from oo_daemon.store.database import Database
from oo_daemon.store.jobs import Job
from oo_daemon.store.storage import InlineStorage, open_database
from oo_daemon.sync.jobs import LIMIT, Worker
from oo_sdk import Connector, Revocation, Revoked, SignInAgain
from oo_sdk import Context as GuestContext
from oo_sdk.vocabulary import Record
from oo_vault import CREDENTIAL, Context, Grant, Keyring, Refresher, Secret

Play = Revocation | BaseException | Callable[[GuestContext], Any]


class Stubborn(Acme):
    """A provider whose revocation comes to what it was told, in turn; the last for ever."""

    manual_revocation = "https://acme.example/settings"

    def __init__(self, *plays: Play) -> None:
        self.plays = list(plays)
        self.asked = 0

    async def revoke(self, ctx: GuestContext) -> Revocation:
        self.asked += 1
        play = self.plays[0] if len(self.plays) == 1 else self.plays.pop(0)
        if isinstance(play, BaseException):
            raise play
        result: Revocation = play(ctx) if callable(play) else play
        return result


class Files(Connector):
    """Nothing to sign in to."""

    id = "files"


@dataclass
class World:
    hub: Hub
    script: Script
    disconnect: Disconnect
    worker: Worker
    keyring: Keyring

    async def signed_in(
        self, account: str = "default", *, user: str = "ada", there: str = "acc-1", expires_in: float | None = 3600
    ) -> Connection:
        """A connection with a sealed credential."""
        signed_in = SignedIn(
            id=f"{user} {account}",
            user=user,
            provider="acme",
            account=account,
            registration="acme",
            provider_account=there,
            label="ada@example.org",
            scopes=("notes.read",),
            meta={},
        )
        now = self.hub.clock.now()
        expires_at = None if expires_in is None else now + int(expires_in * SECOND)
        grant = Grant(access_token=Secret(TOKEN), refresh_token=Secret(REFRESH), expires_at=expires_at, obtained_at=now)

        def put(database: Database) -> Connection:
            connection = connections.put(database, signed_in, now)
            place = Context(purpose=CREDENTIAL, connection=connection.id, user=user, provider="acme", account=account, token_version=1)
            credentials.put(database, connection.number, 1, self.keyring.seal(place, grant.pack()), expires_at)
            schedule.create(database, connection.number, now)
            return connection

        return await self.hub.storage.write(put)

    async def begin(self, connection: Connection) -> Job:
        await self.disconnect.begin(connection)
        return await self.job(connection)

    async def job(self, connection: Connection) -> Job:
        job = await self.hub.storage.read(jobs.latest, "revoke", connection.number)
        assert job is not None
        return job

    async def work(self) -> None:
        """Do what is due."""
        await self.worker.tick()
        await settle()

    async def to_the_end(self, connection: Connection) -> Job:
        while (job := await self.job(connection)).next_try_at is not None:
            await self.hub.clock.advance(max(0, job.next_try_at - self.hub.clock.now()) / SECOND)
            await self.work()
        return job

    async def state(self, connection: Connection) -> str:
        return (await self.hub.connection(connection.number)).state

    def sealed(self) -> int:
        return len(self.hub.database.rows("SELECT connection FROM credential"))

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        told = []
        for event in self.hub.events():
            record = Record()
            assert event.payload.Unpack(record)
            told.append((event.type, dict(record.fields)))
        return told


async def nothing() -> None:
    """Nobody has to be told."""


async def nothing_pushed(connector: Connector, connection: Connection) -> bool:
    """The provider pushes nothing."""
    return True


async def a_world(hub: Hub, connector: Connector | None = None) -> World:
    script, keyring, storage, clock = Script(), Keyring([bytes(range(32))]), hub.storage, hub.clock
    registry = Registry(plugins=(), connectors={"acme": connector or Acme(), "files": Files()})
    registrations = Registrations(storage=storage, keyring=keyring, registry=registry, clock=clock, public_url="https://oo.example")
    await registrations.add("acme", "our-client", [Secret(SECRET)])
    refresher = Refresher(rows=CredentialRows(storage), keyring=keyring, clock=clock, chance=hub.chance, owner="me")
    sessions = Credentials(refresher=refresher, registrations=registrations, transport=script, clock=clock, metrics=hub.metrics)
    disconnect = Disconnect(
        storage=storage,
        registry=registry,
        contexts=Contexts(credentials=sessions, clock=clock, log_for=lambda connection, provider: hub.log),
        refresher=refresher,
        guests=SameLoop(),
        clock=clock,
        chance=SeededChance(),
        metrics=hub.metrics,
        connection_event=own.connection_event,
        action_event=own.action_event,
        unsubscribed=nothing_pushed,
        closed=nothing,
    )
    worker = Worker(
        storage=storage,
        clock=clock,
        chance=hub.chance,
        metrics=hub.metrics,
        log=hub.log,
        log_for=lambda connection, provider: hub.log,
        owner="me",
        handlers={"revoke": disconnect},
        workers=4,
    )
    return World(hub, script, disconnect, worker, keyring)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with nothing in it, to be copied."""
    path = tmp_path_factory.mktemp("disconnect") / "empty.db"
    open_database(path).close()
    return path


@pytest.fixture
def hub(empty: Path, tmp_path: Path) -> Iterator[Hub]:
    """A database on a virtual clock."""
    database = open_database(Path(shutil.copy(empty, tmp_path / "oo.db")))
    database.rows("PRAGMA synchronous = 0")  # no power is cut here
    yield Hub(storage=InlineStorage(database, wire.encode))
    database.close()


async def test_everything_stops_at_once(hub: Hub) -> None:
    """State, schedule, the sync under way, the actions that waited: all in one transaction; asked again, it changes nothing."""
    world = await a_world(hub)
    connection = await world.signed_in()
    run = await hub.claim()
    number, now = connection.number, hub.clock.now()
    await hub.storage.write(jobs.put, id_="a", kind="act", connection=number, key="k1", body={"name": "write", "arguments": {}}, now=now)
    job = await world.begin(connection)
    assert await world.state(connection) == "revoking"
    planned = await hub.schedule(number)
    assert (planned.next_run_at, planned.running) == (None, False)
    assert await hub.storage.write(schedule.heartbeat, [run], now) == set()
    (told,) = world.told()
    assert told[0] == "action.failed"
    assert "disconnected before" in told[1]["reason"]
    assert world.sealed() == 1, "it is needed to revoke"
    assert await world.begin(connection) == job
    assert len(world.told()) == 1


async def test_pushes_end_before_the_grant(hub: Hub) -> None:
    """What the provider pushes is ended first, tried a few times, and does not keep the grant from being given back."""
    provider = Stubborn(Revocation(revoked=Revoked.FULLY))
    world = await a_world(hub, provider)
    asked: list[int] = []

    async def goes_on(connector: Connector, connection: Connection) -> bool:
        asked.append(provider.asked)
        return False

    world.worker = dataclasses.replace(world.worker, handlers={"revoke": replace(world.disconnect, unsubscribed=goes_on)})
    connection = await world.signed_in()
    await world.begin(connection)
    job = await world.to_the_end(connection)
    assert job.state == "done"
    assert (asked, provider.asked) == ([0, 0, 0], 1)


async def test_one_that_was_erased_meanwhile(hub: Hub) -> None:
    """Whoever asks just then finds it gone: nothing is queued, and nothing goes wrong."""
    world = await a_world(hub)
    connection = await world.signed_in()
    hub.database.rows("DELETE FROM connection WHERE number = ?", (connection.number,))
    await world.disconnect.begin(connection)
    assert hub.database.rows("SELECT * FROM job") == []


@pytest.mark.rows("D13")
async def test_the_grant_is_given_back(hub: Hub) -> None:
    """Both tokens are revoked there (RFC 7009), then the credential is erased here; the outcome is kept, told, and holds no token."""
    world = await a_world(hub)
    connection = await world.signed_in()
    await world.begin(connection)
    await world.work()
    assert [(form_of(sent)["token"], sent.url) for sent in world.script.sent] == [
        (REFRESH, "https://acme.example/oauth/revoke"),
        (TOKEN, "https://acme.example/oauth/revoke"),
    ]
    job = await world.job(connection)
    assert (job.state, job.result) == ("done", {"revoked": "fully", "remains": "", "manual_url": ""})
    assert (await world.state(connection), world.sealed()) == ("disconnected", 0)
    assert world.told() == [("connection.disconnected", {"revoked": "fully"})]
    left = str(hub.database.rows("SELECT * FROM job")) + str(hub.events()) + str(hub.log.lines)
    assert not any(canary in left for canary in CANARIES)
    assert await world.begin(connection) == job, "and once it is over nothing begins again"
    assert await world.state(connection) == "disconnected"


async def test_it_can_still_refresh(hub: Hub) -> None:
    """An access token that has run out is renewed for the revocation, which then revokes the new one."""
    world = await a_world(hub)
    connection = await world.signed_in(expires_in=1)
    hub.clock.shift(10)

    def answer(request: Any) -> Any:
        if "refresh_token" in form_of(request).get("grant_type", ""):
            return says(access_token="newer", refresh_token="newest", expires_in=3600)
        return says()

    world.script.answers = [answer]
    await world.begin(connection)
    await world.work()
    assert [form_of(sent).get("token") for sent in world.script.sent] == [None, "newest", "newer"]
    assert await world.state(connection) == "disconnected"


async def test_what_remains_is_kept(hub: Hub) -> None:
    """What the connector says that cannot be revoked is kept and told."""
    partly = Revocation(revoked=Revoked.PARTLY, remains="the refresh token lives on", manual_url="https://acme.example/apps")
    world = await a_world(hub, Stubborn(partly))
    connection = await world.signed_in()
    await world.begin(connection)
    await world.work()
    kept = {"revoked": "partly", "remains": "the refresh token lives on", "manual_url": "https://acme.example/apps"}
    assert (await world.job(connection)).result == kept
    assert world.told() == [("connection.disconnected", kept)]


@pytest.mark.rows("D13")
async def test_a_provider_that_is_down(hub: Hub) -> None:
    """It is told as soon as it can be, by the credential that is kept for that, and not before it asked to be."""
    world = await a_world(hub)
    world.script.answers = [NoAnswer("no answer"), says(503, {"retry-after": "40"}), says()]
    connection = await world.signed_in()
    await world.begin(connection)
    await world.work()
    assert ((await world.job(connection)).reason, world.sealed()) == ("no answer", 1)
    job = await world.to_the_end(connection)
    assert (job.state, job.tries, world.sealed()) == ("done", 3, 0)
    assert hub.clock.monotonic() == pytest.approx(40.5)


@pytest.mark.rows("D13")
async def test_a_provider_that_stays_down(hub: Hub) -> None:
    """After a day the credential is erased whatever the provider says, and it is kept that it was not told."""
    world = await a_world(hub)
    world.script.answers = [NoAnswer("no answer")]
    connection = await world.signed_in(expires_in=None)
    await world.begin(connection)
    job = await world.to_the_end(connection)
    assert LIMIT - 3600 <= hub.clock.monotonic() <= LIMIT
    assert (job.state, job.reason) == ("failed", "no answer")
    assert job.result is not None
    assert job.result["revoked"] == "failed"
    assert (await world.state(connection), world.sealed()) == ("disconnected", 0)
    ((type_, fields),) = world.told()
    assert (type_, fields["revoked"], fields["reason"]) == ("connection.disconnected", "failed", "no answer")


@pytest.mark.parametrize("fault", [ZeroDivisionError("s3cret"), lambda ctx: "no Revocation"])
async def test_a_connector_that_cannot(hub: Hub, fault: Any) -> None:
    """A connector that fails three times does not keep the credential here; where to remove it by hand is said."""
    acme = Stubborn(fault)
    world = await a_world(hub, acme)
    connection = await world.signed_in()
    await world.begin(connection)
    job = await world.to_the_end(connection)
    assert (job.state, acme.asked, world.sealed()) == ("failed", 3, 0)
    assert job.result is not None
    assert job.result["manual_url"] == "https://acme.example/settings"
    assert "s3cret" not in job.reason
    assert await world.state(connection) == "disconnected"


async def test_a_grant_that_is_dead(hub: Hub) -> None:
    """Where the provider ended the grant, there is nothing left to revoke."""
    world = await a_world(hub, Stubborn(SignInAgain("gone")))
    connection = await world.signed_in()
    await world.begin(connection)
    await world.work()
    job = await world.job(connection)
    assert (job.state, job.result) == ("done", {"revoked": "fully", "remains": "", "manual_url": ""})


async def test_nothing_to_sign_in_to(hub: Hub) -> None:
    """A connection without a credential is disconnected at once, and nobody is asked."""
    world = await a_world(hub)
    connection = await hub.connect(provider="files")
    job = await world.begin(connection)
    assert (job.state, job.next_try_at) == ("done", None)
    assert await world.state(connection) == "disconnected"
    assert world.told() == [("connection.disconnected", {"revoked": "fully"})]
    assert world.script.sent == []


async def test_a_connector_that_is_not_loaded(hub: Hub) -> None:
    """Without its connector a grant cannot be given back: it is waited for, for a day."""
    world = await a_world(hub)
    connection = await world.signed_in()
    force_setattr(world.disconnect, "registry", Registry(plugins=(), connectors={}))
    await world.begin(connection)
    await world.work()
    assert "oo plugins" in (await world.job(connection)).reason
    assert (await world.to_the_end(connection)).state == "failed"
    assert (await world.state(connection), world.sealed()) == ("disconnected", 0)


@pytest.mark.rows("F10")
@pytest.mark.parametrize(
    ("other", "state", "shared"),
    [
        ({"user": "family"}, "active", True),
        ({"account": "second"}, "active", True),
        ({"user": "family"}, "paused", True),
        ({"user": "family"}, "needs_sign_in", False),
        ({"user": "family"}, "revoking", False),
        ({"user": "family"}, "disconnected", False),
        ({"user": "family", "there": "acc-2"}, "active", False),
    ],
)
async def test_a_grant_that_others_use(hub: Hub, other: dict[str, Any], state: str, shared: bool) -> None:
    """It is left alone at the provider while another connection in use has the same account there; here it is erased all the same."""
    world = await a_world(hub)
    connection, neighbour = await world.signed_in(), await world.signed_in(**other)
    await hub.change_state(neighbour, state)
    await world.begin(connection)
    await world.work()
    job = await world.job(connection)
    assert job.result is not None
    assert (job.result["revoked"], len(world.script.sent)) == (("partly", 0) if shared else ("fully", 2))
    assert (await world.state(connection), world.sealed()) == ("disconnected", 1)
    assert await world.state(neighbour) == state


async def test_an_account_that_nobody_named(hub: Hub) -> None:
    """Two connections whose accounts are unknown are not taken for one."""
    world = await a_world(hub)
    connection, _ = await world.signed_in(there=""), await world.signed_in(user="family", there="")
    await world.begin(connection)
    await world.work()
    assert len(world.script.sent) == 2


async def test_connected_again_meanwhile(hub: Hub) -> None:
    """A try that finds the connection in use again leaves it and its new credential alone."""
    acme = Stubborn(Revocation(revoked=Revoked.FULLY))
    world = await a_world(hub, acme)
    connection = await world.signed_in()
    await world.begin(connection)
    await world.signed_in()
    await world.work()
    assert ((await world.job(connection)).state, acme.asked) == ("failed", 0)
    assert (await world.state(connection), world.sealed()) == ("active", 1)
    assert world.told() == []


async def test_a_second_life(hub: Hub) -> None:
    """A connection that was disconnected and signed in again can be disconnected again, and is told each time."""
    world = await a_world(hub)
    for _ in range(2):
        connection = await world.signed_in()
        await world.begin(connection)
        await world.work()
        assert await world.state(connection) == "disconnected"
        await hub.clock.advance(3 * 3600)
    assert [type_ for type_, _ in world.told()] == ["connection.disconnected"] * 2
    assert len(world.script.sent) == 4, "and the second credential was not thought to be as old as the first"
