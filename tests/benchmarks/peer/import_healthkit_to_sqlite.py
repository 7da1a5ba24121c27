"""healthkit-to-sqlite reads an export into its SQLite file.

Run by its own environment's interpreter: export.
"""

import json
import sys
import tempfile
import time

from healthkit_to_sqlite.cli import cli

with tempfile.TemporaryDirectory() as folder:
    wall, cpu = time.perf_counter(), time.process_time()
    cli([sys.argv[1], f"{folder}/health.db", "--silent"], standalone_mode=False)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps({"wall_s": wall, "cpu_s": cpu}))
