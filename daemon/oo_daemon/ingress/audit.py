"""Noting what administrators do, and showing what was noted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from oo_daemon.ingress.answers import Refused
from oo_daemon.ingress.asking import answer, number_of
from oo_daemon.ingress.peers import caller
from oo_daemon.ingress.tokens import is_noted, needs
from oo_daemon.ingress.view import time
from oo_daemon.store.audit import Entry

MOST = 1000


class Verdict(Protocol):
    """What a look over the chain found."""

    @property
    def entries(self) -> int:
        """How many there are."""

    @property
    def whole(self) -> bool:
        """Nothing was changed or cut."""

    @property
    def says(self) -> str:
        """What is wrong, and where."""

    @property
    def head(self) -> str:
        """The last link."""


class Notes(Protocol):
    """The audit log."""

    async def note(self, who: str, act: str, about: str, status: int) -> None:
        """Add what was done."""

    async def listed(self, limit: int) -> list[Entry]:
        """The latest entries, newest first."""

    async def verify(self, head: str = "") -> Verdict:
        """Look over all of it."""


def audited(notes: Notes) -> Middleware:
    """The middleware of the private doors: whatever changes something is noted, also where it was refused."""

    @web.middleware
    async def noting(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.http_exception is not None or not is_noted(request.match_info.handler, request.method):
            return await handler(request)
        return await noted(notes, request, handler, who=caller, about=_about(request))

    return noting


async def noted(
    notes: Notes, request: web.Request, handler: Handler, *, who: Callable[[web.Request], str], about: str
) -> web.StreamResponse:
    """Do it, and note what came of it: an answer, a refusal, or a fault of ours. `who` is asked afterwards: a door may lie behind."""
    status = 500
    try:
        response = await handler(request)
        status = response.status
        return response
    except Refused as refused:
        status = refused.status
        raise
    finally:
        route = request.match_info.route.resource
        await notes.note(who(request), f"{request.method} {route.canonical if route else '?'}", about, status)


def _about(request: web.Request) -> str:
    route = request.match_info.route.resource
    path = route.canonical if route else ""
    if "user" in request.match_info:
        return f"user {request.match_info['user']}"
    of_one = path.startswith(("/v1/connections/{id}", "/console/connections/{id}"))
    return f"connection {request.match_info['id']}" if of_one else ""


class AuditRoutes(msgspec.Struct, frozen=True, kw_only=True):
    """Two."""

    notes: Notes

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes."""
        return [web.get("/v1/audit", self.list_entries), web.get("/v1/audit/verdict", self.verify)]

    @needs("admin")
    async def list_entries(self, request: web.Request) -> web.Response:
        """The latest, newest first."""
        limit = int(number_of(request, "limit", default=100, lowest=1, highest=MOST))
        return answer({"entries": [_shown(each) for each in await self.notes.listed(limit)]})

    @needs("admin")
    async def verify(self, request: web.Request) -> web.Response:
        """Whether anything was changed or cut."""
        found = await self.notes.verify(request.query.get("head", "").replace(" ", "").lower())
        return answer({"entries": found.entries, "whole": found.whole, "says": found.says, "head": found.head})


def _shown(entry: Entry) -> dict[str, Any]:
    done = entry.done
    return {
        "number": entry.number,
        "at": time(done.at),
        "who": done.who,
        "act": done.act,
        "about": entry.stands_for or done.subject,
        "status": done.status,
    }
