"""What Todoist's objects mean, from published bodies and from made-up ones."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_sdk import Change, Event, Raw, Unreadable
from oo_sdk.vocabulary import Comment, Due, Label, Project, Reminder, Section, Task, When
from oo_todoist.meaning import KINDS, TASKS, read

REALDATA = Path(__file__).parents[2].parent / "shared" / "realdata" / "todoist"

ITEM: dict[str, Any] = {
    "id": "6X7rM8997g3RQmvh",
    "content": "Buy Milk",
    "priority": 1,
    "checked": False,
    "is_deleted": False,
    "updated_at": "2025-01-21T21:28:43Z",
}


def real(name: str) -> Any:
    """Read a published body, where they are."""
    if not REALDATA.is_dir():
        pytest.skip("the published bodies are not on this machine")
    return json.loads((REALDATA / name).read_text())


def told(body: Any, kind: Any = TASKS) -> Event | Unreadable:
    """Read one object."""
    return read(kind, Raw(body if isinstance(body, bytes) else json.dumps(body).encode()))


def kind(resource: str) -> Any:
    """Find what is read from a resource."""
    return next(each for each in KINDS if each.resource == resource)


def event(body: Any, kind: Any = TASKS) -> Event:
    """Read one object that makes sense."""
    signal = told(body, kind)
    assert isinstance(signal, Event), signal
    return signal


def task(**members: Any) -> Task:
    """Read a task with these members."""
    payload = event(ITEM | members).payload
    assert isinstance(payload, Task)
    return payload


def test_the_documented_item() -> None:
    """The documentation's example of an item becomes a task with all that the vocabulary has a word for."""
    signal = event(real("doc_item_object.json"))
    assert (signal.name, signal.subject, signal.change) == ("task", "6X7rM8997g3RQmvh", Change.UPSERTED)
    assert signal.at == datetime(2025, 1, 21, 21, 28, 43, tzinfo=UTC)
    expected = Task(
        title="Buy Milk",
        priority=Task.PRIORITY_NORMAL,
        labels=["Food", "Shopping"],
        project="6Jf8VQXxpwv56VQ7",
        section="3Ty8VQXxpwv28PK3",
        creator="2671355",
        duration_minutes=15,
        position=1,
        url="https://app.todoist.com/app/task/6X7rM8997g3RQmvh",
    )
    expected.created_at.FromJsonString("2025-01-21T21:28:43.841504Z")
    assert signal.payload == expected


@pytest.mark.parametrize(
    "name", ["doc_webhook_item_added.json", "sdk_webhook_v1_item_added.json", "sdk_webhook_v1_item_updated_with_extra.json"]
)
def test_items_of_either_dialect(name: str) -> None:
    """An item is read whether it has `collapsed` or `is_collapsed`, and with or without `updated_at`."""
    item = real(name)["event_data"]
    signal = event(item)
    assert isinstance(signal.payload, Task)
    assert (signal.subject, signal.payload.title, signal.payload.url) == (item["id"], item["content"], item["url"])
    assert (signal.at is None) == ("updated_at" not in item)


def test_it_invents_no_version_and_no_order() -> None:
    """Todoist has neither an etag nor a growing number, so an event has neither."""
    signal = event(ITEM)
    assert (signal.version, signal.order) == ("", None)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.resource)
def test_a_deleted_object(kind: Any) -> None:
    """A deleted object is gone, even when nothing but its id is left of it."""
    signal = event({"id": "1", "is_deleted": True, "updated_at": "2025-01-21T21:28:43Z"}, kind)
    assert signal == Event(kind.name, "1", Change.DELETED, at=datetime(2025, 1, 21, 21, 28, 43, tzinfo=UTC))


def test_a_completed_task() -> None:
    """A checked task is completed, and says when."""
    done = task(checked=True, completed_at="2025-02-10T10:39:38.000000Z")
    assert done.completed
    assert done.completed_at.ToJsonString() == "2025-02-10T10:39:38Z"


def test_a_recurring_task_that_was_finished() -> None:
    """A recurring task is never completed: its due date is the next one."""
    due = {"date": "2026-11-23", "string": "every monday", "lang": "en", "is_recurring": True, "timezone": None}
    moved = task(due=due)
    assert not moved.completed
    assert moved.due == Due(when=When(date="2026-11-23"), text="every monday", language="en", recurring=True)


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("2026-11-22", When(date="2026-11-22")),
        ("2026-11-22T09:00:00", When(floating="2026-11-22T09:00:00")),
        ("2026-11-22T09:00:00.500000", When(floating="2026-11-22T09:00:00")),
    ],
)
def test_due_without_a_zone(date: str, expected: When) -> None:
    """A day stays a day and a floating time stays floating, with or without microseconds."""
    assert task(due={"date": date}).due.when == expected


@pytest.mark.parametrize("date", ["2026-11-22T09:00:00Z", "2026-11-22T09:00:00.000000Z", "2026-11-22T10:00:00+01:00"])
def test_due_at_an_instant(date: str) -> None:
    """A fixed time is an instant, and keeps the zone that it was meant in."""
    when = task(due={"date": date, "timezone": "Europe/Berlin"}).due.when
    assert when.instant.ToJsonString() == "2026-11-22T09:00:00Z"
    assert when.time_zone == "Europe/Berlin"


def test_a_deadline() -> None:
    """A deadline is a day."""
    assert task(deadline={"date": "2026-12-24", "lang": "en"}).deadline == When(date="2026-12-24")


@pytest.mark.parametrize(("amount", "unit", "minutes"), [(15, "minute", 15), (2, "day", 2880), (1, "fortnight", 0)])
def test_a_duration(amount: int, unit: str, minutes: int) -> None:
    """A duration is in minutes; a unit that we do not know is not guessed at."""
    assert task(duration={"amount": amount, "unit": unit}).duration_minutes == minutes


@pytest.mark.parametrize(
    ("priority", "expected"),
    [
        (1, Task.PRIORITY_NORMAL),
        (2, Task.PRIORITY_MEDIUM),
        (3, Task.PRIORITY_HIGH),
        (4, Task.PRIORITY_URGENT),
        (5, Task.PRIORITY_UNSPECIFIED),
        (None, Task.PRIORITY_NORMAL),
    ],
)
def test_a_priority(priority: int | None, expected: Task.Priority.ValueType) -> None:
    """Todoist's 4 is the most urgent."""
    assert task(priority=priority).priority == expected


def test_a_timestamp_without_a_zone() -> None:
    """A timestamp without a zone is UTC."""
    assert event(ITEM | {"updated_at": "2025-01-21T21:28:43"}).at == datetime(2025, 1, 21, 21, 28, 43, tzinfo=UTC)


@pytest.mark.parametrize("name", ["shared", "is_shared"])
def test_a_project(name: str) -> None:
    """A project is told with all that the vocabulary has a word for, whichever name its sharing has."""
    body = {
        "id": "6Jf8VQXxpwv56VQ7",
        "name": "Shopping",
        "description": "what to buy",
        "color": "lime_green",
        "parent_id": "6XR4H993xv8H5qCR",
        "child_order": 3,
        "is_collapsed": False,
        name: True,
        "is_archived": True,
        "is_favorite": True,
        "inbox_project": True,
        "is_frozen": False,
        "view_style": "list",
        "created_at": "2025-01-21T21:28:43Z",
        "updated_at": "2025-02-21T21:28:43.5Z",
    }
    expected = Project(
        title="Shopping",
        description="what to buy",
        parent="6XR4H993xv8H5qCR",
        color="lime_green",
        archived=True,
        favorite=True,
        shared=True,
        inbox=True,
        position=3,
        url="https://app.todoist.com/app/project/6Jf8VQXxpwv56VQ7",
    )
    expected.created_at.FromJsonString("2025-01-21T21:28:43Z")
    signal = event(body, kind("projects"))
    assert (signal.name, signal.payload) == ("project", expected)


def test_a_section() -> None:
    """A section knows its project and its place."""
    body = {"id": "s1", "name": "Cards", "project_id": "p1", "section_order": 2, "is_archived": True, "added_at": "2025-01-21T21:28:43Z"}
    expected = Section(title="Cards", project="p1", position=2, archived=True, url="https://app.todoist.com/app/section/s1")
    expected.created_at.FromJsonString("2025-01-21T21:28:43Z")
    signal = event(body, kind("sections"))
    assert (signal.name, signal.payload) == ("section", expected)


@pytest.mark.parametrize("order", ["item_order", "order"])
def test_a_label(order: str) -> None:
    """A label is a word with a colour and a place, by whichever name it has its place."""
    signal = event({"id": "l1", "name": "errand", "color": "lime_green", "is_favorite": True, order: 3}, kind("labels"))
    expected = Label(title="errand", color="lime_green", favorite=True, position=3, url="https://app.todoist.com/app/label/l1")
    assert (signal.name, signal.payload) == ("label", expected)


@pytest.mark.parametrize(
    ("resource", "about", "expected"),
    [
        ("notes", {"item_id": "t1"}, Comment(task="t1", url="https://app.todoist.com/app/task/t1#comment-n1")),
        ("notes", {"item_id": "t1", "project_id": "p1"}, Comment(task="t1", url="https://app.todoist.com/app/task/t1#comment-n1")),
        ("project_notes", {"project_id": "p1"}, Comment(project="p1", url="https://app.todoist.com/app/project/p1#comment-n1")),
    ],
)
def test_a_comment(resource: str, about: dict[str, str], expected: Comment) -> None:
    """A comment is about a task or about a project, never both, and says who said what and when."""
    signal = event({"id": "n1", "content": "soon", "posted_uid": "7", "posted_at": "2025-01-21T21:28:43Z"} | about, kind(resource))
    expected.text, expected.author = "soon", "7"
    expected.created_at.FromJsonString("2025-01-21T21:28:43Z")
    assert (signal.name, signal.payload) == ("comment", expected)


@pytest.mark.parametrize(
    "attachment",
    [
        {"file_name": "a.png", "file_type": "image/png", "file_url": "https://files.example/a.png", "file_size": 7},
        {"resource_type": "website", "title": "a.png", "file_type": "image/png", "url": "https://files.example/a.png"},
    ],
)
def test_what_hangs_on_a_comment(attachment: dict[str, Any]) -> None:
    """An uploaded file and the page of a link are attachments alike; a comment may have no words besides."""
    payload = event({"id": "n1", "item_id": "t1", "content": None, "file_attachment": attachment}, kind("notes")).payload
    assert isinstance(payload, Comment)
    [attached] = payload.attachments
    assert (attached.title, attached.media_type, attached.url) == ("a.png", "image/png", "https://files.example/a.png")
    assert payload.text == ""


DUE = {"date": "2026-11-22", "string": "tomorrow"}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"type": "absolute", "due": DUE}, Reminder(due=Due(when=When(date="2026-11-22"), text="tomorrow"))),
        ({"type": "absolute", "due": DUE, "minute_offset": 0}, Reminder(due=Due(when=When(date="2026-11-22"), text="tomorrow"))),
        ({"type": "relative", "minute_offset": 30}, Reminder(minutes_before=30)),
        ({"type": "relative", "minute_offset": 30, "due": DUE}, Reminder(minutes_before=30)),
        ({"minute_offset": 0}, Reminder(minutes_before=0)),
        ({"type": "location"}, Reminder()),
    ],
)
def test_a_reminder(members: dict[str, Any], expected: Reminder) -> None:
    """A reminder rings at a time of its own or some minutes before its task is due, even none; one that knows neither says neither."""
    expected.task, expected.person = "t1", "7"
    signal = event({"id": "r1", "item_id": "t1", "notify_uid": "7"} | members, kind("reminders"))
    assert (signal.name, signal.payload) == ("reminder", expected)


@pytest.mark.parametrize(
    ("resource", "body"),
    [
        ("sections", {"id": "x"}),
        ("labels", {"id": "x", "name": None}),
        ("notes", {"id": "x", "posted_at": "yesterday"}),
        ("reminders", {"id": "x", "item_id": "t1", "minute_offset": -1}),
        ("reminders", {"id": "x", "minute_offset": 1}),
    ],
)
def test_others_that_make_no_sense(resource: str, body: dict[str, Any]) -> None:
    """An object of any kind that makes no sense is set aside under its id."""
    signal = told(body, kind(resource))
    assert isinstance(signal, Unreadable)
    assert (signal.subject, str(signal).startswith(f"a {kind(resource).name} was set aside: ")) == ("x", True)


def test_undeclared_members_go_no_further() -> None:
    """A member that the vocabulary has no word for leaves no trace."""
    assert event(ITEM | {"note_count": 7, "day_order": 3, "secret": "hush"}) == event(ITEM)


@pytest.mark.parametrize(
    "members",
    [
        {"content": None},
        {"content": 7},
        {"checked": "yes"},
        {"updated_at": "Fri 26 Sep 2014 08:25:05 +0000"},
        {"updated_at": "0001-01-01T00:00:00+10:00"},
        {"completed_at": "9999-12-31T23:59:59-10:00"},
        {"due": {"date": "2026-02-30"}},
        {"due": {"date": "tomorrow"}},
        {"due": {"date": "secretTsecret"}},
        {"deadline": {}},
        {"duration": {"amount": -1, "unit": "minute"}},
        {"duration": {"amount": 2**40, "unit": "day"}},
        {"child_order": 2**63},
        {"labels": "Food"},
    ],
    ids=json.dumps,
)
def test_an_item_that_makes_no_sense(members: dict[str, Any]) -> None:
    """An item that makes no sense is set aside under its id, and its values are not repeated."""
    signal = told(ITEM | members)
    assert isinstance(signal, Unreadable)
    assert signal.subject == ITEM["id"]
    assert "a task was set aside: " in str(signal)
    assert "secret" not in str(signal)
    assert ITEM["content"] not in str(signal)


@pytest.mark.parametrize(
    "body", [{}, {"id": None}, {"id": "", "content": "x"}, {"id": 5, "content": "x"}, [], 3, None, b'{"id":"\xff"}', b"{"]
)
def test_an_item_without_a_name(body: Any) -> None:
    """What has no readable id is set aside without one."""
    signal = told(body)
    assert isinstance(signal, Unreadable)
    assert signal.subject == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
TIMES = st.datetimes().map(datetime.isoformat) | st.datetimes().map(lambda at: f"{at.isoformat()}Z") | st.dates().map(str)
VALUES = JSON | TIMES | st.sampled_from(["minute", "day", "2026-11-22T", "T", "2026-11-22T25:00:00Z", "+1T"])
NESTED = st.fixed_dictionaries({}, optional=dict.fromkeys(["date", "timezone", "string", "lang", "amount", "unit"], VALUES))
MEMBERS = sorted({field for kind in KINDS for field in kind.shape.__struct_fields__} - {"id", "content", "name"})
NEARLY = st.fixed_dictionaries(
    {"id": st.text(min_size=1) | VALUES, "content": st.text() | VALUES, "name": st.text() | VALUES},
    optional=dict.fromkeys(MEMBERS, VALUES | NESTED),
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.resource)
@given(body=NEARLY | JSON)
def test_reading_is_total_and_repeatable(kind: Any, body: Any) -> None:
    """Any JSON becomes an event or is set aside, and twice the same."""
    first, second = told(body, kind), told(body, kind)
    assert repr(first) == repr(second)
    if isinstance(first, Event):
        assert isinstance(second, Event)
        assert (first.subject, first.name) == (body["id"], kind.name)
        assert (first.payload is None) == (first.change is Change.DELETED)
        if first.payload is not None and second.payload is not None:
            assert first.payload.SerializeToString(deterministic=True) == second.payload.SerializeToString(deterministic=True)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.resource)
@given(body=st.binary(max_size=64))
def test_reading_any_bytes(kind: Any, body: bytes) -> None:
    """Even bytes that are no JSON are only set aside."""
    assert isinstance(told(body, kind), Event | Unreadable)
