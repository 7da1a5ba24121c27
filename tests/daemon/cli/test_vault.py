"""`oo vault`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from client.fake_daemon import FakeDaemon, vault
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


def test_a_new_key_goes_above_the_old(oo: Oo, tmp_path: Path) -> None:
    """--add makes a key that is the newest from then on, keeps the old below it, and shows its recovery key."""
    oo("vault", "init")
    before = (tmp_path / "root.key").read_text()
    result = oo("vault", "init", "--add")
    recovery = result.stdout.splitlines()[-1].strip()
    assert (tmp_path / "root.key").read_text() == f"{recovery}\n{before}"
    assert (tmp_path / "root.key").stat().st_mode & 0o777 == 0o400
    assert "oo vault rotate" in result.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["root.key"]


def test_there_is_nothing_to_add_to(oo: Oo, tmp_path: Path) -> None:
    """Without a key file --add makes none."""
    result = oo("vault", "init", "--add")
    assert result.exit_code == 77
    assert not (tmp_path / "root.key").exists()


@pytest.mark.rows("C3")
def test_status(daemon: FakeDaemon, oo: Oo) -> None:
    """The keys, what each has sealed, where they are kept, and what there is to do."""
    daemon.vaults = [vault(3, 1205)]
    result = oo("vault", "status")
    lines = result.stdout.splitlines()
    assert lines[1].split() == ["9e1c77aa", "seals", "3", "2026-11-22", "09:30:00"]
    assert lines[2].split("  ")[0] == "0b2d4f66"
    assert "opens what it sealed   1\u2009202  2026-11-01 08:00:00" in lines[2]
    assert "3 of 1\u2009205 values" in result.stdout
    assert "/var/lib/oo-integrations/root.key" in result.stdout
    assert "oo vault rotate" in result.stderr
    assert json.loads(oo("vault", "status", "--json").stdout) == vault(3, 1205)
    assert "9e1c77aa" in oo("vault", "reload").stdout
    daemon.vaults = [vault(3, 5, running=True)]
    assert "Rotation                begun 2026-11-22 09:30:00 UTC\n" in oo("vault", "status").stdout
    daemon.vaults = [vault(3, 5, since="2026-11-22T09:30:00Z")]
    result = oo("vault", "status")
    assert "begun 2026-11-22 09:30:00 UTC, cut off: it goes on by itself\n" in result.stdout
    assert result.stderr == ""


@pytest.mark.rows("C3")
def test_rotate(daemon: FakeDaemon, oo: Oo) -> None:
    """It waits for the end and says which key can go now."""
    daemon.vaults = [vault(0, 5, running=True), vault(3, 5, running=True), vault(5, 5)]
    result = oo("vault", "rotate")
    assert result.exit_code == 0
    assert "Everything (5 values) is sealed with the newest key.\n`oo vault drop-key 0b2d4f66`" in result.stdout
    assert [each.method for each in daemon.exchanges] == ["POST", "GET", "GET"]
    assert oo("vault", "rotate", "--quiet").output == ""


@pytest.mark.rows("C3")
def test_a_rotation_that_leaves_something(daemon: FakeDaemon, oo: Oo) -> None:
    """What could not be opened is told, with an exit code."""
    daemon.vaults = [vault(4, 5, refused=1)]
    result = oo("vault", "rotate")
    assert result.exit_code == 1
    assert "1 value could not be sealed anew: 1 value could not be opened" in result.stderr


@pytest.mark.rows("C3")
def test_drop_key(daemon: FakeDaemon, oo: Oo) -> None:
    """A key in use is refused with the remedy; one that is not can go."""
    daemon.vaults = [vault(3, 5)]
    result = oo("vault", "drop-key", "0b2d4f66")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "has still sealed 2 values" in result.stderr
    daemon.vaults = [vault(5, 5)]
    assert "its line can go from /var/lib/oo-integrations/root.key" in oo("vault", "drop-key", "0b2d4f66").stdout
    assert oo("vault", "drop-key", "00000000").exit_code == 1
