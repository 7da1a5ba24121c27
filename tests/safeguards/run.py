"""Switches each safeguard off in turn and sees whether its test turns red: `make safeguards`.

A safeguard that can be switched off without any test noticing protects nobody. The tree is copied, one place is changed, and the tests that
should notice are run on the copy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from safeguards.table import SAFEGUARDS, Safeguard

ROOT = Path(__file__).parents[2]
SOURCES = ("config", "daemon", "plugins", "vault")
LONGEST = 180.0


def copy(to: Path) -> None:
    """Copy what the tests need."""
    for folder in (*SOURCES, "tests"):
        shutil.copytree(ROOT / folder, to / folder, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    shutil.copy(ROOT / "setup.cfg", to)


def tested(tree: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run tests on a tree: its packages come before the installed ones."""
    paths = os.pathsep.join(str(tree / folder) for folder in SOURCES)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests]
    environ = {**os.environ, "PYTHONPATH": paths, "OO_TEST_CRASH_POINTS": "1500"}
    return subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True, timeout=LONGEST, check=False)


def judged(safeguard: Safeguard) -> str:
    """What became of a safeguard that was switched off: "killed", or what is wrong."""
    with tempfile.TemporaryDirectory(prefix="oo-safeguard-") as folder:
        tree = Path(folder)
        copy(tree)
        path = tree / safeguard.file
        source = path.read_text()
        if source.count(safeguard.off) != 1:
            return f"the place to change is there {source.count(safeguard.off)} times"
        path.write_text(source.replace(safeguard.off, safeguard.on))
        try:
            result = tested(tree, safeguard.tests)
        except subprocess.TimeoutExpired:
            return "killed"  # a test that hangs without the safeguard has noticed
        if result.returncode == 1:
            return "killed"
        return "SURVIVED" if result.returncode == 0 else f"the tests could not run: {result.stdout[-300:]}"


def main() -> int:
    """Judge them all, two at a time; the tests must be green on the tree as it is."""
    began = time.perf_counter()
    tests = tuple(dict.fromkeys(test for safeguard in SAFEGUARDS for test in safeguard.tests))
    whole = tested(ROOT, tests)
    if whole.returncode != 0:
        print(whole.stdout[-2000:])
        print("the tests are red although nothing was switched off")
        return 1
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        verdicts = list(pool.map(judged, SAFEGUARDS))
    width = max(len(safeguard.name) for safeguard in SAFEGUARDS)
    for safeguard, verdict in zip(SAFEGUARDS, verdicts, strict=True):
        print(f"{safeguard.name:<{width}}  {safeguard.row:>4}  {verdict}")
    killed = verdicts.count("killed")
    print(f"{time.perf_counter() - began:.0f} s")
    print(f"{killed} of {len(SAFEGUARDS)} safeguards killed")
    return 0 if killed == len(SAFEGUARDS) else 1


if __name__ == "__main__":
    sys.exit(main())
