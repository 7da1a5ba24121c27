"""Parts of pages that move: the server sends a part whole, whenever it is another (server-sent events)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from oo_daemon.ingress.console.door import Door
from oo_daemon.ports import Clock

#: Seconds between two looks of a page that is open.
EVERY = 2.0


@dataclass(slots=True, kw_only=True, eq=False)
class Live:
    """The pages that are open."""

    door: Door
    clock: Clock
    _closing: bool = False

    async def close(self, app: web.Application) -> None:
        """Let open pages go: the daemon stops."""
        self._closing = True

    async def stream(self, request: web.Request, part: Callable[[], Awaitable[str]]) -> web.StreamResponse:
        """Send a part for as long as the visitor may look."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        await response.prepare(request)
        told, waited = "", 0.0
        while not self._closing and await self.door.still(request):
            now = await part()
            lines = "".join(f"data: {line}\n" for line in now.splitlines())
            await response.write(f"{lines}\n".encode() if now != told else b":\n\n")
            told, waited = now, 0.0
            while waited < EVERY and not self._closing:
                await self.clock.sleep(EVERY / 4)
                waited += EVERY / 4
        return response
