"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import version
from pathlib import Path

import apsw

LIBRARIES = ("aiohttp", "apsw", "apscheduler", "msgspec", "peewee", "protobuf", "pynacl", "structlog")


def described() -> dict[str, str]:
    """Processor, cores, memory, load, kernel, file system, Python and libraries."""
    facts = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in facts if line.startswith("model name")), platform.machine())
    memory = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    return {
        "processor": f"{len(os.sched_getaffinity(0))} × {model}",
        "memory": f"{memory / 1024 / 1024:.0f} GiB",
        "load at the start": f"{os.getloadavg()[0]:.1f}",
        "kernel": platform.release(),
        "file system": _file_system(Path.cwd()),
        "python": platform.python_version(),
        "sqlite": f"{apsw.sqlite_lib_version()} (peers: {sqlite3.sqlite_version})",
        "libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
    }


def _file_system(path: Path) -> str:
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, found, *_ = line.split(" ")
        if len(point) >= len(best) and (path == Path(point) or Path(point) in path.parents):
            best, kind = point, found
    return kind
