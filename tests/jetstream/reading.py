"""A consumer of the stream by plain nats-py, as somebody else would write it."""

from __future__ import annotations

from dataclasses import dataclass

import nats
from nats.aio.msg import Msg

from oo_sdk import NormalizedEvent, cloudevents


@dataclass(frozen=True, slots=True)
class Read:
    """One message."""

    id: str
    subject: str
    event: NormalizedEvent
    message: Msg


async def everything(url: str, stream: str = "oo") -> list[Read]:
    """All that the stream holds, in its order; an id may stand there twice."""
    client = await nats.connect(url, allow_reconnect=False)
    try:
        jetstream = client.jetstream()
        count = (await jetstream.stream_info(stream)).state.messages
        reader = await jetstream.pull_subscribe(">", stream=stream)
        found: list[Read] = []
        while len(found) < count:
            for message in await reader.fetch(min(500, count - len(found)), timeout=10):
                headers = dict(message.headers or {})
                found.append(Read(headers["ce-id"], message.subject, cloudevents.from_binary(headers, message.data), message))
                await message.ack()
        return found
    finally:
        await client.close()


def once(found: list[Read]) -> list[Read]:
    """Each event the first time that it comes, as whoever reads it goes on."""
    return list({read.id: read for read in reversed(found)}.values())[::-1]
