"""The ledger of seconds at the end of a run, also where two processes share the tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SUITE = """
import pytest

@pytest.mark.rows("A1", "B12")
def test_both() -> None: ...

@pytest.mark.rows("A1")
@pytest.mark.parametrize("number", range(5))
def test_each(number: int) -> None: ...

def test_none() -> None: ...
"""


@pytest.mark.timeout(300)
def test_what_each_requirement_cost(tmp_path: Path) -> None:
    """Each test is booked once under each of its requirements, whichever process ran it."""
    (tmp_path / "test_some.py").write_text(SUITE)
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "xdist.plugin",
            "-p",
            "conftest",
            "-n",
            "2",
            "--rootdir",
            str(tmp_path),
            "test_some.py",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OO_TEST_PATIENCE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    booked = re.findall(r"^ +(\w+) +[\d.]+ s +(\d+) tests$", run.stdout, re.MULTILINE)
    assert booked == [("A1", "6"), ("B12", "1")]
