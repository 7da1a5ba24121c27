"""`oo import`."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
from client.fake_daemon import FakeDaemon
from daemon.cli.conftest import Oo


def test_a_file_is_sent_and_its_import_told(oo: Oo, daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts, each at its place; then the summary."""
    monkeypatch.setattr(import_module("oo_daemon.cli.import"), "PART", 2)
    file = tmp_path / "export.zip"
    file.write_bytes(b"12345")
    ended = oo("import", "apple-health", str(file), "--user", "ada")
    assert ended.exit_code == 0
    assert "apple_health.step_count" in ended.stdout
    assert "1\u2009200 records, 3 of them new" in ended.stdout
    assert [each.query["offset"] for each in daemon.asked("PUT /v1/uploads/{id}/file")] == ["0", "2", "4"]
    assert "export.zip" in oo("import", "--list").stdout


def test_one_that_failed(oo: Oo, daemon: FakeDaemon, tmp_path: Path) -> None:
    """The reason is what the person reads, and the exit says that it was not done."""
    daemon.imported = {"state": "failed", "reason": "The zip file is damaged: export it again."}
    file = tmp_path / "export.zip"
    file.write_bytes(b"12345")
    ended = oo("import", "apple-health", str(file), "--user", "ada")
    assert (ended.exit_code, "export it again" in ended.stderr) == (1, True)


def test_a_link_for_the_person(oo: Oo, daemon: FakeDaemon) -> None:
    """Without a file there is a page; it can be cancelled; and what makes no sense is said."""
    assert "/import/one-use" in oo("import", "apple-health", "--user", "ada").stdout
    assert json.loads(oo("import", "--cancel", "u-1", "--json").stdout)["state"] == "cancelled"
    assert oo("import", "apple-health").exit_code == 2
