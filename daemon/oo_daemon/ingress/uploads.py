"""Uploads over the private API: tickets, files in pieces, how far they are."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from typing import Annotated, Any, Protocol

import msgspec
from aiohttp import web

from oo_daemon.connections.uploads import Held, Ticket
from oo_daemon.ingress.asking import answer, body_of, number_of, wait_of
from oo_daemon.ingress.connection import allow_body
from oo_daemon.ingress.tokens import needs
from oo_daemon.ingress.view import time
from oo_daemon.ports import Clock

#: Seconds that a whole file may take; its pace is held to the door's least all the while.
LONGEST_BODY = 24 * 3600.0
#: Bytes that are taken off the line at once.
PIECE = 256 * 1024
#: How often a request that waits looks again, in seconds.
LOOK = 0.2

Name = Annotated[str, msgspec.Meta(min_length=1)]


class NewUpload(msgspec.Struct, forbid_unknown_fields=True):
    """What somebody wants to hand in."""

    provider: str
    user: Name
    account: Name = "default"
    name: str = ""
    size: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Takes(Protocol):
    """Takes files in."""

    async def await_file(self, *, provider: str, user: str, account: str = "default", name: str = "", size: int | None = None) -> Ticket:
        """Make a ticket. Raises `Declined`."""

    async def held(self, id_: str) -> Held:
        """An upload. Raises `Declined`."""

    async def of_ticket(self, ticket: str) -> Held:
        """The upload that a ticket is for. Raises `Declined`."""

    async def listed(self, *, user: str | None = None) -> list[Held]:
        """The latest."""

    async def receive(
        self, held: Held, pieces: AsyncIterable[bytes], *, offset: int, name: str = "", size: int | None = None, whole: bool = False
    ) -> Held:
        """Write what comes at its place. Raises `Declined`."""

    async def cancel(self, held: Held) -> Held:
        """Stop it."""

    def endings(self, provider: str) -> tuple[str, ...]:
        """How the names of the files end that a provider's connector takes."""

    def kept(self, provider: str) -> tuple[str, ...]:
        """What a provider's connector stores and what for, in sentences."""


class UploadRoutes(msgspec.Struct, frozen=True, kw_only=True):
    """Uploads."""

    uploads: Takes
    clock: Clock

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes."""
        return [
            web.get("/v1/uploads", self.list_uploads),
            web.post("/v1/uploads", self.await_upload),
            web.get("/v1/uploads/{id}", self.show_upload),
            web.delete("/v1/uploads/{id}", self.cancel_upload),
            web.put("/v1/uploads/{id}/file", self.send_upload),
        ]

    @needs("read")
    async def list_uploads(self, request: web.Request) -> web.Response:
        """Newest first."""
        return answer({"uploads": [_shown(held) for held in await self.uploads.listed(user=request.query.get("user"))]})

    @needs("connect")
    async def await_upload(self, request: web.Request) -> web.Response:
        """Give a ticket, as an address."""
        body = await body_of(request, NewUpload)
        ticket = await self.uploads.await_file(provider=body.provider, user=body.user, account=body.account, name=body.name, size=body.size)
        shown = {"upload": _shown(ticket.held), "url": ticket.url, "expires_at": time(ticket.held.upload.expires_at)}
        return answer(shown, status=201)

    @needs("read")
    async def show_upload(self, request: web.Request) -> web.Response:
        """How far it is, after some waiting if that was asked for."""
        deadline = self.clock.monotonic() + wait_of(request)
        while True:
            held = await self.uploads.held(request.match_info["id"])
            if held.upload.ended or self.clock.monotonic() >= deadline:
                return answer(_shown(held))
            await self.clock.sleep(LOOK)

    @needs("connect")
    async def cancel_upload(self, request: web.Request) -> web.Response:
        """Stop it."""
        return answer(_shown(await self.uploads.cancel(await self.uploads.held(request.match_info["id"]))))

    @needs("connect", noted=False)
    async def send_upload(self, request: web.Request) -> web.Response:
        """Take a part of the file."""
        allow_body(request, within=LONGEST_BODY)
        held = await self.uploads.held(request.match_info["id"])
        offset = int(number_of(request, "offset", default=0, lowest=0, highest=2**53))
        held = await self.uploads.receive(held, request.content.iter_chunked(PIECE), offset=offset)
        return answer(_shown(held))


def _shown(held: Held) -> dict[str, Any]:
    upload, connection = held.upload, held.connection
    return {
        "id": upload.id,
        "connection": connection.id,
        "user": connection.user,
        "provider": connection.provider,
        "account": connection.account,
        "state": upload.state,
        "reason": upload.reason,
        "name": upload.name,
        "size": upload.size,
        "received": upload.received,
        "done": upload.done,
        "records": upload.records,
        "events": upload.events,
        "kinds": {type_: {"records": kind.records, "events": kind.events} for type_, kind in upload.kinds.items()},
        "created_at": time(upload.created_at),
        "began_at": time(upload.began_at),
        "finished_at": time(upload.finished_at),
    }
