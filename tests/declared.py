"""What connectors of tests declare that they store, where a test is about something else: all of it."""

from __future__ import annotations

from google.protobuf.message import Message

from oo_sdk import Stored


def everything(*messages: type[Message]) -> tuple[Stored, ...]:
    """Whatever it is called, with every field of these messages."""
    fields = {name for message in messages for name in message.DESCRIPTOR.fields_by_name}
    return (Stored("*", "whatever a test tells", "try it out", tuple(sorted(fields))),)
