"""Sources: the addresses that webhooks are posted to, their secrets, and a new one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from oo_daemon.connections.errors import Declined
from oo_daemon.connections.guest import sentence
from oo_daemon.connections.sources import Given, OpenSource, Sources, Wanted, sent_id
from oo_daemon.ingress.answers import Refused
from oo_daemon.ingress.api import Rehearse
from oo_daemon.ingress.asking import form_of
from oo_daemon.ingress.console.door import VISITOR
from oo_daemon.ingress.console.page import page, see
from oo_daemon.ingress.tokens import needs
from oo_daemon.ports import Clock
from oo_daemon.registry import Registry
from oo_daemon.store import connections
from oo_daemon.store.storage import Storage
from oo_sdk import ConnectorError, NoScheme
from oo_vault import Secret

HERE = "/console/sources"
#: What makes events of whatever is posted.
GENERIC = "webhook"


class SourcePages(msgspec.Struct, frozen=True, kw_only=True):
    """The list, one source, and its buttons."""

    storage: Storage
    sources: Sources
    registry: Registry
    rehearse: Rehearse
    as_json: Callable[[bytes], dict[str, Any]]
    clock: Clock

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes."""
        return [
            web.get("/sources", self.list),
            web.post("/sources", self.add),
            web.get("/sources/{id}", self.show),
            web.post("/sources/{id}/rotate", self.rotate),
            web.post("/sources/{id}/enable", self.enable),
            web.post("/sources/{id}/disable", self.disable),
            web.post("/sources/{id}/try", self.try_),
        ]

    @needs("read")
    async def list(self, request: web.Request) -> web.Response:
        """All of them, oldest first."""
        return self._listed(request)

    @needs("admin")
    async def add(self, request: web.Request) -> web.Response:
        """Make one; the page that answers is the only place where its secret is told."""
        form = {name: value for name, value in (await form_of(request)).items() if isinstance(value, str)}
        secret = form.get("secret", "")
        wanted = Wanted(
            name=form.get("name", "").strip(),
            user=form.get("user", "").strip(),
            provider=GENERIC,
            scheme=form.get("scheme", ""),
            changes={},
            options={},
            secret=Secret(secret) if secret else None,
        )
        if not (wanted.user and wanted.scheme):
            return self._listed(request, problem="Say whose events they become, and how the sender proves itself.", given=form)
        try:
            given = await self.sources.add(wanted)
        except Declined as declined:
            return self._listed(request, problem=f"{declined.message} {declined.remedy}", given=form)
        return self._shown(request, given.source, given=given)

    @needs("read")
    async def show(self, request: web.Request) -> web.Response:
        """One of them."""
        return self._shown(request, self._known(request))

    @needs("admin")
    async def rotate(self, request: web.Request) -> web.Response:
        """Give it a new secret; the old one is taken for another day."""
        known = self._known(request)
        secret = (await form_of(request)).get("secret", "")
        try:
            given = await self.sources.rotate(known.id, Secret(secret) if isinstance(secret, str) and secret else None)
        except Declined as declined:
            return self._shown(request, known, problem=f"{declined.message} {declined.remedy}")
        return self._shown(request, given.source, given=given)

    @needs("admin")
    async def enable(self, request: web.Request) -> web.Response:
        """Open it."""
        return await self._switch(request, True)

    @needs("admin")
    async def disable(self, request: web.Request) -> web.Response:
        """Close it: it looks like one that does not exist."""
        return await self._switch(request, False)

    @needs("admin")
    async def try_(self, request: web.Request) -> web.Response:
        """Say what a body would become, and how its sender would post it; nothing is kept."""
        known = self._known(request)
        typed = (await form_of(request)).get("body", "")
        typed = typed if isinstance(typed, str) else ""
        body = typed.encode("utf-8", "surrogatepass")
        try:
            events, problem = await self._becomes(known, body), ""
        except ConnectorError as refused:
            events, problem = [], f"It becomes no event: {sentence(refused)}."
        except Declined as declined:
            events, problem = [], f"{declined.message} {declined.remedy}"
        try:
            headers, unsigned = await self.sources.sample(known.id, body), ""
        except Declined as declined:
            headers, unsigned = {}, f"{declined.message} {declined.remedy}"
        tried = {"body": typed, "events": events, "headers": headers, "unsigned": unsigned}
        return self._shown(request, known, problem=problem, tried=tried)

    async def _becomes(self, known: OpenSource, body: bytes) -> Sequence[str]:
        connection = await self.storage.read(connections.by_id, known.connection) if known.connection is not None else None
        if connection is None:
            raise Declined("no_connection", "This address serves all users of a registration.", "Try one of a connection's own.")
        made = await self.rehearse(connection, {}, body, sent_id(known.scheme, {}, body) or "try")
        return [json.dumps(self.as_json(each), indent=2, ensure_ascii=False) for each in made]

    async def _switch(self, request: web.Request, enabled: bool) -> web.Response:
        known = self._known(request)
        await self.sources.enable(known.id, enabled)
        return see(f"{HERE}/{known.id}")

    def _known(self, request: web.Request) -> OpenSource:
        try:
            return self.sources.named(request.match_info["id"])
        except Declined:
            raise Refused(404, "not_found", "There is no such source.", "It may have been erased with its connection.") from None

    def _listed(self, request: web.Request, *, problem: str = "", given: Mapping[str, str] | None = None) -> web.Response:
        return page(
            request,
            "sources.html",
            here=HERE,
            status=409 if problem else 200,
            shown=[(each, state(each)) for each in self.sources.listed()],
            schemes=sorted(self.registry.schemes),
            problem=problem,
            given=given or {},
        )

    def _shown(
        self,
        request: web.Request,
        known: OpenSource,
        *,
        given: Given | None = None,
        problem: str = "",
        tried: Mapping[str, Any] | None = None,
    ) -> web.Response:
        told = given.secret if given is not None else known.shown_secret if request[VISITOR].operator else None
        return page(
            request,
            "source.html",
            here=HERE,
            status=409 if problem else 200,
            known=known,
            state=state(known),
            verified=not isinstance(known.scheme, NoScheme),
            own_secret=not isinstance(known.scheme, NoScheme) and known.scheme.key != "client_secret",
            secret=told.reveal() if told is not None else "",
            once=given is not None,
            now=self.clock.now(),
            problem=problem,
            tried=tried,
        )


def state(known: OpenSource) -> str:
    """How it stands, in a word."""
    return "waiting" if known.awaits_secret else "closed" if known.closed else "open"
