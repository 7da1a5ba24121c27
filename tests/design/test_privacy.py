"""What docs/privacy.md promises is held by tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "privacy.md").read_text()


def test_the_tests_that_are_named_exist() -> None:
    """Each promise names its tests, and each of them is there."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 25
    for file, test in named:
        assert re.search(rf"def {test}\(", (ROOT / file).read_text()), f"{file} has no {test}"
    rows = [line for line in PAGE.splitlines() if "::" in line]
    assert len(rows) > 14
    assert all(re.fullmatch(r"\| .+ \| (`tests/[\w/]+\.py::\w+`(, )?)+ \|", row) for row in rows)
