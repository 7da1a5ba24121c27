"""What the tests of the command share: a fake daemon, the command inside this process, and the command as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
from click.testing import CliRunner, Result
from client.contract import hold
from client.fake_daemon import FakeDaemon, running

from oo_daemon.cli import oo as command


class Oo(Protocol):
    """`oo(*arguments)` runs the command in this process."""

    def __call__(self, *arguments: str, input: str | None = None, **environ: str) -> Result: ...  # noqa: A002 - click's word


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    """Give a daemon that answers where the command looks for it."""
    with running(FakeDaemon(socket=tmp_path / "oo.sock")) as fake:
        yield fake
    hold(fake.exchanges)


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Give an environment in which nothing of this machine's own settings is seen, and lines are 100 wide."""
    for name in list(os.environ):
        if name.startswith(("OO_", "XDG_")) or name in {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "STATE_DIRECTORY", "RUNTIME_DIRECTORY"}:
            monkeypatch.delenv(name)
    return {"OO_PLACES_STATE": str(tmp_path), "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config"), "COLUMNS": "100"}


@pytest.fixture
def oo(environ: Mapping[str, str]) -> Oo:
    """Give the command, run in this process."""

    def run(*arguments: str, input: str | None = None, **more: str) -> Result:  # noqa: A002 - click's word
        return CliRunner().invoke(command, arguments, input=input, env={**environ, **more}, prog_name="oo")

    return run


@pytest.fixture
def start(environ: Mapping[str, str]) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Give the command, started as a process; killed at the end if it still runs."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str, environ: Mapping[str, str] = environ, **more: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "from oo_daemon.cli import main; main()", *arguments]
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, env={"PATH": os.environ["PATH"], **environ}, text=False, **streams | more)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait(10)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
