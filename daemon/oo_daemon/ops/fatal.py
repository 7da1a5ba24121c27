"""What the daemon must not live on with: whoever meets it says so, and `oo run` ends with its exit code."""

from __future__ import annotations

import asyncio


class Fatal:
    """Heard by the main loop; may be told from any thread. The first to tell is believed."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Future[BaseException] = self._loop.create_future()

    def tell(self, error: BaseException) -> None:
        """Say what has happened."""
        self._loop.call_soon_threadsafe(self._take, error)

    def _take(self, error: BaseException) -> None:
        if not self._told.done():
            self._told.set_result(error)

    async def happened(self) -> BaseException:
        """Wait for it."""
        return await asyncio.shield(self._told)
