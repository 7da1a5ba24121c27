"""Runs the crash, the kill or the chaos tests and ends with their figures: `make crash`, `make kills`, `make chaos`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Both workloads on the disk at once, each with a processor of its own; what they say comes at the end.
AT_ONCE = ("--numprocesses", "2", "--dist", "worksteal", "-rP")
#: What is run → the variable that says how often, and the tests.
KINDS = {
    "crash": ("OO_TEST_CRASH_POINTS", (*AT_ONCE, "tests/faults/test_crash.py", "tests/faults/test_crash_inbox.py")),
    "kills": ("OO_TEST_KILLS", ("-s", "tests/faults/test_processes.py")),
    "chaos": ("OO_TEST_CHAOS_SECONDS", ("-s", "tests/chaos/test_chaos.py")),
}


def main(kind: str, count: str) -> int:
    """Run it; the last lines are the figures that the tests printed, and what it came to."""
    variable, tests = KINDS[kind]
    began = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-q", *tests]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, variable: count}, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        figures = []
        for line in child.stdout:
            print(line, end="", flush=True)
            if line.startswith(f"{kind}: "):
                figures.append(line)
    print("".join(figures), end="")
    held = child.returncode == 0 and figures
    print(f"{kind}: {'every promise held' if held else 'BROKEN, see above'}, {time.perf_counter() - began:.0f} s")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
