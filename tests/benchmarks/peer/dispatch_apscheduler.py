"""Stock APScheduler with a job in memory for each connection. Run by its own environment's interpreter: settings as JSON."""

import asyncio
import json
import sys
import time
from datetime import UTC, datetime

from apscheduler.schedulers.asyncio import AsyncIOScheduler

given = json.loads(sys.argv[1])
rows, seconds, interval = int(given["rows"]), given["seconds"], 300.0
waits: list[float] = []


async def nothing(due: float) -> None:
    """Say how late it is."""
    waits.append(time.time() - due)


async def main() -> dict[str, float]:
    """Run for a while."""
    scheduler = AsyncIOScheduler(timezone=UTC)
    began = time.perf_counter()
    start = time.time() + max(1, rows / 4000)  # adding a job takes a seventh of a millisecond
    for number in range(rows):
        due = start + number * interval / rows
        scheduler.add_job(
            nothing,
            "interval",
            seconds=interval,
            args=[due],
            next_run_time=datetime.fromtimestamp(due, UTC),
            misfire_grace_time=None,
        )
    scheduler.start()
    started = time.perf_counter() - began
    await asyncio.sleep(max(0.0, start - time.time()))
    waits.clear()
    spent = time.process_time()
    await asyncio.sleep(seconds)
    spent = time.process_time() - spent
    ordered = sorted(waits)
    return {
        "start_ms": started * 1000,
        "dispatched": len(waits),
        "cpu_us": spent / max(1, len(waits)) * 1e6,
        "late_p50_ms": ordered[len(ordered) // 2] * 1000,
        "late_p99_ms": ordered[int(len(ordered) * 0.99)] * 1000,
    }


print(json.dumps(asyncio.run(main())))
