"""Runs seeds: `make simulate SEEDS=500`; or `python -m simulation.run` from tests/, with a number, with seeds, or with `--minutes`.

`small-17` is the ordinary life, every fourth of them with two daemons on one database; `rough-5` has many crashes; `full-3` is the full
one. A time-boxed run goes on
from the last seed of the one before, which is kept under build/.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from simulation.loop import SeededLoop, run
from simulation.memory import Memory, memory
from simulation.provider import CATALOGUE
from simulation.world import Life, World

ROOT = Path(__file__).parents[2]
#: Where the long run goes on from.
STATE = ROOT / "build" / "simulation.json"
BEHAVIOURS = {name for names in CATALOGUE.values() for name in names}
NAMES = ("alpha", "beta", "gamma", "delta", "epsilon")
FULL = Life(
    people=100,
    names=NAMES,
    daemons=2,
    crashes=4,
    freezes=2,
    stops=2,
    bad_disks=2,
    clock_steps=True,
    hours=0.25,
    interval=400.0,
    workers=100,
)


def life_of(seed: str) -> Life:
    """The kind of life that a seed names."""
    kind, _, number = seed.partition("-")
    if kind == "full":
        return FULL
    if kind == "rough":
        return Life(daemons=2, crashes=16, freezes=6, stops=3, bad_disks=3)
    return Life(daemons=2 if int(number) % 4 == 0 else 1)


@dataclass(frozen=True)
class Result:
    """What one seed came to."""

    seed: str
    fault: str
    steps: int
    commits: int
    cpu: float  #: seconds
    met: Counter[str]
    happened: Counter[str]
    fingerprint: str  #: of everything that was written, in order


def live(seed: str) -> Result:
    """Run one seed."""
    began = time.process_time()
    folder = Path(tempfile.mkdtemp(prefix="oo-simulation-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    loop = SeededLoop(seed)
    database = _ready()
    gc.disable()  # when it comes depends on what ran before, and what it ends would run in the loop
    world = World(seed, life_of(seed), loop, database, folder)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "coroutine .* was never awaited")  # of those that died before they began
            fault = _lived(world)
            gc.collect()
        return Result(
            seed=seed,
            fault=fault,
            steps=loop.steps,
            commits=world.watch.commits,
            cpu=time.process_time() - began,
            met=sum((provider.met for provider in world.providers.values()), Counter()),
            happened=world.happened,
            fingerprint=f"{loop.steps} {loop.time():.6f} {world.watch.fingerprint()}",
        )
    finally:
        world.watch.close()
        shutil.rmtree(folder)
        gc.enable()


class _Broken(Exception):
    """An invariant does not hold."""


def _lived(world: World) -> str:
    """Live it; gives what went wrong first."""
    broken = world.watch.broken

    def look() -> None:
        if broken:
            raise _Broken

    world.loop.after_step = look
    try:
        run(world.loop, world.run())
    except _Broken:
        return f"at {world.loop.time():.3f} s, step {world.loop.steps}: {broken[0]}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "; ".join(world.faults()[:3])


@cache
def _settled() -> None:
    """What is imported by now stays: each look for rubbish after a life need not go through it."""
    gc.collect()
    gc.freeze()


def _ready() -> Memory:
    """The database of this process, empty."""
    database = memory()
    database.begin_anew()
    _settled()
    return database


@dataclass
class Tally:
    """What many seeds came to."""

    began: float = field(default_factory=time.perf_counter)
    seeds: int = 0
    steps: int = 0
    commits: int = 0
    cpu: float = 0.0
    failed: list[Result] = field(default_factory=list)
    met: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result) -> None:
        """Count one, and say at once what failed."""
        self.seeds += 1
        self.steps += result.steps
        self.commits += result.commits
        self.cpu += result.cpu
        self.met += result.met
        self.happened += result.happened
        if result.fault:
            self.failed.append(result)
            print(f"seed {result.seed}: {result.fault}", flush=True)

    @property
    def never_met(self) -> list[str]:
        """Behaviours that no provider showed."""
        return sorted(BEHAVIOURS - set(self.met))

    def told(self) -> str:
        """All in figures; the last line."""
        return (
            f"simulation: {self.seeds} seeds, {len(self.failed)} failed, {self.steps} steps, {self.commits} commits, "
            f"{len(BEHAVIOURS) - len(self.never_met)} of {len(BEHAVIOURS)} behaviours, "
            f"{time.perf_counter() - self.began:.0f} s ({self.cpu:.0f} s of CPU)"
        )


def seeds_of(count: int, first: int = 0) -> list[str]:
    """So many small seeds, and a fiftieth as many full ones before them, since these take longest."""
    full = [f"full-{number}" for number in range(first // 50, first // 50 + max(1, count // 50))]
    return full + [f"small-{number}" for number in range(first, first + count)]


def run_all(seeds: Iterable[str]) -> Tally:
    """Run seeds in as many processes as there are cores."""
    tally = Tally()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for result in pool.map(live, seeds):
            tally.add(result)
    return tally


def run_for(minutes: float, state: Path = STATE, now: Callable[[], float] = time.perf_counter) -> Tally:
    """Run seeds until the time is over, from where the last such run ended."""
    first = json.loads(state.read_text())["next"] if state.exists() else 1000
    tally, end = Tally(), now() + minutes * 60

    def batches() -> Iterator[int]:
        start = first
        while now() < end:
            yield start
            start += 100

    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for start in batches():
            for result in pool.map(live, seeds_of(100, start)):
                tally.add(result)
            state.parent.mkdir(parents=True, exist_ok=True)
            state.write_text(json.dumps({"next": start + 100}))
    return tally


def main(arguments: list[str]) -> int:
    """Run what the arguments say; 1 when a seed failed, or a behaviour was never met."""
    match arguments:
        case ["--minutes", minutes]:
            tally = run_for(float(minutes))
        case [count] if count.isdigit():
            tally = run_all(seeds_of(int(count)))
        case seeds:
            tally = run_all(seeds)
    print("happened: " + ", ".join(f"{name} {count}" for name, count in sorted(tally.happened.items())))
    whole = tally.seeds >= 100
    if whole and tally.never_met:
        print("behaviours never met: " + ", ".join(tally.never_met))
    print(tally.told())
    return 1 if tally.failed or (whole and tally.never_met) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
