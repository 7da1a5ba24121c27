from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from todoist.sandbox.receiver import Receiver, receiving
from todoist.sandbox.visitor import Visitor, visiting

from oo_todoist.sandbox.webhooks import EVENTS

Json = dict[str, Any]


@pytest.fixture
async def app() -> AsyncIterator[Receiver]:
    """A backend that takes webhooks."""
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def pushed(ada: Visitor, app: Receiver) -> Visitor:
    """Ada, signed in, with the app's callback set."""
    await ada.control("POST", "webhook", json={"url": app.url})
    return ada


async def settled(visitor: Visitor) -> None:
    """Wait until everything was pushed that is going to be."""
    async with asyncio.timeout(20):
        await visitor.sandbox.webhooks.settled()


async def deliveries(visitor: Visitor) -> list[Json]:
    """List what the sandbox pushed."""
    listed: list[Json] = (await visitor.control("GET", "deliveries"))["deliveries"]
    return listed


def shape(value: Any) -> Any:
    """Give the members of a body, all the way down, without their values."""
    return {name: shape(member) for name, member in value.items()} if isinstance(value, dict) else None


async def test_a_change_is_pushed_as_documented(pushed: Visitor, app: Receiver, real: Callable[[str], Any]) -> None:
    """An added task is pushed with exactly the members of Doist's own example, under the documented headers."""
    made = await pushed.one("item_add", content="Buy Milk")
    await settled(pushed)
    [(headers, body)] = app.calls
    told, example = json.loads(body), real("sdk_webhook_v1_item_added")
    assert shape(told) == shape(example)
    assert (told["version"], told["event_name"], told["event_data"]["id"]) == ("1", "item:added", made)
    assert told["event_data"]["url"] == f"https://app.todoist.com/app/task/{made}"
    assert told["user_id"] == told["initiator"]["id"] == told["event_data"]["user_id"]
    assert headers["User-Agent"] == "Todoist-Webhooks"
    assert headers["Content-Type"] == "application/json"
    assert len(headers["X-Todoist-Delivery-ID"]) == 32
    expected = hmac.new(pushed.sandbox.client_secret.encode(), body, hashlib.sha256).digest()
    assert headers["X-Todoist-Hmac-SHA256"] == base64.b64encode(expected).decode()


async def test_an_update_says_what_was_before(pushed: Visitor, app: Receiver, real: Callable[[str], Any]) -> None:
    """A changed task comes with the task as it was; a finished round of a recurring one says that it was finished."""
    made = await pushed.one("item_add", content="Water the plants", due={"string": "every day"})
    await pushed.one("item_update", id=made, content="Water them")
    await pushed.one("item_close", id=made)
    await settled(pushed)
    _, updated, finished = (json.loads(body) for _, body in app.calls)
    assert updated.keys() == real("sdk_webhook_v1_item_updated_with_extra").keys()
    assert updated["event_data_extra"]["old_item"]["content"] == "Water the plants"
    assert updated["event_data_extra"]["update_intent"] == "item_updated"
    assert (finished["event_name"], finished["event_data_extra"]["update_intent"]) == ("item:updated", "item_completed")


async def test_whatever_happens_is_pushed_in_order(pushed: Visitor, app: Receiver) -> None:
    """Projects, sections, labels, filters, comments and tasks are told of as they come and go."""
    project = await pushed.one("project_add", name="p")
    section = await pushed.one("section_add", name="s", project_id=project)
    item = await pushed.one("item_add", content="t", section_id=section)
    await pushed.one("note_add", item_id=item, content="about the task")
    await pushed.one("note_add", project_id=project, content="about the project")
    await pushed.one("label_add", name="l")
    await pushed.one("filter_add", name="f", query="today")
    await pushed.one("item_complete", id=item)
    await pushed.one("item_uncomplete", id=item)
    await pushed.one("project_archive", id=project)
    await settled(pushed)
    assert app.names == [
        *("project:added", "section:added", "item:added", "note:added", "item:updated", "note:added", "label:added"),
        *("filter:added", "item:completed", "item:uncompleted", "project:archived"),
    ]
    of_task, of_project = app.told[3], app.told[5]
    assert (of_task["item"]["id"], of_task["url"]) == (item, f"https://app.todoist.com/app/task/{item}")
    assert "item" not in of_project
    assert {each["state"] for each in await deliveries(pushed)} == {"delivered"}


async def test_only_people_who_signed_in_are_told_of(stranger: Visitor, app: Receiver) -> None:
    """Nothing is pushed of somebody who never allowed the app, or who removed it."""
    await stranger.control("POST", "webhook", json={"url": app.url})
    changes = [{"user": user, "commands": [{"type": "item_add", "args": {"content": user}}]} for user in ("ada", "grace")]
    await stranger.sign_in()
    for change in changes:
        await stranger.control("POST", "change", json=change)
    await settled(stranger)
    assert [told["content"] for told in app.told] == ["ada"]
    await stranger.control("POST", "misbehave", json={"name": "kill_grant"})
    await stranger.control("POST", "change", json=changes[0])
    await settled(stranger)
    assert len(app.calls) == 1


async def test_only_what_the_app_chose_is_pushed(pushed: Visitor, app: Receiver) -> None:
    """Events that were not chosen are not pushed, and without an address none is."""
    await pushed.control("POST", "webhook", json={"url": app.url, "events": ["item:completed"]})
    made = await pushed.one("item_add", content="x")
    await pushed.one("item_complete", id=made)
    await settled(pushed)
    assert app.names == ["item:completed"]
    await pushed.control("POST", "webhook", json={"url": None})
    await pushed.one("item_uncomplete", id=made)
    await settled(pushed)
    assert len(app.calls) == 1


@pytest.mark.parametrize("status", [201, 204, 302, 404, 500])
async def test_anything_but_200_comes_again(pushed: Visitor, app: Receiver, status: int) -> None:
    """A delivery that was not answered with 200 comes again after a quarter of an hour, the same in everything."""
    app.statuses = [status]
    await pushed.one("item_add", content="x")
    await settled(pushed)
    first, again = app.calls
    assert first == again
    assert pushed.naps == [900]
    [delivery] = await deliveries(pushed)
    assert (delivery["state"], [each["status"] for each in delivery["attempts"]]) == ("delivered", [status, 200])


async def test_a_delivery_is_given_up(pushed: Visitor, app: Receiver) -> None:
    """It comes four times in all, and the next one is not held up."""
    app.statuses = [503] * 5
    await pushed.one("item_add", content="x")
    await settled(pushed)
    await pushed.one("item_add", content="y")
    await settled(pushed)
    assert [told["content"] for told in app.told] == ["x"] * 4 + ["y"] * 2
    assert pushed.naps == [900] * 4
    assert [each["state"] for each in await deliveries(pushed)] == ["failed", "delivered"]


async def test_nobody_there(pushed: Visitor) -> None:
    """Where nobody listens the attempts say so, and the sandbox goes on."""
    await pushed.control("POST", "webhook", json={"url": "http://127.0.0.1:1/", "retry_seconds": 2})
    await pushed.one("item_add", content="x")
    await settled(pushed)
    [delivery] = await deliveries(pushed)
    assert {(each["status"], each["error"]) for each in delivery["attempts"]} == {(None, "ClientConnectorError")}
    assert pushed.naps == [2, 2, 2]


async def test_a_delivery_can_be_repeated(pushed: Visitor, app: Receiver) -> None:
    """POST /sandbox/redeliver pushes the same delivery under the same id; an unknown id is refused."""
    await pushed.one("item_add", content="x")
    await settled(pushed)
    [delivery] = await deliveries(pushed)
    again = await pushed.control("POST", "redeliver", json={"id": delivery["id"]})
    assert [each["status"] for each in again["attempts"]] == [200, 200]
    assert app.calls[0] == app.calls[1]
    assert (await pushed.control("POST", "redeliver", json={"id": "none"}))[0] == 404


async def test_a_callback_from_the_start(app: Receiver) -> None:
    """A sandbox can be made with the app's callback, and with a shorter patience."""
    async with visiting(webhook_url=app.url, webhook_retry=3) as visitor:
        await visitor.sign_in()
        app.statuses = [500]
        await visitor.one("item_add", content="x")
        await settled(visitor)
        assert (len(app.calls), visitor.naps) == (2, [3])


async def test_webhooks_that_go_wrong(pushed: Visitor, app: Receiver) -> None:
    """Deliveries can be dropped, late, out of order, doubled and signed wrongly."""

    async def add(content: str, **switch: Any) -> None:
        if switch:
            await pushed.control("POST", "misbehave", json={"times": 1, **switch})
        await pushed.one("item_add", content=content)
        await settled(pushed)

    await add("dropped", name="drop_webhooks")
    await add("late", name="late_webhooks", args={"seconds": 7})
    await add("held", name="reorder_webhooks")
    await add("next")
    await add("doubled", name="duplicate_webhooks")
    await add("forged", name="forge_webhooks")
    assert [told["content"] for told in app.told] == ["late", "next", "held", "doubled", "doubled", "forged"]
    assert pushed.naps == [7]
    assert app.ids[3] == app.ids[4]
    assert len(set(app.ids)) == 5
    secret = pushed.sandbox.client_secret.encode()
    right = [
        hmac.new(secret, body, hashlib.sha256).digest() == base64.b64decode(headers["X-Todoist-Hmac-SHA256"]) for headers, body in app.calls
    ]
    assert right == [True] * 5 + [False]
    assert next(each["state"] for each in await deliveries(pushed)) == "dropped"


@pytest.mark.parametrize(
    "asked",
    [
        {"url": "ftp://127.0.0.1/"},
        {"url": 7},
        {"url": "http://127.0.0.1/", "events": ["item:eaten"]},
        {"url": "http://127.0.0.1/", "events": "item:added"},
        {"url": "http://127.0.0.1/", "retry_seconds": -1},
        {"url": "http://127.0.0.1/", "client_id": "nobody"},
    ],
)
async def test_a_callback_that_is_none_is_refused(stranger: Visitor, asked: Json) -> None:
    """Addresses, events, numbers and apps that are none are refused with a sentence."""
    status, sentence = await stranger.control("POST", "webhook", json=asked)
    assert status in (400, 404)
    assert sentence.endswith(".\n")
    assert stranger.sandbox.webhooks.callbacks == {}


def test_every_documented_event_can_be_chosen() -> None:
    """The events are those of Todoist's documentation."""
    assert len(EVENTS) == 5 + 3 + 5 + 5 + 3 + 3 + 1
    assert {"item:uncompleted", "note:deleted", "section:archived", "label:updated", "filter:added", "reminder:fired"} <= EVENTS
