"""Arrows point one way, and import-linter holds them."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("config", "daemon", "plugins", "vault")

#: contract → a file and the statement that breaks it
REVERSED = {
    "leaves": ("config/oo_config/places.py", "import oo_vault.secret"),
    "leaves-hub": ("vault/oo_vault/secret.py", "import oo_daemon.ports"),
    "guests": ("plugins/oo_todoist/connector.py", "import oo_vault"),
    "hub-guests": ("daemon/oo_daemon/registry.py", "import oo_todoist"),
    "client": ("daemon/oo_client/client.py", "import oo_daemon.ports"),
    "floors": ("daemon/oo_daemon/store/outbox.py", "import oo_daemon.connections.session"),
}
#: More ways to break the floors: each is named in the report.
ALSO = {("daemon/oo_daemon/sync/run.py", "import oo_daemon.outbox.wire")}


def contracts() -> dict[str, str]:
    """Contract id → its name."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    prefix = "importlinter:contract:"
    return {section.removeprefix(prefix): parser[section]["name"] for section in parser.sections() if section.startswith(prefix)}


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    paths = [str(tree / source) for source in SOURCES]
    # The copy comes first on the path, before the installed packages.
    code = f"import sys; sys.path[:0] = {paths!r}; from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
    return subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for source in SOURCES:
        shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    return tmp_path


def test_the_arrows_hold(tree: Path) -> None:
    """The code as it is keeps every contract."""
    result = lint(tree)
    assert result.returncode == 0, result.stdout


def test_a_reversed_arrow_is_red(tree: Path) -> None:
    """For each contract there is an arrow whose reversal breaks it."""
    for path, statement in {*REVERSED.values(), *ALSO}:
        with (tree / path).open("a") as file:
            file.write(f"\n{statement}\n")
    result = lint(tree)
    assert result.returncode == 1, result.stdout
    told = " ".join(result.stdout.split())
    assert set(REVERSED) == set(contracts())
    assert {id_ for id_, name in contracts().items() if f"{name} BROKEN" in told} == set(REVERSED)
    assert "oo_daemon.sync is not allowed to import oo_daemon.outbox" in told
