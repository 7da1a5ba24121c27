"""Erasing and handing out, over the private API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
from aiohttp import web

from oo_daemon.ingress.answers import Refused
from oo_daemon.ingress.asking import answer, wait_of
from oo_daemon.ingress.tokens import needs
from oo_daemon.ingress.view import time
from oo_daemon.ports import Clock
from oo_daemon.store import connections, consumers
from oo_daemon.store.connections import Connection
from oo_daemon.store.erasures import Erasure, Part
from oo_daemon.store.storage import Storage

#: How often a request that waits looks again, in seconds.
LOOK = 0.2


class Erases(Protocol):
    """Takes erasures."""

    async def of_user(self, user: str) -> Erasure:
        """Erase everything of a user."""

    async def of_connection(self, connection: Connection) -> Erasure:
        """Erase one connection."""

    async def status(self, id_: str) -> Erasure:
        """How far one is. Raises `Declined`."""

    async def listed(self) -> list[Erasure]:
        """The latest ones."""

    async def tick(self) -> None:
        """Go on with them now."""


class NewVisit(Protocol):
    """A visit whose link is told once."""

    @property
    def id(self) -> str:
        """Its id, for a ticket."""

    @property
    def url(self) -> str:
        """The link."""

    @property
    def expires_at(self) -> int:
        """When the link runs out."""


class OpensVisits(Protocol):
    """Gives links to people's own pages."""

    async def open(self, user: str) -> NewVisit:
        """Give one. Raises `Declined`."""


class PrivacyRoutes(msgspec.Struct, frozen=True, kw_only=True):
    """Erasures, exports, and the link by which people get at both by themselves."""

    storage: Storage
    on_file: bool  #: the database is a file, which is packed
    erasures: Erases
    export: Callable[[str], Awaitable[Path]]  #: everything of a user, as a zip file that the caller removes
    visits: OpensVisits
    clock: Clock

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes."""
        return [
            web.delete("/v1/users/{user}", self.erase_user),
            web.get("/v1/users/{user}/export", self.export_user),
            web.post("/v1/users/{user}/visits", self.open_visit),
            web.post("/v1/connections/{id}/erase", self.erase_connection),
            web.get("/v1/erasures", self.list_erasures),
            web.get("/v1/erasures/{id}", self.show_erasure),
        ]

    @needs("admin")
    async def erase_user(self, request: web.Request) -> web.Response:
        """202: from now on nothing new of this user is emitted."""
        return answer(await self._shown(await self.erasures.of_user(request.match_info["user"])), status=202)

    @needs("admin")
    async def erase_connection(self, request: web.Request) -> web.Response:
        """Likewise, for one connection."""
        connection = await self.storage.read(connections.by_id, request.match_info["id"])
        if connection is None:
            raise Refused(404, "not_found", "There is no such connection.", "See `oo connections`.")
        return answer(await self._shown(await self.erasures.of_connection(connection)), status=202)

    @needs("read")
    async def list_erasures(self, request: web.Request) -> web.Response:
        """Newest first."""
        return answer({"erasures": [await self._shown(each) for each in await self.erasures.listed()]})

    @needs("read")
    async def show_erasure(self, request: web.Request) -> web.Response:
        """How far it is, after some waiting if that was asked for."""
        deadline = self.clock.monotonic() + wait_of(request)
        while True:
            found = await self.erasures.status(request.match_info["id"])
            if found.state == "done" or self.clock.monotonic() >= deadline:
                return answer(await self._shown(found))
            await self.clock.sleep(LOOK)

    @needs("admin", noted=True)
    async def export_user(self, request: web.Request) -> web.StreamResponse:
        """Everything of a user, as a zip file."""
        return await sent(await self.export(request.match_info["user"]), request)

    # Takes `admin`, as what can be done there does: where nobody must prove who they are, whoever has the link is the person.
    @needs("admin")
    async def open_visit(self, request: web.Request) -> web.Response:
        """Give a one-use link to a user's own page."""
        visit = await self.visits.open(request.match_info["user"])
        return answer({"id": visit.id, "url": visit.url, "expires_at": time(visit.expires_at)}, status=201)

    async def _shown(self, erasure: Erasure) -> dict[str, Any]:
        told = {} if erasure.tombstone is None else await self.storage.read(consumers.known_by, erasure.created_at)
        return _receipt(erasure, {**dict.fromkeys(told), **erasure.acks}, on_file=self.on_file)


async def sent(path: Path, request: web.Request, *, name: str = "") -> web.StreamResponse:
    """Hand out an export, which is gone after that. `name` is what the file is to be called."""
    with path.open("rb") as file:
        path.unlink()  # noqa: ASYNC240 - quick; it lives as long as it is open
        kept_as = "attachment" + (f'; filename="{name}"' if name else "")
        response = web.StreamResponse(headers={"Content-Type": "application/zip", "Content-Disposition": kept_as})
        await response.prepare(request)
        while part := file.read(256 * 1024):
            await response.write(part)
        await response.write_eof()
    return response


def _receipt(erasure: Erasure, readers: Mapping[str, int | None], *, on_file: bool) -> dict[str, Any]:
    return {
        "id": erasure.id,
        "kind": erasure.kind,
        "cause": erasure.cause,
        "state": erasure.state,
        "waits_for": _waits_for(erasure),
        "connections": [_part(part) for part in erasure.parts],
        "erased": dict(erasure.counts),
        "physical": "pending" if erasure.physical_at is None else "done" if on_file else "server",
        "consumers": {name: time(at) for name, at in sorted(readers.items())},
        "created_at": time(erasure.created_at),
        "erased_at": None if erasure.erased_at is None else time(erasure.erased_at),
        "finished_at": None if erasure.finished_at is None else time(erasure.finished_at),
    }


def _part(part: Part) -> dict[str, Any]:
    told: Mapping[str, str] = part.revocation
    return {
        "connection": part.id,
        "provider": part.provider,
        "state": "done" if part.ended else "pending",
        "revoked": told.get("revoked", "pending"),
        "reason": told.get("reason", ""),
        "tried_at": time(part.tried_at),
        "remains": told.get("remains", ""),
        "manual_url": told.get("manual_url", ""),
    }


def _waits_for(erasure: Erasure) -> str:
    if erasure.state != "waiting":
        return ""
    providers = sorted({part.provider for part in erasure.parts if not part.ended})
    if providers:
        return f"{', '.join(providers)} to be told; that is tried for a day"
    return "the last grants to be given back, or the file to be packed"
