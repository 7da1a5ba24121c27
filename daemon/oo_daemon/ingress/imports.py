"""The page on which a person hands in a file, and sees what became of it.

Whoever has the address can hand in that one file; it shows nothing but the upload. Without JavaScript it is a form, and the page looks
again by itself; with it, the file is sent in parts that a broken line or a restart does not lose.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from typing import Any

import msgspec
from aiohttp import BodyPartReader, web

from oo_daemon.connections.errors import Declined
from oo_daemon.connections.uploads import Held
from oo_daemon.ingress import pages
from oo_daemon.ingress.answers import GUARDS, refused
from oo_daemon.ingress.asking import answer, well_formed
from oo_daemon.ingress.connection import allow_body
from oo_daemon.ingress.uploads import LONGEST_BODY, PIECE, Takes

_POLICY = GUARDS["Content-Security-Policy"] + "; script-src 'self'; connect-src 'self'"


class ImportPages(msgspec.Struct, frozen=True, kw_only=True):
    """The page, and what its script asks."""

    uploads: Takes

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes of the public door."""
        return [
            web.get("/import.js", self.script),
            web.get("/import/{ticket}", self.page),
            web.post("/import/{ticket}", self.take_form),
            web.get("/import/{ticket}/progress", self.progress),
            web.put("/import/{ticket}/file", self.take_part),
            web.post("/import/{ticket}/cancel", self.cancel),
        ]

    async def script(self, request: web.Request) -> web.Response:
        """The page's script."""
        headers = {"Cache-Control": "public, max-age=86400"}  # the page names a version, so a new one is fetched at once
        return web.Response(body=pages.import_script(), content_type="text/javascript", charset="utf-8", headers=headers)

    async def page(self, request: web.Request) -> web.Response:
        """How far it is."""
        try:
            held = await self.uploads.of_ticket(request.match_info["ticket"])
        except Declined:
            return _page(pages.link_gone(), status=404)
        return self._shown(request, held)

    async def take_form(self, request: web.Request) -> web.Response:
        """The file as a form sends it: whole, or it is sent again."""
        allow_body(request, within=LONGEST_BODY)
        held = await self._held(request)
        if not request.content_type.startswith("multipart/"):
            raise refused(400)
        async for part in _parts(request):
            if part.name == "file" and part.filename:
                try:
                    await self.uploads.receive(held, _pieces(part), offset=0, name=part.filename, whole=True)
                except Declined as declined:
                    return self._shown(
                        request, await self._held(request), problem=f"{declined.message} {declined.remedy}".strip(), status=409
                    )
                break
        else:
            return self._shown(request, held, problem="No file was chosen. Choose one, then press the button again.", status=400)
        raise web.HTTPSeeOther(f"/import/{request.match_info['ticket']}")

    async def take_part(self, request: web.Request) -> web.Response:
        """A part of the file, as the script sends it."""
        allow_body(request, within=LONGEST_BODY)
        held = await self._held(request)
        try:
            offset, size = int(request.query["offset"]), int(request.query["size"])
        except (KeyError, ValueError):
            raise refused(400) from None
        try:
            held = await self.uploads.receive(
                held, request.content.iter_chunked(PIECE), offset=offset, name=request.query.get("name", ""), size=size
            )
        except Declined as declined:
            response = answer({"says": f"{declined.message} {declined.remedy}".strip(), **_progress(await self._held(request))}, status=409)
            response.force_close()
            return response
        return answer(_progress(held))

    async def progress(self, request: web.Request) -> web.Response:
        """How far it is, for the script."""
        return answer(_progress(await self._held(request)))

    async def cancel(self, request: web.Request) -> web.Response:
        """Stop it."""
        await self.uploads.cancel(await self._held(request))
        raise web.HTTPSeeOther(f"/import/{request.match_info['ticket']}")

    async def _held(self, request: web.Request) -> Held:
        try:
            return await self.uploads.of_ticket(request.match_info["ticket"])
        except Declined:
            raise refused(404) from None

    def _shown(self, request: web.Request, held: Held, *, problem: str = "", status: int = 200) -> web.Response:
        upload = held.upload
        html = pages.import_(
            here=f"/import/{request.match_info['ticket']}",
            provider=held.title,
            user=held.connection.user,
            endings=self.uploads.endings(held.connection.provider),
            kept=self.uploads.kept(held.connection.provider),
            state=upload.state,
            name=upload.name,
            size=upload.size,
            received=upload.received,
            done=upload.done,
            records=upload.records,
            events=upload.events,
            reason=upload.reason,
            problem=problem,
            kinds=[
                pages.Kind(type=type_.partition(".")[2], records=kind.records, events=kind.events, months=kind.months)
                for type_, kind in sorted(upload.kinds.items(), key=lambda item: -item[1].records)
            ],
        )
        return _page(html, status=status)


async def _parts(request: web.Request) -> AsyncIterable[BodyPartReader]:
    with well_formed():
        reader = await request.multipart()
    while True:
        with well_formed():
            part = await reader.next()
        if part is None:
            return
        if isinstance(part, BodyPartReader):
            yield part


async def _pieces(part: BodyPartReader) -> AsyncIterable[bytes]:
    while True:
        with well_formed():
            piece = await part.read_chunk(PIECE)
        if not piece:
            return
        yield piece


def _progress(held: Held) -> dict[str, Any]:
    upload = held.upload
    return {
        "state": upload.state,
        "name": upload.name,
        "size": upload.size,
        "received": upload.received,
        "done": upload.done,
        "records": upload.records,
        "events": upload.events,
    }


def _page(html: str, *, status: int = 200) -> web.Response:
    return web.Response(text=html, status=status, content_type="text/html", headers={"Content-Security-Policy": _POLICY})
