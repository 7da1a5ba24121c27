"""What one Todoist user has, and every change to it in order.

The journal is the truth: it gives an incremental sync, a full sync as of any earlier moment, and the live objects.
Bodies are never changed in place; each change is a new body.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Json = dict[str, Any]

#: the kinds of objects, by the names they have in a sync answer
KINDS = ("projects", "sections", "items", "labels", "notes", "project_notes", "filters", "reminders")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One change: what an object looked like from this moment on."""

    at: datetime
    kind: str  #: one of KINDS, or "user"
    id: str
    body: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a command that succeeded left behind; kept so that its uuid is not executed again."""

    temp_id: str | None
    made: str | None  #: id of the object it made


class Account:
    """One user's objects. A position is the number of changes so far."""

    def __init__(self, user: Json, at: datetime) -> None:
        self.journal: list[Entry] = []
        self.done: dict[str, Done] = {}  #: by command uuid
        self.rounds: list[Json] = []  #: recurring tasks as they were when a round of them was completed
        self._live: dict[str, dict[str, Json]] = {kind: {} for kind in (*KINDS, "user")}
        self.id: str = user["id"]
        self.put("user", user, at)

    @property
    def user(self) -> Json:
        """The user as a sync answer has it."""
        return self._live["user"][self.id]

    @property
    def position(self) -> int:
        """How many changes there have been."""
        return len(self.journal)

    def put(self, kind: str, body: Json, at: datetime) -> None:
        """Record a new or changed object."""
        self.journal.append(Entry(at=at, kind=kind, id=body["id"], body=body))
        self._live[kind][body["id"]] = body

    def find(self, kind: str, id_: str) -> Json | None:
        """Give an object that was not deleted, completed and archived ones included."""
        body = self._live[kind].get(id_)
        return None if body is None or body["is_deleted"] else body

    def every(self, kind: str) -> Iterator[Json]:
        """Give the objects that were not deleted, oldest first."""
        return (body for body in list(self._live[kind].values()) if not body["is_deleted"])

    def since(self, position: int) -> dict[str, list[Json]]:
        """Give what changed after a position, each object once and whole, by kind."""
        latest = {(entry.kind, entry.id): entry.body for entry in self.journal[position:]}
        changed: dict[str, list[Json]] = {}
        for (kind, _), body in latest.items():
            changed.setdefault(kind, []).append(body)
        return changed

    def position_at(self, moment: datetime) -> int:
        """Give the position that the account was at then."""
        return next((count for count, entry in enumerate(self.journal) if entry.at > moment), len(self.journal))

    def active(self, position: int | None = None) -> dict[str, list[Json]]:
        """Give what a full sync gives: nothing deleted, completed or archived, now or as of a position."""
        there = self._live if position is None else self._at(position)
        kept = {kind: {id_: body for id_, body in there[kind].items() if not body["is_deleted"]} for kind in KINDS}
        for kind in ("projects", "sections"):
            kept[kind] = {id_: body for id_, body in kept[kind].items() if not body["is_archived"]}
        kept["sections"] = {id_: body for id_, body in kept["sections"].items() if body["project_id"] in kept["projects"]}
        kept["items"] = {
            id_: body
            for id_, body in kept["items"].items()
            if not body["checked"]
            and body["project_id"] in kept["projects"]
            and (body["section_id"] is None or body["section_id"] in kept["sections"])
        }
        for kind, owner, owners in (
            ("notes", "item_id", "items"),
            ("reminders", "item_id", "items"),
            ("project_notes", "project_id", "projects"),
        ):
            kept[kind] = {id_: body for id_, body in kept[kind].items() if body[owner] in kept[owners]}
        return {"user": list(there["user"].values()), **{kind: list(bodies.values()) for kind, bodies in kept.items()}}

    def _at(self, position: int) -> dict[str, dict[str, Json]]:
        there: dict[str, dict[str, Json]] = {kind: {} for kind in (*KINDS, "user")}
        for entry in self.journal[:position]:
            there[entry.kind][entry.id] = entry.body
        return there
