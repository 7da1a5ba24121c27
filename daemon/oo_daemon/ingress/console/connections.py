"""Connections: all of them, one of them, and what can be done to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import msgspec
from aiohttp import web

from oo_daemon.connections import pause
from oo_daemon.connections.budgets import Budgets
from oo_daemon.connections.disconnect import Disconnect
from oo_daemon.connections.errors import Declined
from oo_daemon.ingress import pages
from oo_daemon.ingress.answers import Refused
from oo_daemon.ingress.asking import form_of
from oo_daemon.ingress.console.overview import STATES
from oo_daemon.ingress.console.page import number_in, page, see
from oo_daemon.ingress.privacy import Erases
from oo_daemon.ingress.tokens import needs
from oo_daemon.ports import Clock
from oo_daemon.registry import Registry
from oo_daemon.store import connections, jobs, outbox, runs, schedule, subscriptions
from oo_daemon.store.connections import Connection, State
from oo_daemon.store.schedule import Schedule
from oo_daemon.store.storage import Storage

HERE = "/console/connections"
ON_A_PAGE = 50
RUNS = 20
EVENTS = 20
ACTIONS = 10
#: What is said after something was done.
DONE = {
    "sync": "A sync begins now. Load the page again in a moment to see how it ended.",
    "pause": "It is paused: nothing is fetched and nothing is changed there until you resume it.",
    "resume": "It goes on from where it was.",
    "disconnect": "It is being disconnected. What the provider said stands below once it has answered.",
}


class ConnectionPages(msgspec.Struct, frozen=True, kw_only=True):
    """The list, one connection, and its buttons."""

    storage: Storage
    registry: Registry
    disconnect: Disconnect
    budgets: Budgets
    erasures: Erases
    wake: Callable[[], None]  #: has the jobs that were just queued done at once
    as_json: Callable[[bytes], dict[str, Any]]
    clock: Clock

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes."""
        return [
            web.get("/connections", self.list),
            web.get("/connections/{id}", self.show),
            web.post("/connections/{id}/sync", self.sync),
            web.post("/connections/{id}/pause", self.pause),
            web.post("/connections/{id}/resume", self.resume),
            web.post("/connections/{id}/disconnect", self.end),
            web.post("/connections/{id}/erase", self.erase),
        ]

    @needs("read")
    async def list(self, request: web.Request) -> web.Response:
        """Some of them, oldest first."""
        query = request.query
        state = query.get("state") or None
        if state is not None and state not in get_args(State):
            state = None
        after, words = number_in(query.get("after", "")), query.get("words", "").strip()
        found = await self.storage.read(connections.page, after=after, limit=ON_A_PAGE + 1, state=state, words=words)
        shown = found[:ON_A_PAGE]
        return page(
            request,
            "connections.html",
            here=HERE,
            shown=shown,
            titles=titles(self.registry),
            states=STATES,
            state=state or "",
            words=words,
            after=after,
            more=shown[-1].number if len(found) > ON_A_PAGE else 0,
        )

    @needs("read")
    async def show(self, request: web.Request) -> web.Response:
        """One of them."""
        return await self._shown(request, done=DONE.get(request.query.get("done", ""), ""))

    @needs("admin")
    async def sync(self, request: web.Request) -> web.Response:
        """Sync now."""

        async def due(known: Connection) -> None:
            if known.state != "active":
                words = known.state.replace("_", " ")
                raise Declined("not_active", f"The connection is {words}.", known.reason or "Resume it, or have it signed in again.")
            await self.storage.write(schedule.due_now, known.number, self.clock.now())

        return await self._do(request, "sync", due)

    @needs("admin")
    async def pause(self, request: web.Request) -> web.Response:
        """Stop it for a while."""

        async def stop(known: Connection) -> None:
            await self.storage.write(pause.pause, known.number, self.clock.now())

        return await self._do(request, "pause", stop)

    @needs("admin")
    async def resume(self, request: web.Request) -> web.Response:
        """Let it go on."""

        async def go_on(known: Connection) -> None:
            await self.storage.write(pause.resume, known.number, self.clock.now())

        return await self._do(request, "resume", go_on)

    @needs("admin")
    async def end(self, request: web.Request) -> web.Response:
        """Give its grant back."""

        async def give_back(known: Connection) -> None:
            await self.disconnect.begin(known)
            self.wake()

        return await self._do(request, "disconnect", give_back)

    @needs("admin")
    async def erase(self, request: web.Request) -> web.Response:
        """Erase it, once its user's name was typed."""
        known = await self._known(request)
        typed = str((await form_of(request)).get("name", "")).strip()
        if typed != known.user:
            problem = "Nothing was erased: what you typed is not the name of its user. Type it exactly as it stands there."
            return await self._shown(request, problem=problem, typed=typed, status=409)
        erasure = await self.erasures.of_connection(known)
        return see(f"/console/erasures?begun={erasure.id}")

    async def _do(self, request: web.Request, name: str, act: Callable[[Connection], Any]) -> web.Response:
        known = await self._known(request)
        try:
            await act(known)
        except Declined as declined:
            return await self._shown(request, problem=f"{declined.message} {declined.remedy}".strip(), status=409)
        return see(f"{HERE}/{known.id}?done={name}")

    async def _shown(self, request: web.Request, *, done: str = "", problem: str = "", typed: str = "", status: int = 200) -> web.Response:
        known, now = await self._known(request), self.clock.now()
        found = await self.storage.read(_all_of, known, now)
        connector = self.registry.connectors.get(known.provider)
        sentences: Mapping[str, str] = {scope.id: scope.sentence for scope in connector.scopes} if connector else {}
        events = [(position, self.as_json(body)) for position, body in found["events"]]
        values = {
            **found,
            "events": events,
            "scopes": [sentences.get(scope, scope) for scope in known.scopes],
            "budgets": await self.budgets.left(connector, known) if connector else [],
            "timetable": _timetable(found["planned"]),
            "signs_in": connector is None or connector.auth is not None,
        }
        return page(
            request,
            "connection.html",
            here=HERE,
            status=status,
            known=known,
            now=now,
            titles=titles(self.registry),
            states=STATES,
            done=done,
            problem=problem,
            typed=typed,
            **values,
        )

    async def _known(self, request: web.Request) -> Connection:
        known = await self.storage.read(connections.by_id, request.match_info["id"])
        if known is None:
            raise Refused(404, "not_found", "There is no such connection.", "It may have been erased.")
        return known


def titles(registry: Registry) -> dict[str, str]:
    """What people call each provider."""
    return {connector.id: connector.title for connector in registry.connectors.values()}


def _timetable(planned: Schedule | None) -> str:
    """When it is synced, where that was said for it alone."""
    if planned is None or planned.timetable is None:
        return ""
    told = msgspec.json.decode(planned.timetable)
    return f"every {pages.span(told['every'])}" if told.get("every") else f"at {told['cron']} in {told['zone']}"


def _all_of(database: Any, known: Connection, now: int) -> dict[str, Any]:
    return {
        "planned": schedule.of(database, known.number, now),
        "runs": runs.listed(database, connection=known.number, limit=RUNS),
        "subscriptions": [each for each in subscriptions.of(database, known.number) if each.state != "ended"],
        "subscriber": subscriptions.subscriber(database, known.number),
        "actions": jobs.newest(database, "act", known.number, ACTIONS),
        "revoking": jobs.latest(database, "revoke", known.number) if known.state in {"revoking", "disconnected"} else None,
        "events": outbox.of_connection(database, known.number, EVENTS),
    }
