"""`oo config`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from daemon.cli.conftest import Oo

import oo_config


def test_check(oo: Oo, tmp_path: Path) -> None:
    """Good settings are said to be good, and where they came from."""
    (tmp_path / "oo.toml").write_text("[sync]\ninterval = 60\nworkers = 2\n")
    result = oo("--config", str(tmp_path / "oo.toml"), "config", "check")
    total = len(list(oo_config.describe()))
    assert result.output == (f"The settings can be used: 2 from {tmp_path}/oo.toml, 1 from OO_PLACES_STATE, {total - 3} by default.\n")
    assert oo("config", "check", "--quiet").output == ""


def test_check_tells_every_problem(oo: Oo, tmp_path: Path) -> None:
    """All problems are told at once, with exit code 78 and nothing on standard output."""
    (tmp_path / "oo.toml").write_text("[sync]\nintervall = 60\nworkers = 0\n")
    result = oo("--config", str(tmp_path / "oo.toml"), "config", "check")
    assert (result.exit_code, result.stdout) == (78, "")
    assert "sync.intervall" in result.stderr
    assert "sync.workers" in result.stderr


def test_a_missing_file(oo: Oo, tmp_path: Path) -> None:
    """A file that was named and is not there is a problem of the settings, also for other verbs."""
    assert oo("--config", str(tmp_path / "none.toml"), "config", "check").exit_code == 78
    assert oo("--config", str(tmp_path / "none.toml"), "connections").exit_code == 78


def test_show(oo: Oo, tmp_path: Path) -> None:
    """Every setting is shown with its value and where it came from, a connector's value only as set."""
    environ = {"OO_SYNC_WORKERS": "3", "OO_CONNECTORS__TODOIST__API": "https://canary.example"}
    said = json.loads(oo("config", "show", "--json", **environ).stdout)["settings"]
    by_name = {it["setting"]: it for it in said}
    assert by_name["sync.workers"] == {"setting": "sync.workers", "value": "3", "origin": "OO_SYNC_WORKERS"}
    assert by_name["sync.batch"]["origin"] == "default"
    table = oo("config", "show", **environ).stdout
    assert table.splitlines()[0].split() == ["Setting", "Value", "From"]
    assert len(table.splitlines()) == len(said) + 1
    assert "canary" not in table


def test_example(oo: Oo) -> None:
    """The example is TOML that names every setting."""
    text = oo("config", "example").stdout
    tomllib.loads(text)
    assert all(f"#{it.key} = " in text for it in oo_config.describe())
