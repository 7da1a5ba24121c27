"""The connector against the sandbox: the two halves that are written apart agree."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from todoist.sandbox.receiver import receiving
from todoist.sandbox.visitor import Visitor, visiting
from todoist.scripted import Script, context, everything

from oo_sdk import Action, ActionRefused, ActionResult, Change, Checkpoint, Context, Delivery, Event, Nudge, Response, RetryLater, decode
from oo_sdk.vocabulary import Comment, Label, Reminder, Section, Task
from oo_todoist import Todoist


class Line(Script):
    """A session like the scripted one, whose answers come from the sandbox."""

    def __init__(self, visitor: Visitor) -> None:
        super().__init__()
        self.visitor = visitor

    async def request(self, method: str, url: str, **sent: Any) -> Any:
        """Ask the sandbox as the signed-in user, and treat its answer as the scripted session does."""
        headers = {"Authorization": f"Bearer {self.visitor.access}"}
        params, data, body = sent.get("params"), sent.get("form"), sent.get("json")
        async with self.visitor.http.request(method, url, headers=headers, params=params, data=data, json=body) as answer:
            self.answers.append(Response(status=answer.status, headers={}, body=await answer.read()))
        return await super().request(method, url, **sent)


@pytest.fixture
async def ada() -> AsyncIterator[Visitor]:
    """Ada, signed in."""
    async with visiting() as visitor:
        await visitor.sign_in("data:read_write")
        yield visitor


def todoist(visitor: Visitor) -> Todoist:
    """The connector, pointed at the sandbox."""
    connector = Todoist()
    connector.settings = decode(json.dumps(visitor.sandbox.settings(visitor.address)).encode(), Todoist.Settings)
    return connector


def told(visitor: Visitor) -> Context:
    """What the connector is given; the clock is the sandbox's."""

    class Clock:
        def now(self) -> datetime:
            return visitor.clock.at

        def monotonic(self) -> float:
            return 0.0

        async def sleep(self, seconds: float) -> None:
            raise AssertionError("the connector waits")

    return replace(context(Line(visitor)), clock=Clock())


async def fetch(visitor: Visitor, since: Mapping[str, Any] | None = None) -> tuple[list[Event], Checkpoint]:
    """Run one sync; everything can be read."""
    *signals, last = await everything(todoist(visitor).fetch_signals(told(visitor), since))
    assert isinstance(last, Checkpoint)
    return [signal for signal in signals if isinstance(signal, Event)], last


async def act(visitor: Visitor, name: str, key: str | None = None, **arguments: Any) -> ActionResult:
    """Do something."""
    kind = next(each for each in Todoist.actions if each.name == name)
    action = Action(name=name, arguments=decode(json.dumps(arguments).encode(), kind.arguments), key=key or str(uuid4()))
    return await todoist(visitor).act(told(visitor), action)


async def test_everything_there_is_becomes_events(ada: Visitor) -> None:
    """A first fetch tells of every kind of thing that Ada has, and can read all of it."""
    events, last = await fetch(ada)
    payloads = {type(event.payload) for event in events}
    assert payloads >= {Section, Label, Task, Comment, Reminder}
    by_name = {event.name: event.payload for event in events}
    reminder, comment = by_name["reminder"], by_name["comment"]
    tasks = {event.subject: event.payload.title for event in events if isinstance(event.payload, Task)}
    assert isinstance(reminder, Reminder)
    assert isinstance(comment, Comment)
    assert (tasks[reminder.task], reminder.minutes_before) == ("Water the plants", 30)
    assert tasks[comment.task] == "Write Note G"
    assert last.listed == ("project", "section", "label", "task", "reminder")
    assert await fetch(ada, last.cursor) == ([], Checkpoint(last.cursor))


async def test_a_whole_life_of_a_task(ada: Visitor) -> None:
    """A task that is added, updated, completed and opened again from our side is told back as such."""
    _, last = await fetch(ada)
    made = await act(ada, "add_task", title="Buy milk", labels=["errand"], priority="high", due_text="tomorrow", duration_minutes=15)
    changes: list[tuple[str, dict[str, Any]]] = [
        ("update_task", {"title": "Buy oat milk", "due_text": "", "duration_minutes": 0}),
        ("complete_task", {}),
        ("reopen_task", {}),
    ]
    [event], last = await fetch(ada, last.cursor)
    payload = event.payload
    assert isinstance(payload, Task)
    assert event.subject == made.subject
    assert (payload.title, payload.priority, payload.due.when.date, payload.duration_minutes) == (
        *("Buy milk", Task.PRIORITY_HIGH),
        *("2026-11-24", 15),
    )
    seen = []
    for name, arguments in changes:
        assert await act(ada, name, id=made.subject, **arguments) == made
        [event], last = await fetch(ada, last.cursor)
        assert isinstance(event.payload, Task)
        seen.append((event.payload.title, event.payload.completed, event.payload.HasField("due"), event.payload.duration_minutes))
    assert seen == [("Buy oat milk", completed, False, 0) for completed in (False, True, False)]


async def test_completing_moves_a_recurring_task_on(ada: Visitor) -> None:
    """A recurring task that is completed stays open for its next date."""
    made = await act(ada, "add_task", title="Water the plants", due_text="every day")
    _, last = await fetch(ada)
    await act(ada, "complete_task", id=made.subject)
    [event], _ = await fetch(ada, last.cursor)
    assert isinstance(event.payload, Task)
    assert (event.payload.completed, event.payload.due.when.date) == (False, "2026-11-24")


async def test_a_repeated_action_is_done_once(ada: Visitor) -> None:
    """After a lost answer the same action is done again: it happens once, and gives the same task."""
    key, before = str(uuid4()), len((await ada.read())["items"])
    await ada.control("POST", "misbehave", json={"name": "fail_commands", "times": 1})
    with pytest.raises(RetryLater):
        await act(ada, "add_task", key, title="x")
    first = await act(ada, "add_task", key, title="x")
    assert await act(ada, "add_task", key, title="x") == first
    assert len((await ada.read())["items"]) == before + 1


async def test_what_todoist_refuses(ada: Visitor) -> None:
    """An unknown task, a date that is none, a project that is none and a missing scope are refused in words that help."""
    for words, name, arguments in (
        ("may have been deleted", "complete_task", {"id": "6XR4GqQQCW6Gv9h4"}),
        ("may have been deleted", "add_task", {"title": "x", "project": "6XR4H993xv8H5qCR"}),
        ("what due_text or due_date says", "add_task", {"title": "x", "due_date": "soon"}),
        ("what title says", "add_task", {"title": ""}),
    ):
        with pytest.raises(ActionRefused, match=words):
            await act(ada, name, **arguments)
    await ada.sign_in("data:read")
    with pytest.raises(ActionRefused, match="data:read_write was not granted"):
        await act(ada, "add_task", title="x")


async def test_a_push_leads_to_the_change(ada: Visitor) -> None:
    """What the sandbox pushes is for Ada's account and a nudge; the sync after it tells what happened."""
    _, last = await fetch(ada)
    async with receiving() as app:
        await ada.control("POST", "webhook", json={"url": app.url})
        made = await ada.one("item_add", content="Buy milk")
        await ada.sandbox.webhooks.settled()
        [(headers, body)] = app.calls
    delivery = Delivery(id=headers["X-Todoist-Delivery-ID"], headers={}, body=body, received_at=ada.clock.at)
    account = ada.sandbox.world.account("ada")
    assert account is not None
    assert await todoist(ada).route(delivery) == [account.id]
    assert await todoist(ada).read(delivery) == [Nudge()]
    [event], _ = await fetch(ada, last.cursor)
    assert (event.subject, event.change) == (made, Change.UPSERTED)
