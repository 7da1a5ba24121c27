"""How a verb asks the running daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from oo_client import Client
from oo_daemon.cli.call import Call

T = TypeVar("T")


def ask(call: Call, question: Callable[[Client], Awaitable[T]]) -> T:
    """Put a question to the daemon that has these settings, and give its answer."""

    async def asked() -> T:
        async with Client(call.settings.places.socket) as client:
            return await question(client)

    return asyncio.run(asked())
