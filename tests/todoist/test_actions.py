"""What can be done at Todoist, against prepared answers: the command that is sent, and what its answer means."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from todoist.scripted import Script, answer, context

from oo_sdk import Action, ActionKind, ActionRefused, ActionResult, ConnectorBug, ConnectorError, RetryLater, decode
from oo_todoist import Todoist

KEY = "0b0c2f0e-9b5b-4d0e-8f57-3f2b7c1d2a10"
#: The temporary id that belongs to the key, for ever.
TEMP_ID = "628a2136-1ba2-5362-814c-bcce72106646"


def kind(name: str) -> ActionKind:
    """Find a kind of action."""
    return next(each for each in Todoist.actions if each.name == name)


async def act(name: str, arguments: dict[str, Any], *answers: Any) -> tuple[ActionResult, dict[str, Any]]:
    """Do something with the answers prepared; gives the result and the one command that was sent."""
    script = Script(*(answers or ({"sync_status": {KEY: "ok"}},)))
    action = Action(name=name, arguments=decode(json.dumps(arguments).encode(), kind(name).arguments), key=KEY)
    try:
        result = await Todoist().act(context(script, scopes=("data:read", "data:read_write")), action)
    finally:
        [asked] = script.asked
        assert (asked.method, asked.url, [*asked.form]) == ("POST", "https://api.todoist.com/api/v1/sync", ["commands"])
    [command] = json.loads(asked.form["commands"])
    return result, command


def test_what_it_offers() -> None:
    """Each action has a sentence, and needs the scope that changes things."""
    assert [each.name for each in Todoist.actions] == ["complete_task", "reopen_task", "add_task", "update_task"]
    assert {each.scope for each in Todoist.actions} == {"data:read_write"}
    assert all(each.sentence.endswith(".") for each in Todoist.actions)


@pytest.mark.parametrize(("name", "type_"), [("complete_task", "item_close"), ("reopen_task", "item_uncomplete")])
async def test_one_command_with_the_key_as_its_uuid(name: str, type_: str) -> None:
    """Completing and reopening send one command, whose uuid is the action's key, and answer with the task's id."""
    result, command = await act(name, {"id": "t1"})
    assert command == {"type": type_, "uuid": KEY, "args": {"id": "t1"}}
    assert result == ActionResult(subject="t1")


async def test_adding_a_task() -> None:
    """A task is added with all that was said of it, and the result names the task that was made."""
    said = {
        "title": "Buy milk",
        "description": "two litres",
        "project": "p1",
        "section": "s1",
        "parent": "t0",
        "labels": ["errand"],
        "priority": "urgent",
        "due_text": "every monday",
        "due_date": "2026-11-23",
        "due_language": "en",
        "deadline": "2026-12-01",
        "duration_minutes": 15,
        "assignee": "7",
    }
    result, command = await act("add_task", said, {"sync_status": {KEY: "ok"}, "temp_id_mapping": {TEMP_ID: "t1"}})
    assert command == {
        "type": "item_add",
        "uuid": KEY,
        "temp_id": TEMP_ID,
        "args": {
            "content": "Buy milk",
            "description": "two litres",
            "project_id": "p1",
            "section_id": "s1",
            "parent_id": "t0",
            "labels": ["errand"],
            "priority": 4,
            "due": {"date": "2026-11-23", "string": "every monday", "lang": "en"},
            "deadline": {"date": "2026-12-01"},
            "duration": {"amount": 15, "unit": "minute"},
            "responsible_uid": "7",
        },
    }
    assert result == ActionResult(subject="t1")


async def test_adding_sends_nothing_that_was_not_said() -> None:
    """What is left out is not sent; a repeated command whose mapping Todoist forgot is done all the same."""
    result, command = await act("add_task", {"title": "x"})
    assert command["args"] == {"content": "x"}
    assert result == ActionResult()


@pytest.mark.parametrize(
    ("change", "args"),
    [
        ({"title": "y"}, {"content": "y"}),
        ({"priority": "normal"}, {"priority": 1}),
        ({"due_text": "tomorrow"}, {"due": {"string": "tomorrow"}}),
        ({"due_date": "2026-11-23", "due_text": ""}, {"due": {"date": "2026-11-23"}}),
        ({"description": "", "labels": []}, {"description": "", "labels": []}),
        ({"due_text": ""}, {"due": None}),
        ({"due_date": ""}, {"due": None}),
        ({"deadline": ""}, {"deadline": None}),
        ({"duration_minutes": 0}, {"duration": None}),
        ({"assignee": ""}, {"responsible_uid": None}),
    ],
)
async def test_updating_a_task(change: dict[str, Any], args: dict[str, Any]) -> None:
    """Only what was given changes; what is given as empty is taken away."""
    result, command = await act("update_task", {"id": "t1"} | change)
    assert (command["type"], command["args"]) == ("item_update", {"id": "t1"} | args)
    assert result == ActionResult(subject="t1")


@pytest.mark.parametrize("nothing", [{}, {"due_language": "de"}])
async def test_updating_nothing_is_refused(nothing: dict[str, Any]) -> None:
    """An update that changes nothing is refused before Todoist is asked."""
    script = Script()
    action = Action(
        name="update_task", arguments=decode(json.dumps({"id": "t1"} | nothing).encode(), kind("update_task").arguments), key=KEY
    )
    with pytest.raises(ActionRefused, match="nothing to change"):
        await Todoist().act(context(script), action)
    assert script.asked == []


@pytest.mark.parametrize(
    ("refusal", "meant", "words"),
    [
        ({"error_code": 15, "error": "Invalid temporary id"}, ActionRefused, "may have been deleted"),
        ({"error_tag": "ITEM_NOT_FOUND", "http_code": 404}, ActionRefused, "may have been deleted"),
        ({"error_code": 20, "error_extra": {"argument": "due.date"}}, ActionRefused, "what due_text or due_date says"),
        ({"error_code": 19, "error_extra": {"argument": "content"}}, ActionRefused, "what title says"),
        ({"error_code": 20, "error_extra": {"argument": "hush"}}, ActionRefused, "what one of the arguments says"),
        ({"error_code": 20, "error_extra": {"argument": 7}}, ActionRefused, "what one of the arguments says"),
        ({"error_code": 403, "http_code": 403}, ActionRefused, "data:read_write was not granted"),
        ({"error_code": 49, "error_tag": "MAX_ITEMS_LIMIT_REACHED"}, ActionRefused, "MAX_ITEMS_LIMIT_REACHED"),
        ({"error_code": 99, "error_tag": "hush hush"}, ActionRefused, "error 99"),
        ({}, ActionRefused, "refuses it;"),
        ({"error_code": 35, "error_extra": {"retry_after": 7}}, RetryLater, "come back later"),
        ({"http_code": 429}, RetryLater, "come back later"),
        ({"http_code": 503, "error_extra": {"retry_after": "soon"}}, RetryLater, "come back later"),
    ],
)
async def test_a_refused_command(refusal: dict[str, Any], meant: type[ConnectorError], words: str) -> None:
    """A command that Todoist did not carry out is refused, or tried later, in our words: its own are not repeated."""
    told = {"error": "hush: Buy milk"} | refusal
    with pytest.raises(meant, match=words) as raised:
        await act("complete_task", {"id": "t1"}, {"sync_status": {KEY: told}})
    assert "hush" not in str(raised.value)
    if isinstance(raised.value, RetryLater):
        asked = refusal.get("error_extra") == {"retry_after": 7}
        assert raised.value.after == (timedelta(seconds=7) if asked else None)


@pytest.mark.parametrize("name", ["doc_sync_status_error_with_extra", "doc_sync_status_partial_failure"])
async def test_documented_refusals(real: Any, name: str) -> None:
    """The documentation's examples of refused commands are refusals."""
    documented = next(each for each in real(name)["sync_status"].values() if each != "ok")
    with pytest.raises(ActionRefused):
        await act("complete_task", {"id": "t1"}, {"sync_status": {KEY: documented}})


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (answer({"error_code": 20, "error_extra": {"argument": "commands"}}, 400), ActionRefused),
        (answer({"error": "Insufficient Token scope"}, 403), ActionRefused),
        (answer(b"not JSON", 400), ActionRefused),
        (answer(b"", 503), RetryLater),
        (answer({"sync_status": {}}), ConnectorBug),
        (answer({"sync_status": {KEY: 7}}), ConnectorBug),
        (answer({}), ConnectorBug),
    ],
)
async def test_a_request_that_fails(given: Any, meant: type[ConnectorError]) -> None:
    """A request refused as a whole refuses the action; an answer that says nothing of it is no success."""
    with pytest.raises(meant):
        await act("complete_task", {"id": "t1"}, given)


async def test_an_action_of_another_kind() -> None:
    """An action that is not offered, or has another's arguments, is nobody's fault but ours."""
    arguments = decode(b'{"id": "t1"}', kind("complete_task").arguments)
    for name in ("delete_task", "add_task"):
        with pytest.raises(ConnectorBug):
            await Todoist().act(context(Script()), Action(name=name, arguments=arguments, key=KEY))
