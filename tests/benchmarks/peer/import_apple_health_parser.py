"""apple-health-parser reads an export into memory, and keeps it nowhere.

Run by its own environment's interpreter: export.
"""

import json
import sys
import tempfile
import time

from apple_health_parser.utils.parser import Parser

with tempfile.TemporaryDirectory() as folder:
    wall, cpu = time.perf_counter(), time.process_time()
    parser = Parser(sys.argv[1], output_dir=folder, overwrite=True)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
assert parser.flags
print(json.dumps({"wall_s": wall, "cpu_s": cpu}))
