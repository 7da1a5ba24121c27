"""NATS JetStream with sync_interval always: events published with acks in flight, and fetched. Run by its own environment: settings."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import nats

given = json.loads(sys.argv[1])
write, batch = min(given["write"], 10_000), given["batch"]
program = Path(sys.executable).with_name("nats-server")


def address(said: Iterable[str]) -> str:
    """Where the server listens, from what it says until it is ready."""
    place = ""
    for line in said:
        place = line.rpartition(" on ")[2].strip() if "Listening for client connections" in line else place
        if "Server is ready" in line:
            return f"nats://{place}"
    raise SystemExit("nats-server did not start")


async def main(place: str) -> dict[str, float]:
    """Publish and fetch."""
    client = await nats.connect(place)
    stream = client.jetstream()
    await stream.add_stream(name="events", subjects=["events"])
    body, figures = bytes(300), {}
    wall, spent = time.perf_counter(), time.process_time()
    for _ in range(0, write, batch):
        await asyncio.gather(*(stream.publish("events", body) for _ in range(batch)))
    count = -(-write // batch) * batch
    figures["accept_per_s"] = count / (time.perf_counter() - wall)
    figures["accept_us"] = (time.process_time() - spent) / count * 1e6
    reader = await stream.pull_subscribe("events", durable="bench")
    wall, spent, read = time.perf_counter(), time.process_time(), 0
    while read < count:
        some = await reader.fetch(500, timeout=5)
        for message in some:
            await message.ack()
        read += len(some)
    figures["read_per_s"] = read / (time.perf_counter() - wall)
    figures["read_us"] = (time.process_time() - spent) / read * 1e6
    await client.close()
    return figures


with tempfile.TemporaryDirectory() as folder:
    config = Path(folder) / "nats.conf"
    config.write_text(f'listen: 127.0.0.1:-1\njetstream {{ store_dir: "{folder}/js", sync_interval: always }}\n')
    server = subprocess.Popen([program, "-c", config], stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        figures = asyncio.run(main(address(server.stderr)))
    finally:
        server.terminate()
        server.wait()
print(json.dumps(figures))
