from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from todoist.sandbox.visitor import Visitor, visiting

REALDATA = Path(__file__).parents[4] / "shared" / "realdata" / "todoist"


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


@pytest.fixture
def real() -> Callable[[str], Any]:
    """Read a body that the real Todoist or its documentation produced."""
    if not REALDATA.is_dir():
        pytest.skip("the recorded bodies of the real Todoist are not here (../shared/realdata/todoist)")
    return lambda name: json.loads((REALDATA / f"{name}.json").read_text())
