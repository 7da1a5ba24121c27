"""`oo vault`."""

from __future__ import annotations

import json
from pathlib import Path

from daemon.cli.conftest import Oo

import oo_vault


def test_init(oo: Oo, tmp_path: Path) -> None:
    """The key is made, and the recovery key is shown once and is that key."""
    result = oo("vault", "init", OO_VAULT_KEY_FILE=str(tmp_path / "k" / "root.key"))
    assert result.exit_code == 0
    recovery = result.stdout.splitlines()[-1].strip()
    assert recovery.startswith("oo1-")
    assert (tmp_path / "k" / "root.key").read_text() == f"{recovery}\n"
    assert f"The root key is in {tmp_path}/k/root.key.\n" in result.stdout
    assert oo_vault.read_key_file(tmp_path / "k" / "root.key").ids


def test_json(oo: Oo, tmp_path: Path) -> None:
    """--json names the file and the recovery key."""
    said = json.loads(oo("vault", "init", "--json").stdout)
    assert said["key_file"] == str(tmp_path / "root.key")
    assert said["recovery_key"].startswith("oo1-")


def test_a_key_is_never_made_twice(oo: Oo, tmp_path: Path) -> None:
    """A key that is there stays, and is not shown."""
    oo("vault", "init")
    before = (tmp_path / "root.key").read_text()
    result = oo("vault", "init")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: There is a file at {tmp_path}/root.key already. Keep it")
    assert (tmp_path / "root.key").read_text() == before
    assert before.strip() not in result.output


def test_where_no_file_can_be_made(oo: Oo, tmp_path: Path) -> None:
    """A folder that cannot be made is an error that names the place."""
    (tmp_path / "file").touch()
    result = oo("vault", "init", OO_VAULT_KEY_FILE=str(tmp_path / "file" / "root.key"))
    assert result.exit_code == 1
    assert f"{tmp_path}/file" in result.stderr
    assert "Traceback" not in result.stderr
