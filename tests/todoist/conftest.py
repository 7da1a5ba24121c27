from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REALDATA = Path(__file__).parents[3] / "shared" / "realdata" / "todoist"


@pytest.fixture
def real() -> Callable[[str], Any]:
    """Read a body that the real Todoist or its documentation produced."""
    if not REALDATA.is_dir():
        pytest.skip("the recorded bodies of the real Todoist are not here (../shared/realdata/todoist)")
    return lambda name: json.loads((REALDATA / f"{name}.json").read_text())
