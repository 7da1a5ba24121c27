"""The audit of what users install: what it makes of what it is told."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from design.audit import judged, main

WELL: dict[str, Any] = {"name": "one", "version": "1.0", "vulns": []}
ILL: dict[str, Any] = {"name": "two", "version": "2.0", "vulns": [{"id": "GHSA-1", "fix_versions": ["2.1"]}]}
UNKNOWN: dict[str, Any] = {"name": "three", "skip_reason": "not found"}


@pytest.mark.rows("A25")
def test_only_what_is_known_stops() -> None:
    """An advisory is an error and is named; what could not be asked about is said, and stops nobody; nor does no answer at all."""
    assert judged({"dependencies": [WELL]}) == (0, ["1 packages audited"])
    code, lines = judged({"dependencies": [WELL, ILL, UNKNOWN]})
    assert code == 1
    assert lines[0] == "two 2.0: GHSA-1, repaired in 2.1"
    assert lines[1].startswith("NOT AUDITED: 1 of the packages")
    code, lines = judged({"dependencies": [UNKNOWN]})
    assert (code, lines[0][:11]) == (0, "NOT AUDITED")
    code, lines = judged(None)
    assert (code, lines[0][:18]) == (0, "NOT AUDITED: all o")


def test_a_program_that_breaks_is_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What pip-audit says without JSON, as it does without a network, is told as nothing audited."""
    program = tmp_path / "pip-audit"
    program.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    assert main(str(program), "requirements.txt") == 0
    assert "NOT AUDITED" in capsys.readouterr().err
