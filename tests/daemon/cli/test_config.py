"""`oo config`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
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


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("[sinks.flie]\npath = '/x'", "[sinks.flie] is set, but no loaded plugin brings the sink flie. Choose one of file, http, nats,"),
        ("[sinks.file]\npath = '/x'\nrotat = 1", "[sinks.file] has no setting rotat. It has batch, "),
        ("[sinks.file]\npath = 3", "[sinks.file] is wrong (Expected `str`, got `int` - at `$.path`). See `oo config show`."),
        (
            "[sinks.web]\nkind = 'http'\nurl = 'https://a.example'\nsecrets_file = '{there}/none'",
            "[sinks.web] names a file in secrets_file that is not there. Make it, or correct the path.",
        ),
        ("[sinks.nats]\nsubject_key_file = '{there}/none'", "[sinks.nats] names a file in subject_key_file that is not there."),
        ("[connectors.todosit]\napi = 'x'", "[connectors.todosit] is set, but no loaded plugin brings the connector todosit."),
        ("[connectors.todoist]\nappi = 'x'", "todoist is set aside, [connectors.todoist] has no setting appi. It has "),
        ("[key_sources.nobody]\nkey = 'x'", "[key_sources.nobody] is set, but no loaded plugin brings the key source nobody."),
        (
            "[key_sources.transit]\naddress = 'https://a.example'\ntoken_file = '{there}/none'",
            "[key_sources.transit] names a file in token_file that is not there.",
        ),
    ],
)
def test_check_looks_into_the_tables_of_plugins(oo: Oo, tmp_path: Path, lines: str, says: str) -> None:
    """A name that nobody knows, a setting that there is not, a value that does not fit and a file that is missing, each with its remedy."""
    (tmp_path / "oo.toml").write_text(lines.format(there=tmp_path))
    result = oo("--config", str(tmp_path / "oo.toml"), "config", "check")
    assert (result.exit_code, result.stdout) == (78, "")
    assert says in result.stderr
    assert result.stderr.count("plugins: ") == 1, "nothing is said twice"
    assert str(tmp_path) not in result.stderr, "values are not repeated"
    (finding,) = (
        it for it in json.loads(oo("--config", str(tmp_path / "oo.toml"), "doctor", "--json").stdout)["findings"] if it["part"] == "plugins"
    )
    assert says.split(". ")[0].removesuffix(".") in finding["says"], "the doctor says it, too"


def test_check_says_of_a_plugin_what_it_says(oo: Oo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a reason names no remedy."""
    monkeypatch.setattr("oo_daemon.registry.amiss", lambda *_: iter(["acme is set aside, its hosts must be a list"]))
    result = oo("config", "check")
    assert result.exit_code == 78
    assert "acme is set aside, its hosts must be a list. See `oo plugins`." in result.stderr


def test_check_takes_tables_that_fit(oo: Oo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is there, one that systemd puts there when the service starts, and one that this user may not see are in order."""
    (tmp_path / "secrets").write_text("whsec_" + "QUJD" * 10)
    lines = [
        "[sinks.file]\npath = '/x'",
        f"[sinks.web]\nkind = 'http'\nurl = 'https://a.example'\nsecrets_file = '{tmp_path}/secrets'",
        "[sinks.nats]\nsubject_key_file = '/run/credentials/oo-integrations.service/subject'",
        "[connectors.todoist]\napi = 'https://a.example'",
    ]
    (tmp_path / "oo.toml").write_text("\n".join([*lines, "[sinks.more]\nkind = 'nats'\nsubject_key_file = '/closed/key'"]))
    there = Path.exists

    def exists(path: Path) -> bool:
        if path.is_relative_to("/closed"):
            raise PermissionError("not for you")
        return there(path)

    monkeypatch.setattr(Path, "exists", exists)
    result = oo("--config", str(tmp_path / "oo.toml"), "config", "check")
    assert (result.exit_code, "can be used" in result.stdout) == (0, True), result.stderr


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
