"""Doors on real sockets, opened and closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web
from daemon.ingress.wire import QUICK, Dial, Notebook, Open, Wire

from oo_daemon.ingress.server import Listening, listen_tcp


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def open_door(stack: AsyncExitStack) -> Open:
    """Opens doors on free ports of 127.0.0.1 and closes them in the end."""

    async def opened(app: web.Application, **how: Any) -> Listening:
        listening = await listen_tcp(app, host="127.0.0.1", port=0, **{"limits": QUICK, **how})
        stack.push_async_callback(listening.close)
        return listening

    return opened


@pytest.fixture
def dial(stack: AsyncExitStack) -> Dial:
    """Opens raw connections and closes them in the end, before the doors."""

    async def dialled(listening: Listening) -> Wire:
        if listening.port is None:
            reader, writer = await asyncio.open_unix_connection(listening.address.removeprefix("unix:"))
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
        stack.callback(writer.close)
        return Wire(reader, writer)

    return dialled
