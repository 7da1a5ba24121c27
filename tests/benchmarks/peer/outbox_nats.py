"""NATS JetStream with sync_interval always: events published with acks in flight, and fetched. Run by its own environment: settings."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nats

given = json.loads(sys.argv[1])
write, batch = min(given["write"], 10_000), given["batch"]
program = Path(sys.executable).with_name("nats-server")


async def main(folder: str) -> dict[str, float]:
    """Publish and fetch."""
    for _ in range(200):
        if ports := list(Path(folder).glob("*.ports")):
            break
        await asyncio.sleep(0.02)  # before anything is measured
    client = await nats.connect(json.loads(ports[0].read_text())["nats"][0])
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
    config.write_text(
        f'listen: 127.0.0.1:-1\nports_file_dir: "{folder}"\njetstream {{ store_dir: "{folder}/js", sync_interval: always }}\n'
    )
    server = subprocess.Popen([program, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        figures = asyncio.run(main(folder))
    finally:
        server.terminate()
        server.wait()
print(json.dumps(figures))
