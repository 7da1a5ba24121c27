"""An app's backend that is called by webhooks."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Json = dict[str, Any]


@dataclass
class Receiver:
    """Keeps what it was sent; answers with the prepared statuses first, and 200 from then on."""

    url: str
    statuses: list[int] = field(default_factory=list)
    calls: list[tuple[dict[str, str], bytes]] = field(default_factory=list)  #: headers and body of each
    called: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def names(self) -> list[str]:
        """What happened, in the order it was told."""
        return [json.loads(body)["event_name"] for _, body in self.calls]

    @property
    def told(self) -> list[Json]:
        """The objects, in the order they were told."""
        return [json.loads(body)["event_data"] for _, body in self.calls]

    @property
    def ids(self) -> list[str]:
        """The delivery ids, in the order they came."""
        return [headers["X-Todoist-Delivery-ID"] for headers, _ in self.calls]

    async def take(self, request: web.Request) -> web.Response:
        """Take one delivery."""
        self.calls.append((dict(request.headers), await request.read()))
        self.called.set()
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200, headers={"Location": self.url})


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Serve a receiver on a free port of the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        receiver = Receiver(f"http://127.0.0.1:{door.getsockname()[1]}/webhooks/todoist")
        app = web.Application()
        app.router.add_post("/webhooks/todoist", receiver.take)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        await web.SockSite(runner, door).start()
        try:
            yield receiver
        finally:
            await runner.cleanup()
