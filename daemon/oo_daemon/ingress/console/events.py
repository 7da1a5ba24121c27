"""Events: the outbox, newest first, and one event in full."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from oo_daemon.ingress.answers import Refused
from oo_daemon.ingress.console.connections import titles
from oo_daemon.ingress.console.page import number_in, page
from oo_daemon.ingress.tokens import needs
from oo_daemon.registry import Registry
from oo_daemon.store import outbox
from oo_daemon.store.outbox import Filter
from oo_daemon.store.storage import Storage

HERE = "/console/events"
ON_A_PAGE = 50
FILTERS = ("user", "provider", "type")


class EventPages(msgspec.Struct, frozen=True, kw_only=True):
    """The list, and one."""

    storage: Storage
    registry: Registry
    as_json: Callable[[bytes], dict[str, Any]]
    as_text: Callable[[bytes], str]  #: in protobuf's text form

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes."""
        return [web.get("/events", self.list), web.get("/events/{position}", self.show)]

    @needs("read")
    async def list(self, request: web.Request) -> web.Response:
        """Some, newest first."""
        given = {name: request.query.get(name, "").strip() for name in FILTERS}
        end = await self.storage.read(outbox.end)
        before = number_in(request.query.get("before", "")) or end.number + 1
        wanted = Filter(**{name: value or None for name, value in given.items()})
        found, reached = await self.storage.read(outbox.latest, before, ON_A_PAGE, wanted)
        kept = {name: value for name, value in given.items() if value}
        return page(
            request,
            "events.html",
            here=HERE,
            shown=[(position, self.as_json(body)) for position, body in found],
            titles=titles(self.registry),
            given=given,
            filtered=bool(kept),
            newest=before > end.number,
            first=before - 1,
            last=reached,
            further=f"{HERE}?{urlencode({**kept, 'before': reached})}" if reached else "",
        )

    @needs("read")
    async def show(self, request: web.Request) -> web.Response:
        """One in full."""
        stored = await self.storage.read(outbox.at, number_in(request.match_info["position"]))
        if stored is None:
            raise Refused(404, "not_found", "There is no event at this position.", "It may have been erased, or expired.")
        position, body = stored
        event = self.as_json(body)
        return page(
            request,
            "event.html",
            here=HERE,
            position=position,
            event=event,
            as_json=json.dumps(event, indent=2, ensure_ascii=False),
            as_text=self.as_text(body),
            titles=titles(self.registry),
        )
