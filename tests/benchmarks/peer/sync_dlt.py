"""dlt reads the feed into DuckDB. Run by its own environment's interpreter: address, number of objects."""

import json
import resource
import sys
import tempfile
import time

import dlt
from dlt.common.pendulum import pendulum  # noqa: F401  # imported before the clock starts
from dlt.sources.helpers import requests

address, objects = sys.argv[1], int(sys.argv[2])


@dlt.resource(name="tasks", write_disposition="append")
def tasks():
    """The feed, a page at a time."""
    session = requests.Client().session
    cursor, more = 0, True
    while more:
        page = session.get(f"{address}/changes", params={"cursor": cursor}).json()
        yield page["changes"]
        cursor, more = page["cursor"], page["more"]


def cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


with tempfile.TemporaryDirectory() as folder:
    pipeline = dlt.pipeline(
        "bench", pipelines_dir=folder, destination=dlt.destinations.duckdb(f"{folder}/bench.duckdb"), dataset_name="feed"
    )
    wall, began = time.perf_counter(), cpu()
    pipeline.run(tasks())
    wall, spent = time.perf_counter() - wall, cpu() - began
    with pipeline.sql_client() as client:
        assert client.execute_sql("SELECT count(*) FROM tasks")[0][0] == objects
print(json.dumps({"wall_s": wall, "cpu_s": spent, "per_s": objects / wall, "cpu_us": spent / objects * 1e6}))
