"""The proxy does to connections what it says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from chaos.proxy import Proxy, proxy


@pytest.fixture
async def before_echo() -> AsyncIterator[Proxy]:
    """A proxy before a server that says what it hears, and `bye` when it hears no more."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while said := await reader.read(100):
                writer.write(said)
                await writer.drain()
            writer.write(b"bye")
        except OSError:
            pass
        writer.close()

    door = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with proxy(door.sockets[0].getsockname()[1]) as made:
        yield made
    door.close()


async def connected(made: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    return reader, writer


async def test_it_carries(before_echo: Proxy) -> None:
    """Both ways, to the end of what a client says and the answer to that."""
    reader, writer = await connected(before_echo)
    writer.write_eof()
    assert await reader.read() == b"bye"
    writer.close()


async def test_it_cuts_and_resets(before_echo: Proxy) -> None:
    """A cut is an end, a reset an error; later connections are well."""
    reader, writer = await connected(before_echo)
    assert before_echo.cut() == 1
    assert await reader.read() == b""
    writer.close()
    reader, writer = await connected(before_echo)
    assert before_echo.reset() == 1
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    _, writer = await connected(before_echo)
    writer.close()


async def test_it_half_closes(before_echo: Proxy) -> None:
    """The client hears nothing more, and the server hears on."""
    reader, writer = await connected(before_echo)
    assert before_echo.half_close() == 1
    assert await reader.read() == b""
    writer.write(b"x")
    await writer.drain()
    writer.close()


async def test_it_delays_and_refuses(before_echo: Proxy) -> None:
    """What is delayed comes late and whole; who is refused is told nothing."""
    before_echo.delay = 0.05
    began = time.monotonic()
    _, writer = await connected(before_echo)
    assert time.monotonic() - began >= 0.1  # there and back
    writer.close()
    before_echo.delay, before_echo.refuses = 0.0, True
    reader, writer = await asyncio.open_connection("127.0.0.1", before_echo.port)
    assert await reader.read() == b""
    writer.close()
