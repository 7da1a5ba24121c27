"""What can be done at Todoist: each action as the one sync command that carries it out.

Pure functions. The command's uuid is the action's key and Todoist executes a uuid once, so that any try may be repeated.
Arguments have the names that the events use. One that is not given changes nothing; in an update an empty text, an empty list or a
duration of 0 takes away what was there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Literal, TypeVar
from uuid import UUID, uuid5

from oo_sdk import Action, ActionKind, ActionRefused, ActionResult, ConnectorBug, ConnectorError, RetryLater, Struct, decode
from oo_todoist.shapes import Carried, Refused

T = TypeVar("T")

SCOPE: Final = "data:read_write"
#: Todoist counts the other way than the vocabulary's words: 4 is the most urgent.
PRIORITIES: Final = {"normal": 1, "medium": 2, "high": 3, "urgent": 4}

#: Todoist's error codes, as documented or seen on the wire.
TOO_MANY: Final = 35
NOT_THERE: Final = frozenset({15, 21, 22, 478})  # 15: neither an id nor a temporary one
WRONG_ARGUMENT: Final = frozenset({19, 20})
#: Todoist's names of arguments → ours.
ARGUMENTS: Final = {
    "id": "id",
    "content": "title",
    "description": "description",
    "project_id": "project",
    "section_id": "section",
    "parent_id": "parent",
    "labels": "labels",
    "priority": "priority",
    "due": "due_text or due_date",
    "deadline": "deadline",
    "duration": "duration_minutes",
    "responsible_uid": "assignee",
}


class ThatTask(Struct, kw_only=True):
    """Which task."""

    id: str


class Particulars(Struct, kw_only=True):
    """What can be said of a task, new or not.

    `due_text` is in the person's own words ("every monday at 9:00"); `due_date` is "2026-11-22", "2026-11-22T09:00:00" in the person's
    own zone, or an instant with a "Z". `deadline` is a day.
    """

    description: str | None = None
    labels: list[str] | None = None
    priority: Literal["normal", "medium", "high", "urgent"] | None = None
    due_text: str | None = None
    due_date: str | None = None
    due_language: str | None = None
    deadline: str | None = None
    duration_minutes: int | None = None
    assignee: str | None = None


class NewTask(Particulars, kw_only=True):
    """A task to be; without a place it goes to the inbox."""

    title: str
    project: str | None = None
    section: str | None = None
    parent: str | None = None


class ChangedTask(Particulars, kw_only=True):
    """A task and what shall be different about it. Its place is not changed by this."""

    id: str
    title: str | None = None


ACTIONS: Final[Sequence[ActionKind]] = (
    ActionKind(
        name="complete_task",
        sentence="Complete a task; a recurring one moves on to its next date.",
        arguments=ThatTask,
        scope=SCOPE,
    ),
    ActionKind(name="reopen_task", sentence="Open a completed task again.", arguments=ThatTask, scope=SCOPE),
    ActionKind(name="add_task", sentence="Add a task.", arguments=NewTask, scope=SCOPE),
    ActionKind(
        name="update_task", sentence="Change what a task says, when it is due and how much it matters.", arguments=ChangedTask, scope=SCOPE
    ),
)


def command(action: Action) -> dict[str, Any]:
    """Write the command that carries an action out."""
    match action.name, action.arguments:
        case "complete_task", ThatTask(id=id_):
            type_, args = "item_close", {"id": id_}  # as the apps do: item_complete would end a recurring task for good
        case "reopen_task", ThatTask(id=id_):
            type_, args = "item_uncomplete", {"id": id_}
        case "add_task", NewTask() as task:
            place = {"content": task.title, "project_id": task.project, "section_id": task.section, "parent_id": task.parent}
            type_, args = "item_add", _given(place) | _particulars(task)
        case "update_task", ChangedTask() as task:
            type_, args = "item_update", {"id": task.id} | _given({"content": task.title}) | _particulars(task)
            if len(args) == 1:
                raise ActionRefused("update_task was given nothing to change; give it at least one argument besides the id")
        case _:
            raise ConnectorBug(f"todoist has no action {action.name} with these arguments")
    made = {"temp_id": _temp_id(action.key)} if type_ == "item_add" else {}
    return {"type": type_, "uuid": action.key, "args": args} | made


def result(action: Action, body: bytes) -> ActionResult:
    """Read from Todoist's answer what became of an action."""
    carried = decode(body, Carried)
    status = carried.sync_status.get(action.key)
    if status is None:
        raise ConnectorBug("Todoist does not say what became of the command; look at the task and report it")
    if isinstance(status, Refused):
        raise _refusal(status)
    if isinstance(action.arguments, ThatTask | ChangedTask):
        return ActionResult(subject=action.arguments.id)
    # Todoist does not promise for how long it remembers which id a repeated command made.
    return ActionResult(subject=(carried.temp_id_mapping or {}).get(_temp_id(action.key), ""))


def refused(body: bytes, status: int) -> ConnectorError:
    """Say why Todoist refused the whole request."""
    try:
        known = decode(body, Refused)
    except ConnectorBug:
        known = Refused()
    known.http_code = status
    return _refusal(known)


def _particulars(task: Particulars) -> dict[str, Any]:
    args = _given({"description": task.description, "labels": task.labels, "priority": task.priority and PRIORITIES[task.priority]})
    dates = [text for text in (task.due_date, task.due_text) if text is not None]
    due = {"date": task.due_date or None, "string": task.due_text or None, "lang": task.due_language}
    minutes = task.duration_minutes
    for name, given, written in (
        ("due", "".join(dates) if dates else None, _given(due)),
        ("deadline", task.deadline, {"date": task.deadline}),
        ("duration", minutes, {"amount": minutes, "unit": "minute"}),
        ("responsible_uid", task.assignee, task.assignee),
    ):
        if given is not None:
            args[name] = written if given else None  # null is how Todoist is told to take it away
    return args


def _given(args: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in args.items() if value is not None}


def _temp_id(key: str) -> str:
    """Name a task to be by its action, so that a repeated command asks for the same name."""
    return str(uuid5(UUID(key), "task"))


def _refusal(status: Refused) -> ConnectorError:
    """Put a refusal into our words: Todoist's own may repeat what the person wrote."""
    http, code, tag = status.http_code or 0, status.error_code, status.error_tag or ""
    if http == 429 or http >= 500 or code == TOO_MANY:
        seconds = _extra(status, "retry_after", float)
        return RetryLater("Todoist asks us to come back later", after=None if seconds is None else timedelta(seconds=seconds))
    if http == 403:
        return ActionRefused(f"Todoist does not allow it: the scope {SCOPE} was not granted; connect again and allow changes")
    if http == 404 or code in NOT_THERE or tag.endswith("NOT_FOUND"):
        return ActionRefused("Todoist does not know the task, project or section that the action names; it may have been deleted")
    if code in WRONG_ARGUMENT:
        argument = ARGUMENTS.get((_extra(status, "argument", str) or "").partition(".")[0], "one of the arguments")
        return ActionRefused(f"Todoist does not take what {argument} says; give it another value")
    reason = f" ({tag})" if re.fullmatch(r"[A-Z_]{1,60}", tag) else f" (error {code})" if code is not None else ""
    return ActionRefused(f"Todoist refuses it{reason}; look at the task in Todoist")


def _extra(status: Refused, name: str, into: type[T]) -> T | None:
    try:
        return decode((status.error_extra or {})[name], into)
    except (KeyError, ConnectorBug):
        return None
