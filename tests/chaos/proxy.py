"""A TCP proxy that does to connections what networks do: it cuts, resets, half-closes, delays and refuses them."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

#: Bytes that are taken at once.
PORTION = 65_536
#: Has a close be a reset: nothing more is sent, and what was not is thrown away.
AT_ONCE = struct.pack("ii", 1, 0)


@dataclass(eq=False, slots=True)
class _Link:
    """One connection: the client's end of it, and the server's."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter


@dataclass(slots=True, kw_only=True)
class Proxy:
    """Stands before a port of loopback."""

    to: int
    port: int = 0  #: of the proxy
    delay: float = 0.0  #: seconds for which each portion is kept, both ways
    refuses: bool = False  #: takes a connection, and closes it
    served: int = 0
    _links: set[_Link] = field(default_factory=set)

    def cut(self) -> int:
        """Close all connections, both ends; gives how many there were."""
        links = list(self._links)
        for link in links:
            link.client.close()
            link.server.close()
        return len(links)

    def reset(self) -> int:
        """Reset all connections."""
        links = list(self._links)
        for link in links:
            _reset(link.client)
            _reset(link.server)
        return len(links)

    def half_close(self) -> int:
        """Have clients see the end of what the server says, while the server hears them on."""
        links = list(self._links)
        for link in links:
            _end(link.client)
        return len(links)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self.refuses:
            client.close()
            return
        try:
            answers, server = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            _reset(client)
            return
        link = _Link(client, server)
        self._links.add(link)
        self.served += 1
        try:
            await asyncio.gather(self._carry(reader, server), self._carry(answers, client))
        finally:
            self._links.discard(link)
            client.close()
            server.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, RuntimeError):  # the latter where it was half closed
            while portion := await reader.read(PORTION):
                if self.delay:
                    await asyncio.sleep(self.delay)
                if writer.is_closing():
                    return
                writer.write(portion)
                await writer.drain()
        _end(writer)


def _end(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        if not writer.is_closing() and writer.can_write_eof():
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    writer.transport.abort()


@asynccontextmanager
async def proxy(to: int) -> AsyncIterator[Proxy]:
    """A proxy before this port, on a port of its own."""
    made = Proxy(to=to)
    door = await asyncio.start_server(made._serve, "127.0.0.1", 0)
    made.port = door.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.refuses = True
        door.close()
        made.cut()
        while made._links:
            await asyncio.sleep(0)
