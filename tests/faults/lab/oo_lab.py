"""Lab: a provider that is one growing file, and pushes of messages. A line of the file says what a note is from now on. And a sink.

Some notes and messages do what no plugin should: `exit` ends the process, `sleep` keeps it from everything else for some seconds.
"""

import os
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from oo_sdk import (
    Change,
    Checkpoint,
    Connector,
    Context,
    Cursor,
    Delivery,
    Event,
    HmacScheme,
    News,
    Nudge,
    OAuth2,
    Scope,
    Signal,
    Sink,
    Stored,
    Struct,
    decode,
    hookimpl,
)
from oo_sdk.events import NormalizedEvent
from oo_sdk.vocabulary import Document

#: Lines between two checkpoints.
EVERY = 10


class Pushed(Struct):
    """The body of a push."""

    account: str
    message: str


class Lab(Connector):
    """Knows the file."""

    id = "lab"
    title = "Lab"
    auth = OAuth2(authorize="https://lab.example/authorize", token="https://lab.example/token", revoke="https://lab.example/revoke")
    scopes = (Scope("read", "Read your notes."),)
    stores = (Stored("note", "your notes", "try things out", ("title",)), Stored("message", "your messages", "try things out", ("title",)))
    hosts = ("lab.example",)
    webhooks = HmacScheme(header="X-Lab-Signature", id_header="X-Lab-Delivery")

    class Settings(Connector.Settings):
        """Where the file is."""

        feed: str

    settings: Settings

    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        """Read on."""
        begin: int = since["read"] if since else 0
        lines = [line for line in Path(self.settings.feed).read_text().splitlines(keepends=True) if line.endswith("\n")]
        for number, line in enumerate(lines[begin:], begin + 1):
            subject, title = line.split()
            _misbehave(subject)
            yield Event("note", subject, Change.UPSERTED, payload=Document(title=title), order=number)
            if number % EVERY == 0:
                yield Checkpoint({"read": number})
        yield Checkpoint({"read": len(lines)})

    async def route(self, delivery: Delivery) -> Sequence[str]:
        """Say whose it is."""
        return [decode(delivery.body, Pushed).account]

    async def read(self, delivery: Delivery) -> Sequence[News]:
        """A message, and a sign that the file may have grown."""
        message = decode(delivery.body, Pushed).message
        _misbehave(message)
        return [Event("message", message, Change.OCCURRED, payload=Document(title=message)), Nudge()]


class LabSink(Sink):
    """Takes everything but one note, over which it ends the process."""

    id = "lab_sink"

    async def deliver(self, events: Sequence[NormalizedEvent]) -> None:
        """Take them."""
        for event in events:
            if event.subject == "n-deadly":
                os._exit(1)


def _misbehave(word: str) -> None:
    what, _, seconds = word.partition("-")
    if what == "exit":
        os._exit(1)
    if what == "sleep":
        time.sleep(float(seconds))


@hookimpl
def oo_connectors() -> list[Connector]:
    """Offer it."""
    return [Lab()]


@hookimpl
def oo_sinks() -> list[Sink]:
    """Offer it."""
    return [LabSink()]
