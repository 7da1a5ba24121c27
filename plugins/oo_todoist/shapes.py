"""The shapes of Todoist's answers, as far as oO reads them: members that are not declared here never get further.

Facts are from the documentation of the API v1, from Doist's own SDK, and from bodies seen on the wire. Every id is an opaque
string. Timestamps are UTC, with or without microseconds and sometimes without the "Z".
"""

from __future__ import annotations

from datetime import datetime

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


class Synced(Struct):
    """What every answer of /sync has besides its objects."""

    sync_token: str
    full_sync: bool = False
    full_sync_date_utc: str | None = None  #: when a full sync's data was made, which may be some time ago


class Page(Struct):
    """One page of completed tasks; this one says "items" where other lists say "results"."""

    items: list[Raw]
    next_cursor: str | None = None


class User(Struct):
    """Whose account it is. Todoist sends some 50 members more, a token among them."""

    id: str
    email: str | None = None
    full_name: str | None = None


class Account(Struct):
    """An answer of /sync for the resource "user"."""

    user: User
