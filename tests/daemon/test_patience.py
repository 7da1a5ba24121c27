"""Patience: waits that end, by one timer."""

from __future__ import annotations

import asyncio

import pytest

from oo_daemon.patience import Patience

#: So long that no test gets there, and so short that none waits for it.
LONG, SHORT = 60.0, 0.02


async def test_a_wait_ends() -> None:
    """Who waits too long is told so, and is not cancelled for good."""
    patience = Patience(SHORT)
    with pytest.raises(TimeoutError), patience:
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    with patience:
        await asyncio.sleep(0)


async def test_what_is_in_time_is_left_alone() -> None:
    """Of many that wait only those end that are late, each by its own time; and whoever is done is not touched."""
    patience, let = Patience(SHORT), asyncio.Event()

    async def wait(event: asyncio.Event) -> str:
        try:
            with patience:
                await event.wait()
        except TimeoutError:
            return "late"
        return "in time"

    quick = [asyncio.create_task(wait(let)) for _ in range(3)]
    slow = [asyncio.create_task(wait(asyncio.Event())) for _ in range(3)]
    await asyncio.sleep(0)
    let.set()
    assert await asyncio.gather(*quick) == ["in time"] * 3
    later = asyncio.create_task(wait(asyncio.Event()))
    assert await asyncio.gather(*slow, later) == ["late"] * 4


async def test_who_is_cancelled_is_cancelled() -> None:
    """A wait that somebody else ends is not taken for one that was too long, nor is a fault."""
    patience = Patience(LONG)

    async def wait() -> None:
        with patience:
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ZeroDivisionError), patience:
        raise ZeroDivisionError
