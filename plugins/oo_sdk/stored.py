"""What a connector says of what is kept of each thing, and what for: a person reads it before allowing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from oo_sdk.errors import ConnectorBug

if TYPE_CHECKING:
    from oo_sdk.connector import Connector

#: Stands for every event that has no declaration of its own.
ANY = "*"


@dataclass(frozen=True, slots=True)
class Stored:
    """What is kept of the events of one name, and what for: fields of their payloads that it does not name are dropped before that.

    People read it as one sentence. `Stored("note", "the titles of your notes", "show them where you look for them", ("title",))` is
    "The titles of your notes, to show them where you look for them."
    """

    name: str  #: of the events; "*": of all that have no declaration of their own
    what: str  #: continues "oO keeps"
    purpose: str  #: continues "to"
    fields: Sequence[str]  #: of the payload, as its message calls them

    @property
    def sentence(self) -> str:
        """What and what for, for the person."""
        return f"{self.what[:1].upper()}{self.what[1:]}, to {self.purpose}."


def undeclared(connector: Connector, name: str, payload: Message) -> frozenset[str]:
    """The fields of a payload that are not kept. Raises `ConnectorBug` for events that nothing is declared of."""
    stored = None
    for each in connector.stores:
        if each.name == name:
            return _others(tuple(each.fields), payload.DESCRIPTOR)
        if each.name == ANY:
            stored = each
    if stored is None:
        raise ConnectorBug(f"{connector.id} tells a {name}, which it does not declare in `stores`: say what is kept of it, and what for")
    return _others(tuple(stored.fields), payload.DESCRIPTOR)


@lru_cache(maxsize=1024)
def _others(fields: tuple[str, ...], message: Descriptor) -> frozenset[str]:
    return frozenset(message.fields_by_name) - frozenset(fields)


def drop_undeclared(connector: Connector, name: str, payload: Message) -> None:
    """Take out of a payload what is not kept. Raises `ConnectorBug`."""
    if others := undeclared(connector, name, payload):
        for field, _ in payload.ListFields():
            if field.name in others:
                payload.ClearField(field.name)
