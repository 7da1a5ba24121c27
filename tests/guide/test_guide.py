"""The guide for authors is run: what it shows is built, installed, found and proved; the reference is what the code says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, distributions
from pathlib import Path

import pytest
from click.testing import CliRunner
from design.reference import FOLDER, sdk

from oo_daemon.cli import oo
from oo_daemon.registry import discover

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "tutorial" / "connector.md"
UV, RUFF = (Path(sys.executable).with_name(name) for name in ("uv", "ruff"))
BLOCK = re.compile(r"<!-- file: (?P<path>\S+) -->\n```\w+\n(?P<text>.*?)```\n", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A package that was built and installed into a folder."""

    source: Path
    site: Path

    def points(self) -> list[EntryPoint]:
        found = distributions(path=[str(self.site)])
        return [point for each in found for point in each.entry_points if point.group == "oo.plugins"]

    def environ(self) -> Mapping[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.site), "PYTHONDONTWRITEBYTECODE": "1"}


def installed(source: Path, folder: Path) -> Installed:
    """Build a wheel, as its author would, and install it."""
    _run(UV, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder / "wheels", source)
    (wheel,) = (folder / "wheels").glob("*.whl")
    _run(UV, "pip", "install", "--quiet", "--python", sys.executable, "--no-deps", "--target", folder / "site", wheel)
    return Installed(source=source, site=folder / "site")


def prove(package: Installed, folder: Path) -> str:
    """Run its own tests against what was installed; gives what pytest says."""
    tests = folder / "elsewhere"
    (package.source / "tests").rename(tests)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tests), "-c", os.devnull, str(tests)]
    return _run(*command, env=package.environ())


def loaded(package: Installed, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, list[str]]]:
    """What the daemon makes of it, once it is enabled."""
    monkeypatch.syspath_prepend(str(package.site))
    (name,) = {point.dist.name for point in package.points() if point.dist}
    found = discover(enabled=[name], found=package.points())
    return [(plugin.state, plugin.reason, [it.id for it in plugin.connectors]) for plugin in found.plugins]


def _run(*command: object, env: Mapping[str, str] | None = None) -> str:
    ended = subprocess.run([str(part) for part in command], env=env, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def write(files: Mapping[str, str], folder: Path) -> Path:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def test_the_tutorial_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the tutorial are a package that is built, installed, loaded, and green; its connector is as short as it says."""
    files = {found["path"]: found["text"] for found in BLOCK.finditer(GUIDE.read_text())}
    assert list(files) == ["my_notes_oo/__init__.py", "tests/test_contract.py", "setup.cfg", "pyproject.toml"]
    package = installed(write(files, tmp_path / "source"), tmp_path)
    assert loaded(package, monkeypatch) == [("loaded", "", ["my_notes"])]
    assert "passed" in prove(package, tmp_path)
    assert sum(1 for line in files["my_notes_oo/__init__.py"].splitlines() if line.strip()) <= 60


@pytest.mark.parametrize("kind", ["oauth", "api-key", "webhook", "import"])
def test_the_scaffold_works(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `oo new connector` writes is built, installed, loaded, and green."""
    id_ = f"acme_{kind}".replace("-", "_")
    result = CliRunner().invoke(oo, ["new", "connector", id_, "--kind", kind, "--into", str(tmp_path)])
    assert result.exit_code == 0, result.output
    source = tmp_path / f"acme-{kind}-oo"
    _run(RUFF, "check", "--isolated", "--select", "E,F,W,B,UP", "--line-length", "140", source)
    package = installed(source, tmp_path)
    assert loaded(package, monkeypatch) == [("loaded", "", [id_])]
    assert "passed" in prove(package, tmp_path)


def test_the_scaffold_asks_and_spares_what_is_there(tmp_path: Path) -> None:
    """Without a kind it is asked for; a folder that is there is left alone, and a name that is no id is refused."""
    made = CliRunner().invoke(oo, ["new", "connector", "acme", "--into", str(tmp_path)], input="webhook\n")
    assert (made.exit_code, (tmp_path / "acme-oo" / "acme_oo" / "__init__.py").exists()) == (0, True)
    again = CliRunner().invoke(oo, ["new", "connector", "acme", "--kind", "oauth", "--into", str(tmp_path)])
    assert (again.exit_code, "is there already" in again.output) == (1, True)
    assert CliRunner().invoke(oo, ["new", "connector", "No-Id", "--kind", "oauth"]).exit_code == 2


def test_the_reference_is_what_the_code_says() -> None:
    """`make reference` was run."""
    assert (FOLDER / "sdk.md").read_text() == sdk(), "run `make reference`"
