"""A sink that keeps events in a file, one JSON object a line."""

import asyncio
import os
from collections.abc import Sequence

from google.protobuf.json_format import MessageToJson

from oo_sdk import NormalizedEvent, Sink, hookimpl


class AcmeFile(Sink):
    id = "acme_file"

    class Settings(Sink.Settings):
        path: str

    settings: Settings

    async def deliver(self, events: Sequence[NormalizedEvent]) -> None:
        lines = "".join(f"{MessageToJson(event, indent=None)}\n" for event in events)
        await asyncio.to_thread(self.append, lines)

    def append(self, lines: str) -> None:
        with open(self.settings.path, "a") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())


@hookimpl
def oo_sinks() -> list[Sink]:
    return [AcmeFile()]
