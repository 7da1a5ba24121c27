"""A source of the airbyte-cdk reads the feed, and its messages go nowhere. Run by its own environment's interpreter: address, objects."""

import json
import logging
import sys
import time

from airbyte_cdk.entrypoint import AirbyteEntrypoint
from airbyte_cdk.models import AirbyteStream, ConfiguredAirbyteCatalog, ConfiguredAirbyteStream, DestinationSyncMode, SyncMode, Type
from airbyte_cdk.sources import AbstractSource
from airbyte_cdk.sources.streams.http import HttpStream

address, objects = sys.argv[1], int(sys.argv[2])
SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("id", "title", "description", "project", "changed_at", "version")}
    | {"labels": {"type": "array", "items": {"type": "string"}}},
}


class Tasks(HttpStream):
    """The feed."""

    name = "tasks"
    url_base = f"{address}/"
    primary_key = "id"

    def path(self, **_):
        """Where it is."""
        return "changes"

    def next_page_token(self, response):
        """The cursor of the next page."""
        page = response.json()
        return {"cursor": page["cursor"]} if page["more"] else None

    def request_params(self, stream_state=None, stream_slice=None, next_page_token=None):
        """Where to go on."""
        return next_page_token or {"cursor": 0}

    def parse_response(self, response, **_):
        """Its items."""
        yield from response.json()["changes"]

    def get_json_schema(self):
        """Their shape."""
        return SCHEMA


class Feed(AbstractSource):
    """The source."""

    def check_connection(self, logger, config):
        """It is there."""
        return True, None

    def streams(self, config):
        """One stream."""
        return [Tasks()]


catalog = ConfiguredAirbyteCatalog(
    streams=[
        ConfiguredAirbyteStream(
            stream=AirbyteStream(name="tasks", json_schema=SCHEMA, supported_sync_modes=[SyncMode.full_refresh]),
            sync_mode=SyncMode.full_refresh,
            destination_sync_mode=DestinationSyncMode.append,
        )
    ]
)
logging.disable(logging.CRITICAL)
wall, spent = time.perf_counter(), time.process_time()
count = 0
for message in Feed().read(logging.getLogger("airbyte"), {}, catalog, []):
    AirbyteEntrypoint.airbyte_message_to_string(message)  # as its entry point does before it prints
    count += message.type == Type.RECORD
wall, spent = time.perf_counter() - wall, time.process_time() - spent
assert count == objects, count
print(json.dumps({"wall_s": wall, "cpu_s": spent, "per_s": objects / wall, "cpu_us": spent / objects * 1e6}))
