"""What Todoist's objects mean in the common vocabulary.

Pure functions: the same object always gives the same event. To read one more resource, add its shape, a function that gives its
payload, and a row to `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final, Generic, TypeVar

from oo_sdk import Change, ConnectorBug, Event, Raw, Unreadable, decode
from oo_sdk.vocabulary import Comment, Due, Label, Project, Reminder, Section, Task, Timestamp, When
from oo_todoist.shapes import Bell, DueDate, File, Folder, Item, Known, Note, Part, Subject, Tag

S = TypeVar("S", bound=Known)

#: Where people see their things; the links in webhook bodies look the same.
APP: Final = "https://app.todoist.com/app"

PRIORITIES: Final = {1: Task.PRIORITY_NORMAL, 2: Task.PRIORITY_MEDIUM, 3: Task.PRIORITY_HIGH, 4: Task.PRIORITY_URGENT}
MINUTES: Final = {"minute": 1, "day": 24 * 60}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[S]):
    """One resource of Todoist's and the events that it becomes."""

    resource: str  #: what /sync calls it
    name: str  #: what its events are called
    shape: type[S]
    payload: Callable[[S], Project | Section | Label | Task | Comment | Reminder]
    whole: bool = True  #: False: a full sync shows only some of them, so that nothing follows from one's absence


def task(item: Item) -> Task:
    """Say what a task is. A recurring task that was finished is not `checked`: Todoist moves its due date instead."""
    return Task(
        title=item.content,
        description=item.description or "",
        completed=item.checked,
        completed_at=_timestamp(item.completed_at),
        created_at=_timestamp(item.added_at),
        due=_due(item.due) if item.due else None,
        deadline=_when(item.deadline.date) if item.deadline else None,
        priority=PRIORITIES.get(item.priority or 1, Task.PRIORITY_UNSPECIFIED),
        labels=item.labels or (),
        project=item.project_id or "",
        section=item.section_id or "",
        parent=item.parent_id or "",
        assignee=item.responsible_uid or "",
        creator=item.added_by_uid or "",
        duration_minutes=item.duration.amount * MINUTES.get(item.duration.unit, 0) if item.duration else 0,
        position=item.child_order or 0,
        url=f"{APP}/task/{item.id}",
    )


def project(folder: Folder) -> Project:
    """Say what a project is."""
    return Project(
        title=folder.name,
        description=folder.description or "",
        parent=folder.parent_id or "",
        color=folder.color or "",
        archived=bool(folder.is_archived),
        favorite=bool(folder.is_favorite),
        shared=bool(folder.shared or folder.is_shared),
        inbox=bool(folder.inbox_project),
        position=folder.child_order or 0,
        created_at=_timestamp(folder.created_at),
        url=f"{APP}/project/{folder.id}",
    )


def section(part: Part) -> Section:
    """Say what a section is."""
    return Section(
        title=part.name,
        description=part.description or "",
        project=part.project_id or "",
        archived=bool(part.is_archived),
        position=part.section_order or 0,
        created_at=_timestamp(part.added_at),
        url=f"{APP}/section/{part.id}",
    )


def label(tag: Tag) -> Label:
    """Say what a label is."""
    return Label(
        title=tag.name,
        color=tag.color or "",
        favorite=bool(tag.is_favorite),
        position=tag.item_order or tag.order or 0,
        url=f"{APP}/label/{tag.id}",
    )


def comment(note: Note) -> Comment:
    """Say what a comment is."""
    about = f"task/{note.item_id}" if note.item_id else f"project/{note.project_id}"
    return Comment(
        text=note.content or "",
        task=note.item_id or "",
        project="" if note.item_id else note.project_id or "",
        author=note.posted_uid or "",
        created_at=_timestamp(note.posted_at),
        attachments=[_attachment(note.file_attachment)] if note.file_attachment else (),
        url=f"{APP}/{about}#comment-{note.id}",
    )


def reminder(bell: Bell) -> Reminder:
    """Say what a reminder is. A relative one may carry a `due` too, which only follows from its task's."""
    reminder = Reminder(task=bell.item_id, person=bell.notify_uid or "")
    if bell.due is not None and bell.type != "relative":
        reminder.due.CopyFrom(_due(bell.due))
    elif bell.minute_offset is not None:
        reminder.minutes_before = bell.minute_offset
    return reminder


TASKS: Final = Kind(resource="items", name="task", shape=Item, payload=task)
#: What is read, in the order in which it is told: what holds others first. Comments on completed tasks are in no full sync.
KINDS: Final[tuple[Kind[Any], ...]] = (
    Kind(resource="projects", name="project", shape=Folder, payload=project),
    Kind(resource="sections", name="section", shape=Part, payload=section),
    Kind(resource="labels", name="label", shape=Tag, payload=label),
    TASKS,
    Kind(resource="notes", name="comment", shape=Note, payload=comment, whole=False),
    Kind(resource="project_notes", name="comment", shape=Note, payload=comment, whole=False),
    Kind(resource="reminders", name="reminder", shape=Bell, payload=reminder),
)


def read(kind: Kind[Any], raw: Raw) -> Event | Unreadable:
    """Say what happened to one object; what makes no sense is set aside, whatever it is.

    The event has neither version nor order. Todoist has no etag and promises no number that only grows: `updated_at` comes with
    microseconds in one answer and without them in the next, and two changes within a second may share it.
    """
    subject = ""
    try:
        subject = decode(raw, Subject).id
        if not subject:
            return Unreadable(f"a {kind.name} was set aside: its id is empty")
        known = decode(raw, Known)
        at = utc(known.updated_at) if known.updated_at else None
        if known.is_deleted:
            return Event(kind.name, subject, Change.DELETED, at=at)
        return Event(kind.name, subject, Change.UPSERTED, at=at, payload=kind.payload(decode(raw, kind.shape)))
    except ConnectorBug as wrong:
        return Unreadable(f"a {kind.name} was set aside: {wrong}", subject=subject)
    except (ValueError, OverflowError, RecursionError):
        # Their own words may hold the value, which is the person's.
        return Unreadable(f"a {kind.name} was set aside: it holds a text, date or number that cannot be one", subject=subject)


def utc(written: datetime) -> datetime:
    """Put a timestamp of Todoist's into UTC, which is also what it means without a zone."""
    return written.astimezone(UTC) if written.tzinfo else written.replace(tzinfo=UTC)


def _timestamp(written: datetime | None) -> Timestamp | None:
    if written is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(utc(written))
    return timestamp


def _attachment(file: File) -> Comment.Attachment:
    return Comment.Attachment(
        title=file.file_name or file.title or "", media_type=file.file_type or "", url=file.file_url or file.url or ""
    )


def _due(due: DueDate) -> Due:
    return Due(when=_when(due.date, due.timezone or ""), text=due.string or "", language=due.lang or "", recurring=due.is_recurring)


def _when(written: str, time_zone: str = "") -> When:
    """Read a date in any of Todoist's three forms. Fractions of a second are dropped: Todoist writes them or not as it likes."""
    if "T" not in written:
        return When(date=date.fromisoformat(written).isoformat())
    moment = datetime.fromisoformat(written).replace(microsecond=0)
    if moment.tzinfo is None:
        return When(floating=moment.isoformat())
    return When(instant=_timestamp(moment), time_zone=time_zone)
