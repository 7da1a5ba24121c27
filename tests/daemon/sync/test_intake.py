"""Deliveries become events: in order, once, and whatever one of them does, the others go on."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from daemon.virtual import FixedChance, Notes, Stopped, VirtualClock, lost, settle
from declared import everything
from hypothesis import given
from hypothesis import strategies as st

from oo_daemon.connections import pause as pausing
from oo_daemon.host import SameLoop
from oo_daemon.ops.metrics import MemoryMetrics
from oo_daemon.outbox import wire
from oo_daemon.ports import SECOND, moment
from oo_daemon.registry import Registry
from oo_daemon.store import connections, inbox, outbox, registrations, schedule, sources
from oo_daemon.store.accept import Batch
from oo_daemon.store.connections import Connection, SignedIn, State, StateChanged
from oo_daemon.store.database import Database
from oo_daemon.store.errors import CannotStore, LeaseLost
from oo_daemon.store.inbox import Arrival, Entry, Which
from oo_daemon.store.registrations import Registration
from oo_daemon.store.sources import Source
from oo_daemon.store.storage import InlineStorage, Storage, open_database
from oo_daemon.sync import intake as room
from oo_daemon.sync.intake import LOOKS, TRIES, WAITS, Again, Awaiting, Dead, Failed, Intake, Senseless, next_step
from oo_sdk import (
    Change,
    Connector,
    ConnectorBug,
    ConnectorError,
    Delivery,
    Event,
    HmacScheme,
    News,
    Nudge,
    RetryLater,
    Unreadable,
    Withdrawn,
)
from oo_sdk.events import NormalizedEvent
from oo_sdk.vocabulary import Document
from oo_vault import Sealed

CANARY = "canary-of-a-guest"
#: Deliveries of one thing that come in all orders the whole way; more of them do so at the waist (tests/daemon/store/test_accept.py).
STATES = 4
#: Seconds.
LEASE = 60.0


def note(subject: str, title: str = "A", order: int | None = None, at: int | None = None) -> Event:
    changed_at = None if at is None else moment(at)
    return Event("note", subject, Change.UPSERTED, at=changed_at, payload=Document(title=title), order=order)


class Acme(Connector):
    """Does what a body says, in JSON."""

    id = "acme"
    stores = everything(Document)
    webhooks = HmacScheme(header="X-Sign")

    def __init__(self) -> None:
        self.read_: list[Delivery] = []
        self.hanging = asyncio.Event()

    async def route(self, delivery: Delivery) -> Sequence[str]:
        asked = self._asked(delivery)
        if asked.get("route") == "raise":
            raise ZeroDivisionError(CANARY)
        to: list[str] = asked.get("to", ["a-1"])
        return to

    async def read(self, delivery: Delivery) -> Sequence[News]:
        asked = self._asked(delivery)
        self.read_.append(delivery)
        match asked.get("read"):
            case "raise":
                raise ZeroDivisionError(CANARY)
            case "unreadable":
                raise Unreadable("there is no such kind of note")
            case "bug":
                raise ConnectorBug("this is not what it was written for")
            case "later":
                raise RetryLater(after=timedelta(hours=2))
            case "hang":
                await self.hanging.wait()
            case "nonsense":
                answer: Sequence[News] = asked["give"]
                return answer
            case "nudge":
                return [Nudge()]
            case "naive":
                return [Withdrawn(at=datetime(2026, 1, 1))]  # noqa: DTZ001  # a guest's error
            case "withdrawn":
                return [Withdrawn(at=moment(asked["at"]) if "at" in asked else None)]
            case "both":
                return [note("n1"), Nudge(), Nudge()]
            case "sample":
                return [Event("sample", "s1", Change.OCCURRED, payload=Document(title="s"))]
        return [note(*given) for given in asked.get("notes", [["n1", "A", None]])]

    @staticmethod
    def _asked(delivery: Delivery) -> dict[str, Any]:
        try:
            asked: dict[str, Any] = json.loads(delivery.body)
        except ValueError:
            raise Unreadable("the body is not JSON") from None
        return asked


@dataclass
class World:
    """A store, a clock, a connector, and the intake between them."""

    storage: InlineStorage
    clock: VirtualClock = field(default_factory=VirtualClock)
    acme: Acme = field(default_factory=Acme)
    log: Notes = field(default_factory=Notes)
    metrics: MemoryMetrics = field(default_factory=MemoryMetrics)
    nudges: list[int] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    took: list[int] = field(default_factory=list)
    sent: int = 0

    def intake(self, *, owner: str = "me", storage: Storage | None = None, connectors: dict[str, Connector] | None = None) -> Intake:
        async def nudged() -> None:
            self.nudges.append(self.clock.now())

        async def withdrawn(connection: Connection) -> None:
            self.withdrawn.append(connection.id)

        return Intake(
            storage=storage or self.storage,
            registry=Registry(plugins=(), connectors={"acme": self.acme, "other": self.acme} if connectors is None else connectors),
            guests=SameLoop(),
            clock=self.clock,
            chance=FixedChance(),
            metrics=self.metrics,
            log=self.log,
            owner=owner,
            lease=LEASE,
            make_draft=wire.declared_draft,
            withdrawn=withdrawn,
            nudged=nudged,
            took=lambda received_at: self.took.append(self.clock.now() - received_at),
        )

    async def connect(self, name: str = "c1", account: str = "a-1", *, user: str = "ada") -> Connection:
        def put(database: Database) -> Connection:
            signed_in = SignedIn(
                id=name,
                user=user,
                provider="acme",
                account=name,
                registration=None,
                provider_account=account,
                label="",
                scopes=(),
                meta={},
            )
            made = connections.put(database, signed_in, self.clock.now())
            schedule.create(database, made.number, self.clock.now() + 3600 * SECOND)
            inbox.call_up(database, "acme")
            return made

        return await self.storage.write(put)

    async def state(self, connection: Connection, state: State) -> None:
        change = StateChanged(number=connection.number, state=state, reason="", now=self.clock.now())
        await self.storage.accept(Batch(connection=connection, observed_at=self.clock.now(), marks=(change,)))

    async def set(self, column: str, value: str, name: str) -> None:
        await self.storage.write(lambda database: database.rows(f"UPDATE connection SET {column} = ? WHERE id = ?", (value, name)))

    async def receive(self, body: dict[str, Any] | bytes = b"{}", *, to: str = "acme", **more: Any) -> str:
        self.sent += 1
        raw = body if isinstance(body, bytes) and not more else json.dumps({**(body if isinstance(body, dict) else {}), **more}).encode()
        new = Arrival(source=to, delivery_id=f"d{self.sent}", weak=False, headers={"x-kind": "k"}, body=raw, received_at=self.clock.now())
        assert await self.storage.write(inbox.put, new)
        return new.delivery_id

    async def work(self, intake: Intake | None = None) -> None:
        await self.clock.until((intake or self.intake()).tick())

    async def entries(self) -> dict[str, Entry]:
        return {entry.delivery_id: entry for entry in await self.storage.read(inbox.listed, limit=10_000)}

    async def states(self) -> list[str]:
        return [entry.state for _, entry in sorted((await self.entries()).items(), key=lambda it: it[1].number)]

    async def told(self) -> list[tuple[str, str, str]]:
        """Connection, subject and title of each event."""
        page = await self.storage.read(outbox.page, 0, 1_000_000)
        return [_told(stored[1]) for stored in page.events]

    def counted(self, outcome: str) -> float:
        return self.metrics.values().get(("deliveries_total", (("outcome", outcome), ("provider", "acme"))), 0)


def _told(body: bytes) -> tuple[str, str, str]:
    event, document = NormalizedEvent.FromString(body), Document()
    event.payload.Unpack(document)
    return event.connection, event.subject, document.title


def _furnish(database: Database) -> None:
    for name in ("acme", "other"):
        registrations.put(
            database,
            Registration(id=name, provider="acme", client_id="c", key_id="k", secrets=b"", secret_count=0, created_at=0),
        )
        sources.put(
            database,
            Source(
                id=name,
                provider="acme",
                registration=name,
                connection=None,
                token_hash=name.encode(),
                sealed=Sealed(key_id="k", blob=b""),
                secret_count=0,
                enabled=True,
                created_at=0,
            ),
        )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = open_database(tmp_path / "oo.sqlite3")
    database.rows("PRAGMA synchronous = 0")  # what is durable is another file's matter
    storage = InlineStorage(database, wire.encode)
    await storage.write(_furnish)
    yield World(storage)
    database.close()


# --- what becomes of it ----------------------------------------------------------------------------------------------


async def test_a_delivery_becomes_events(world: World) -> None:
    """The connector sees it as it came, and what it reads is told to each connection with that account, and to no other."""
    await world.connect("c1", "a-1")
    await world.connect("c2", "a-1", user="bob")
    await world.connect("c3", "a-2")
    await world.receive(to="acme", notes=[["n1", "A", None], ["n2", "B", None]])
    await world.work()
    assert await world.told() == [("c1", "n1", "A"), ("c1", "n2", "B"), ("c2", "n1", "A"), ("c2", "n2", "B")]
    (entry,) = (await world.entries()).values()
    assert (entry.state, entry.reason, entry.tries, entry.done_at) == ("done", "", 1, world.clock.now())
    (seen,) = world.acme.read_
    assert (seen.id, dict(seen.headers)) == ("d1", {"x-kind": "k"})
    assert seen.received_at.timestamp() * SECOND == world.clock.now()
    assert world.counted("done") == 1
    assert world.nudges == []


async def test_a_late_delivery_brings_nothing_back(world: World) -> None:
    """What changed before a listing that did not show it is gone, whatever a push that was long on its way says."""
    connection = await world.connect()
    listed = json.dumps({"acme.note": world.clock.now()})
    await world.storage.write(
        lambda database: database.rows("UPDATE schedule SET listed = ? WHERE connection = ?", (listed, connection.number))
    )
    await world.receive(notes=[["gone", "A", 7, world.clock.now() - 1], ["n1", "A", 8, world.clock.now()]])
    await world.work()
    assert await world.told() == [("c1", "n1", "A")]
    assert await world.states() == ["done"]


async def test_a_delivery_is_rehearsed(world: World) -> None:
    """What a body would become is told, or why it would become nothing, and nothing is kept."""
    connection = await world.connect()
    intake = world.intake()

    async def tried(**body: Any) -> list[str]:
        rehearsing = asyncio.ensure_future(intake.rehearse(connection, {}, json.dumps(body).encode(), "d1"))
        return [draft.key for draft in await world.clock.until(rehearsing)]

    assert await tried(notes=[["n1"], ["n2"]]) == ["n1", "n2"]
    assert await tried(read="nudge") == []
    for asked, error in (
        ("unreadable", "no such kind"),
        ("bug", "not what"),
        ("raise", "ZeroDivisionError"),
        ("hang", "did not answer within"),
    ):
        with pytest.raises(ConnectorError, match=error):
            await tried(read=asked)
    with pytest.raises(ConnectorBug, match="is not loaded"):
        await world.intake(connectors={"other": world.acme}).rehearse(connection, {}, b"{}", "d1")
    assert await world.told() == []
    assert await world.states() == []


async def test_a_delivery_over_which_the_daemon_ends_is_left(world: World) -> None:
    """What ended the process each time is not worked on again, and lies among the dead until it is replayed."""
    await world.connect()
    await world.receive()
    intake = world.intake()
    intake.poisoned = lambda item: item == "delivery 1"
    await world.work(intake)
    assert await world.states() == ["dead"]
    (entry,) = (await world.entries()).values()
    assert "update the connector, and replay it" in entry.reason
    assert world.acme.read_ == []


async def test_a_withdrawal_without_a_zone_is_a_bug(world: World) -> None:
    """Nobody's access is taken back at a time that nobody can tell."""
    await world.connect()
    await world.receive(read="naive")
    await world.work()
    (entry,) = (await world.entries()).values()
    assert (entry.state, "a datetime with a zone" in entry.reason) == ("received", True)
    assert world.withdrawn == []


async def test_a_fault_of_ours_is_counted(world: World) -> None:
    """The round ends, which is logged and counted, and the next one works."""

    class Faulty(InlineStorage):
        async def write(self, *given: Any, **more: Any) -> Any:
            raise ZeroDivisionError

    await world.connect()
    await world.receive()
    await world.work(world.intake(storage=Faulty(world.storage.database, wire.encode)))
    assert world.log.said("intake_failed") == [{"error": "ZeroDivisionError"}]
    await world.work()
    assert await world.states() == ["done"]


async def test_how_long_it_took_is_told(world: World) -> None:
    """From its arrival to the outbox, once; of one that is replayed, or only says that something changed, it is not."""
    await world.connect()
    await world.receive()
    world.clock.shift(3)
    await world.work()
    assert world.took == [3 * SECOND]
    await world.storage.write(inbox.replay, Which(state="done"), 9, world.clock.now())
    await world.work()
    assert world.took == [3 * SECOND]


@pytest.mark.rows("E2")
async def test_who_was_stopped_before_its_claim_takes_nobodys_lease(world: World) -> None:
    """An intake that is stopped on its way to the claim finds claimed what another has claimed meanwhile."""
    await world.connect()
    await world.receive()

    async def meanwhile() -> None:
        world.clock.shift(100)
        now = world.clock.now()
        assert await world.storage.write(inbox.claim, "you", now, now + int(LEASE * SECOND), 1)

    await world.work(world.intake(storage=Stopped(world.storage, meanwhile)))
    assert world.acme.read_ == []
    assert world.storage.database.rows("SELECT lease_owner, fence FROM delivery") == [("you", 1)]


async def test_the_same_news_twice_is_one_event(world: World) -> None:
    """Two deliveries that say the same, as after a redelivery under another id, are told once."""
    await world.connect()
    await world.receive()
    await world.receive()
    await world.work()
    assert await world.told() == [("c1", "n1", "A")]
    assert await world.states() == ["done", "done"]


async def test_a_nudge_makes_the_connection_due(world: World) -> None:
    """It emits nothing; many of them are one sync, and whoever starts syncs is called once a round."""
    connection = await world.connect()
    for _ in range(5):
        await world.receive(read="nudge")
    await world.work()
    assert await world.told() == []
    assert await world.states() == ["done"] * 5
    assert len(world.nudges) == 1
    now = world.clock.now()
    (run,) = await world.storage.write(schedule.claim, "me", now, now + 1, 9)
    assert run.connection == connection.number


async def test_events_and_a_nudge(world: World) -> None:
    """A delivery may say something and nudge, too."""
    await world.connect()
    await world.receive(read="both")
    await world.work()
    assert await world.told() == [("c1", "n1", "A")]
    assert len(world.nudges) == 1


async def test_a_delivery_for_nobody_is_done(world: World) -> None:
    """Where the connector names no account, or reads nothing, there is nothing to wait for."""
    await world.receive(b'{"to": []}')
    await world.connect()
    await world.receive(notes=[])
    await world.work()
    assert await world.states() == ["done", "done"]
    assert await world.told() == []


async def test_many_events_come_in_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No commit holds more than its share, and the delivery is done with the last of the last connection."""
    monkeypatch.setattr(room, "BATCH", 2)
    await world.connect("c1")
    await world.connect("c2")
    batches: list[tuple[int, list[str]]] = []
    real = world.storage.accept

    class Watching(InlineStorage):
        async def accept(self, batch: Any, *lane: Any) -> Any:
            batches.append((len(batch.drafts), [type(mark).__name__ for mark in batch.marks]))
            return await real(batch, *lane)

    await world.receive(notes=[[f"n{n}", "A", None] for n in range(5)])
    await world.work(world.intake(storage=Watching(world.storage.database, wire.encode)))
    assert [size for size, _ in batches] == [2, 2, 1, 2, 2, 1]
    assert [marks for _, marks in batches] == [["StillActive", "Pushed"]] * 5 + [["StillActive", "Pushed", "DeliveryDone"]]
    assert len(await world.told()) == 10


async def test_what_occurred_is_remembered_as_long_as_it_may_come_again(world: World) -> None:
    """The key of an occurrence is kept for 35 days, not for the connection's life."""
    await world.connect()
    await world.receive(read="sample")
    await world.work()
    ((until,),) = world.storage.database.rows("SELECT keep_until FROM occurrence")
    assert until == world.clock.now() + inbox.KEEP_IDS


@pytest.mark.rows("A21")
async def test_the_order_of_arrival_does_not_matter(world: World) -> None:
    """All orders of some states of one note: the newest stands in the end, each revision is newer than the last, none is told twice."""
    for place, orders in enumerate(itertools.permutations(range(STATES))):
        await world.connect(f"c{place}", f"a-{place}")
        for order in orders:
            await world.receive(b'{"to": ["a-%d"], "notes": [["n1", "state %d", %d]]}' % (place, order, order))
    await world.work()
    titles: dict[str, list[str]] = {}
    for connection, _, title in await world.told():
        titles.setdefault(connection, []).append(title)
    assert len(titles) == math.factorial(STATES)
    for told in titles.values():
        assert told[-1] == f"state {STATES - 1}"
        assert told == sorted(set(told))


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.rows("A19")
async def test_what_cannot_be_read_is_dead_at_once(world: World) -> None:
    """With the connector's reason, its body kept, and never tried again."""
    await world.connect()
    await world.receive(b"\xff")
    await world.receive(read="unreadable")
    await world.work()
    entries = await world.entries()
    assert [(each.state, each.reason, each.tries) for each in entries.values()] == [
        ("dead", "there is no such kind of note", 1),
        ("dead", "the body is not JSON", 1),
    ]
    assert [fields["reason"] for fields in world.log.said("delivery_dead")] == ["the body is not JSON", "there is no such kind of note"]
    assert world.storage.database.rows("SELECT count(*) FROM delivery WHERE body IS NULL") == [(0,)]


@pytest.mark.rows("A19", "A20")
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"read": "raise"}, "the connector failed with ZeroDivisionError"),
        ({"route": "raise"}, "the connector failed with ZeroDivisionError"),
        ({"read": "bug"}, "this is not what it was written for"),
        ({"read": "nonsense", "give": "text"}, "answered with a str"),
        ({"read": "nonsense", "give": None}, "answered with a NoneType"),
        ({"read": "nonsense", "give": [1]}, "which is no news"),
        ({"to": "a-1"}, "answered with a str"),
        ({"to": [""]}, "empty or no text"),
        ({"to": [7]}, "empty or no text"),
        ({"to": None}, "answered with a NoneType"),
        ({"notes": [["", "A", None]]}, "subject"),
    ],
)
async def test_a_connector_that_fails_is_tried_five_times(world: World, body: dict[str, Any], reason: str) -> None:
    """Each time after a longer while, then the delivery is dead with a reason that quotes nothing; its body waits for a replay."""
    await world.connect()
    await world.receive(body)
    waits = []
    for _ in range(TRIES - 1):
        before = world.clock.now()
        await world.work()
        (entry,) = (await world.entries()).values()
        assert entry.state == "received"
        assert entry.next_try_at is not None
        waits.append((entry.next_try_at - before) // SECOND)
        await world.clock.advance((entry.next_try_at - before) / SECOND - 0.001)
        await world.work()
        assert (await world.entries())["d1"].tries == entry.tries, "not before its time"
        await world.clock.advance(0.001)
    await world.work()
    (entry,) = (await world.entries()).values()
    assert (entry.state, entry.tries) == ("dead", TRIES)
    assert reason in entry.reason
    assert waits == [15, 30, 60, 120]
    assert world.storage.database.rows("SELECT count(*) FROM delivery WHERE body IS NULL") == [(0,)]
    assert CANARY not in entry.reason + str(world.log.lines)
    assert (world.counted("again"), world.counted("dead")) == (TRIES - 1, 1)


async def test_the_connector_may_say_when(world: World) -> None:
    """`RetryLater` is not tried again before its time."""
    await world.connect()
    await world.receive(read="later")
    await world.work()
    (entry,) = (await world.entries()).values()
    assert entry.next_try_at == world.clock.now() + 7200 * SECOND


@pytest.mark.rows("A20")
async def test_a_poisoned_delivery_does_not_stop_the_others(world: World) -> None:
    """One that always fails among three hundred: all others are told, in the order in which they came, without waiting for it."""
    await world.connect()
    for n in range(300):
        await world.receive({"read": "raise"} if n == 100 else {"notes": [[f"n{n}", "A", None]]})
    before = world.clock.now()
    await world.work()
    assert [subject for _, subject, _ in await world.told()] == [f"n{n}" for n in range(300) if n != 100]
    assert world.clock.now() == before
    assert (await world.states()).count("received") == 1


async def test_a_connector_that_hangs_is_left_alone(world: World) -> None:
    """It gets its ten seconds, which count as a try; the others of its source come in the next round, those of another in this one."""
    await world.connect()
    hanging = await world.receive(read="hang")
    after = await world.receive(notes=[["n1", "after", None]])
    beside = await world.receive(to="other", notes=[["n1", "beside", None]])
    before = world.clock.now()
    intake = world.intake()
    ticking = asyncio.ensure_future(intake.tick())
    await world.clock.advance(0.0)
    assert [title for *_, title in await world.told()] == ["beside"]
    await world.clock.until(ticking)
    assert world.clock.now() - before == room.ANSWER_WITHIN * SECOND
    entries = await world.entries()
    assert [entries[name].state for name in (hanging, after, beside)] == ["received", "done", "done"]
    assert (entries[hanging].tries, entries[after].tries) == (1, 1)
    assert entries[hanging].reason == "the connector did not answer within 10 s"


async def test_what_arrives_while_a_connector_hangs(world: World) -> None:
    """It is held up by the one that hangs, and not by all others that came with it and hang, too."""
    await world.connect()
    for _ in range(3):
        await world.receive(read="hang")
    intake = world.intake()
    ticking = asyncio.ensure_future(intake.tick())
    await world.clock.advance(1.0)
    await world.receive(to="other")
    await world.clock.advance(room.ANSWER_WITHIN)
    assert len(await world.told()) == 1
    world.acme.hanging.set()
    await world.clock.until(ticking)


async def test_a_connector_that_is_not_there(world: World) -> None:
    """Without its connector a delivery fails like any other; after five tries its body is still there."""
    await world.receive()
    for _ in range(TRIES):
        await world.work(world.intake(connectors={}))
        await world.clock.advance(7200)
    (entry,) = (await world.entries()).values()
    assert (entry.state, "not loaded" in entry.reason) == ("dead", True)
    assert world.storage.database.rows("SELECT count(*) FROM delivery WHERE body IS NULL") == [(0,)]


# --- whom it is for --------------------------------------------------------------------------------------------------


async def test_a_delivery_waits_for_its_connection(world: World) -> None:
    """It is no failure, and goes through once there is one, although it was looked at often before."""
    await world.receive()
    for _ in range(20):
        await world.work()
        await world.clock.advance(600)
    (entry,) = (await world.entries()).values()
    assert (entry.state, entry.reason, entry.tries) == ("received", "no connection", 0)
    assert world.acme.read_ == []
    await world.connect()
    await world.work()
    assert await world.told() == [("c1", "n1", "A")]
    assert world.counted("dead") == 0


async def test_after_a_day_it_waits_no_more(world: World) -> None:
    """At 24 hours it is dead, and its body gone; a redelivery is still known."""
    await world.receive()
    began = world.clock.now()
    while (await world.entries())["d1"].state == "received":
        await world.work()
        (entry,) = (await world.entries()).values()
        if entry.next_try_at is not None:
            wait = entry.next_try_at - world.clock.now()
            assert 0 < wait <= LOOKS * SECOND
            await world.clock.advance(wait / SECOND)
    assert world.clock.now() - began == WAITS * SECOND
    assert (entry.state, entry.reason) == ("dead", "no connection")
    assert world.storage.database.rows("SELECT body, headers FROM delivery") == [(None, "{}")]
    again = Arrival(source="acme", delivery_id="d1", weak=False, headers={}, body=b"{}", received_at=world.clock.now())
    assert await world.storage.write(inbox.put, again) is False


@pytest.mark.parametrize("state", ["needs_sign_in", "paused"])
async def test_a_connection_that_is_signed_out_is_waited_for(world: World, state: State) -> None:
    """What came meanwhile is told when it works again."""
    connection = await world.connect()
    await world.state(connection, state)
    await world.receive()
    await world.work()
    (entry,) = (await world.entries()).values()
    assert (entry.state, entry.reason, entry.tries) == ("received", "no connection that works", 0)
    if state == "paused":
        await world.storage.write(pausing.resume, connection.number, world.clock.now())
    else:
        await world.connect()
    await world.work()
    assert await world.told() == [("c1", "n1", "A")]


@pytest.mark.parametrize("state", ["revoking", "disconnected"])
async def test_a_connection_that_ended_is_none(world: World, state: State) -> None:
    """Nothing is told to it."""
    await world.state(await world.connect(), state)
    await world.receive()
    await world.work()
    (entry,) = (await world.entries()).values()
    assert (entry.state, entry.reason) == ("received", "no connection")


@pytest.mark.parametrize("state", ["revoking", "disconnected"])
async def test_the_own_address_of_a_connection_that_was_disconnected(world: World, state: State) -> None:
    """What was accepted before and is worked on after it is not even read, and not waited for."""
    connection = await world.connect()
    own = Source(
        id="own",
        provider="acme",
        registration=None,
        connection=connection.number,
        token_hash=b"own",
        sealed=Sealed(key_id="k", blob=b""),
        secret_count=0,
        enabled=True,
        created_at=0,
    )
    await world.storage.write(sources.put, own)
    await world.receive(to="own")
    await world.state(connection, state)
    await world.work()
    (entry,) = (await world.entries()).values()
    assert (entry.state, entry.reason) == ("dead", "its connection was disconnected")
    assert (world.acme.read_, await world.told()) == ([], [])


async def test_those_that_work_do_not_wait_for_those_that_do_not(world: World) -> None:
    """Of two connections with one account the one that works hears at once, the other when it can, and each once."""
    await world.connect("c1")
    other = await world.connect("c2")
    await world.state(other, "needs_sign_in")
    await world.receive()
    await world.work()
    assert await world.told() == [("c1", "n1", "A")]
    assert await world.states() == ["received"]
    await world.connect("c2")
    await world.work()
    assert await world.told() == [("c1", "n1", "A"), ("c2", "n1", "A")]
    assert await world.states() == ["done"]


async def test_a_nudge_does_not_wait_for_the_signed_out(world: World) -> None:
    """Whoever signs in is synced anyway."""
    await world.connect("c1")
    await world.state(await world.connect("c2"), "needs_sign_in")
    await world.receive(read="nudge")
    await world.work()
    assert await world.states() == ["done"]


@pytest.mark.rows("F14")
async def test_access_that_was_taken_back(world: World) -> None:
    """Every connection of that account through that registration is erased, whether or not it still works, and no other; once."""
    for name, account in (("c1", "a-1"), ("c2", "a-1"), ("c3", "a-2"), ("c4", "a-1")):
        connection = await world.connect(name, account)
        of = "acme" if name != "c4" else "other"
        await world.set("registration", of, name)
        if name == "c2":
            await world.state(connection, "needs_sign_in")
    await world.receive(read="withdrawn")
    await world.work()
    assert (world.withdrawn, await world.states(), await world.told()) == (["c1", "c2"], ["done"], [])
    assert world.metrics.values()[("withdrawals_total", (("provider", "acme"),))] == 2
    for name in world.withdrawn:
        await world.set("state", "erasing", name)
    await world.receive(read="withdrawn")
    await world.receive(read="withdrawn", to="other")
    await world.work()
    assert (world.withdrawn, await world.states()) == (["c1", "c2", "c4"], ["done"] * 3)


@pytest.mark.rows("F14")
async def test_who_signed_in_again_is_not_erased(world: World) -> None:
    """A notice that is late, or comes again, says nothing of a sign-in after it; and one from the future is held against when it came."""
    await world.connect()
    await world.set("registration", "acme", "c1")
    now = world.clock.now()
    await world.receive(read="withdrawn", at=now - 1)
    await world.work()
    assert (world.withdrawn, await world.states()) == ([], ["done"])
    await world.receive(read="withdrawn", at=now + 3600 * SECOND)
    await world.clock.advance(60)
    await world.connect()
    await world.set("registration", "acme", "c1")
    await world.work()
    assert (world.withdrawn, await world.states()) == ([], ["done", "done"])
    await world.receive(read="withdrawn", at=now + 3600 * SECOND)
    await world.work()
    assert world.withdrawn == ["c1"]


@pytest.mark.rows("F14")
async def test_nobody_takes_back_what_nobody_gave(world: World) -> None:
    """At an address of one connection's own there is no access, and what an author gives wrongly is told to them."""
    connection = await world.connect()
    await world.storage.write(
        lambda database: database.rows("UPDATE source SET registration = NULL, connection = ? WHERE id = 'acme'", (connection.number,))
    )
    await world.receive(read="withdrawn")
    await world.work()
    (entry,) = (await world.entries()).values()
    assert (entry.state, world.withdrawn) == ("dead", [])
    assert "could be taken back" in entry.reason


@pytest.mark.rows("F2")
async def test_a_connection_that_ends_in_the_middle_hears_nothing(world: World) -> None:
    """Between looking and writing it was disconnected: nothing is told, and the delivery is looked at again."""
    connection = await world.connect()

    class Late(InlineStorage):
        async def accept(self, batch: Any, *lane: Any) -> Any:
            await world.state(connection, "disconnected")
            return await world.storage.accept(batch, *lane)

    await world.receive()
    await world.work(world.intake(storage=Late(world.storage.database, wire.encode)))
    assert await world.told() == []
    await world.clock.advance(LEASE)
    await world.work()
    (entry,) = (await world.entries()).values()
    assert (entry.state, entry.reason) == ("received", "no connection")


# --- faults of ours --------------------------------------------------------------------------------------------------


@dataclass
class Faulty:
    """A storage whose next calls are refused."""

    real: InlineStorage
    faults: list[Exception]
    method: str

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            if name == self.method and self.faults:
                raise self.faults.pop(0)
            return await getattr(self.real, name)(*args, **kwargs)

        return call


async def test_a_full_disk_is_no_fault_of_the_delivery(world: World) -> None:
    """However often its events could not be stored, it is not counted, and it goes through when there is room."""
    await world.connect()
    await world.receive()
    faulty: Any = Faulty(world.storage, [CannotStore("the disk is full")] * 10, "accept")
    intake = world.intake(storage=faulty)
    for _ in range(10):
        await world.work(intake)
        await world.clock.advance(5)
    await world.work(intake)
    assert await world.told() == [("c1", "n1", "A")]
    assert (await world.entries())["d1"].tries == 1


async def test_what_cannot_be_put_back_comes_again_with_the_next_round(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes nothing at all costs no delivery either, no try, and no time once it takes something again."""
    await world.connect()
    await world.receive()

    def refuse(*_: object, **__: object) -> None:
        raise CannotStore("the disk is full")

    intake = world.intake(storage=Faulty(world.storage, [CannotStore("the disk is full")] * 2, "accept"))
    with monkeypatch.context() as full:
        full.setattr(inbox, "put_back", refuse)
        await world.work(intake)
        await world.work(intake)
    assert world.log.said("delivery_not_put_back") == [{"provider": "acme"}] * 2
    assert await world.states() == ["received"]
    await world.work()
    assert await world.states() == ["received"], "another daemon waits for the lease"
    await world.work(intake)
    assert await world.told() == [("c1", "n1", "A")]
    assert (await world.entries())["d1"].tries == 1


async def test_what_cannot_be_put_back_comes_again_with_the_lease(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever held it may be gone."""
    await world.connect()
    await world.receive()

    def refuse(*_: object, **__: object) -> None:
        raise CannotStore("the disk is full")

    with monkeypatch.context() as full:
        full.setattr(inbox, "put_back", refuse)
        await world.work(world.intake(storage=Faulty(world.storage, [CannotStore("the disk is full")], "accept")))
    await world.clock.advance(LEASE - 1)
    await world.work()
    assert await world.states() == ["received"]
    await world.clock.advance(1)
    await world.work()
    assert await world.told() == [("c1", "n1", "A")]


async def test_a_claim_whose_answer_was_lost_is_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has made it, and nobody here knows of what: it is taken back, and no try."""
    await world.connect()
    await world.receive()
    intake = world.intake()
    with monkeypatch.context() as away:
        away.setattr(inbox, "claim", lost(inbox.claim))
        await world.work(intake)
    assert (await world.entries())["d1"].tries == 1
    await world.work(intake)
    assert await world.told() == [("c1", "n1", "A")]
    assert (await world.entries())["d1"].tries == 1


async def test_a_claim_that_cannot_be_stored_is_made_again(world: World) -> None:
    """The tick says so and goes on with the next."""
    await world.connect()
    await world.receive()
    faulty: Any = Faulty(world.storage, [CannotStore("the disk is full")], "write")
    intake = world.intake(storage=faulty)
    await world.work(intake)
    assert world.log.said("claim_failed")
    await world.work(intake)
    assert await world.states() == ["done"]


@pytest.mark.parametrize("fault", [ZeroDivisionError(CANARY), LeaseLost("somebody else has it")])
async def test_what_we_do_wrong_ends_with_the_lease(world: World, fault: Exception) -> None:
    """The others go on; it is tried again when its lease has run out, and after five times it is dead."""
    await world.connect()
    await world.receive()
    await world.receive(notes=[["n2", "B", None]])
    faulty: Any = Faulty(world.storage, [fault], "accept")
    await world.work(world.intake(storage=faulty))
    assert [subject for _, subject, _ in await world.told()] == ["n2"]
    assert CANARY not in str(world.log.lines)
    await world.work()
    assert (await world.states()) == ["received", "done"]
    await world.clock.advance(LEASE)
    await world.work()
    assert (await world.states()) == ["done", "done"]


@pytest.mark.rows("H10")
async def test_what_ends_the_process_each_time_takes_nothing_with_it(world: World) -> None:
    """After the fifth death in a delivery it is dead; those that were claimed with it lost one try and are done."""
    await world.connect()
    deadly = await world.receive(read="hang")
    others = [await world.receive(notes=[[f"n{n}", "A", None]]) for n in range(3)]
    for _ in range(TRIES):
        dying = asyncio.ensure_future(world.intake().tick())
        await settle()
        dying.cancel()  # no farewell: as a kill leaves it
        await settle()
        await world.storage.write(inbox.rescue)
    await world.clock.until(world.intake().tick())
    await world.clock.advance(3600)
    await world.work()
    entries = await world.entries()
    assert (entries[deadly].state, entries[deadly].tries) == ("dead", TRIES + 1)
    assert {entries[name].state for name in others} == {"done"}
    assert [delivery.id for delivery in world.acme.read_].count(deadly) == TRIES, "not once more"


async def test_a_stop_gives_back(world: World) -> None:
    """What was in work is due at once for the next start, with no try counted; nothing more is begun."""
    await world.connect()
    await world.receive(read="hang")
    await world.receive()
    intake = world.intake()
    intake.wake()
    await settle()
    await world.clock.until(intake.stop(1.0))
    assert [(each.state, each.tries) for each in (await world.entries()).values()] == [("received", 0)] * 2
    intake.wake()
    await intake.tick()
    assert (await world.entries())["d2"].tries == 0
    world.acme.hanging.set()
    await world.work()
    assert await world.states() == ["done", "done"]


async def test_a_stop_lets_what_is_in_work_end(world: World) -> None:
    """Within its grace."""
    await world.connect()
    await world.receive(read="hang")
    await world.receive()
    intake = world.intake()
    intake.wake()
    await settle()
    stopping = asyncio.ensure_future(intake.stop(1.0))
    await settle()
    world.acme.hanging.set()
    await world.clock.until(stopping)
    assert await world.states() == ["done", "received"]


async def test_a_disk_that_refuses_the_count_and_the_release(world: World) -> None:
    """Neither ends the intake: the next tick counts, and a lease that could not be given back runs out by itself."""
    full = CannotStore("the disk is full")
    counting: Any = Faulty(world.storage, [full], "read")
    await world.work(world.intake(storage=counting))
    assert len(world.log.said("inbox_not_counted")) == 1
    releasing: Any = Faulty(world.storage, [full], "write")
    await world.clock.until(world.intake(storage=releasing).stop(0))
    assert len(world.log.said("leases_not_released")) == 1


async def test_whoever_wakes_it_need_not_wait(world: World) -> None:
    """A call is enough; calls while it works are heard, and it never works twice beside itself."""
    await world.connect()
    intake = world.intake()
    await world.receive(read="hang")
    intake.wake()
    await settle()
    await world.receive()
    for _ in range(5):
        intake.wake()
    await settle()
    assert len(world.acme.read_) == 1
    world.acme.hanging.set()
    await settle()
    assert await world.states() == ["done", "done"]


async def test_the_depth_is_measured(world: World) -> None:
    """What waits is a number that an operator can watch."""
    await world.receive()
    await world.work()
    assert world.metrics.values()["inbox_depth", ()] == 1
    await world.connect()
    await world.work()
    assert world.metrics.values()["inbox_depth", ()] == 0


async def test_tidying(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies go a week after a delivery is done, rows after 35 days, in small steps, however many there are."""
    monkeypatch.setattr(room, "TIDY", 2)
    await world.connect()
    for _ in range(5):
        await world.receive()
    await world.work()
    await world.clock.advance(7 * 86_400 - 1)
    await world.intake().tidy()
    assert world.storage.database.rows("SELECT count(body) FROM delivery") == [(5,)]
    await world.clock.advance(1)
    await world.intake().tidy()
    assert world.storage.database.rows("SELECT count(body), count(*) FROM delivery") == [(0, 5)]
    await world.clock.advance(28 * 86_400)
    await world.intake().tidy()
    assert world.storage.database.rows("SELECT count(*) FROM delivery") == [(0,)]


# --- the decision ----------------------------------------------------------------------------------------------------

NOW = 1_700_000_000 * SECOND


@given(
    outcome=st.one_of(
        st.just(Awaiting(reason="no connection")),
        st.just(Senseless(reason="no")),
        st.builds(Failed, reason=st.just("bad"), after=st.none() | st.floats(0, 1e6)),
    ),
    tries=st.integers(1, 20),
    age=st.integers(-(10**12), 10**12),
    spread=st.floats(0, 1),
)
def test_every_delivery_comes_to_an_end(outcome: Awaiting | Failed | Senseless, tries: int, age: int, spread: float) -> None:
    """Failing ends by tries, waiting by age; what is tried again is so at a time that is not over, and never before it was asked to."""
    step = next_step(outcome, tries=tries, received_at=NOW - age, now=NOW, spread=spread)
    match outcome, step:
        case Senseless(), Dead(forget=False):
            pass
        case Awaiting(), Dead(forget=True):
            assert age >= WAITS * SECOND
        case Awaiting(), Again(at=at, counted=False, waiting=True):
            assert NOW < at <= NOW + LOOKS * SECOND + 1
            assert age < 0 or at <= NOW - age + WAITS * SECOND + 1
        case Failed(), Dead(forget=False):
            assert tries >= TRIES
        case Failed(after=after), Again(at=at, counted=True, waiting=False):
            assert tries < TRIES
            assert at >= NOW + (after or 0) * SECOND
        case _:
            raise AssertionError((outcome, step))
