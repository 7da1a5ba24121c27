from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from todoist.sandbox.visitor import Visitor, visiting


@pytest.fixture
async def stranger() -> AsyncIterator[Visitor]:
    """Somebody with a fresh sandbox and no token."""
    async with visiting() as visitor:
        yield visitor


@pytest.fixture
async def ada(stranger: Visitor) -> Visitor:
    """Ada, signed in with every scope of tasks and projects."""
    await stranger.sign_in()
    return stranger
