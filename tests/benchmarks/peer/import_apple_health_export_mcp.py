"""apple-health-export-mcp reads an export into its SQLite file.

Run by its own environment's interpreter: export.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from apple_health_export_mcp.ingest import ingest

with tempfile.TemporaryDirectory() as folder:
    wall, cpu = time.perf_counter(), time.process_time()
    counts = ingest(Path(sys.argv[1]), Path(folder) / "health.db", progress=lambda *_: None)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
assert counts["record"]
print(json.dumps({"wall_s": wall, "cpu_s": cpu}))
