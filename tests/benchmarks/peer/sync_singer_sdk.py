"""A Singer SDK tap reads the feed and writes its messages to a file that nobody reads.

Run by its own environment's interpreter: address, objects.
"""

import json
import os
import sys
import tempfile
import time

from singer_sdk import RESTStream, Tap
from singer_sdk import typing as th
from singer_sdk.pagination import BaseAPIPaginator

address, objects = sys.argv[1], int(sys.argv[2])


class Pages(BaseAPIPaginator):
    """By cursor."""

    def get_next(self, response):
        """The cursor of the next page."""
        return response.json()["cursor"]

    def has_more(self, response):
        """As the page says."""
        return response.json()["more"]


class Tasks(RESTStream):
    """The feed."""

    name = "tasks"
    path = "/changes"
    url_base = address
    primary_keys = ("id",)
    records_jsonpath = "$.changes[*]"
    schema = th.PropertiesList(
        th.Property("id", th.StringType),
        th.Property("title", th.StringType),
        th.Property("description", th.StringType),
        th.Property("labels", th.ArrayType(th.StringType)),
        th.Property("project", th.StringType),
        th.Property("changed_at", th.DateTimeType),
        th.Property("version", th.StringType),
    ).to_dict()

    def get_new_paginator(self):
        """Pages."""
        return Pages(0)

    def get_url_params(self, context, next_page_token):
        """Where to go on."""
        return {"cursor": next_page_token or 0}


class Feed(Tap):
    """The tap."""

    name = "tap-feed"
    config_jsonschema = th.PropertiesList().to_dict()

    def discover_streams(self):
        """One stream."""
        return [Tasks(self)]


said = os.dup(1)
with tempfile.TemporaryFile("w+") as nowhere:
    os.dup2(nowhere.fileno(), 1)  # whatever way it takes to standard output
    tap = Feed(config={})
    wall, spent = time.perf_counter(), time.process_time()
    tap.sync_all()
    sys.stdout.flush()
    wall, spent = time.perf_counter() - wall, time.process_time() - spent
    os.dup2(said, 1)
    nowhere.seek(0)
    assert sum('"RECORD"' in line for line in nowhere) == objects
print(json.dumps({"wall_s": wall, "cpu_s": spent, "per_s": objects / wall, "cpu_us": spent / objects * 1e6}))
