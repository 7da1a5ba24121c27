"""Actions: checked before they are taken, done once, and told as events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from daemon.sync.world import Hub, Scripted, Sessions
from daemon.virtual import NOW, settle
from msgspec.structs import replace

from oo_daemon.connections.credential import Credentials
from oo_daemon.connections.errors import Declined
from oo_daemon.connections.guest import Contexts
from oo_daemon.host import SameLoop
from oo_daemon.outbox import own
from oo_daemon.ports import SECOND, moment
from oo_daemon.registry import Registry
from oo_daemon.store import connections, jobs
from oo_daemon.store.connections import Connection, StateChanged
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.jobs import Job
from oo_daemon.sync.act import LARGEST_DETAIL, REMEMBERED, Actions
from oo_daemon.sync.jobs import LIMIT, Worker
from oo_sdk import (
    Action,
    ActionKind,
    ActionRefused,
    ActionResult,
    ApiRetired,
    ConnectorBug,
    Context,
    CursorExpired,
    QuotaSpent,
    RetryLater,
    SignInAgain,
    Struct,
)
from oo_sdk.vocabulary import Record
from oo_vault import TryLater

Play = ActionResult | BaseException | Callable[[Action], Any]


class Words(Struct):
    text: str
    stars: int = 0


class Nothing(Struct):
    """An action without arguments."""


class Acme(Scripted):
    """Writes notes, as it was told to."""

    title = "Acme Notes"
    actions = (
        ActionKind(name="write", sentence="Write a note.", arguments=Words, scope="notes.read"),
        ActionKind(name="burn", sentence="Burn all notes.", arguments=Nothing, scope="notes.burn"),
        ActionKind(name="ring", sentence="Ring the bell.", arguments=Nothing),
    )

    def __init__(self, *plays: Play) -> None:
        super().__init__([])
        self.plays = list(plays) or [ActionResult(subject="n1")]
        self.acted: list[Action] = []

    async def act(self, ctx: Context, action: Action) -> ActionResult:
        assert ctx.meta == {"zone": "Europe/Berlin"}
        self.acted.append(action)
        play = self.plays[0] if len(self.plays) == 1 else self.plays.pop(0)
        result = play(action) if callable(play) else play
        if isinstance(result, BaseException):
            raise result
        return cast(ActionResult, result)


@dataclass
class World:
    hub: Hub
    actions: Actions
    worker: Worker
    connection: Connection
    acme: Acme
    asked: list[Job] = field(default_factory=list)

    async def ask(self, name: str = "write", key: str | None = "k1", **arguments: Any) -> Job:
        job = await self.actions.ask(self.connection, name, arguments or {"text": "A"}, key)
        self.asked.append(job)
        return job

    async def declined(self, name: str = "write", key: str | None = "k1", **arguments: Any) -> Declined:
        with pytest.raises(Declined) as declined:
            await self.actions.ask(self.connection, name, arguments, key)
        return declined.value

    async def work(self) -> Job:
        """Do what is due; gives the first action as it is then."""
        await self.worker.tick()
        await settle()
        seen = await self.actions.look(self.asked[0].id)
        assert seen is not None
        return seen

    async def to_the_end(self) -> Job:
        while (job := await self.work()).next_try_at is not None:
            await self.hub.clock.advance(max(0, job.next_try_at - self.hub.clock.now()) / SECOND)
        return job

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        return [(event.type, _fields(event.payload)) for event in self.hub.events()]

    async def change_state(self, state: Any, reason: str = "") -> None:
        changed = StateChanged(number=self.connection.number, state=state, reason=reason, now=self.hub.clock.now())
        await self.hub.storage.write(lambda database: changed.apply(database))


def _fields(payload: Any) -> dict[str, Any]:
    record = Record()
    assert payload.Unpack(record)
    return dict(record.fields)


async def test_an_action_over_which_the_daemon_ends_is_given_up(hub: Hub) -> None:
    """What ended the process each time is not asked for again, and is told."""
    world = await a_world(hub)
    asked = await world.ask()
    world.worker.handlers = {"act": replace(world.actions, poisoned=lambda item: item == f"action {asked.id}")}
    job = await world.work()
    assert (job.state, job.reason) == ("failed", "the daemon ended each time that it was tried")
    assert [type_ for type_, _ in world.told()] == ["action.failed"]


async def a_world(hub: Hub, *plays: Play, connector: Acme | None = None) -> World:
    acme = connector or Acme(*plays)
    actions = Actions(
        storage=hub.storage,
        registry=Registry(plugins=(), connectors={"acme": acme}),
        contexts=Contexts(credentials=cast(Credentials, Sessions()), clock=hub.clock, log_for=lambda connection, provider: hub.log),
        guests=SameLoop(),
        clock=hub.clock,
        chance=hub.chance,
        metrics=hub.metrics,
        connection_event=own.connection_event,
        action_event=own.action_event,
    )
    worker = Worker(
        storage=hub.storage,
        clock=hub.clock,
        chance=hub.chance,
        metrics=hub.metrics,
        log=hub.log,
        log_for=lambda connection, provider: hub.log,
        owner="me",
        handlers={"act": actions},
        workers=4,
    )
    return World(hub, actions, worker, await hub.connect(due=NOW + 3600 * SECOND), acme)


async def test_done(hub: Hub) -> None:
    """The connector gets checked arguments and a UUID; the result is kept, an event tells of it, and a sync is due at once."""
    world = await a_world(hub, ActionResult(subject="n7", detail={"pages": [1, 2]}))
    await world.ask(text="Buy bread", stars="4")
    job = await world.work()
    (action,) = world.acme.acted
    assert (action.name, action.arguments) == ("write", Words(text="Buy bread", stars=4))
    assert str(UUID(action.key)) == action.key == job.id
    assert (job.state, job.result, job.reason) == ("done", {"subject": "n7", "detail": {"pages": [1, 2]}}, "")
    assert world.told() == [("action.done", {"name": "write", "key": "k1", "subject": "n7"})]
    assert "Buy bread" not in str(hub.events())
    assert (await hub.schedule()).next_run_at == NOW


async def test_the_key_that_the_provider_sees(hub: Hub) -> None:
    """It is the same for every try and after any restart, and another for another key or another connection."""
    world = await a_world(hub, RetryLater(), RetryLater(), ActionResult())
    await world.ask()
    await world.to_the_end()
    assert len({action.key for action in world.acme.acted}) == 1
    assert len(world.acme.acted) == 3
    first = world.acme.acted[0].key
    world.connection = await hub.connect("c2")
    assert (await world.ask()).id != first
    assert (await world.ask(key="k2")).id != first
    assert (await world.ask(key=None)).key != (await world.ask(key="other")).key


async def test_the_same_key_again(hub: Hub) -> None:
    """It is the same action, before and after its end and whatever became of the connection; for another wish the key is taken."""
    world = await a_world(hub)
    first = await world.ask()
    assert await world.ask() == first
    done = await world.work()
    assert await world.ask() == done
    assert len(world.acme.acted) == 1
    assert (await world.declined(text="B")).code == "key_reused"
    assert (await world.declined("ring")).code == "key_reused"
    await world.change_state("disconnected")
    assert await world.ask() == done


@pytest.mark.parametrize(
    ("name", "arguments", "code", "words"),
    [
        ("wirte", {"text": "A"}, "unknown_action", ["wirte", "There are write, burn, ring."]),
        ("write", {"test": "A"}, "arguments", ["no argument test", "It takes text, stars."]),
        ("write", {}, "arguments", ["`text`"]),
        ("write", {"text": 7}, "arguments", ["`$.text`"]),
        ("write", {"text": "A", "stars": "many"}, "arguments", ["`$.stars`"]),
        ("ring", {"loud": True}, "arguments", ["no argument loud", "It takes none."]),
        ("burn", {}, "missing_scope", ["Acme Notes", "oo connect acme --user ada --account c1 --write"]),
    ],
)
async def test_declined(hub: Hub, name: str, arguments: dict[str, Any], code: str, words: list[str]) -> None:
    """What cannot be done is said at once, by name and with the way out, and leaves nothing behind."""
    world = await a_world(hub)
    declined = await world.declined(name, **arguments)
    assert declined.code == code
    assert all(word in str(declined) for word in words)
    assert hub.database.rows("SELECT * FROM job") == []


@pytest.mark.parametrize("key", ["", "x" * 129, "line\nend", "snow\N{SNOWMAN}"])
async def test_no_key(hub: Hub, key: str) -> None:
    """A key is a short line of ASCII."""
    world = await a_world(hub)
    assert (await world.declined(key=key, text="A")).code == "key"
    assert (await world.ask(key="~" * 128)).key == "~" * 128


@pytest.mark.parametrize("state", ["needs_sign_in", "paused", "revoking", "disconnected"])
async def test_not_active(hub: Hub, state: str) -> None:
    """Only an active connection acts, also where the caller's picture of it is old."""
    world = await a_world(hub)
    await world.change_state(state)
    assert (await world.declined(text="A")).code == "not_active"


async def test_no_longer_active(hub: Hub) -> None:
    """An action whose connection was signed out while it waited has failed, with the reason, and nobody was asked."""
    world = await a_world(hub)
    await world.ask()
    await world.change_state("needs_sign_in", "the grant is gone")
    job = await world.work()
    assert (job.state, "the grant is gone" in job.reason) == ("failed", True)
    assert world.acme.acted == []
    assert [type_ for type_, _ in world.told()] == ["action.failed"]


async def test_refused(hub: Hub) -> None:
    """What the provider will not do is not tried again; its sentence is kept and told."""
    world = await a_world(hub, ActionRefused("Acme does not know this note"))
    await world.ask()
    job = await world.work()
    assert (job.state, job.reason, job.tries) == ("failed", "Acme does not know this note", 1)
    assert world.told() == [("action.failed", {"name": "write", "key": "k1", "reason": "Acme does not know this note"})]
    assert (await hub.schedule()).next_run_at == NOW + 3600 * SECOND, "nothing changed there"


async def test_signed_out(hub: Hub) -> None:
    """A grant that is gone fails the action and asks for the connection's owner, in one transaction; those behind it fail too."""
    world = await a_world(hub, SignInAgain("the grant is gone"))
    await world.ask()
    behind = await world.ask(key="k2")
    job = await world.work()
    assert (job.state, job.reason) == ("failed", "the grant is gone")
    assert ((await hub.connection()).state, (await hub.connection()).reason) == ("needs_sign_in", "the grant is gone")
    seen = await world.actions.look(behind.id)
    assert seen is not None
    assert seen.state == "failed"
    assert [type_ for type_, _ in world.told()] == ["action.failed", "connection.needs_sign_in", "action.failed"]
    assert len(world.acme.acted) == 1


@pytest.mark.parametrize(
    ("fault", "seconds", "reason"),
    [
        (RetryLater("Acme is down", after=timedelta(seconds=40)), 40.0, "Acme is down"),
        (RetryLater("Acme is down"), 0.5, "Acme is down"),
        (QuotaSpent("enough for now", until=moment(NOW + 90 * SECOND)), 90.0, "enough for now"),
        (QuotaSpent("enough for now", until=datetime.fromtimestamp(NOW / SECOND + 90, UTC).replace(tzinfo=None)), 90.0, "enough for now"),
        (TryLater("a refresh runs", 7), 0.5, "a refresh runs"),
        (CannotStore("the disk is full"), 0.5, "the disk is full"),
        (ConnectorBug("no such member"), 0.5, "no such member"),
        (ZeroDivisionError("Buy bread"), 0.5, "the connector failed with ZeroDivisionError"),
    ],
)
async def test_again_later(hub: Hub, fault: Exception, seconds: float, reason: str) -> None:
    """What may pass is tried again when the provider says, or soon; a guest's own words are not kept."""
    world = await a_world(hub, fault, ActionResult(subject="n1"))
    await world.ask()
    job = await world.work()
    assert (job.state, job.next_try_at) == ("queued", NOW + int(seconds * SECOND))
    assert reason in job.reason
    assert "Buy bread" not in job.reason
    assert world.told() == []
    assert (await world.to_the_end()).state == "done"


@pytest.mark.parametrize("fault", [ConnectorBug("broken"), ZeroDivisionError("s3cret"), CursorExpired("broken"), "no result"])
async def test_a_fault_of_the_connector(hub: Hub, fault: Any) -> None:
    """A connector that fails three times has failed; only the kind of its own exceptions is kept."""
    world = await a_world(hub, fault if isinstance(fault, Exception) else lambda action: fault)
    await world.ask()
    job = await world.to_the_end()
    assert (job.state, job.tries) == ("failed", 3)
    assert "s3cret" not in str(hub.database.rows("SELECT * FROM job")) + str(hub.events())


async def test_retired(hub: Hub) -> None:
    """An interface that is gone for good is not asked again."""
    world = await a_world(hub, ApiRetired("v1 is gone"))
    await world.ask()
    assert (await world.work()).reason == "v1 is gone: a newer version of the connector is needed"


async def test_given_up_after_a_day(hub: Hub) -> None:
    """A provider that is down for longer than a day gets no late surprises."""
    world = await a_world(hub, RetryLater("Acme is down", after=timedelta(hours=5)))
    await world.ask()
    job = await world.to_the_end()
    assert (job.state, job.reason, job.tries) == ("failed", "Acme is down", 5)
    assert hub.clock.monotonic() <= LIMIT
    assert [type_ for type_, _ in world.told()] == ["action.failed"]


async def test_a_connector_that_is_not_loaded(hub: Hub) -> None:
    """Without its connector nothing is taken, and what was taken waits for it."""
    world = await a_world(hub)
    await world.ask()
    without = Registry(plugins=(), connectors={})
    world.actions = replace(world.actions, registry=without)
    world.worker.handlers = {"act": world.actions}
    assert (await world.declined(key="k2", text="A")).code == "not_loaded"
    assert "oo plugins" in (await world.work()).reason


@pytest.mark.parametrize("detail", [{"open": object()}, {"much": "x" * LARGEST_DETAIL}, ["no", "object"], {"n": {1j}}])
async def test_a_result_that_cannot_be_kept(hub: Hub, detail: Any) -> None:
    """What is done is done: what of the answer is no small JSON object is left out, and nothing is done twice for its sake."""
    world = await a_world(hub, ActionResult(subject=cast(str, 7), detail=detail))
    await world.ask()
    job = await world.work()
    assert (job.state, job.result) == ("done", {"subject": "", "detail": {}})
    assert len(world.acme.acted) == 1


async def test_an_id_that_is_no_text(hub: Hub) -> None:
    """Half a character in the provider's id does not undo what was done."""
    world = await a_world(hub, ActionResult(subject="n\ud800"))
    await world.ask()
    assert (await world.work()).result == {"subject": "n?", "detail": {}}


async def test_it_is_forgotten(hub: Hub) -> None:
    """A week after its end nothing of an action is left; only the event that told of it."""
    world = await a_world(hub)
    await world.ask()
    waiting = await hub.storage.write(
        jobs.put, id_="r", kind="revoke", connection=world.connection.number, key="1", body={}, now=hub.clock.now()
    )
    await world.work()
    hub.clock.shift(REMEMBERED)
    await world.actions.tidy()
    assert await world.actions.look(world.asked[0].id) is not None
    hub.clock.shift(1)
    await world.actions.tidy()
    assert await world.actions.look(world.asked[0].id) is None
    assert await world.actions.look(waiting.id) is None, "and a revocation is no action"
    assert await hub.storage.read(jobs.by_id, waiting.id) is not None
    assert len(world.told()) == 1


async def test_nobody_there(hub: Hub) -> None:
    """A connection that is gone takes nothing."""
    world = await a_world(hub)
    hub.database.rows("DELETE FROM connection")
    assert (await world.declined(text="A")).code == "not_active"
    assert await hub.storage.read(connections.by_number, world.connection.number) is None
