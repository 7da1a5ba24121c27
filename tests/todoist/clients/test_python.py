"""Doist's own Python client makes a whole tour of the sandbox. What it refuses to understand, no real answer looks like."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, date, datetime
from typing import TypeVar

import httpx
import pytest
from todoist.sandbox.visitor import Visitor, visiting
from todoist_api_python.api_async import TodoistAPIAsync
from todoist_api_python.authentication import get_auth_token_async, get_authentication_url, revoke_auth_token_async
from todoist_api_python.models import Attachment, Label, Task

T = TypeVar("T")

ALL = "data:read_write,data:delete,project:delete"


class Detour(httpx.AsyncHTTPTransport):
    """Leads every request to the sandbox, whatever host it is for: the client's addresses cannot be set."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.to = httpx.URL(address)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it on."""
        request.url = request.url.copy_with(scheme=self.to.scheme, host=self.to.host, port=self.to.port)
        return await super().handle_async_request(request)


@pytest.fixture
async def ada() -> AsyncIterator[Visitor]:
    """Ada, who has not signed in yet; the app has one redirect address, since this client never sends one."""
    async with visiting(redirect_uris=["http://127.0.0.1:9999/oauth/todoist/callback"]) as visitor:
        yield visitor


@pytest.fixture
async def line(ada: Visitor) -> AsyncIterator[httpx.AsyncClient]:
    """A line to the sandbox."""
    async with httpx.AsyncClient(transport=Detour(ada.address)) as client:
        yield client


@pytest.fixture
async def api(ada: Visitor, line: httpx.AsyncClient) -> AsyncIterator[TodoistAPIAsync]:
    """The client, signed in as Ada."""
    await ada.sign_in(ALL)
    async with TodoistAPIAsync(ada.access, client=line) as api:
        yield api


async def everything(pages: Awaitable[AsyncIterator[list[T]]]) -> list[T]:
    """Take every page."""
    return [each async for page in await pages for each in page]


async def test_signing_in_and_out(ada: Visitor, line: httpx.AsyncClient) -> None:
    """The client makes the address of the consent page, exchanges the code, and revokes the token that it got."""
    client_id, secret = ada.sandbox.client_id, ada.sandbox.client_secret
    url = httpx.URL(get_authentication_url(client_id, ["data:read", "task:add"], "a-state"))
    page = await ada.visit("GET", "/oauth/authorize", params=dict(url.params), allow_redirects=False)
    called = await ada.decide(page)
    assert called["state"] == "a-state"
    given = await get_auth_token_async(client_id, secret, called["code"], client=line)
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        await get_auth_token_async(client_id, secret, "another code", client=line)
    async with TodoistAPIAsync(given.access_token, client=line) as api:
        assert [task.content for task in await everything(api.get_tasks(label="errand"))] == ["Buy milk"]
        assert await revoke_auth_token_async(client_id, secret, given.access_token, client=line)
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            await everything(api.get_tasks())


async def test_tasks(api: TodoistAPIAsync) -> None:
    """A task is added, read, changed, moved, completed, opened again and deleted."""
    project = await api.add_project("Shopping")
    section = await api.add_section("Dairy", project.id)
    added = await api.add_task(
        "Buy milk",
        description="two litres",
        project_id=project.id,
        labels=["errand"],
        priority=4,
        due_datetime=datetime(2026, 11, 24, 9, tzinfo=UTC),
        deadline_date=date(2026, 12, 1),
        duration=15,
        duration_unit="minute",
        order=7,
    )
    assert isinstance(added, Task)
    assert (added.description, added.labels, added.priority, added.order) == ("two litres", ["errand"], 4, 7)
    assert added.due is not None
    assert added.due.date == datetime(2026, 11, 24, 9, tzinfo=UTC)
    assert (added.deadline and added.deadline.date, added.duration and added.duration.amount) == (date(2026, 12, 1), 15)
    assert added.created_at == datetime(2026, 11, 23, 10, tzinfo=UTC)

    changed = await api.update_task(added.id, content="Buy oat milk", labels=[], due_string="every monday", assignee_id=added.creator_id)
    assert (changed.content, changed.labels, changed.assignee_id) == ("Buy oat milk", [], added.creator_id)
    assert changed.due is not None
    assert (changed.due.date, changed.due.string, changed.due.is_recurring) == (date(2026, 11, 23), "every monday", True)
    undated = await api.update_task(added.id, due_string="no date")
    assert undated.due is None

    assert await api.move_task(added.id, section_id=section.id)
    assert (await api.get_task(added.id)).section_id == section.id
    child = await api.add_task("Read the label", parent_id=added.id)
    assert [task.id for task in await everything(api.get_tasks(parent_id=added.id))] == [child.id]

    assert await api.complete_task(added.id)
    assert (await api.get_task(added.id)).is_completed
    since, until = datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC)
    done = await everything(api.get_completed_tasks_by_completion_date(since=since, until=until))
    assert {task.id for task in done} == {added.id, child.id}
    assert await everything(api.get_completed_tasks_by_due_date(since=since, until=until, project_id=project.id)) == []
    assert await api.uncomplete_task(added.id)
    assert not (await api.get_task(added.id)).is_completed

    assert await api.delete_task(added.id)
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        await api.get_task(added.id)


async def test_a_recurring_task_moves_on(api: TodoistAPIAsync) -> None:
    """Completing a recurring task moves its date and leaves it open."""
    task = await api.add_task("Water the plants", due_string="every day", due_lang="en")
    assert await api.complete_task(task.id)
    moved = await api.get_task(task.id)
    assert not moved.is_completed
    assert (task.due and task.due.date, moved.due and moved.due.date) == (date(2026, 11, 23), date(2026, 11, 24))


async def test_pages(api: TodoistAPIAsync) -> None:
    """The client follows the pages to their end, and gets each task once."""
    for number in range(5):
        await api.add_task(f"task {number}")
    pages = [page async for page in await api.get_tasks(limit=2)]
    ids = [task.id for page in pages for task in page]
    assert [len(page) for page in pages] == [2, 2, 2, 2, 1]
    assert len(set(ids)) == 9
    assert [task.id for task in await everything(api.get_tasks(ids=ids[:3]))] == ids[:3]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("today", {"Buy milk", "Water the plants"}),
        ("@errand & today", {"Buy milk"}),
        ("p1 | !today & #Analytical Engine & !subtask", {"Write Note G"}),
        ("search: bernoulli", {"Check the table of Bernoulli numbers"}),
        ("subtask & no date", {"Check the table of Bernoulli numbers"}),
    ],
)
async def test_filters(api: TodoistAPIAsync, ada: Visitor, query: str, found: set[str]) -> None:
    """Tasks are found by a filter in the apps' words."""
    ada.clock.at = ada.clock.at.replace(month=10, day=24)  # the day on which they were added
    assert {task.content for task in await everything(api.filter_tasks(query=query))} == found


async def test_a_filter_that_is_not_read(api: TodoistAPIAsync) -> None:
    """A filter in words that the sandbox does not know is refused rather than guessed."""
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        await everything(api.filter_tasks(query="created before: -365 days"))


async def test_quick_add(api: TodoistAPIAsync) -> None:
    """One line becomes a task with its project, label, priority, deadline and date; what is not known stays in the text."""
    home = next(project for project in await everything(api.get_projects()) if project.name == "Home")
    task = await api.add_task_quick("Mow the lawn #Home #Garden @outside p2 {2026-12-01} tomorrow // both sides", note="before the rain")
    assert (task.content, task.description) == ("Mow the lawn #Garden", "both sides")
    assert (task.project_id, task.labels, task.priority) == (home.id, ["outside"], 3)
    assert (task.due and task.due.date, task.deadline and task.deadline.date) == (date(2026, 11, 24), date(2026, 12, 1))
    assert [comment.content for comment in await everything(api.get_comments(task_id=task.id))] == ["before the rain"]


async def test_projects(api: TodoistAPIAsync) -> None:
    """A project is added, read, changed, found, archived, brought back and deleted."""
    added = await api.add_project("Garden", description="all of it", color="lime_green", is_favorite=True, view_style="board")
    assert (added.description, added.color, added.is_favorite, added.view_style) == ("all of it", "lime_green", True, "board")
    below = await api.add_project("Roses", parent_id=added.id)
    changed = await api.update_project(added.id, name="The garden", order=9, collapsed=True)
    assert (changed.name, changed.order, changed.is_collapsed) == ("The garden", 9, True)
    assert await api.get_project(added.id) == changed
    assert [project.id for project in await everything(api.search_projects("garden"))] == [added.id]
    assert await everything(api.get_collaborators(added.id)) == []
    assert [project.is_inbox_project for project in await everything(api.get_projects())].count(True) == 1

    assert (await api.archive_project(added.id)).is_archived
    assert not {added.id, below.id} & {project.id for project in await everything(api.get_projects())}
    assert not (await api.unarchive_project(added.id)).is_archived
    assert await api.delete_project(added.id)
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        await api.get_project(added.id)


async def test_sections(api: TodoistAPIAsync) -> None:
    """A section is added, read, changed, found and deleted."""
    project = await api.add_project("Garden")
    added = await api.add_section("Roses", project.id, order=3)
    changed = await api.update_section(added.id, name="Red roses", order=4, collapsed=True)
    assert (changed.name, changed.order, changed.is_collapsed) == ("Red roses", 4, True)
    assert await api.get_section(added.id) == changed
    assert await everything(api.get_sections(project_id=project.id)) == [changed]
    assert await everything(api.search_sections("roses", project_id=project.id)) == [changed]
    assert await api.delete_section(added.id)
    assert await everything(api.get_sections(project_id=project.id)) == []


async def test_labels(api: TodoistAPIAsync) -> None:
    """Personal labels are added, changed, found and deleted; shared ones are renamed and removed wherever they are."""
    added = await api.add_label("garden", color="lime_green", item_order=5, is_favorite=True)
    assert added == Label(id=added.id, name="garden", color="lime_green", order=5, is_favorite=True)
    task = await api.add_task("Mow", labels=["garden", "theirs"])
    changed = await api.update_label(added.id, name="outside")
    assert await api.get_label(added.id) == changed
    assert await everything(api.search_labels("OUT")) == [changed]
    assert sorted(await everything(api.get_shared_labels())) == ["errand", "outside", "theirs"]
    assert await everything(api.get_shared_labels(omit_personal=True)) == ["theirs"]
    assert await api.rename_shared_label("theirs", "ours")
    assert (await api.get_task(task.id)).labels == ["outside", "ours"]
    assert await api.remove_shared_label("ours")
    assert await api.delete_label(added.id)
    assert (await api.get_task(task.id)).labels == []


async def test_comments(api: TodoistAPIAsync) -> None:
    """Comments on tasks and on projects are added, changed and deleted, with what hangs on them."""
    task, project = await api.add_task("Mow"), await api.add_project("Garden")
    attachment = Attachment(resource_type="file", file_name="lawn.png", file_type="image/png", file_url="https://files.example/lawn.png")
    added = await api.add_comment("before the rain", task_id=task.id, attachment=attachment)
    other = await api.add_comment("all of it", project_id=project.id)
    assert (added.task_id, added.project_id, added.attachment) == (task.id, None, attachment)
    assert (other.task_id, other.project_id) == (None, project.id)
    changed = await api.update_comment(added.id, "after the rain")
    assert await api.get_comment(added.id) == changed
    assert await everything(api.get_comments(task_id=task.id)) == [changed]
    assert await everything(api.get_comments(project_id=project.id)) == [other]
    assert await api.delete_comment(added.id)
    assert await api.delete_comment(other.id)
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        await api.get_comment(other.id)


async def test_reminders(api: TodoistAPIAsync) -> None:
    """Reminders at a time and before a task are added, changed and deleted."""
    task = await api.add_task("Mow", due_datetime=datetime(2026, 11, 24, 9))  # noqa: DTZ001 - a floating time, on purpose
    before = await api.add_reminder(task.id, minute_offset=30)
    at = await api.add_reminder(task.id, reminder_type="absolute", due_date=date(2026, 11, 25))
    assert (before.type, before.minute_offset, before.due) == ("relative", 30, None)
    assert (at.type, at.due and at.due.date) == ("absolute", date(2026, 11, 25))
    changed = await api.update_reminder(before.id, minute_offset=10)
    assert await api.get_reminder(before.id) == changed
    assert await everything(api.get_reminders(task_id=task.id)) == [changed, at]
    assert await api.delete_reminder(at.id)
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        await api.get_reminder(at.id)


async def test_refusals(api: TodoistAPIAsync, ada: Visitor, line: httpx.AsyncClient) -> None:
    """What cannot be is refused with a status and Todoist's error body; what the token does not allow too."""
    for refused, status in (
        (api.add_task(""), 400),
        (api.add_task("x", due_string="when pigs fly"), 400),
        (api.add_task("x", duration=5), 400),
        (api.update_task("6XR4GqQQCW6Gv9h4", content="x"), 404),
        (api.move_task("6XR4GqQQCW6Gv9h4", project_id="6XR4H993xv8H5qCR"), 404),
        (api.add_section("x", "6XR4H993xv8H5qCR"), 404),
        (api.add_label("errand"), 400),
        (everything(api.get_tasks(limit=201)), 400),
    ):
        with pytest.raises(httpx.HTTPStatusError) as raised:
            await refused
        assert raised.value.response.status_code == status
        assert raised.value.response.json()["http_code"] == status
    await ada.sign_in("data:read")
    async with TodoistAPIAsync(ada.access, client=line) as reader:
        [milk] = await everything(reader.get_tasks(label="errand"))
        for change in (reader.add_task("x"), reader.complete_task(milk.id), reader.delete_task(milk.id)):
            with pytest.raises(httpx.HTTPStatusError, match="403"):
                await change
