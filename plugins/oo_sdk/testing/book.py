"""The book of the tests: what the daemon would know after a sync, in a dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from oo_sdk.errors import Unreadable
from oo_sdk.events import Change, Checkpoint, Event, Listing, Signal

#: Name and subject; what occurred has its key too.
Key: TypeAlias = tuple[str, str, str]


@dataclass(kw_only=True)
class Kept:
    """What is durable together with a cursor."""

    cursor: Any = None
    objects: dict[Key, bytes | None] = field(default_factory=dict)  #: payload as bytes; None: gone
    shown: set[Key] | None = None  #: by the listing under way


@dataclass(kw_only=True)
class Book:
    """Takes signals in turn. `changes` counts those that told something new."""

    kept: Kept = field(default_factory=Kept)  #: as of the newest checkpoint
    now: Kept = field(default_factory=Kept)
    changes: int = 0
    unreadable: int = 0

    def take(self, signal: Signal) -> None:
        """Take one signal as the daemon does."""
        match signal:
            case Event():
                self._event(signal)
            case Listing():
                self.now.shown = set()
            case Checkpoint():
                self._checkpoint(signal)
            case Unreadable():
                self.unreadable += 1

    def crash(self, *, lose: bool) -> None:
        """Die: the cursor is the newest checkpoint's; what came after it was lost, or was already kept."""
        cursor = self.kept.cursor
        if lose:
            self.now = deepcopy(self.kept)
        self.now.cursor = cursor

    def _event(self, event: Event) -> None:
        key = (event.name, event.subject, (event.key or event.subject) if event.change is Change.OCCURRED else "")
        body = (
            None
            if event.change is Change.DELETED
            else b""
            if event.payload is None
            else event.payload.SerializeToString(deterministic=True)
        )
        known = self.now.objects.get(key)
        if key not in self.now.objects and body is None:
            return
        if key not in self.now.objects or (known != body and event.change is not Change.OCCURRED):
            self.changes += 1
        if event.change is not Change.OCCURRED or key not in self.now.objects:
            self.now.objects[key] = body
        if self.now.shown is not None:
            self.now.shown.add(key)

    def _checkpoint(self, checkpoint: Checkpoint) -> None:
        if checkpoint.listed:
            shown = self.now.shown or set()
            for key, body in self.now.objects.items():
                inside = key[1].startswith(checkpoint.within) if checkpoint.within else True
                if body is not None and key[0] in checkpoint.listed and inside and key not in shown:
                    self.now.objects[key] = None
                    self.changes += 1
            self.now.shown = None
        self.now.cursor = plain(checkpoint.cursor)
        self.kept = deepcopy(self.now)

    def living(self) -> Mapping[Key, bytes]:
        """What exists."""
        return {key: body for key, body in self.now.objects.items() if body is not None}


def plain(cursor: Mapping[str, Any]) -> Any:
    """The cursor as it comes back from the store."""
    return msgspec.json.decode(msgspec.json.encode(cursor))
