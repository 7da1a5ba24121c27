"""One side in a process of its own: `python -m benchmarks.side module:function '{settings}'` prints its figures as a line of JSON."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def timed(figures: dict[str, float], count: int) -> Iterator[None]:
    """Measure what the block does to `count` things: wall and CPU seconds, things a second, CPU microseconds a thing."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    figures |= {"wall_s": wall, "cpu_s": cpu, "per_s": count / wall, "cpu_us": cpu / count * 1e6}


def main() -> None:
    """Run it."""
    where, given = sys.argv[1:]
    module, _, name = where.partition(":")
    function = getattr(importlib.import_module(f"benchmarks.{module}"), name)
    result = function(**json.loads(given))
    figures = asyncio.run(result) if inspect.iscoroutine(result) else result
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
