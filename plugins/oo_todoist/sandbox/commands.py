"""Todoist's sync commands, carried out on one account: at most a hundred a request, in order, each uuid once.

A command checks everything before it changes anything. Arguments that Todoist does not know for a command are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from oo_todoist.sandbox import objects
from oo_todoist.sandbox.account import Account, Done
from oo_todoist.sandbox.arguments import Read, attachment, duration, flag, integer, one_of, optional, read_all, text, words
from oo_todoist.sandbox.dates import next_due, read_deadline, read_due, stamp
from oo_todoist.sandbox.refusals import Refusal, invalid, missing, no_such, unknown_temp_id

Json = dict[str, Any]

MOST_COMMANDS = 100

_REAL_ID = re.compile(r"[0-9A-Za-z]{16}|\d+")
_REFERENCES = ("id", "project_id", "section_id", "parent_id", "item_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something happened to a user's object, as a webhook would tell it."""

    name: str  #: "item:added", "project:archived", …
    user: Json
    body: Json  #: the object as it is now
    before: Json | None  #: the object as it was
    intent: str | None  #: update_intent of an item:updated
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """What a request's commands came to."""

    sync_status: dict[str, Any]  #: command uuid → "ok" or an error body
    temp_id_mapping: dict[str, str]


class Execution:
    """One request's commands on one account."""

    def __init__(self, account: Account, *, now: datetime, new_id: Callable[[], str], tell: Callable[[Change], None]) -> None:
        self._account = account
        self._now = now
        self._at = stamp(now)
        self._new_id = new_id
        self._tell = tell
        self._temp: dict[str, str] = {}

    def run(self, commands: object, *, may: Callable[[str], None]) -> Executed:
        """Execute commands; `may` is asked with each type and raises Refusal when the token does not reach that far."""
        checked = _check(commands)
        status: dict[str, Any] = {}
        for command in checked:
            uuid, temp_id = command["uuid"], command.get("temp_id")
            done = self._account.done.get(uuid)
            try:
                if done is None:
                    may(command["type"])
                    done = Done(temp_id=temp_id, made=self._one(command["type"], command.get("args", {})))
                    self._account.done[uuid] = done
                status[uuid] = "ok"
                if done.temp_id is not None and done.made is not None:
                    self._temp[done.temp_id] = done.made
            except Refusal as refusal:
                status[uuid] = refusal.body()
        return Executed(sync_status=status, temp_id_mapping=self._temp)

    def _one(self, type_: str, args: Mapping[str, Any]) -> str | None:
        command = COMMANDS.get(type_)
        if command is None:
            raise invalid("type", explanation=f"There is no command {type_!r}")
        return command(self, {name: self._real(name, value) for name, value in args.items()})

    # --- items ---------------------------------------------------------------------------------------------------------

    def item_add(self, args: Json) -> str:
        """Add a task, to the inbox if no place is given."""
        self._need(args, "content")
        fields = read_all(self._item_fields(), args)
        place = self._place(args)
        id_ = self._new_id()
        body = {**objects.item(id_, self._account.id, place["project_id"], self._at), **place, **fields}
        if "child_order" not in fields:
            siblings = [each["child_order"] for each in self._account.every("items") if _placed(each) == _placed(body)]
            body["child_order"] = max(siblings, default=0) + 1
        self._put("items", body, "item:added")
        return id_

    def item_update(self, args: Json) -> None:
        """Change a task where it is; its place and its completion have commands of their own."""
        item = self._get("items", args)
        fields = read_all(self._item_fields(), args)
        self._put("items", {**item, **fields}, "item:updated", before=item, intent="item_updated")

    def item_move(self, args: Json) -> None:
        """Put a task, with what is under it, below another task, into a section or into a project."""
        item = self._get("items", args)
        targets = [name for name in ("parent_id", "section_id", "project_id") if name in args]
        if len(targets) != 1:
            raise invalid("parent_id", explanation="Exactly one of parent_id, section_id and project_id must be given")
        place = self._place({"project_id": item["project_id"], **{name: args[name] for name in targets}}, moving=True)
        family = [item, *self._below(item)]
        if place["parent_id"] in {each["id"] for each in family}:
            raise invalid("parent_id", explanation="A task cannot be below itself")
        self._put("items", {**item, **place}, "item:updated", before=item, intent="item_updated")
        for child in family[1:]:
            self._put("items", {**child, **place, "parent_id": child["parent_id"]}, "item:updated", before=child)

    def item_complete(self, args: Json) -> None:
        """Complete a task for good, recurring or not, with what is under it."""
        item = self._get("items", args)
        # The documentation calls the argument date_completed, the official client completed_at.
        given = [args[name] for name in ("date_completed", "completed_at") if args.get(name) is not None]
        at = _moment(given[0], self._at) if given else self._at
        for each in [item, *self._below(item)]:
            if not each["checked"]:
                done = {**each, "checked": True, "completed_at": at, "completed_by_uid": self._account.id}
                self._put("items", done, "item:completed", before=each)

    def item_close(self, args: Json) -> None:
        """Do what the apps do: move a recurring task on to its next date, complete any other."""
        item = self._get("items", args)
        if item["due"] is None or not item["due"]["is_recurring"]:
            return self.item_complete(args)
        self._round(item)
        moved = {**item, "due": next_due(item["due"], self._today())}
        return self._put("items", moved, "item:updated", before=item, intent="item_completed")

    def item_update_date_complete(self, args: Json) -> None:
        """Complete one round of a recurring task: it stays open, with the due date given."""
        item = self._get("items", args)
        self._need(args, "due")
        if item["due"] is None or not item["due"]["is_recurring"]:
            raise invalid("id", explanation="The task is not recurring")
        fields = read_all({"due": self._due, "is_forward": flag, "reset_subtasks": flag}, args)
        if fields.get("reset_subtasks"):
            for child in self._below(item):
                if child["checked"]:
                    self._reopen(child)
        forward = fields.get("is_forward", True)
        if forward:
            self._round(item)
        intent = "item_completed" if forward else "item_uncompleted"
        self._put("items", {**item, "due": fields["due"]}, "item:updated", before=item, intent=intent)

    def item_uncomplete(self, args: Json) -> None:
        """Open a completed task again, and what is above it."""
        item: Json | None = self._get("items", args)
        while item is not None:
            if item["checked"]:
                self._reopen(item)
            item = self._account.find("items", item["parent_id"]) if item["parent_id"] else None

    def item_delete(self, args: Json) -> None:
        """Delete a task with everything that hangs on it."""
        self._delete_items([self._get("items", args)])

    def item_reorder(self, args: Json) -> None:
        """Give tasks their places among their siblings."""
        self._reorder("items", args, "child_order", "item:updated")

    # --- projects ------------------------------------------------------------------------------------------------------

    def project_add(self, args: Json) -> str:
        """Add a project."""
        self._need(args, "name")
        fields = read_all(_PROJECT, args)
        parent = self._parent_project(args)
        id_ = self._new_id()
        body = {**objects.project(id_, fields["name"], self._at), "parent_id": parent, **fields}
        if "child_order" not in fields:
            orders = [each["child_order"] for each in self._account.every("projects") if each["parent_id"] == parent]
            body["child_order"] = max(orders, default=0) + 1
        self._put("projects", body, "project:added")
        return id_

    def project_update(self, args: Json) -> None:
        """Change a project."""
        project = self._get("projects", args)
        self._put("projects", {**project, **read_all(_PROJECT, args)}, "project:updated", before=project)

    def project_move(self, args: Json) -> None:
        """Put a project below another, or at the top."""
        project = self._get("projects", args)
        parent = self._parent_project(args)
        if parent in {each["id"] for each in [project, *self._subprojects(project)]}:
            raise invalid("parent_id", explanation="A project cannot be below itself")
        self._put("projects", {**project, "parent_id": parent}, "project:updated", before=project)

    def project_reorder(self, args: Json) -> None:
        """Give projects their places among their siblings."""
        self._reorder("projects", args, "child_order", "project:updated")

    def project_archive(self, args: Json) -> None:
        """Take a project, and those below it, out of sight; its tasks leave the full sync with it."""
        project = self._not_inbox(args)
        for each in [project, *self._subprojects(project)]:
            if not each["is_archived"]:
                self._put("projects", {**each, "is_archived": True}, "project:archived", before=each)

    def project_unarchive(self, args: Json) -> None:
        """Bring a project back, at the top. What is in it is sent again, since a mirror may have dropped it."""
        project = self._get("projects", args)
        if not project["is_archived"]:
            return
        self._put("projects", {**project, "is_archived": False, "parent_id": None}, "project:unarchived", before=project)
        for kind in ("sections", "items"):
            for body in self._account.every(kind):
                if body["project_id"] == project["id"]:
                    self._account.put(kind, body, self._now)

    def project_delete(self, args: Json) -> None:
        """Delete a project with everything in it."""
        project = self._not_inbox(args)
        for each in [project, *self._subprojects(project)]:
            inside = each["id"]
            self._delete_items([item for item in self._account.every("items") if item["project_id"] == inside])
            for section in [body for body in self._account.every("sections") if body["project_id"] == inside]:
                self._delete("sections", section, "section:deleted")
            for note in [body for body in self._account.every("project_notes") if body["project_id"] == inside]:
                self._delete("project_notes", note, "note:deleted")
            self._delete("projects", each, "project:deleted")

    # --- sections ------------------------------------------------------------------------------------------------------

    def section_add(self, args: Json) -> str:
        """Add a section to a project."""
        self._need(args, "name", "project_id")
        fields = read_all(_SECTION, args)
        project = self._find("projects", args["project_id"], "project_id")
        id_ = self._new_id()
        body = {**objects.section(id_, self._account.id, project["id"], fields["name"], self._at), **fields}
        if "section_order" not in fields:
            here = [each["section_order"] for each in self._account.every("sections") if each["project_id"] == project["id"]]
            body["section_order"] = max(here, default=0) + 1
        self._put("sections", body, "section:added")
        return id_

    def section_update(self, args: Json) -> None:
        """Change a section."""
        section = self._get("sections", args)
        self._put("sections", {**section, **read_all(_SECTION, args)}, "section:updated", before=section)

    def section_move(self, args: Json) -> None:
        """Put a section, with its tasks, into another project."""
        section = self._get("sections", args)
        self._need(args, "project_id")
        project = self._find("projects", args["project_id"], "project_id")["id"]
        self._put("sections", {**section, "project_id": project}, "section:updated", before=section)
        for item in self._inside(section):
            self._put("items", {**item, "project_id": project}, "item:updated", before=item)

    def section_reorder(self, args: Json) -> None:
        """Give sections their places in the project."""
        self._reorder("sections", args, "section_order", "section:updated")

    def section_archive(self, args: Json) -> None:
        """Take a section out of sight; its tasks leave the full sync with it."""
        section = self._get("sections", args)
        self._put("sections", {**section, "is_archived": True, "archived_at": self._at}, "section:archived", before=section)

    def section_unarchive(self, args: Json) -> None:
        """Bring a section back, its tasks with it."""
        section = self._get("sections", args)
        self._put("sections", {**section, "is_archived": False, "archived_at": None}, "section:unarchived", before=section)
        for item in self._inside(section):
            self._account.put("items", item, self._now)

    def section_delete(self, args: Json) -> None:
        """Delete a section with its tasks."""
        section = self._get("sections", args)
        self._delete_items(self._inside(section))
        self._delete("sections", section, "section:deleted")

    # --- labels and filters --------------------------------------------------------------------------------------------

    def label_add(self, args: Json) -> str:
        """Add a label; names are unique."""
        self._need(args, "name")
        fields = self._label(args, but=None)
        id_ = self._new_id()
        order = max((each["item_order"] for each in self._account.every("labels")), default=0) + 1
        self._put("labels", {**objects.label(id_, fields["name"]), "item_order": order, **fields}, "label:added")
        return id_

    def label_update(self, args: Json) -> None:
        """Change a label; a new name reaches the tasks that carry it."""
        label = self._get("labels", args)
        fields = self._label(args, but=label["id"])
        self._put("labels", {**label, **fields}, "label:updated", before=label)
        if "name" in fields:
            self._relabel(label["name"], fields["name"])

    def label_delete(self, args: Json) -> None:
        """Delete a label and, unless `cascade` is none, take it off the tasks that carry it."""
        label = self._get("labels", args)
        cascade = one_of("none", "all")(args.get("cascade", "all"), "cascade")
        self._delete("labels", label, "label:deleted")
        if cascade == "all":
            self._relabel(label["name"], None)

    def label_rename(self, args: Json) -> None:
        """Change a shared label: one that tasks carry, whether or not it is a personal label too."""
        self._need(args, "name_old", "name_new")
        old, new = (_LABEL["name"](args[name], name) for name in ("name_old", "name_new"))
        self._relabel(old, new)

    def label_delete_occurrences(self, args: Json) -> None:
        """Take a shared label off every task."""
        self._need(args, "name")
        self._relabel(_LABEL["name"](args["name"], "name"), None)

    def filter_add(self, args: Json) -> str:
        """Add a saved search."""
        self._need(args, "name", "query")
        fields = read_all(_FILTER, args)
        id_ = self._new_id()
        self._put("filters", {**objects.filter_(id_, fields["name"], fields["query"]), **fields}, "filter:added")
        return id_

    def filter_update(self, args: Json) -> None:
        """Change a saved search."""
        old = self._get("filters", args)
        self._put("filters", {**old, **read_all(_FILTER, args)}, "filter:updated", before=old)

    def filter_delete(self, args: Json) -> None:
        """Delete a saved search."""
        self._delete("filters", self._get("filters", args), "filter:deleted")

    # --- notes and reminders -------------------------------------------------------------------------------------------

    def note_add(self, args: Json) -> str:
        """Add a comment to a task or to a project."""
        self._need(args, "content")
        fields = read_all(_NOTE, args)
        owners = [name for name in ("item_id", "project_id") if args.get(name) is not None]
        if len(owners) != 1:
            raise invalid("item_id", explanation="Exactly one of item_id and project_id must be given")
        kind = "items" if owners[0] == "item_id" else "projects"
        owner = self._find(kind, args[owners[0]], owners[0])
        id_ = self._new_id()
        body = {**objects.note(id_, owners[0], owner["id"], self._account.id, self._at), **fields}
        self._put("notes" if kind == "items" else "project_notes", body, "note:added")
        if kind == "items":
            self._put("items", {**owner, "note_count": owner["note_count"] + 1}, "item:updated", before=owner)
        return id_

    def note_update(self, args: Json) -> None:
        """Change a comment's text."""
        kind, note = self._note(args)
        self._need(args, "content")
        self._put(kind, {**note, "content": _NOTE["content"](args["content"], "content")}, "note:updated", before=note)

    def note_delete(self, args: Json) -> None:
        """Delete a comment."""
        kind, note = self._note(args)
        self._delete(kind, note, "note:deleted")
        if kind == "notes" and (item := self._account.find("items", note["item_id"])):
            self._put("items", {**item, "note_count": item["note_count"] - 1}, "item:updated", before=item)

    def reminder_add(self, args: Json) -> str:
        """Add a reminder to a task: at a moment (`due`), or minutes before it is due."""
        self._need(args, "item_id", "type")
        item = self._find("items", args["item_id"], "item_id")
        type_ = one_of("absolute", "relative")(args["type"], "type")
        self._need(args, "due" if type_ == "absolute" else "minute_offset")
        fields = self._reminder(type_, args)
        if type_ == "relative" and (item["due"] is None or "T" not in item["due"]["date"]):
            raise invalid("item_id", explanation="A relative reminder needs a task that is due at a time of day")
        id_ = self._new_id()
        self._put("reminders", {**objects.reminder(id_, item["id"], self._account.id, type_), **fields}, None)
        return id_

    def reminder_update(self, args: Json) -> None:
        """Change a reminder; its type stays."""
        old = self._get("reminders", args)
        self._put("reminders", {**old, **self._reminder(old["type"], args)}, None, before=old)

    def reminder_delete(self, args: Json) -> None:
        """Delete a reminder."""
        self._delete("reminders", self._get("reminders", args), None)

    # --- reading -------------------------------------------------------------------------------------------------------

    def _real(self, name: str, value: Any) -> Any:
        return self._temp.get(value, value) if name in _REFERENCES and isinstance(value, str) else value

    def _need(self, args: Mapping[str, Any], *names: str) -> None:
        for name in names:
            if args.get(name) is None:
                raise missing(name)

    def _find(self, kind: str, id_: object, argument: str) -> Json:
        if not isinstance(id_, str):
            raise invalid(argument, expected="Input should be a valid string")
        body = self._account.find(kind, id_)
        if body is None:
            raise no_such(kind) if _REAL_ID.fullmatch(id_) else unknown_temp_id(argument)
        return body

    def _get(self, kind: str, args: Json) -> Json:
        self._need(args, "id")
        return self._find(kind, args["id"], "id")

    def _note(self, args: Json) -> tuple[str, Json]:
        self._need(args, "id")
        kind = "project_notes" if self._account.find("project_notes", str(args["id"])) else "notes"
        return kind, self._find(kind, args["id"], "id")

    def _place(self, args: Json, *, moving: bool = False) -> Json:
        """Give project_id, section_id and parent_id of a task from those of them that were given."""
        if args.get("parent_id") is not None:
            parent = self._find("items", args["parent_id"], "parent_id")
            return {"project_id": parent["project_id"], "section_id": parent["section_id"], "parent_id": parent["id"]}
        given = args.get("project_id")
        project = None if given is None else self._find("projects", given, "project_id")["id"]
        if args.get("section_id") is not None:
            section = self._find("sections", args["section_id"], "section_id")
            if project not in {None, section["project_id"]} and not moving:
                raise invalid("section_id", explanation="The section is not in the project")
            return {"project_id": section["project_id"], "section_id": section["id"], "parent_id": None}
        return {"project_id": project or self._account.user["inbox_project_id"], "section_id": None, "parent_id": None}

    def _parent_project(self, args: Json) -> str | None:
        if args.get("parent_id") is None:
            return None
        parent: str = self._find("projects", args["parent_id"], "parent_id")["id"]
        return parent

    def _not_inbox(self, args: Json) -> Json:
        project = self._get("projects", args)
        if project["inbox_project"]:
            raise invalid("id", explanation="The inbox can be neither archived nor deleted")
        return project

    def _item_fields(self) -> Mapping[str, Read]:
        return {
            "content": text(500),
            "description": text(16383, empty=True),
            "priority": integer(1, 4),
            "due": self._due,
            "deadline": lambda value, argument: read_deadline(value, argument=argument),
            "duration": optional(duration),
            "labels": words,
            "child_order": integer(),
            "day_order": integer(),
            "is_collapsed": flag,
            "assigned_by_uid": optional(one_of(self._account.id)),
            "responsible_uid": optional(one_of(self._account.id)),
        }

    def _due(self, value: object, argument: str) -> Json | None:
        zone = self._account.user["tz_info"]["timezone"]
        return read_due(value, argument=argument, today=self._today(), zone=zone)

    def _today(self) -> date:
        """Give the day that it is for the user."""
        zone = self._account.user["tz_info"]
        return (self._now + timedelta(hours=zone["hours"], minutes=zone["minutes"])).date()

    def _label(self, args: Json, *, but: str | None) -> Json:
        fields = read_all(_LABEL, args)
        for each in self._account.every("labels"):
            if each["name"] == fields.get("name") and each["id"] != but:
                raise invalid("name", explanation="A label of that name exists already")
        return fields

    def _reminder(self, type_: str, args: Json) -> Json:
        fields: Mapping[str, Read] = {"due": self._due} if type_ == "absolute" else {"minute_offset": integer(0)}
        return read_all({**fields, "notify_uid": one_of(self._account.id)}, args)

    def _below(self, item: Json) -> Iterator[Json]:
        for child in [each for each in self._account.every("items") if each["parent_id"] == item["id"]]:
            yield child
            yield from self._below(child)

    def _subprojects(self, project: Json) -> list[Json]:
        children = [each for each in self._account.every("projects") if each["parent_id"] == project["id"]]
        return [found for child in children for found in (child, *self._subprojects(child))]

    def _inside(self, section: Json) -> list[Json]:
        return [item for item in self._account.every("items") if item["section_id"] == section["id"]]

    # --- writing -------------------------------------------------------------------------------------------------------

    def _put(self, kind: str, body: Json, name: str | None, *, before: Json | None = None, intent: str | None = None) -> None:
        """Record a changed object and tell whoever listens; `name` is None for changes that no webhook tells."""
        if "updated_at" in body:
            body = {**body, "updated_at": self._at}
        self._account.put(kind, body, self._now)
        if name is not None:
            user = self._account.user
            self._tell(Change(name=name, user=user, body=body, before=before, intent=intent, at=self._now))

    def _round(self, item: Json) -> None:
        """Remember that one round of a recurring task was completed."""
        self._account.rounds.append({**item, "checked": True, "completed_at": self._at})

    def _delete(self, kind: str, body: Json, name: str | None) -> None:
        self._put(kind, {**body, "is_deleted": True}, name, before=body)

    def _delete_items(self, items: Sequence[Json]) -> None:
        doomed = {each["id"]: each for item in items for each in (item, *self._below(item))}
        for kind in ("notes", "reminders"):
            for body in [body for body in self._account.every(kind) if body["item_id"] in doomed]:
                self._delete(kind, body, "note:deleted" if kind == "notes" else None)
        for item in doomed.values():
            self._delete("items", item, "item:deleted")

    def _reopen(self, item: Json) -> None:
        opened = {**item, "checked": False, "completed_at": None, "completed_by_uid": None}
        self._put("items", opened, "item:uncompleted", before=item)

    def _relabel(self, old: str, new: str | None) -> None:
        for item in self._account.every("items"):
            if old in item["labels"]:
                kept = [new if name == old else name for name in item["labels"]]
                labels = [name for name in dict.fromkeys(kept) if name is not None]
                self._put("items", {**item, "labels": labels}, "item:updated", before=item, intent="item_updated")

    def _reorder(self, kind: str, args: Json, order: str, name: str) -> None:
        self._need(args, kind)
        if not isinstance(args[kind], list) or not all(isinstance(each, dict) for each in args[kind]):
            raise invalid(kind, expected="Input should be a valid list of dictionaries")
        changed = []
        for each in args[kind]:
            self._need(each, "id", order)
            body = self._find(kind, self._real("id", each["id"]), "id")
            changed.append((body, {**body, order: integer()(each[order], order)}))
        for before, after in changed:
            self._put(kind, after, name, before=before)


_NOTE: Mapping[str, Read] = {"content": text(15000), "file_attachment": optional(attachment), "uids_to_notify": optional(words)}
_PROJECT: Mapping[str, Read] = {
    "name": text(120),
    "description": text(16383, empty=True),
    "color": text(40),
    "child_order": integer(),
    "is_favorite": flag,
    "is_collapsed": flag,
    "view_style": one_of("list", "board", "calendar"),
}
_SECTION: Mapping[str, Read] = {
    "name": text(2048),
    "description": optional(text(16383, empty=True)),
    "section_order": integer(),
    "is_collapsed": flag,
}
_LABEL: Mapping[str, Read] = {"name": text(128), "color": text(40), "item_order": integer(), "is_favorite": flag}
_FILTER: Mapping[str, Read] = {**_LABEL, "query": text(1024)}

#: what can be executed, by the command's type
COMMANDS: Mapping[str, Callable[[Execution, Json], str | None]] = {
    name: getattr(Execution, name)
    for name in vars(Execution)
    if name.split("_")[0] in {"item", "project", "section", "label", "filter", "note", "reminder"}
}


def scopes_for(type_: str) -> tuple[str, ...]:
    """Give the scopes of which a command needs one."""
    if type_ == "item_add":
        return ("task:add", "data:read_write")
    if type_ == "project_delete":
        return ("project:delete",)
    return ("data:delete",) if type_.endswith("_delete") else ("data:read_write",)


def _check(commands: object) -> list[Json]:
    """Refuse the whole request when its commands are not commands, or are too many."""
    if not isinstance(commands, list):
        raise invalid("commands", expected="Input should be a valid list")
    if len(commands) > MOST_COMMANDS:
        explanation = f"You can only submit max {MOST_COMMANDS} commands pr. sync operation"
        raise invalid("commands", explanation=explanation, max_count=MOST_COMMANDS)
    for command in commands:
        if not isinstance(command, dict) or not isinstance(command.get("args", {}), dict):
            raise invalid("commands", expected="Input should be a valid list of dictionaries")
        for name in ("type", "uuid"):
            if not isinstance(command.get(name), str):
                raise missing(f"commands.{name}")
        if not isinstance(command.get("temp_id"), str | None):
            raise invalid("commands.temp_id", expected="Input should be a valid string")
    return commands


def _placed(item: Json) -> tuple[Any, ...]:
    return item["project_id"], item["section_id"], item["parent_id"]


def _moment(value: object, fallback: str) -> str:
    if not isinstance(value, str):
        raise invalid("completed_at", expected="Input should be a valid datetime")
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise invalid("completed_at", expected="Input should be a valid datetime") from None
    return stamp(at) if at.tzinfo else fallback
