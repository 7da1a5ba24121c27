"""One daemon for one file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from oo_daemon.store.errors import AlreadyRunning, CannotOpen
from oo_daemon.store.lock import held

HOLD = """
import sys
from pathlib import Path
from oo_daemon.store.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_daemon_is_refused(path: Path) -> None:
    """In this process or another; a daemon on another file is not in the way, and when the first has gone, the next may come."""
    with held(path):
        with pytest.raises(AlreadyRunning, match="stop it first"), held(path):
            pass
        with held(path.with_name("other.db")):
            pass
    with held(path):
        pass


def test_the_lock_ends_with_its_process(path: Path) -> None:
    """However a process ends, its lock goes with it: there is nothing to clean up."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(AlreadyRunning), held(path):
            pass
        other.kill()
        other.wait(10)
    with held(path):
        assert path.with_name("oo.db.lock").stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    """The message says what to do."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CannotOpen, match=r"places\.state"), held(tmp_path / "file" / "oo.db"):
        pass
