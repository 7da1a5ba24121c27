"""The console put together: for one private door, everything behind /console."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from aiohttp import web

from oo_daemon.connections.budgets import Budgets
from oo_daemon.connections.disconnect import Disconnect
from oo_daemon.connections.keys import Keys
from oo_daemon.connections.sources import Sources
from oo_daemon.identity.person import CannotTell, NotSignedIn, NotVouched
from oo_daemon.ingress import pages
from oo_daemon.ingress.answers import console_application
from oo_daemon.ingress.api import Rehearse, in_its_words
from oo_daemon.ingress.asking import form_of
from oo_daemon.ingress.console.connections import ConnectionPages
from oo_daemon.ingress.console.door import COOKIE, VISITOR, Door, keep, open_to_all
from oo_daemon.ingress.console.events import EventPages
from oo_daemon.ingress.console.house import HousePages
from oo_daemon.ingress.console.inbox import InboxPages
from oo_daemon.ingress.console.live import Live
from oo_daemon.ingress.console.overview import OverviewPages
from oo_daemon.ingress.console.page import POLICY, page, see
from oo_daemon.ingress.console.sources import SourcePages
from oo_daemon.ingress.health import Looks
from oo_daemon.ingress.privacy import Erases
from oo_daemon.ingress.proving import SignsIn
from oo_daemon.ingress.tokens import ASKS_ITSELF, Tokens
from oo_daemon.ports import Chance, Clock
from oo_daemon.registry import Registry
from oo_daemon.store.storage import Storage
from oo_daemon.strikes import Strikes
from oo_sdk import Log

#: What a browser keeps while it is at the issuer.
_KEPT: Final = "oo-signing-in"


class Console(msgspec.Struct, frozen=True, kw_only=True):
    """What the console needs of the hub."""

    storage: Storage
    registry: Registry
    strikes: Strikes
    tokens: Tokens
    sources: Sources
    keys: Keys
    disconnect: Disconnect
    budgets: Budgets
    erasures: Erases
    health: Looks
    wake: Callable[[], None]  #: has the jobs that were just queued done at once
    arrived: Callable[[], None]  #: has deliveries worked on at once
    rehearse: Rehearse  #: says what a delivery would become
    as_json: Callable[[bytes], dict[str, Any]]
    as_text: Callable[[bytes], str]
    clock: Clock
    chance: Chance
    log: Log
    issuer: SignsIn | None = None  #: where operators and viewers may sign in

    def add_to(self, private: web.Application, *, trusts: bool) -> None:
        """Serve it on a private door; one that `trusts` has asked already who comes."""
        door = Door(tokens=self.tokens, clock=self.clock, chance=self.chance, trusts=trusts)
        moving = Live(door=door, clock=self.clock)
        rooms = (
            OverviewPages(moving=moving, storage=self.storage, registry=self.registry, health=self.health, clock=self.clock),
            ConnectionPages(
                storage=self.storage,
                registry=self.registry,
                disconnect=self.disconnect,
                budgets=self.budgets,
                erasures=self.erasures,
                wake=self.wake,
                as_json=self.as_json,
                clock=self.clock,
            ),
            SourcePages(
                storage=self.storage,
                sources=self.sources,
                registry=self.registry,
                rehearse=self.rehearse,
                as_json=self.as_json,
                clock=self.clock,
            ),
            InboxPages(moving=moving, storage=self.storage, arrived=self.arrived, clock=self.clock),
            EventPages(storage=self.storage, registry=self.registry, as_json=self.as_json, as_text=self.as_text),
            HousePages(
                registry=self.registry,
                strikes=self.strikes,
                keys=self.keys,
                health=self.health,
                erasures=self.erasures,
                clock=self.clock,
            ),
        )
        app = console_application(log=self.log)
        app.middlewares.extend([in_its_words, door.middleware()])
        app.add_routes([*_Entrance(door, None if trusts else self.issuer).routes(), *(route for room in rooms for route in room.routes())])
        app.on_shutdown.append(moving.close)
        app[ASKS_ITSELF] = True
        private.add_subapp("/console", app)


class _Entrance(msgspec.Struct, frozen=True):
    """Signing in and out, and what pages are made with."""

    door: Door
    issuer: SignsIn | None

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [
            web.get("", self.front),
            web.get("/sign-in", self.ask),
            web.post("/sign-in", self.sign_in),
            web.post("/sign-in/issuer", self.to_issuer),
            web.get("/sign-in/callback", self.from_issuer, allow_head=False),
            web.post("/sign-out", self.sign_out),
            web.get("/style.css", self.style),
            web.get("/live.js", self.script),
        ]

    @open_to_all
    async def front(self, request: web.Request) -> web.Response:
        return see("/console/")

    @open_to_all
    async def ask(self, request: web.Request) -> web.Response:
        if request[VISITOR].name:
            return see("/console/")
        return await self._asked(request)

    async def _asked(self, request: web.Request, *, refused: str = "", status: int = 200) -> web.Response:
        """The page on which one signs in; `refused` says what of the last try was not taken."""
        host = "" if self.issuer is None else self.issuer.host
        response = page(request, "sign_in.html", here="", refused=refused, issuer=host, status=status)
        if self.issuer is not None:
            with suppress(CannotTell):  # a token opens the console all the same
                response.headers["Content-Security-Policy"] = POLICY.replace(
                    "form-action 'self'", f"form-action 'self' {await self.issuer.origin()}"
                )
        return response

    @open_to_all
    async def to_issuer(self, request: web.Request) -> web.Response:
        if self.issuer is None:
            raise web.HTTPNotFound
        try:
            begun = await self.issuer.begin(f"http://{request.host}/console/sign-in/callback", purpose="the console")
        except CannotTell:
            return await self._asked(request, refused="issuer", status=503)
        response = see(begun.address)
        # Lax: with Strict the browser would not send it when it comes back from the issuer's pages.
        response.set_cookie(_KEPT, begun.kept, path="/console/sign-in", httponly=True, samesite="Lax", max_age=600)
        return response

    @open_to_all
    async def from_issuer(self, request: web.Request) -> web.Response:
        if self.issuer is None:
            raise web.HTTPNotFound
        try:
            person, _ = await self.issuer.finish(request.cookies.get(_KEPT, ""), dict(request.query), purpose="the console")
            value = self.door.let_in(person)
            refused = "role"
        except (NotVouched, NotSignedIn):
            value, refused = None, "person"
        except CannotTell:
            value, refused = None, "issuer"
        if value is None:
            response = await self._asked(request, refused=refused, status=401)
        else:
            self.door.sign_out(request)
            # A page, and no redirect: what begins at the issuer's pages would reach the console without its strict cookie.
            response = page(request, "signed_in.html", here="")
            keep(response, value)
        response.del_cookie(_KEPT, path="/console/sign-in", httponly=True, samesite="Lax")
        return response

    @open_to_all
    async def sign_in(self, request: web.Request) -> web.Response:
        token = (await form_of(request)).get("token", "")
        value = await self.door.sign_in(token) if isinstance(token, str) else None
        if value is None:
            return await self._asked(request, refused="token", status=401)
        self.door.sign_out(request)
        response = see("/console/")
        keep(response, value)
        return response

    @open_to_all
    async def sign_out(self, request: web.Request) -> web.Response:
        self.door.sign_out(request)
        response = see("/console/sign-in")
        response.del_cookie(COOKIE, path="/console")
        return response

    @open_to_all
    async def style(self, request: web.Request) -> web.Response:
        return _kept(pages.stylesheet(), "text/css")

    @open_to_all
    async def script(self, request: web.Request) -> web.Response:
        return _kept(pages.script(), "text/javascript")


def _kept(body: bytes, kind: str) -> web.Response:
    headers = {"Cache-Control": "private, max-age=86400"}  # the pages name a version, so a new one is fetched at once
    return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)
