"""The stage of the demo: what does not come in time is said in a sentence."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from importlib import import_module
from pathlib import Path

import pytest

from oo_daemon.cli.stage import stage
from oo_daemon.cli.terminal import NotDone


async def test_what_takes_too_long_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is too busy is no fault of the program's, and no process is left behind."""
    monkeypatch.setattr(import_module("oo_daemon.cli.stage"), "PATIENCE", 0.0)
    async with stage(tmp_path) as here:
        with pytest.raises(NotDone, match="`oo config` was not done within 0 s: try again when this machine has less to do"):
            await here.oo("config", "example")
        with pytest.raises(NotDone, match="the sandbox was not done within 0 s"):
            await here.start_sandbox("todoist")


async def test_whoever_ends_the_demo_ends_its_processes(tmp_path: Path) -> None:
    """Told to stop as a service is, it leaves no daemon behind."""
    command = (sys.executable, "-m", "oo_daemon", "demo", "--folder", str(tmp_path))
    demo = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL)
    assert demo.stdout is not None
    async with asyncio.timeout(60):
        async for line in demo.stdout:
            if found := re.search(rb"runs as process (\d+)", line):
                break
        demo.send_signal(signal.SIGTERM)
        assert await demo.wait() != 0
    assert found is not None
    with pytest.raises(ProcessLookupError):
        os.kill(int(found[1]), 0)
