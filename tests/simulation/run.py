"""Runs seeds: `python -m simulation.run SEEDS` from tests/, or through `make simulate`."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulation.loop import SeededLoop, run
from simulation.provider import CANARY, CATALOGUE
from simulation.world import World

from oo_daemon.store import database
from oo_daemon.store.storage import open_database

#: The ordinary life, and the full one.
LIVES: dict[str, dict[str, Any]] = {
    "small": {"people": 10},
    "full": {
        "people": 100,
        "names": ("alpha", "beta", "gamma", "delta", "epsilon"),
        "crashes": 4,
        "clock_steps": True,
        "hours": 1.0,
        "tick": 30.0,
        "workers": 100,
    },
}


@dataclass(frozen=True)
class Result:
    """What one seed came to."""

    seed: str
    fault: str
    steps: int
    met: Counter[str]
    happened: Counter[str]
    fingerprint: str  #: of everything that was written, in order


def live(seed: str) -> Result:
    """Run one seed, such as "small-17"."""
    kind = seed.partition("-")[0]
    # What is written is tested against power cuts elsewhere; here a commit need not reach any disk.
    database.PROFILE["synchronous"] = 0
    folder = Path(tempfile.mkdtemp(prefix="oo-sim-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    loop = SeededLoop(seed)
    world = World(seed, loop, folder, **LIVES[kind])
    world.database = open_database(folder / "oo.sqlite3", mounts="")
    fault = ""
    try:
        run(loop, world.life())
        fault = _faults(world)
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
    met = sum((provider.met for provider in world.providers.values()), Counter[str]())
    fingerprint = f"{loop.steps} {loop.time():.6f} {world.outbox_end}"
    world.database.close()
    shutil.rmtree(folder)
    return Result(seed, fault, loop.steps, met, world.happened, fingerprint)


def _faults(world: World) -> str:
    difference = world.difference()
    if difference:
        account, (truth, found) = next(iter(difference.items()))
        return f"{len(difference)} accounts differ; {account} has {truth}, the outbox says {found}"
    if doubled := world.doubled():
        return f"{len(doubled)} events are doubled"
    if any(grant.reused and not grant.lost for provider in world.providers.values() for grant in provider.grants):
        return "a spent refresh token was used again"
    # Every secret of every provider begins so.
    leaked = sum(path.read_bytes().count(CANARY.encode()) for path in world.folder.iterdir())
    return f"{leaked} tokens are readable in the database" if leaked else ""


def main(arguments: list[str]) -> int:
    """Run so many small seeds and a fiftieth as many full ones, from a first number on; or the seeds named."""
    if arguments and "-" in arguments[0]:
        seeds = arguments
    else:
        count, first = int(arguments[0]) if arguments else 500, int(arguments[1]) if len(arguments) > 1 else 0
        seeds = [f"full-{number}" for number in range(first, first + max(1, count // 50))]
        seeds += [f"small-{number}" for number in range(first, first + count)]
    began = time.perf_counter()
    met: Counter[str] = Counter()
    happened: Counter[str] = Counter()
    failed, steps = 0, 0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(live, seeds):
            met += result.met
            happened += result.happened
            steps += result.steps
            if result.fault:
                failed += 1
                print(f"seed {result.seed}: {result.fault}")
    missing = sorted({name for names in CATALOGUE.values() for name in names} - set(met))
    print("happened: " + ", ".join(f"{name} {count}" for name, count in sorted(happened.items())))
    print("behaviours never met: " + (", ".join(missing) or "none"))
    print(
        f"simulation: {len(seeds)} seeds, {failed} failed, {steps} steps, {len(met)} of {len(met) + len(missing)} behaviours, "
        f"{time.perf_counter() - began:.0f} s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
