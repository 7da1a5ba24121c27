"""The method: each side in a process of its own, rounds interleaved (A B A B), a warm-up that does not count, medians with min and max.

CPU seconds stand beside wall time because the machine may be shared: judge by them and by ratios within one run.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks import peers

ROOT = Path(__file__).parents[2]
LONGEST = 900.0
_TICK = os.sysconf("SC_CLK_TCK")

#: What one round of one side gave: figure → value.
Sample = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Side:
    """One of those compared. `rounds` caps how often a slow one is run."""

    name: str
    run: Callable[[], Sample]
    rounds: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of one side over all rounds."""

    median: float
    min: float
    max: float
    rounds: list[float]

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """Sum rounds up."""
        return cls(median=statistics.median(values), min=min(values), max=max(values), rounds=list(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What a figure, or a ratio of two, is to be. `stable`: it depends on CPU or counts alone, so a noisy machine may hold us to it."""

    name: str
    measured: float
    aim: float
    better: Literal["more", "less"]
    stable: bool = False

    @property
    def met(self) -> bool:
        """True where it is reached."""
        return self.measured >= self.aim if self.better == "more" else self.measured <= self.aim


@dataclass(frozen=True, slots=True)
class Shown:
    """What the chart shows: bars of one figure, one for each side."""

    figure: str
    title: str
    unit: str


@dataclass(slots=True, kw_only=True)
class Results:
    """All that one benchmark found."""

    benchmark: str
    title: str
    settings: dict[str, Any]
    figures: dict[str, dict[str, Figure]] = field(default_factory=dict)  #: side → figure → values
    missing: dict[str, str] = field(default_factory=dict)  #: side → why
    aims: list[Aim] = field(default_factory=list)
    shown: Sequence[Shown] = ()

    def median(self, side: str, figure: str) -> float | None:
        """A median; None where the side is missing."""
        found = self.figures.get(side, {}).get(figure)
        return None if found is None else found.median

    def ratio(self, figure: str, side: str, to: str, other: str = "") -> float | None:
        """One side's figure by another's, or by an `other` one: the median of the ratios round by round, in which slow minutes fall out."""
        ours, theirs = self.figures.get(side, {}).get(figure), self.figures.get(to, {}).get(other or figure)
        if ours is None or theirs is None:
            return None
        paired = [mine / other for mine, other in zip(ours.rounds, theirs.rounds, strict=False) if other]
        return statistics.median(paired) if paired else None

    def aim(self, name: str, measured: float | None, aim: float, better: Literal["more", "less"], *, stable: bool = False) -> None:
        """Hold a figure against its aim; nothing where there is no figure."""
        if measured is not None:
            self.aims.append(Aim(name=name, measured=measured, aim=aim, better=better, stable=stable))


def interleaved(results: Results, sides: Sequence[Side], rounds: int, *, warm: bool, tell: Callable[[str], None]) -> None:
    """Run the sides in turn. The first round only warms up, where `warm` says so; of a side with few rounds each counts."""
    samples: dict[str, list[Sample]] = {}
    for number in range(-1 if warm else 0, rounds):
        for side in sides:
            if side.name in results.missing or number >= side.rounds or (number < 0 and side.rounds <= 1):
                continue
            tell(f"{side.name}: {'warm-up' if number < 0 else f'round {number + 1} of {min(rounds, side.rounds)}'}")
            try:
                sample = side.run()
            except peers.Missing as why:
                results.missing[side.name] = str(why)
                continue
            if number >= 0:
                samples.setdefault(side.name, []).append(sample)
    for name, taken in samples.items():
        figures = {
            figure: [sample[figure] for sample in taken if figure in sample] for figure in dict.fromkeys(f for s in taken for f in s)
        }
        results.figures[name] = {figure: Figure.of(values) for figure, values in figures.items()}


# --- processes -----------------------------------------------------------------------------------------------------------


def pinned(core: int) -> Callable[[], None]:
    """For a child about to begin: stay on one core, so that client and server do not take turns on both."""
    cores = sorted(os.sched_getaffinity(0))

    def pin() -> None:
        os.sched_setaffinity(0, {cores[core % len(cores)]})

    return pin


def ours(function: str, **settings: Any) -> list[str]:
    """The command that calls `module:function` of ours in a process of its own."""
    return [sys.executable, "-m", "benchmarks.side", function, json.dumps(settings)]


def once(command: Sequence[str | Path], *, core: int | None = 0, environ: Mapping[str, str] | None = None) -> dict[str, float]:
    """Run a process to its end. Gives the figures it printed last as JSON, and its `peak_mb`.

    A peer that fails is `Missing`, and so is one of ours: a benchmark of what does not run would be a lie.
    """
    with _output() as said, _output() as aside:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=aside,
            env=_environ(environ),
            preexec_fn=None if core is None else pinned(core),
        )
        status, usage = _waited(process)
        said.seek(0)
        aside.seek(0)
        lines, errors = said.read().decode(errors="replace").splitlines(), aside.read().decode(errors="replace")
    last = next((line for line in reversed(lines) if line.startswith("{")), None)
    if status != 0 or last is None:
        raise peers.Missing(f"it failed: {(errors.strip().splitlines() or ['no word'])[-1][:160]}")
    return {"peak_mb": usage.ru_maxrss / 1024, **json.loads(last)}


def _waited(process: subprocess.Popen[bytes]) -> tuple[int, Any]:
    ending = threading.Timer(LONGEST, process.kill)
    ending.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        ending.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage


@contextmanager
def _output() -> Iterator[Any]:
    with tempfile.TemporaryFile() as file:
        yield file


def _environ(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """No settings of the operator's own; the benchmarks and the tests' servers can be imported."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OO_")}
    return plain | {"PYTHONPATH": str(ROOT / "tests"), "PYTHONDONTWRITEBYTECODE": ""} | dict(more or {})


@dataclass(frozen=True, slots=True)
class Serving:
    """A server as a child, and what it said when it was ready."""

    process: subprocess.Popen[bytes]
    ready: Mapping[str, Any]
    pid: int

    def cpu(self) -> float:
        """CPU seconds so far, of all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def memory(self, what: Literal["VmRSS", "VmHWM"] = "VmRSS") -> float:
        """Megabytes resident now, or at most so far."""
        return memory(self.pid, what)


def memory(pid: int, what: Literal["VmRSS", "VmHWM"] = "VmRSS") -> float:
    """Megabytes resident now, or at most so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


@contextmanager
def serving(
    command: Sequence[str | Path],
    *,
    core: int | None = 0,
    ready: Callable[[str], Mapping[str, Any] | None] | None = None,
    port: int | None = None,
) -> Iterator[Serving]:
    """A server that runs while the block does.

    It is ready when `ready` finds in a line of its output what it says of itself, or with `port` when it listens there.
    """
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environ(),
        preexec_fn=None if core is None else pinned(core),
    )
    drained = threading.Thread(target=_drain, args=(process,), daemon=True)
    try:
        told = _until_ready(process, ready or _json_line) if port is None else _until_open(process, port)
        drained.start()
        yield Serving(process, told, process.pid)
    finally:
        if process.stdin:
            process.stdin.close()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if drained.ident is not None:
            drained.join()
        if process.stdout:
            process.stdout.close()


def _drain(process: subprocess.Popen[bytes]) -> None:
    """Read what a server goes on to say, or it would stop at a full pipe."""
    assert process.stdout is not None
    while os.read(process.stdout.fileno(), 65536):
        pass


def _json_line(line: str) -> Mapping[str, Any] | None:
    return json.loads(line) if line.startswith("{") else None


def _until_ready(
    process: subprocess.Popen[bytes], ready: Callable[[str], Mapping[str, Any] | None], longest: float = 60.0
) -> Mapping[str, Any]:
    deadline, said, last = time.monotonic() + longest, b"", "no word"
    assert process.stdout is not None
    while time.monotonic() < deadline:
        if not select.select([process.stdout], [], [], 0.5)[0]:
            continue
        chunk = os.read(process.stdout.fileno(), 65536)
        if not chunk:
            break
        *lines, said = (said + chunk).split(b"\n")
        for line in lines:
            last = line.decode(errors="replace").strip() or last
            if (found := ready(last)) is not None:
                return found
    raise peers.Missing(f"it did not start: {last[:160]}")


def _until_open(process: subprocess.Popen[bytes], port: int, longest: float = 60.0) -> Mapping[str, Any]:
    deadline = time.monotonic() + longest
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as caller:
            if caller.connect_ex(("127.0.0.1", port)) == 0:
                return {}
        time.sleep(0.002)  # a program of others does not tell when it is open
    raise peers.Missing("it did not start")


# --- percentiles ---------------------------------------------------------------------------------------------------------


def percentiles(values: Sequence[float], prefix: str = "", scale: float = 1000.0) -> dict[str, float]:
    """p50, p99 and the longest of all that was measured; seconds in, milliseconds out."""
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * scale

    return {f"{prefix}p50_ms": at(0.5), f"{prefix}p99_ms": at(0.99), f"{prefix}max_ms": ordered[-1] * scale} if ordered else {}
