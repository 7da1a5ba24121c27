"""What users install is what is in the repository."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("config/", "daemon/", "plugins/", "systemd/", "vault/")
UV = Path(sys.executable).with_name("uv")


def run(*command: str | Path, cwd: Path = ROOT, **environ: str) -> str:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("OO_")}  # whatever is set where the tests run
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**ours, **environ}, capture_output=True, text=True, timeout=100, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(UV, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


def tracked() -> set[str]:
    """Files that git knows or would add, as paths inside the packages."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    return {path.partition("/")[2] for path in listed if path.startswith(SOURCES) and path.count("/") > 1 and (ROOT / path).exists()}


def test_the_wheel_holds_every_file(wheel: Path) -> None:
    """A package or data file missing from setup.cfg would be missing for users, silently: wheel and tree are compared."""
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert inside == tracked()


def test_the_wheel_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """Installed with nothing but what it asks for, it says its version and finds its plugins."""
    environment = tmp_path / "env"
    python = environment / "bin" / "python"
    run(UV, "venv", "--quiet", "--python", sys.executable, environment)
    run(UV, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", ROOT / "requirements/runtime.lock")
    run(UV, "pip", "install", "--quiet", "--python", python, "--no-deps", wheel)
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    assert run(environment / "bin" / "oo", "--version", cwd=tmp_path, **home).split()[-1] == "0.1.0"
    assert "todoist" in run(environment / "bin" / "oo", "plugins", cwd=tmp_path, **home)
    assert run(UV, "pip", "check", "--python", python, cwd=tmp_path, **home) == ""
