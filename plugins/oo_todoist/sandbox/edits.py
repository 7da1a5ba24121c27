"""The writing half of REST: each request is one sync command, on the same objects, with the same journal and webhooks.

`X-Request-Id` is taken and not looked at: whether Todoist refuses to do twice what has the same one is not documented.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from oo_todoist.sandbox.account import Account
from oo_todoist.sandbox.bearer import bearer
from oo_todoist.sandbox.grants import Token
from oo_todoist.sandbox.queries import quick_add
from oo_todoist.sandbox.refusals import Refusal, invalid, missing, not_found
from oo_todoist.sandbox.rest import shown
from oo_todoist.sandbox.wire import answer, arguments
from oo_todoist.sandbox.world import World

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.Response]]

#: REST's names of arguments → those of the commands, by the commands' noun
_RENAMED: Mapping[str, Mapping[str, str]] = {
    "item": {"order": "child_order", "assignee_id": "responsible_uid", "collapsed": "is_collapsed"},
    "project": {"order": "child_order", "collapsed": "is_collapsed"},
    "section": {"order": "section_order", "collapsed": "is_collapsed"},
    "label": {"order": "item_order"},
    "note": {"task_id": "item_id", "attachment": "file_attachment"},
    "reminder": {"task_id": "item_id", "reminder_type": "type"},
}
#: arguments that take something away when they are null; in every other place null says nothing
_CLEARED_BY_NULL = frozenset({"responsible_uid", "deadline", "description"})
_KINDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "item": ("Task", ("items",)),
    "project": ("Project", ("projects",)),
    "section": ("Section", ("sections",)),
    "label": ("Label", ("labels",)),
    "note": ("Comment", ("notes", "project_notes")),
    "reminder": ("Reminder", ("reminders",)),
}


class Edits:
    """REST writing for one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[web.RouteDef]:
        """Give the routes; names before ids."""
        nouns = {
            "tasks": "item",
            "projects": "project",
            "sections": "section",
            "labels": "label",
            "comments": "note",
            "reminders": "reminder",
        }
        post: list[tuple[str, Handler]] = [
            ("/tasks/quick", self.quick),
            ("/labels/shared/rename", self.rename_label),
            ("/labels/shared/remove", self.remove_label),
        ]
        for path, noun in nouns.items():
            post += [(f"/{path}", self._edit(noun, "add")), (f"/{path}/{{id}}", self._edit(noun, "update"))]
        for path, noun, verb, command in (
            ("tasks", "item", "close", "close"),
            ("tasks", "item", "reopen", "uncomplete"),
            ("tasks", "item", "move", "move"),
            ("projects", "project", "archive", "archive"),
            ("projects", "project", "unarchive", "unarchive"),
            ("sections", "section", "archive", "archive"),
            ("sections", "section", "unarchive", "unarchive"),
        ):
            post.append((f"/{path}/{{id}}/{verb}", self._edit(noun, command)))
        return [
            *(web.post(f"/api/v1{path}", handler) for path, handler in post),
            *(web.delete(f"/api/v1/{path}/{{id}}", self._edit(noun, "delete")) for path, noun in nouns.items()),
        ]

    async def quick(self, request: web.Request) -> web.Response:
        """Add a task from one line of text, and a comment on it where there is a `note`."""
        account, token = bearer(self._world, request)
        asked = await arguments(request)
        if not isinstance(asked.get("text"), str):
            raise missing("text")
        made = self._do(account, token, "item_add", quick_add(asked["text"], account, self._world.now()))
        if asked.get("note"):
            self._do(account, token, "note_add", {"item_id": made, "content": asked["note"]})
        return answer(account.find("items", made))

    async def rename_label(self, request: web.Request) -> web.Response:
        """Rename a shared label; its present name comes in the address or in the body."""
        account, token = bearer(self._world, request)
        asked = {**request.query, **await arguments(request)}
        self._do(account, token, "label_rename", {"name_old": asked.get("name"), "name_new": asked.get("new_name")})
        return web.Response(status=204)

    async def remove_label(self, request: web.Request) -> web.Response:
        """Take a shared label off every task."""
        account, token = bearer(self._world, request)
        self._do(account, token, "label_delete_occurrences", {"name": (await arguments(request)).get("name")})
        return web.Response(status=204)

    def _edit(self, noun: str, verb: str) -> Handler:
        title, kinds = _KINDS[noun]

        async def edit(request: web.Request) -> web.Response:
            account, token = bearer(self._world, request)
            args = _translated(noun, await arguments(request))
            id_ = request.match_info.get("id", "")
            if verb != "add":
                args["id"] = id_
                if _found(account, kinds, id_) is None:
                    raise not_found(title)
            made = self._do(account, token, f"{noun}_{verb}", args)
            if verb in {"close", "uncomplete", "delete"}:
                return web.Response(status=204)
            return answer(_found(account, kinds, made or id_))

        return edit

    def _do(self, account: Account, token: Token, type_: str, args: Json) -> str:
        """Carry one command out; gives the id of what it made, if it made something."""
        uuid = self._world.token()
        executed = self._world.execute(account, [{"type": type_, "uuid": uuid, "temp_id": uuid, "args": args}], token=token)
        status = executed.sync_status[uuid]
        if status != "ok":
            raise Refusal(status["http_code"], status["error_code"], status["error_tag"], status["error"], **status["error_extra"])
        return executed.temp_id_mapping.get(uuid, "")


def _found(account: Account, kinds: tuple[str, ...], id_: str) -> Json | None:
    return next((shown(kind, body) for kind in kinds if (body := account.find(kind, id_)) is not None), None)


def _translated(noun: str, asked: Json) -> Json:
    """Put REST's arguments into the commands' words."""
    args = {_RENAMED[noun].get(name, name): value for name, value in asked.items() if name != "id"}
    if noun == "item":
        _gather(args, "due", {"due_string": "string", "due_date": "date", "due_datetime": "date", "due_lang": "lang"})
        _gather(args, "deadline", {"deadline_date": "date", "deadline_lang": "lang"})
        if "duration" in args or "duration_unit" in args:
            if not args.get("duration") or not args.get("duration_unit"):
                raise invalid("duration", explanation="duration and duration_unit must be given together")
            args["duration"] = {"amount": args["duration"], "unit": args.pop("duration_unit")}
    return {name: value for name, value in args.items() if value is not None or name in _CLEARED_BY_NULL}


def _gather(args: Json, name: str, parts: Mapping[str, str]) -> None:
    """Put arguments that belong together into one; null ones take it away, except for the language."""
    given = {member: args.pop(part) for part, member in parts.items() if part in args}
    if given.keys() - {"lang"}:
        args[name] = {member: value for member, value in given.items() if value is not None}
        if args[name].keys() <= {"lang"}:
            args[name] = None
