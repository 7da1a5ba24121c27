"""Procrastinate runs one task for each connection that is due. Run by its own environment's interpreter: settings as JSON.

Its CPU is that of the worker alone; PostgreSQL's comes on top and is not counted.
"""

import asyncio
import json
import sys
import time

import procrastinate

given = json.loads(sys.argv[1])
count = int(given["rows"] / 300 * given["seconds"])
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=given["address"]))
done = 0


@app.task(name="nothing")
async def nothing() -> None:
    """Count."""
    global done
    done += 1


async def main() -> dict[str, float]:
    """Run what is due of so many seconds."""
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await nothing.batch_defer_async(*({} for _ in range(count)))
        wall, spent = time.perf_counter(), time.process_time()
        await app.run_worker_async(concurrency=16, wait=False, install_signal_handlers=False)
        wall, spent = time.perf_counter() - wall, time.process_time() - spent
    assert done == count
    return {"dispatched": done, "cpu_us": spent / done * 1e6, "per_s": done / wall}


print(json.dumps(asyncio.run(main())))
