"""Switches each safeguard off in turn and sees whether its tests turn red: `make safeguards`.

A safeguard that can be switched off without any test noticing protects nobody. The tree is copied, its place is changed, and the tests that
should notice are run on the copy. Words after the command choose safeguards by what is in their names.
"""

from __future__ import annotations

import os
import re
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
#: Seconds after which a test has hung, which a test does that waits for what no longer comes; and those of a safeguard together.
HANGS, LONGEST = 60, 300.0
KILLED = "killed"
#: A test that waits for what no longer comes has noticed, too; but so has one on a machine that is too busy: see the table.
HUNG = "killed: a test waited in vain"
#: What such a test ends with: its own patience, or pytest's.
_WAITED = re.compile(r"^E .*Timeout|^\++ Timeout", re.MULTILINE)


def copy(to: Path) -> None:
    """Copy what the tests need, with what Python has compiled: it looks at the time of each source, and compiles what was changed."""
    for folder in (*SOURCES, "tests"):
        shutil.copytree(ROOT / folder, to / folder, ignore=shutil.ignore_patterns("node_modules"))
    shutil.copy(ROOT / "setup.cfg", to)


def changed(source: str, text: str, instead: str) -> str:
    """The source with this text, which is there once, replaced. Raises `ValueError`."""
    if source.count(text) != 1:
        raise ValueError(f"the place to change is there {source.count(text)} times")
    return source.replace(text, instead)


def run_on(tree: Path, tests: tuple[str, ...], longest: float = LONGEST, *options: str) -> subprocess.CompletedProcess[str]:
    """Run tests on a tree: its packages come before the installed ones."""
    paths = os.pathsep.join(str(tree / folder) for folder in SOURCES)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", *options, *tests]
    environ = {**os.environ, "PYTHONPATH": paths, "OO_TEST_CRASH_POINTS": "1500"}
    return subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True, timeout=longest, check=False)


def red_on(tree: Path, tests: tuple[str, ...]) -> tuple[str, ...]:
    """Those of these tests that are red on a tree."""
    if not tests:
        return ()
    result = run_on(tree, tests, 20 * LONGEST, "-rfE", "--numprocesses", str(os.cpu_count()), "--dist", "worksteal")
    if result.returncode > 1:
        return tests
    lines = [line.split(" ")[1] for line in result.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return tuple(dict.fromkeys(line.partition("[")[0] for line in lines))


def judged(safeguard: Safeguard) -> str:
    """What became of a safeguard that was switched off: "killed", or what is wrong."""
    with tempfile.TemporaryDirectory(prefix="oo-safeguard-") as folder:
        tree = Path(folder)
        copy(tree)
        try:
            for change in safeguard.off:
                path = tree / change.file
                path.write_text(changed(path.read_text(), change.text, change.instead))
            result = run_on(tree, safeguard.tests, LONGEST, "-x", f"--timeout={HANGS}")
        except ValueError as wrong:
            return str(wrong)
        except subprocess.TimeoutExpired:
            return HUNG
        if result.returncode == 1:
            return HUNG if _WAITED.search(result.stdout) else KILLED
        return "SURVIVED" if result.returncode == 0 else f"the tests could not run: {result.stdout[-300:]}"


def timed(safeguard: Safeguard) -> tuple[str, float]:
    """The verdict, and the seconds that it took."""
    began = time.perf_counter()
    return judged(safeguard), time.perf_counter() - began


def main(words: list[str]) -> int:
    """Judge them all, or those with a word in their name, two at a time; the tests must be green on the tree as it is."""
    began = time.perf_counter()
    chosen = [safeguard for safeguard in SAFEGUARDS if not words or any(word in safeguard.name for word in words)]
    tests = tuple(dict.fromkeys(test for safeguard in chosen for test in safeguard.tests))
    if red := red_on(ROOT, red_on(ROOT, tests)):  # some wait for other processes: twice in a row is no matter of luck
        print("these are red although nothing was switched off: " + " ".join(red))
        return 1
    print(f"{len(tests)} tests are green while nothing is switched off, {time.perf_counter() - began:.0f} s", flush=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        width, killed = max(len(safeguard.name) for safeguard in chosen), 0
        for safeguard, (verdict, seconds) in zip(chosen, pool.map(timed, chosen), strict=False):
            print(f"{safeguard.name:<{width}}  {safeguard.row:>4}  {seconds:5.0f} s  {verdict}", flush=True)
            killed += verdict in {KILLED, HUNG}
    print(f"{time.perf_counter() - began:.0f} s")
    print(f"{killed} of {len(chosen)} safeguards killed")
    return 0 if killed == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
