"""`oo erase`, `oo erasures` and `oo export`."""

from __future__ import annotations

import json
from pathlib import Path

from client.fake_daemon import FakeDaemon
from daemon.cli.conftest import Oo


def test_it_shows_a_receipt(oo: Oo, daemon: FakeDaemon) -> None:
    """What the provider was told, what went, who has read of it."""
    ended = oo("erase", "--user", "ada", "--yes")
    assert ended.exit_code == 0
    for words in ("done", "outbox 7", "nothing is left", "reader (2026", "Not yet read by", "slow", "remove oO at Todoist", "Last tried"):
        assert words in ended.stdout
    assert len(daemon.asked("DELETE /v1/users/{user}")) == 1


def test_it_asks_first(oo: Oo, daemon: FakeDaemon) -> None:
    """Without a terminal to ask at, nothing is erased."""
    assert oo("erase", "--user", "ada").exit_code == 2
    assert oo("erase", "--yes").exit_code == 2
    assert oo("erase", "--user", "ada", "--connection", "c", "--yes").exit_code == 2
    assert daemon.erasures == []


def test_the_list_and_one_of_it(oo: Oo, daemon: FakeDaemon) -> None:
    """A table, one as a receipt, and JSON for programs."""
    assert "Nothing was asked" in oo("erasures").stdout
    oo("erase", "--connection", "c-7f3a", "--yes", "--quiet")
    assert "e-0" in oo("erasures").stdout
    assert json.loads(oo("erasures", "--json").stdout)["erasures"][0]["id"] == "e-0"
    assert "Not to be found since" in oo("erasures", "e-0").stdout
    assert "Taken back at the provider" not in oo("erasures", "e-0").stdout
    daemon.erasures[0]["cause"] = "withdrawn"
    assert "Taken back at the provider  2026-11-22" in oo("erasures", "e-0").stdout


def test_export_writes_a_file_that_only_its_owner_reads(oo: Oo, daemon: FakeDaemon, tmp_path: Path) -> None:
    """And never over one that is there."""
    path = tmp_path / "ada.zip"
    assert oo("export", "--user", "ada", "--to", str(path)).exit_code == 0
    assert (path.read_bytes()[:2], path.stat().st_mode & 0o777) == (b"PK", 0o600)
    ended = oo("export", "--user", "ada", "--to", str(path))
    assert (ended.exit_code, "--to" in ended.stderr) == (1, True)
