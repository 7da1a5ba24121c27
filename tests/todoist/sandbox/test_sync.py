from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from io import BytesIO
from typing import Any

import pytest
from todoist.sandbox.visitor import Json, Visitor, visiting

from oo_todoist.sandbox import TodoistSandbox
from oo_todoist.sandbox.commands import Change


def same_shape(real: Any, ours: Any) -> bool:
    """Say whether ours has every member that the real one has, with values of the same types; null is any type."""
    if isinstance(real, dict):
        return isinstance(ours, dict) and all(name in ours and same_shape(value, ours[name]) for name, value in real.items())
    if isinstance(real, list):
        return isinstance(ours, list) and (not real or not ours or same_shape(real[0], ours[0]))
    return real is None or ours is None or type(real) is type(ours)


#: Members that the documentation's example shows as {}, which Doist's own client does not understand.
SCHEMATIC = {"user", "user_settings", "user_plan_limits", "workspace_users", "role_actions"}


async def test_a_full_sync_has_every_member_of_the_real_one(ada: Visitor, real: Callable[[str], Any]) -> None:
    """A full sync of "all" has each documented member with the documented kind of value, and says how old it is."""
    answer, documented = await ada.read(), real("doc_sync_full_empty_response")
    assert documented.keys() <= answer.keys()
    documented = {name: value for name, value in documented.items() if name not in SCHEMATIC}
    assert same_shape(documented, answer)
    assert answer["full_sync"] is True
    assert answer["full_sync_date_utc"] == "2026-11-23T10:00:00.000000Z"
    empty = await ada.read(answer["sync_token"])
    assert {name: empty[name] for name in documented if name not in {"full_sync", "sync_token"}} == {
        name: value for name, value in documented.items() if name not in {"full_sync", "sync_token"}
    }
    assert "user" not in empty


async def test_objects_have_every_member_of_the_real_ones(ada: Visitor, real: Callable[[str], Any]) -> None:
    """A task has what the documented task and the one in webhooks have (`url` is in webhooks only)."""
    duration, label = {"amount": 15, "unit": "minute"}, ["Food"]
    made = await ada.one("item_add", content="Buy Milk", duration=duration, labels=label, due={"date": "2026-12-01"})
    item = next(item for item in (await ada.read())["items"] if item["id"] == made)
    assert same_shape(real("doc_item_object"), item)
    webhook = real("sdk_webhook_v1_item_added")["event_data"]
    del webhook["url"]
    assert webhook.keys() == item.keys()
    assert same_shape(webhook, item)
    assert re.fullmatch(r"[0-9A-Za-z]{16}", made)


async def test_a_write_answers_as_documented(ada: Visitor, real: Callable[[str], Any]) -> None:
    """Commands alone bring sync_token, sync_status and temp_id_mapping and nothing else."""
    answer = await ada.do(ada.command("item_add", "t", content="x"))
    assert answer.keys() == real("doc_sync_write_response").keys()
    assert list(answer["sync_status"].values()) == ["ok"]
    assert list(answer["temp_id_mapping"]) == ["t"]


async def test_commands_fail_one_by_one_in_the_documented_shape(ada: Visitor, real: Callable[[str], Any]) -> None:
    """With one bad command among good ones the answer is 200, and the bad one's error has the documented members."""
    answer = await ada.do(
        ada.command("item_add", content="one"),
        ada.command("item_move", id="tmp", project_id="nobody-made-this"),
        ada.command("item_add", priority=9, content="two"),
        ada.command("item_add", content="three"),
    )
    ok, temp, value, last = answer["sync_status"].values()
    assert (ok, last) == ("ok", "ok")
    documented = list(real("doc_sync_status_partial_failure")["sync_status"].values())[1]
    assert documented.items() <= temp.items()
    documented = next(iter(real("doc_sync_status_error_with_extra")["sync_status"].values()))
    assert documented.keys() == value.keys()
    assert (value["error_code"], value["error_tag"], value["error"]) == tuple(
        documented[name] for name in ("error_code", "error_tag", "error")
    )
    assert value["error_extra"]["argument"] == "priority"


async def test_forms_and_json_mean_the_same(ada: Visitor) -> None:
    """The documented form with JSON texts inside and the official client's JSON get the same answer."""
    kinds = ["items", "projects"]
    form = {"sync_token": "*", "resource_types": json.dumps(kinds), "commands": json.dumps([])}
    status, answer = await ada.api("POST", "sync", data=form)
    assert status == 200
    same = await ada.api("POST", "sync", json={"sync_token": "*", "resource_types": kinds, "commands": []})
    assert same == (200, answer)


async def test_resource_types_choose_and_exclude(ada: Visitor) -> None:
    """Only what was asked for comes; a leading "-" takes away from all."""
    fixed = {"sync_token", "full_sync", "full_sync_date_utc", "temp_id_mapping"}
    assert (await ada.read(kinds=["items", "labels"])).keys() == fixed | {"items", "labels"}
    everything, fewer = await ada.read(), await ada.read(kinds=["all", "-items"])
    assert everything.keys() - fewer.keys() == {"items"}


@pytest.mark.parametrize(
    ("body", "argument"),
    [
        ({}, "resource_types"),
        ({"resource_types": ["nothing"], "sync_token": "*"}, "resource_types"),
        ({"resource_types": "{", "sync_token": "*"}, "resource_types"),
        ({"resource_types": ["items"], "sync_token": "bad"}, "sync_token"),
        ({"resource_types": ["items"], "sync_token": "ж"}, "sync_token"),
        ({"resource_types": ["items"], "sync_token": 7}, "sync_token"),
        ({"commands": {}}, "commands"),
        ({"commands": [{"type": "item_add", "args": {}}]}, "commands.uuid"),
        ({"commands": [{"type": "item_add", "uuid": "u", "args": []}]}, "commands"),
        ({"commands": [{"type": "item_add", "uuid": str(n), "args": {}} for n in range(101)]}, "commands"),
        ([], "body"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused_by_the_argument(ada: Visitor, body: Any, argument: str) -> None:
    """A wrong request is 400 as a whole and names the argument; nothing is executed."""
    status, error = await ada.api("POST", "sync", json=body)
    assert (status, error["http_code"], error["error_extra"]["argument"]) == (400, 400, argument)


async def test_reading_without_a_sync_token_reads_everything(ada: Visitor) -> None:
    """A request that names resource types and no sync token is a full sync, also after its commands."""
    status, answer = await ada.api("POST", "sync", json={"resource_types": ["items"], "commands": [ada.command("item_add", content="x")]})
    assert (status, answer["full_sync"]) == (200, True)
    assert "x" in {item["content"] for item in answer["items"]}


async def test_a_sync_token_belongs_to_its_user(stranger: Visitor) -> None:
    """Another user's sync token is refused by name."""
    await stranger.sign_in()
    sync_token = (await stranger.read())["sync_token"]
    await stranger.sign_in(user="Grace")
    status, error = await stranger.api("POST", "sync", json={"sync_token": sync_token, "resource_types": ["items"]})
    assert (status, error["error_extra"]["argument"]) == (400, "sync_token")


async def test_sync_is_posted_and_in_lower_case(ada: Visitor) -> None:
    """GET is refused, another case of the path is not there, and what came before v1 is gone."""
    assert (await ada.api("GET", "sync"))[0] == 405
    for path, status in (("/API/v1/sync", 404), ("/api/v1/Sync", 404), ("/sync/v9/sync", 410), ("/rest/v2/tasks", 410)):
        answer = await ada.visit("POST", path)
        assert answer.status == status
        assert (await answer.json())["http_code"] == status


async def test_a_body_is_at_most_one_mebibyte(ada: Visitor) -> None:
    """A body over 1 MiB is 413 in the error shape."""
    status, error = await ada.api("POST", "sync", data=BytesIO(b"x" * (1024 * 1024 + 1)), headers={"Content-Type": "application/json"})
    assert (status, error["http_code"]) == (413, 413)


async def test_an_incremental_sync_brings_whole_changed_objects_only(ada: Visitor) -> None:
    """After a sync token come the changed objects, whole and once, and no others."""
    since = (await ada.read())["sync_token"]
    made = await ada.one("item_add", content="a")
    await ada.one("item_update", id=made, content="b")
    answer = await ada.read(since)
    assert answer["full_sync"] is False
    assert "full_sync_date_utc" not in answer
    assert [(item["id"], item["content"], item["priority"]) for item in answer["items"]] == [(made, "b", 1)]
    assert answer["projects"] == []
    assert (await ada.read(answer["sync_token"]))["items"] == []


async def test_deleted_and_completed_tasks_show_once_and_leave_the_full_sync(ada: Visitor) -> None:
    """Deletion is is_deleted, completion is checked with completed_at, and a full sync has neither."""
    gone, done = await ada.one("item_add", content="a"), await ada.one("item_add", content="b")
    since = (await ada.read())["sync_token"]
    await ada.one("item_delete", id=gone)
    await ada.one("item_complete", id=done)
    changed = {item["id"]: item for item in (await ada.read(since))["items"]}
    assert changed[gone]["is_deleted"] is True
    assert (changed[done]["checked"], changed[done]["completed_at"]) == (True, "2026-11-23T10:00:00.000000Z")
    assert {gone, done}.isdisjoint(item["id"] for item in (await ada.read())["items"])


@pytest.mark.parametrize("argument", ["date_completed", "completed_at"])
async def test_the_moment_of_completion_has_two_names(ada: Visitor, argument: str) -> None:
    """The documentation's date_completed and the official client's completed_at are both taken."""
    made = await ada.one("item_add", content="a")
    since = (await ada.read())["sync_token"]
    await ada.one("item_complete", id=made, **{argument: "2026-11-20T08:00:00+02:00"})
    assert (await ada.read(since))["items"][0]["completed_at"] == "2026-11-20T06:00:00.000000Z"


async def test_closing_a_recurring_task_moves_its_due(ada: Visitor) -> None:
    """A completed recurring task is not checked: its due goes to the next date after today."""
    made = await ada.one("item_add", content="a", due={"string": "every day at 09:00"})
    await ada.one("item_close", id=made)
    item = next(item for item in (await ada.read())["items"] if item["id"] == made)
    assert (item["checked"], item["due"]["date"], item["due"]["is_recurring"]) == (False, "2026-11-24T09:00:00", True)
    due = {**item["due"], "date": "2026-12-24T09:00:00"}
    assert await ada.one("item_update_date_complete", id=made, due=due, is_forward=1) == "ok"
    item = next(item for item in (await ada.read())["items"] if item["id"] == made)
    assert (item["checked"], item["due"]["date"]) == (False, "2026-12-24T09:00:00")


async def test_completing_takes_subtasks_along_and_uncompleting_takes_parents(ada: Visitor) -> None:
    """Completion goes down the tree, opening again goes up."""
    answer = await ada.do(
        ada.command("item_add", "top", content="top"),
        ada.command("item_add", "middle", content="middle", parent_id="top"),
        ada.command("item_add", "leaf", content="leaf", parent_id="middle"),
        ada.command("item_complete", id="top"),
    )
    ids = answer["temp_id_mapping"]
    assert set(ids.values()).isdisjoint(item["id"] for item in (await ada.read())["items"])
    await ada.one("item_uncomplete", id=ids["middle"])
    open_ = {item["id"] for item in (await ada.read())["items"]}
    assert {ids["top"], ids["middle"]} <= open_
    assert ids["leaf"] not in open_


async def test_a_temp_id_stands_for_the_object_in_later_commands(ada: Visitor) -> None:
    """A project, a section in it and a task in that can be made in one request."""
    answer = await ada.do(
        ada.command("project_add", "p", name="P"),
        ada.command("section_add", "s", name="S", project_id="p"),
        ada.command("item_add", "i", content="I", section_id="s"),
        ada.command("note_add", "n", content="N", item_id="i"),
    )
    assert set(answer["sync_status"].values()) == {"ok"}
    ids, read = answer["temp_id_mapping"], await ada.read()
    item = next(item for item in read["items"] if item["id"] == ids["i"])
    assert (item["project_id"], item["section_id"], item["note_count"]) == (ids["p"], ids["s"], 1)
    note = next(note for note in read["notes"] if note["id"] == ids["n"])
    assert note["item_id"] == ids["i"]
    assert "project_id" not in note


async def test_a_uuid_is_executed_once(ada: Visitor) -> None:
    """The same command again answers the same, temp id included, and makes no second task."""
    command = ada.command("item_add", "t", content="once")
    first, again = await ada.do(command), await ada.do(command)
    assert first["temp_id_mapping"] == again["temp_id_mapping"]
    assert first["sync_status"] == again["sync_status"]
    assert [item["content"] for item in (await ada.read())["items"]].count("once") == 1


async def test_a_failed_command_may_be_sent_again(ada: Visitor) -> None:
    """A uuid whose command failed was not executed, so that it can succeed later."""
    command: Json = {"type": "item_add", "uuid": "u", "args": {}}
    assert (await ada.do(command))["sync_status"]["u"]["error_extra"] == {"argument": "content"}
    command["args"] = {"content": "now"}
    assert (await ada.do(command))["sync_status"]["u"] == "ok"


async def test_moving_takes_exactly_one_place(ada: Visitor) -> None:
    """item_move wants one of three places, takes subtasks along, and makes no circles."""
    ids = (
        await ada.do(
            ada.command("project_add", "p", name="P"),
            ada.command("item_add", "top", content="top"),
            ada.command("item_add", "leaf", content="leaf", parent_id="top"),
        )
    )["temp_id_mapping"]
    assert (await ada.one("item_move", id=ids["top"]))["http_code"] == 400
    assert (await ada.one("item_move", id=ids["top"], project_id=ids["p"], section_id=None))["http_code"] == 400
    assert (await ada.one("item_move", id=ids["top"], parent_id=ids["leaf"]))["http_code"] == 400
    assert await ada.one("item_move", id=ids["top"], project_id=ids["p"]) == "ok"
    items = {item["id"]: item for item in (await ada.read())["items"]}
    assert items[ids["top"]]["project_id"] == items[ids["leaf"]]["project_id"] == ids["p"]
    assert items[ids["leaf"]]["parent_id"] == ids["top"]


async def test_an_update_neither_moves_nor_completes(ada: Visitor) -> None:
    """item_update passes over project, parent and completion."""
    made = await ada.one("item_add", content="a")
    before = next(item for item in (await ada.read())["items"] if item["id"] == made)
    assert await ada.one("item_update", id=made, checked=True, project_id="x", parent_id="y", priority=4) == "ok"
    after = next(item for item in (await ada.read())["items"] if item["id"] == made)
    assert after == {**before, "priority": 4}


@pytest.mark.parametrize(
    ("args", "argument"),
    [
        ({}, "content"),
        ({"content": ""}, "content"),
        ({"content": "x" * 501}, "content"),
        ({"content": 7}, "content"),
        ({"content": "x", "priority": 0}, "priority"),
        ({"content": "x", "priority": True}, "priority"),
        ({"content": "x", "labels": "food"}, "labels"),
        ({"content": "x", "due": {"date": "2026-02-30"}}, "due"),
        ({"content": "x", "due": {"date": "01/02/2026"}}, "due"),
        ({"content": "x", "due": {"string": "when pigs fly"}}, "due"),
        ({"content": "x", "due": {}}, "due.date"),
        ({"content": "x", "deadline": {"date": "2026-12-01T10:00:00"}}, "deadline"),
        ({"content": "x", "duration": {"amount": 0, "unit": "minute"}}, "duration.amount"),
        ({"content": "x", "duration": {"amount": 1, "unit": "hour"}}, "duration.unit"),
        ({"content": "x", "duration": {"amount": 1}}, "duration.unit"),
        ({"content": "x", "responsible_uid": "1"}, "responsible_uid"),
    ],
)
async def test_a_bad_task_is_refused_by_the_argument(ada: Visitor, args: Json, argument: str) -> None:
    """Every argument of a task is checked, and the error names it."""
    assert (await ada.one("item_add", **args))["error_extra"]["argument"] == argument


async def test_what_is_not_there_is_not_found(ada: Visitor) -> None:
    """Unknown and deleted objects are 404 with a tag of their kind; an unknown temp id is 400."""
    error = await ada.one("item_update", id="6X7rM8997g3RQmvh", content="x")
    assert (error["error_code"], error["error_tag"], error["http_code"]) == (22, "ITEM_NOT_FOUND", 404)
    error = await ada.one("item_add", content="x", project_id="6X7rM8997g3RQmvh")
    assert (error["error_code"], error["error_tag"], error["http_code"]) == (21, "PROJECT_NOT_FOUND", 404)
    assert (await ada.one("project_fly", id="1"))["error_extra"]["argument"] == "type"


async def test_projects_are_archived_and_come_back(ada: Visitor) -> None:
    """An archived project takes its tasks out of the full sync; unarchived, they are sent again. The inbox stays."""
    project = await ada.one("project_add", name="P")
    item = await ada.one("item_add", content="x", project_id=project)
    since = (await ada.read())["sync_token"]
    assert await ada.one("project_archive", id=project) == "ok"
    changed, full = await ada.read(since), await ada.read()
    assert [(each["id"], each["is_archived"]) for each in changed["projects"]] == [(project, True)]
    assert project not in {each["id"] for each in full["projects"]}
    assert item not in {each["id"] for each in full["items"]}
    assert await ada.one("project_unarchive", id=project) == "ok"
    assert [each["id"] for each in (await ada.read(full["sync_token"]))["items"]] == [item]
    inbox = full["user"]["inbox_project_id"]
    assert (await ada.one("project_archive", id=inbox))["http_code"] == 400
    assert (await ada.one("project_delete", id=inbox))["http_code"] == 400


async def test_deleting_a_project_deletes_what_is_in_it(ada: Visitor) -> None:
    """Sections, tasks, subprojects and comments of a deleted project are deleted with it."""
    ids = (
        await ada.do(
            ada.command("project_add", "p", name="P"),
            ada.command("project_add", "sub", name="Sub", parent_id="p"),
            ada.command("section_add", "s", name="S", project_id="p"),
            ada.command("item_add", "i", content="I", section_id="s"),
            ada.command("note_add", "n", content="N", project_id="sub"),
        )
    )["temp_id_mapping"]
    since = (await ada.read())["sync_token"]
    assert await ada.one("project_delete", id=ids["p"]) == "ok"
    changed = await ada.read(since)
    gone = {body["id"] for kind in ("projects", "sections", "items", "project_notes") for body in changed[kind]}
    assert gone == set(ids.values())


async def test_sections_labels_notes_and_reminders_live_their_lives(ada: Visitor) -> None:
    """Each other kind can be added, changed and deleted, and shows so in the next incremental sync."""
    project = await ada.one("project_add", name="P")
    item = await ada.one("item_add", content="x", project_id=project, labels=["l"], due={"date": "2026-12-01T10:00:00"})
    me = (await ada.read())["user"]["id"]
    lives: list[tuple[str, str, Json, Json]] = [
        ("section", "sections", {"name": "S", "project_id": project}, {"name": "S2"}),
        ("label", "labels", {"name": "l"}, {"name": "l2"}),
        ("filter", "filters", {"name": "F", "query": "today"}, {"query": "overdue"}),
        ("note", "notes", {"content": "N", "item_id": item}, {"content": "N2"}),
        ("note", "project_notes", {"content": "N", "project_id": project}, {"content": "N2"}),
        ("reminder", "reminders", {"type": "relative", "item_id": item, "minute_offset": 5}, {"minute_offset": 10}),
        ("reminder", "reminders", {"type": "absolute", "item_id": item, "due": {"date": "2026-12-01T09:00:00"}}, {"notify_uid": me}),
    ]
    for noun, kind, args, change in lives:
        since = (await ada.read())["sync_token"]
        made = await ada.one(f"{noun}_add", **args)
        assert await ada.one(f"{noun}_update", id=made, **change) == "ok"
        answer = await ada.read(since)
        assert [(body["id"], body["is_deleted"]) for body in answer[kind]] == [(made, False)]
        assert change.items() <= answer[kind][0].items()
        assert await ada.one(f"{noun}_delete", id=made) == "ok"
        assert [body["is_deleted"] for body in (await ada.read(answer["sync_token"]))[kind]] == [True]
        assert made not in {body["id"] for body in (await ada.read())[kind]}


async def test_a_labels_name_reaches_its_tasks(ada: Visitor) -> None:
    """Renaming a label renames it on tasks, deleting takes it off, and names are unique."""
    item = await ada.one("item_add", content="x", labels=["old", "other"])
    label = await ada.one("label_add", name="old")
    assert (await ada.one("label_add", name="old"))["http_code"] == 400

    async def labels() -> list[str]:
        found = next(each for each in (await ada.read())["items"] if each["id"] == item)
        return list(found["labels"])

    await ada.one("label_update", id=label, name="new")
    assert await labels() == ["new", "other"]
    await ada.one("label_delete", id=label)
    assert await labels() == ["other"]


async def test_the_limits_are_a_hundred_full_and_a_thousand_partial_in_a_quarter_hour() -> None:
    """The next request is 429 with Retry-After and the same number in error_extra, until the window has passed; others go on."""
    async with visiting(expires_in=7200) as visitor:
        await visitor.sign_in()
        account = visitor.sandbox.world.account("ada")
        assert account is not None
        for _ in range(99):
            visitor.sandbox.world.spend(account, "full")
        since = (await visitor.read(kinds=["items"]))["sync_token"]
        visitor.clock.forward(minutes=5)
        answer = await visitor.raw("POST", "sync", json={"sync_token": "*", "resource_types": ["items"]})
        error = await answer.json()
        assert (answer.status, answer.headers["Retry-After"], error["error_extra"]["retry_after"]) == (429, "600", 600)
        assert (error["error_code"], error["error_tag"]) == (35, "LIMITS_REACHED")
        for _ in range(999):
            visitor.sandbox.world.spend(account, "partial")
        await visitor.read(since, ["items"])
        answer = await visitor.raw("POST", "sync", json={"commands": []})
        assert (answer.status, answer.headers["Retry-After"]) == (429, "900")
        visitor.clock.forward(minutes=10)
        await visitor.read(kinds=["items"])
        await visitor.sign_in(user="Grace")
        await visitor.do()


async def test_a_listener_hears_every_change_as_webhooks_name_it(ada: Visitor, real: Callable[[str], Any]) -> None:
    """world.subscribe tells name, user, object, the object before and the intent; a recurring completion is an update."""
    heard: list[Change] = []
    ada.sandbox.world.subscribe(heard.append)
    made = await ada.one("item_add", content="x", due={"string": "every day"})
    await ada.one("item_close", id=made)
    await ada.one("item_complete", id=made)
    await ada.one("item_uncomplete", id=made)
    await ada.one("item_delete", id=made)
    names = ["item:added", "item:updated", "item:completed", "item:uncompleted", "item:deleted"]
    assert [change.name for change in heard] == names
    recurring = heard[1]
    documented = real("sdk_webhook_v1_item_updated_with_extra")["event_data_extra"]
    assert recurring.intent == documented["update_intent"]
    assert recurring.before is not None
    assert documented["old_item"].keys() - recurring.before.keys() == {"url"}
    assert recurring.user["email"] == "ada@example.com"
    assert recurring.at == datetime.fromisoformat(recurring.body["updated_at"])


def test_ids_repeat_with_the_seed_and_tokens_do_not() -> None:
    """Two sandboxes of one seed have the same people, things and client, another seed has others."""

    def things(seed: int) -> tuple[object, ...]:
        sandbox = TodoistSandbox(seed=seed)
        ids = tuple(body["id"] for account in sandbox.world.accounts.values() for body in account.every("items"))
        return sandbox.client_id, sandbox.client_secret, tuple(sandbox.world.accounts), ids

    assert things(1) == things(1)
    assert set(things(1)).isdisjoint(things(2))
    assert TodoistSandbox(seed=1).world.token() != TodoistSandbox(seed=1).world.token()
