from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from todoist.sandbox.visitor import Visitor


async def test_the_user_says_who_it_is(ada: Visitor) -> None:
    """GET /user has the id, the name and the counts of what is done."""
    status, user = await ada.api("GET", "user")
    assert status == 200
    assert (user["full_name"], user["email"], user["tz_info"]["timezone"]) == ("Ada", "ada@example.com", "UTC")
    assert re.fullmatch(r"\d+", user["id"])
    assert (user["completed_count"], user["completed_today"]) == (1, 0)


async def test_lists_come_in_pages_of_fifty(ada: Visitor, real: Callable[[str], Any]) -> None:
    """A page has results and next_cursor as documented, fifty by default; following the cursor gives each task once."""
    for _ in range(12):
        await ada.do(*(ada.command("item_add", content=f"task {number}") for number in range(10)))
    everything = [item["id"] for item in (await ada.read())["items"]]
    seen: list[str] = []
    sizes: list[int] = []
    cursor: str | None = ""
    while cursor is not None and len(sizes) < 9:
        _, page = await ada.api("GET", "tasks", params={"cursor": cursor} if cursor else {})
        assert page.keys() == real("doc_rest_page").keys()
        seen += [item["id"] for item in page["results"]]
        sizes.append(len(page["results"]))
        cursor = page["next_cursor"]
    assert seen == everything
    assert sizes[:2] == [50, 50]
    _, page = await ada.api("GET", "tasks", params={"limit": "200"})
    assert len(page["results"]) == len(everything)


@pytest.mark.parametrize(
    ("query", "name"), [({"limit": "201"}, "doc_error_limit_too_large"), ({"cursor": "made up"}, "doc_error_invalid_cursor")]
)
async def test_a_bad_page_is_refused_as_documented(ada: Visitor, real: Callable[[str], Any], query: dict[str, str], name: str) -> None:
    """A limit over 200 and a cursor that is none give exactly the documented errors."""
    assert await ada.api("GET", "projects", params=query) == (400, real(name))


@pytest.mark.parametrize("limit", ["0", "-1", "many", "9" * 5000])
async def test_a_limit_is_a_number_of_things(ada: Visitor, limit: str) -> None:
    """Anything but a number from 1 to 200 is refused."""
    status, error = await ada.api("GET", "projects", params={"limit": limit})
    assert (status, error["error_extra"]["argument"]) == (400, "limit")


async def test_a_cursor_holds_for_its_user_and_its_question_only(stranger: Visitor) -> None:
    """Another user, path or filter makes a cursor invalid."""
    await stranger.sign_in()
    _, page = await stranger.api("GET", "tasks", params={"limit": "1"})
    cursor = page["next_cursor"]
    assert (await stranger.api("GET", "projects", params={"cursor": cursor}))[0] == 400
    assert (await stranger.api("GET", "tasks", params={"cursor": cursor, "label": "errand"}))[0] == 400
    assert (await stranger.api("GET", "tasks", params={"cursor": cursor, "limit": "2"}))[0] == 200
    await stranger.sign_in(user="Grace")
    assert (await stranger.api("GET", "tasks", params={"cursor": cursor}))[0] == 400


async def test_one_task_by_its_id(ada: Visitor, real: Callable[[str], Any]) -> None:
    """A task is shown by its id; a deleted or unknown one gives the documented error."""
    made = await ada.one("item_add", content="x")
    status, item = await ada.api("GET", f"tasks/{made}")
    assert (status, item["id"]) == (200, made)
    await ada.one("item_delete", id=made)
    status, error = await ada.api("GET", f"tasks/{made}")
    documented = real("doc_error_task_not_found")
    assert status == 404
    assert error.keys() == documented.keys()
    assert error["error_extra"].keys() == documented["error_extra"].keys()
    assert {**error, "error_extra": None} == {**documented, "error_extra": None}
    assert error["error_extra"]["retry_after"] == 3


async def test_lists_are_filtered(ada: Visitor) -> None:
    """Tasks can be chosen by project and label; comments by their task; labels show `order`."""
    read = await ada.read()
    inbox = read["user"]["inbox_project_id"]
    _, page = await ada.api("GET", "tasks", params={"project_id": inbox})
    assert [item["content"] for item in page["results"]] == ["Buy milk"]
    _, page = await ada.api("GET", "tasks", params={"label": "errand"})
    assert [item["content"] for item in page["results"]] == ["Buy milk"]
    two = [item["id"] for item in read["items"][:2]]
    for ids in (",".join(two), json.dumps(two)):
        _, page = await ada.api("GET", "tasks", params={"ids": ids})
        assert [item["id"] for item in page["results"]] == two
    note = read["notes"][0]
    _, page = await ada.api("GET", "comments", params={"task_id": note["item_id"]})
    assert page["results"] == [note]
    assert (await ada.api("GET", "comments"))[0] == 400
    _, page = await ada.api("GET", "labels")
    assert page["results"][0].keys() == {"id", "name", "color", "order", "is_favorite"}
    _, page = await ada.api("GET", "sections")
    assert [section["name"] for section in page["results"]] == ["Cards"]


async def test_completed_tasks_are_found_by_their_date_and_called_items(ada: Visitor) -> None:
    """Completed tasks of a span come under `items`; the span is wanted, and at most three months."""
    made = await ada.one("item_add", content="x")
    await ada.one("item_complete", id=made)
    span = {"since": "2026-11-23T00:00:00Z", "until": "2026-11-24T00:00:00Z"}
    status, page = await ada.api("GET", "tasks/completed/by_completion_date", params=span)
    assert status == 200
    assert [item["id"] for item in page["items"]] == [made]
    assert page["next_cursor"] is None
    for wrong in ({}, {**span, "since": "yesterday"}, {**span, "since": "2026-08-01T00:00:00Z"}):
        assert (await ada.api("GET", "tasks/completed/by_completion_date", params=wrong))[0] == 400
    status, page = await ada.api("GET", "tasks/completed/by_due_date", params=span)
    assert (status, page["items"]) == (200, [])
