"""The shapes of Todoist's answers, as far as oO reads them: members that are not declared here never get further.

Facts are from the documentation of the API v1, from Doist's own SDK, and from bodies seen on the wire. Every id is an opaque
string. Timestamps are UTC, with or without microseconds and sometimes without the "Z".
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from oo_sdk import Raw, Struct


class Subject(Struct):
    """What is read first, so that an object that cannot be read further can at least be named."""

    id: str


class Known(Subject, kw_only=True):
    """What every synced object has."""

    is_deleted: bool = False
    updated_at: datetime | None = None


class DueDate(Struct):
    """When a task is due.

    `date` is "2026-11-22" for a whole day, "2026-11-22T09:00:00" in the person's own zone, or with a "Z" and a `timezone`.
    """

    date: str
    timezone: str | None = None
    string: str | None = None
    lang: str | None = None
    is_recurring: bool = False


class Deadline(Struct):
    """The last day a task may be done: "2026-11-22"."""

    date: str


class Duration(Struct):
    """How long a task takes: an amount of "minute" or of "day"."""

    amount: int
    unit: str


class Item(Known, kw_only=True):
    """A task. `priority` is 1 for normal to 4 for urgent, which the apps show as p4 to p1."""

    content: str
    description: str | None = None
    checked: bool = False
    completed_at: datetime | None = None
    added_at: datetime | None = None
    due: DueDate | None = None
    deadline: Deadline | None = None
    duration: Duration | None = None
    priority: int | None = None
    labels: list[str] | None = None
    project_id: str | None = None
    section_id: str | None = None
    parent_id: str | None = None
    responsible_uid: str | None = None
    added_by_uid: str | None = None
    child_order: int | None = None


class Folder(Known, kw_only=True):
    """A project, personal or of a workspace; the two do not have the same members."""

    name: str
    description: str | None = None
    parent_id: str | None = None
    color: str | None = None
    is_archived: bool | None = None
    is_favorite: bool | None = None
    shared: bool | None = None
    is_shared: bool | None = None  #: the newer name of `shared`; both were seen in one object
    inbox_project: bool | None = None
    child_order: int | None = None
    created_at: datetime | None = None


class Part(Known, kw_only=True):
    """A section of a project."""

    name: str
    description: str | None = None
    project_id: str | None = None
    is_archived: bool | None = None
    section_order: int | None = None
    added_at: datetime | None = None


class Tag(Known, kw_only=True):
    """A personal label. Its place is `item_order`, which Doist's own SDK calls `order`."""

    name: str
    color: str | None = None
    is_favorite: bool | None = None
    item_order: int | None = None
    order: int | None = None


class Bell(Known, kw_only=True):
    """A reminder: at a time of its own ("absolute"), or some minutes before its task is due ("relative")."""

    item_id: str
    type: str | None = None
    notify_uid: str | None = None
    due: DueDate | None = None
    minute_offset: int | None = None


class File(Struct):
    """What hangs on a comment: an upload, or the page that a link in it leads to."""

    file_name: str | None = None
    file_type: str | None = None
    file_url: str | None = None
    title: str | None = None
    url: str | None = None


class Note(Known, kw_only=True):
    """A comment on a task, which has an `item_id`, or on a project, which has a `project_id`."""

    content: str | None = None
    item_id: str | None = None
    project_id: str | None = None
    posted_uid: str | None = None
    posted_at: datetime | None = None
    file_attachment: File | None = None


class Synced(Struct):
    """What every answer of /sync has besides its objects."""

    sync_token: str
    full_sync: bool = False
    full_sync_date_utc: str | None = None  #: when a full sync's data was made, which may be some time ago


class Page(Struct):
    """One page of completed tasks; this one says "items" where other lists say "results"."""

    items: list[Raw]
    next_cursor: str | None = None


class Zone(Struct):
    """Where the person is."""

    timezone: str | None = None


class User(Struct):
    """Whose account it is. Todoist sends some 50 members more, a token among them."""

    id: str
    email: str | None = None
    full_name: str | None = None
    tz_info: Zone | None = None


class Account(Struct):
    """An answer of /sync for the resource "user"."""

    user: User


class Push(Struct):
    """A webhook's body: what happened is named, and to whom it is told.

    The object in it has other members than the one in /sync, and is not read.
    """

    event_name: str
    user_id: str | int


class Refused(Struct):
    """Why a command was not carried out. Documented errors carry from two to five of Todoist's five members."""

    error_code: int | None = None
    error_tag: str | None = None
    error_extra: dict[str, Raw] | None = None
    http_code: int | None = None


class Carried(Struct):
    """What became of commands: each one's uuid → "ok" or the refusal, and each temporary id → the real one."""

    sync_status: dict[str, Literal["ok"] | Refused]
    temp_id_mapping: dict[str, str] | None = None
