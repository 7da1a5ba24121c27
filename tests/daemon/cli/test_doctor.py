"""`oo doctor`: each part is looked at, and each finding says what to do."""

from __future__ import annotations

import json
import socket
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from client.fake_daemon import FakeDaemon
from daemon.cli.conftest import Oo

from oo_daemon.store.storage import open_database

#: The module: the package's attribute of that name is its command.
doctor = import_module("oo_daemon.cli.doctor")


def findings(oo: Oo, *more: str, **environ: str) -> tuple[int, dict[str, dict[str, Any]]]:
    ended = oo("doctor", "--json", *more, **environ)
    return ended.exit_code, {each["part"]: each for each in json.loads(ended.stdout)["findings"]}


def test_an_installation_that_is_well(oo: Oo, daemon: FakeDaemon, tmp_path: Path) -> None:
    """Everything is there, and the daemon is well."""
    assert oo("vault", "init").exit_code == 0
    open_database(tmp_path / "oo.sqlite3").close()
    (tmp_path / "backups").mkdir()
    (tmp_path / "backups" / "oo-20261122T093000Z-1-7.backup").write_bytes(b"")
    tmp_path.chmod(0o700)
    code, found = findings(oo)
    assert code == 0
    assert {part: each["says"] for part, each in found.items() if each["state"] != "well"} == {}
    assert {"settings", "folder", "key", "database", "backups", "plugins", "daemon: database"} <= set(found)


def test_what_is_missing_is_said(oo: Oo, tmp_path: Path) -> None:
    """A fresh machine: each finding names the command that helps, and the daemon that does not run is broken."""
    code, found = findings(oo)
    assert code == 1
    assert "oo vault init" in found["key"]["says"]
    assert "oo run" in found["database"]["says"]
    assert (found["daemon"]["state"], "oo run" in found["daemon"]["says"]) == ("broken", True)


def test_what_is_broken_is_said(oo: Oo, daemon: FakeDaemon, tmp_path: Path) -> None:
    """A key that others may read and a file that is no database."""
    assert oo("vault", "init").exit_code == 0
    (tmp_path / "root.key").chmod(0o644)
    (tmp_path / "oo.sqlite3").write_bytes(b"no database at all" * 500)
    code, found = findings(oo)
    assert code == 1
    assert (found["key"]["state"], "root.key" in found["key"]["says"]) == ("broken", True)
    assert (found["database"]["state"], "damaged" in found["database"]["says"]) == ("broken", True)


@pytest.mark.parametrize("status", ["warning", "failing"])
def test_what_the_daemon_says_of_itself(oo: Oo, daemon: FakeDaemon, status: str) -> None:
    """Its parts are findings, too."""
    daemon.health["disk"] = {"status": status, "says": "less than 512 MiB are left"}
    _, found = findings(oo)
    assert found["daemon: disk"] == {
        "part": "daemon: disk",
        "state": {"warning": "worth a look", "failing": "broken"}[status],
        "says": "less than 512 MiB are left",
    }


def test_settings_that_do_not_hold(oo: Oo) -> None:
    """They are the first finding and the only one."""
    code, found = findings(oo, OO_SYNC_BATCH="many")
    assert (code, list(found)) == (1, ["settings"])


def test_the_public_address(oo: Oo, daemon: FakeDaemon) -> None:
    """An address that nobody answers at is broken, and plain http is worth a word."""
    _, found = findings(oo, "--public", OO_PUBLIC_PORT="9")
    assert found["public address"]["state"] == "broken"
    assert "public.url" in found["TLS"]["says"]
    assert found["redirect addresses"]["state"] in {"well", "broken"}


def test_a_public_address_that_says_nothing(oo: Oo, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """A door that opens and never answers is broken, and not a reason to wait."""
    monkeypatch.setattr(doctor, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _, found = findings(oo, "--public", OO_PUBLIC_PORT=str(silent.getsockname()[1]))
    assert found["public address"]["state"] == "broken"
    assert "cannot be reached" in found["public address"]["says"]


def test_a_database_of_a_newer_version(oo: Oo, tmp_path: Path) -> None:
    """What keeps the daemon from starting is said, and the way out."""
    database = open_database(tmp_path / "oo.sqlite3")
    database.rows("INSERT INTO migration (number, name) VALUES (9999, 'from the future')")
    database.close()
    code, found = findings(oo)
    assert (code, found["database"]["state"]) == (1, "broken")
    assert "install the newer version again, or restore a backup" in found["database"]["says"]


def test_traces(oo: Oo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they are made, whether somebody takes them, and what is not installed."""
    assert findings(oo)[1]["traces"] == {"part": "traces", "state": "well", "says": "None are made."}
    with socket.create_server(("127.0.0.1", 0)) as collector:
        where = f"127.0.0.1:{collector.getsockname()[1]}"
        assert findings(oo, OO_TRACES_ENDPOINT=f"http://{where}/v1/traces")[1]["traces"]["state"] == "well"
    found = findings(oo, OO_TRACES_ENDPOINT=f"http://{where}/v1/traces")[1]["traces"]
    assert (found["state"], where in found["says"]) == ("worth a look", True)
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    found = findings(oo, OO_TRACES_ENDPOINT=f"http://{where}/v1/traces")[1]["traces"]
    assert (found["state"], "oo-integrations[traces]" in found["says"]) == ("broken", True)


def test_people_see_a_table(oo: Oo) -> None:
    """A line for each part."""
    ended = oo("doctor")
    assert ended.stdout.splitlines()[0].split() == ["Part", "It", "is", "What", "it", "says"]


def test_a_bundle_names_nobody(oo: Oo, daemon: FakeDaemon, tmp_path: Path) -> None:
    """Versions, settings, findings and numbers; no user, no secret of a plugin's settings; never over a file that is there."""
    (tmp_path / "oo.toml").write_text('[connectors.todoist]\ntoken_url = "https://canary.example"\n[sync]\nworkers = 3\n')
    path = tmp_path / "bundle.zip"
    ended = oo("--config", str(tmp_path / "oo.toml"), "doctor", "--bundle", str(path), "--quiet")
    assert ended.exit_code in {0, 1}
    with zipfile.ZipFile(path) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    assert {"findings.json", "versions.json", "settings.json", "status.json", "health.json", "plugins.json", "metrics.txt"} == set(parts)
    assert json.loads(parts["settings.json"])["sync.workers"] == "3"
    everything = b"".join(parts.values())
    assert b"canary" not in everything
    assert b'"ada"' not in everything
    assert path.stat().st_mode & 0o777 == 0o600
    assert "there is a file" in oo("doctor", "--bundle", str(path)).stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(oo: Oo, shell: str) -> None:
    """What a shell needs."""
    ended = oo("completion", shell)
    assert (ended.exit_code, "_OO_COMPLETE" in ended.stdout) == (0, True)
