"""The reading half of REST: one object, or lists in pages. Changes go through sync."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

from aiohttp import web

from oo_todoist.sandbox.account import Account
from oo_todoist.sandbox.bearer import bearer
from oo_todoist.sandbox.misbehaviour import Misbehaviour
from oo_todoist.sandbox.refusals import invalid, missing, not_found
from oo_todoist.sandbox.wire import answer, dumps, loads
from oo_todoist.sandbox.world import World

Json = dict[str, Any]

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
            ("/tasks", self.tasks),
            ("/tasks/completed/{by:by_completion_date|by_due_date}", self.completed),
            ("/tasks/{id}", self._one("items", "Task")),
            ("/projects", self.projects),
            ("/projects/{id}", self._one("projects", "Project")),
            ("/sections", self.sections),
            ("/sections/{id}", self._one("sections", "Section")),
            ("/labels", self.labels),
            ("/labels/{id}", self._one("labels", "Label")),
            ("/comments", self.comments),
        ]
        return [web.get(f"/api/v1{path}", handler) for path, handler in get]

    async def user(self, request: web.Request) -> web.Response:
        """Give the user, with what only REST counts."""
        account, _ = bearer(self._world, request, "data:read")
        done = [item for item in account.every("items") if item["checked"]]
        today = self._world.now().astimezone(UTC).date().isoformat()
        counts = {"completed_count": len(done), "completed_today": sum(item["completed_at"][:10] == today for item in done)}
        return answer({**account.user, **counts})

    async def tasks(self, request: web.Request) -> web.Response:
        """List the active tasks."""
        return self._list(request, "items", "project_id", "section_id", "parent_id", "label", "ids")

    async def projects(self, request: web.Request) -> web.Response:
        """List the projects that are not archived."""
        return self._list(request, "projects")

    async def sections(self, request: web.Request) -> web.Response:
        """List the sections, of one project or of all."""
        return self._list(request, "sections", "project_id")

    async def labels(self, request: web.Request) -> web.Response:
        """List the personal labels."""
        return self._list(request, "labels")

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
            return item["checked"] and at is not None and since <= _utc(datetime.fromisoformat(at)) < until

        rounds = account.rounds if self._misbehaviour.take("completed_rounds", "rest") is not None else []
        found = sorted(filter(within, [*account.every("items"), *rounds]), key=lambda item: str(item["completed_at"]), reverse=True)
        return self._page(request, account, "items", found)

    def _one(self, kind: str, noun: str) -> Callable[[web.Request], Any]:
        async def one(request: web.Request) -> web.Response:
            account, _ = bearer(self._world, request, "data:read")
            body = account.find(kind, request.match_info["id"])
            if body is None:
                raise not_found(noun)
            return answer(_shown(kind, body))

        return one

    def _list(self, request: web.Request, kind: str, *filters: str) -> web.Response:
        account, _ = bearer(self._world, request, "data:read")
        asked = {name: request.query[name] for name in filters if name in request.query}
        ids = _listed(asked.pop("ids", None))
        label = asked.pop("label", None)
        found = [
            _shown(kind, body)
            for body in account.active()[kind]
            if all(body[name] == value for name, value in asked.items())
            and (label is None or label in body["labels"])
            and (ids is None or body["id"] in ids)
        ]
        return self._page(request, account, "results", found)

    def _page(self, request: web.Request, account: Account, member: str, found: Iterable[Json]) -> web.Response:
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


def _shown(kind: str, body: Json) -> Json:
    """Show an object as REST does; only a label differs, whose place is called `order`."""
    if kind != "labels":
        return body
    return {"order" if name == "item_order" else name: value for name, value in body.items() if name != "is_deleted"}


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
