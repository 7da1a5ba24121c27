"""The reading half of REST: one object, or lists in pages."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

from aiohttp import web

from oo_todoist.sandbox.account import Account
from oo_todoist.sandbox.bearer import bearer
from oo_todoist.sandbox.misbehaviour import Misbehaviour
from oo_todoist.sandbox.queries import task_filter
from oo_todoist.sandbox.refusals import invalid, missing, not_found
from oo_todoist.sandbox.wire import answer, dumps, loads
from oo_todoist.sandbox.world import World

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.Response]]

PAGE, LARGEST_PAGE = 50, 200

#: the longest span of a question for completed tasks, by the date that is asked for
SPANS = {"by_completion_date": timedelta(days=92), "by_due_date": timedelta(weeks=6)}


class Rest:
    """REST reading for one world."""

    def __init__(self, world: World, misbehaviour: Misbehaviour) -> None:
        self._world = world
        self._misbehaviour = misbehaviour
        self._key = world.token().encode()[:64]

    def routes(self) -> list[web.RouteDef]:
        """Give the routes; completed tasks before the task of any id."""
        get = [
            ("/user", self.user),
            ("/tasks", self._list("items", "project_id", "section_id", "parent_id")),
            ("/tasks/filter", self.filtered),
            ("/tasks/completed/{by:by_completion_date|by_due_date}", self.completed),
            ("/completed/search", self.completed_search),
            ("/tasks/{id}", self._one("Task", "items")),
            ("/projects", self._list("projects")),
            ("/projects/search", self._search("projects")),
            ("/projects/archived", self.archived),
            ("/projects/{id}", self._one("Project", "projects")),
            ("/projects/{id}/collaborators", self.collaborators),
            ("/sections", self._list("sections", "project_id")),
            ("/sections/search", self._search("sections", "project_id")),
            ("/sections/{id}", self._one("Section", "sections")),
            ("/labels", self._list("labels")),
            ("/labels/search", self._search("labels")),
            ("/labels/shared", self.shared_labels),
            ("/labels/{id}", self._one("Label", "labels")),
            ("/comments", self.comments),
            ("/comments/{id}", self._one("Comment", "notes", "project_notes")),
            ("/reminders", self._list("reminders", task_id="item_id")),
            ("/reminders/{id}", self._one("Reminder", "reminders")),
        ]
        return [web.get(f"/api/v1{path}", handler) for path, handler in get]

    async def user(self, request: web.Request) -> web.Response:
        """Give the user, with what only REST counts."""
        account, _ = bearer(self._world, request, "data:read")
        done = [item for item in account.every("items") if item["checked"]]
        today = self._world.now().astimezone(UTC).date().isoformat()
        counts = {"completed_count": len(done), "completed_today": sum(item["completed_at"][:10] == today for item in done)}
        return answer({**account.user, **counts})

    async def filtered(self, request: web.Request) -> web.Response:
        """List the active tasks that a filter such as "today & @errand" finds."""
        account, _ = bearer(self._world, request, "data:read")
        if "query" not in request.query:
            raise missing("query")
        finds = task_filter(request.query["query"], account, self._world.now())
        return self._page(request, account, "results", (item for item in account.active()["items"] if finds(item)))

    async def archived(self, request: web.Request) -> web.Response:
        """List the archived projects."""
        account, _ = bearer(self._world, request, "data:read")
        return self._page(request, account, "results", (body for body in account.every("projects") if body["is_archived"]))

    async def collaborators(self, request: web.Request) -> web.Response:
        """List those with whom a project is shared: nobody, here."""
        account, _ = bearer(self._world, request, "data:read")
        if account.find("projects", request.match_info["id"]) is None:
            raise not_found("Project")
        return self._page(request, account, "results", [])

    async def shared_labels(self, request: web.Request) -> web.Response:
        """List the names of the labels that tasks carry, with or without those that are personal labels too."""
        account, _ = bearer(self._world, request, "data:read")
        names = {name for body in account.active()["items"] for name in body["labels"]}
        if request.query.get("omit_personal", "").lower() == "true":
            names -= {body["name"] for body in account.every("labels")}
        return self._page(request, account, "results", sorted(names))

    async def comments(self, request: web.Request) -> web.Response:
        """List the comments of a task or of a project."""
        owners = [name for name in ("task_id", "project_id") if name in request.query]
        if len(owners) != 1:
            raise missing("task_id")
        kind, owner = ("notes", "item_id") if owners == ["task_id"] else ("project_notes", "project_id")
        account, _ = bearer(self._world, request, "data:read")
        found = [note for note in account.active()[kind] if note[owner] == request.query[owners[0]]]
        return self._page(request, account, "results", found)

    async def completed(self, request: web.Request) -> web.Response:
        """List completed tasks between two moments; these pages say `items` where all others say `results`."""
        account, _ = bearer(self._world, request, "data:read")
        by = request.match_info["by"]
        since, until = _moment(request, "since"), _moment(request, "until")
        if until - since > SPANS[by]:
            raise invalid("until", expected=f"Input should be at most {SPANS[by].days} days after since")

        def within(item: Json) -> bool:
            at = item["completed_at"] if by == "by_completion_date" else (item["due"] or {}).get("date")
            return bool(item["checked"]) and at is not None and since <= _utc(datetime.fromisoformat(at)) < until

        asked = {name: request.query[name] for name in ("project_id", "section_id", "parent_id") if name in request.query}
        rounds = account.rounds if self._misbehaviour.take("completed_rounds", "rest") is not None else []
        done: list[Json] = [*account.every("items"), *rounds]
        done.sort(key=lambda item: str(item["completed_at"]), reverse=True)
        return self._page(request, account, "items", [item for item in done if within(item) and _has(item, asked)])

    async def completed_search(self, request: web.Request) -> web.Response:
        """List the completed tasks in whose content a text occurs."""
        account, _ = bearer(self._world, request, "data:read")
        found = [item for item in account.every("items") if item["checked"] and _occurs(request, item["content"])]
        return self._page(request, account, "items", found)

    def _one(self, noun: str, *kinds: str) -> Handler:
        async def one(request: web.Request) -> web.Response:
            account, _ = bearer(self._world, request, "data:read")
            for kind in kinds:
                if (body := account.find(kind, request.match_info["id"])) is not None:
                    return answer(shown(kind, body))
            raise not_found(noun)

        return one

    def _list(self, kind: str, *filters: str, **renamed: str) -> Handler:
        """List what is active, as far as it has the members asked for; `renamed` ones are called otherwise in the objects."""
        members = {**dict(zip(filters, filters, strict=True)), **renamed}

        async def listed(request: web.Request) -> web.Response:
            account, _ = bearer(self._world, request, "data:read")
            asked = {member: request.query[name] for name, member in members.items() if name in request.query}
            ids, label = _listed(request.query.get("ids")), request.query.get("label")
            found = [
                shown(kind, body)
                for body in account.active()[kind]
                if _has(body, asked)
                and (kind != "items" or ((label is None or label in body["labels"]) and (ids is None or body["id"] in ids)))
            ]
            return self._page(request, account, "results", found)

        return listed

    def _search(self, kind: str, *filters: str) -> Handler:
        """List what is active and has a text in its name."""

        async def searched(request: web.Request) -> web.Response:
            account, _ = bearer(self._world, request, "data:read")
            asked = {name: request.query[name] for name in filters if name in request.query}
            found = [shown(kind, body) for body in account.active()[kind] if _has(body, asked) and _occurs(request, body["name"])]
            return self._page(request, account, "results", found)

        return searched

    def _page(self, request: web.Request, account: Account, member: str, found: Iterable[object]) -> web.Response:
        """Give the page that a cursor points at. Cursors are a user's own and hold for the same question only."""
        limit = _limit(request.query.get("limit"))
        question = sorted((name, value) for name, value in request.query.items() if name not in {"cursor", "limit"})
        scope = dumps([account.id, request.path, question])
        bodies = list(found)
        start = self._start(request.query.get("cursor"), scope)
        if self._misbehaviour.take("empty_pages", "rest") is not None:
            return answer({member: [], "next_cursor": self._cursor(start, scope)})
        end = start + limit
        return answer({member: bodies[start:end], "next_cursor": self._cursor(end, scope) if end < len(bodies) else None})

    def _cursor(self, start: int, scope: bytes) -> str:
        place = urlsafe_b64encode(dumps({"start": start})).rstrip(b"=")
        return f"{place.decode()}.{self._seal(place, scope)}"

    def _start(self, cursor: str | None, scope: bytes) -> int:
        if not cursor:
            return 0
        place, _, seal = cursor.partition(".")
        if not hmac.compare_digest(seal.encode(), self._seal(place.encode(), scope).encode()):
            raise invalid("cursor")
        start: int = loads(urlsafe_b64decode(place + "=" * (-len(place) % 4)))["start"]
        return start

    def _seal(self, place: bytes, scope: bytes) -> str:
        return blake2b(place + b"\0" + scope, key=self._key, digest_size=8).hexdigest()


def shown(kind: str, body: Json) -> Json:
    """Show an object as REST does; only a label differs, whose place is called `order`."""
    if kind != "labels":
        return body
    return {"order" if name == "item_order" else name: value for name, value in body.items() if name != "is_deleted"}


def _has(body: Json, asked: Json) -> bool:
    return all(body[name] == value for name, value in asked.items())


def _occurs(request: web.Request, text: str) -> bool:
    """Say whether the text that is searched for occurs in this one, in whatever case."""
    if not request.query.get("query"):
        raise missing("query")
    return request.query["query"].lower() in text.lower()


def _listed(text: str | None) -> list[str] | None:
    """Read a list in a query: JSON, as the official TypeScript client writes it, or separated by commas."""
    if text is None or not text.startswith("["):
        return text if text is None else text.split(",")
    try:
        return [str(each) for each in loads(text)]
    except (ValueError, RecursionError):
        raise invalid("ids", expected="Input should be a valid list") from None


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE
    if not text.isascii() or not text.isdigit():
        raise invalid("limit", expected="Input should be a valid integer, unable to parse string as an integer")
    if len(text) > 9 or int(text) > LARGEST_PAGE:
        raise invalid("limit", expected=f"Input should be less than or equal to {LARGEST_PAGE}")
    if int(text) < 1:
        raise invalid("limit", expected="Input should be greater than 0")
    return int(text)


def _moment(request: web.Request, name: str) -> datetime:
    if name not in request.query:
        raise missing(name)
    try:
        return _utc(datetime.fromisoformat(request.query[name]))
    except ValueError:
        raise invalid(name, expected="Input should be a valid datetime") from None


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
