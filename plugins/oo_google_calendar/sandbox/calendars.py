"""Calendars and what is in them. Every change has a position; the journal of positions gives what changed since any of them.

Bodies are never changed in place; each change is a new body.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from oo_google_calendar.sandbox import almanac

Json = dict[str, Any]

ROLES = ("none", "freeBusyReader", "reader", "writerWithoutPrivateAccess", "writer", "owner")
#: What somebody sees who only sees when another is busy.
BUSY = {"kind", "etag", "id", "status", "htmlLink", "updated", "start", "end", "recurrence", "recurringEventId", "originalStartTime"}
BUSY |= {"iCalUID", "eventType", "transparency"}


@dataclass(slots=True)
class Journal:
    """Bodies by id, and the order in which they last changed."""

    bodies: dict[str, Json] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    _positions: list[int] = field(default_factory=list)
    _ids: list[str] = field(default_factory=list)

    def put(self, position: int, id_: str, body: Json) -> None:
        """Record a new or changed body."""
        self.bodies[id_] = body
        self.changed[id_] = position
        self._positions.append(position)
        self._ids.append(id_)

    def between(self, after: int, until: int) -> Iterator[tuple[int, str]]:
        """Give what changed in between and not since, as (position, id), in order."""
        start = bisect_right(self._positions, after)
        for position, id_ in zip(self._positions[start:], self._ids[start:], strict=True):
            if position > until:
                return
            if self.changed[id_] == position:
                yield position, id_


@dataclass(slots=True, kw_only=True)
class Calendar:
    """One calendar. A person's own first one has their address as its id."""

    id: str
    summary: str
    zone: str
    owner: str
    roles: dict[str, str]  #: address → role
    entries: Journal = field(default_factory=Journal)
    occurrences: dict[str, set[str]] = field(default_factory=dict)  #: series → ids of its exceptions
    deleted: bool = False

    def put(self, position: int, body: Json) -> None:
        """Record a new or changed entry."""
        self.entries.put(position, body["id"], body)
        if series := body.get("recurringEventId"):
            self.occurrences.setdefault(series, set()).add(body["id"])

    def live(self, id_: str) -> Json | None:
        """Give an entry that was not deleted; an exception of a deleted series is deleted with it."""
        body = self.entries.bodies.get(id_)
        return body if body is not None and not self.is_gone(body) else None

    def is_gone(self, body: Json) -> bool:
        """Say whether an entry was deleted. An occurrence that was called off is there as long as its series."""
        series = body.get("recurringEventId")
        if series is None:
            return bool(body["status"] == "cancelled")
        master = self.entries.bodies.get(series)
        return bool((body if master is None else master)["status"] == "cancelled")

    def instance(self, master: Json, stamp: str) -> Json:
        """Give an occurrence of a series as its rule has it."""
        zone = ZoneInfo(master["start"].get("timeZone") or self.zone)
        original = from_stamp(stamp, zone)
        left = {name: value for name, value in master.items() if name not in {"recurrence"}}
        return {
            **left,
            "id": f"{master['id']}_{stamp}",
            "recurringEventId": master["id"],
            "originalStartTime": original,
            "start": original,
            "end": shifted(original, length(master)),
        }

    def instances(self, master: Json, until: datetime) -> Iterator[Json]:
        """Give every occurrence of a series up to a moment, exceptions in their place."""
        exceptions = {
            stamp_of(body["originalStartTime"]): body
            for body in (self.entries.bodies[id_] for id_ in self.occurrences.get(master["id"], ()))
        }
        told = set()
        start = {"timeZone": self.zone, **master["start"]}
        for stamp in almanac.occurrences(master["recurrence"], start, until):
            told.add(stamp)
            yield exceptions.get(stamp) or self.instance(master, stamp)
        yield from (body for stamp, body in exceptions.items() if stamp not in told)

    def shown(self, body: Json, viewer: str, zone: str | None, role: str) -> Json:
        """Show an entry as a person gets it: times in one zone, themselves marked, no more than they may see."""
        if body.get("status") == "cancelled" and "start" not in body:
            return dict(body)
        kept = dict(body) if role != "freeBusyReader" else {name: body[name] for name in body if name in BUSY}
        rendered = ZoneInfo(zone or self.zone)
        for name in ("start", "end", "originalStartTime"):
            if "dateTime" in kept.get(name, {}):
                moment = datetime.fromisoformat(kept[name]["dateTime"]).astimezone(rendered)
                kept[name] = {"dateTime": written(moment), "timeZone": kept[name].get("timeZone") or self.zone}
        if "attendees" in kept:
            kept["attendees"] = [marked(guest, guest["email"] == self.id) for guest in kept["attendees"]]
        for name in ("creator", "organizer"):
            if name in kept:
                kept[name] = marked(kept[name], kept[name]["email"] == self.id)
        return kept


def marked(someone: Json, own: bool) -> Json:
    """Mark who it is, or not."""
    plain = {name: value for name, value in someone.items() if name != "self"}
    return {**plain, "self": True} if own else plain


def written(moment: datetime) -> str:
    """Write a moment as the API does: seconds, and an offset or Z."""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def moment_of(time: Json) -> datetime:
    """Give a day's begin or an instant, to compare by."""
    if "date" in time:
        return datetime.fromisoformat(time["date"]).replace(tzinfo=UTC)
    return datetime.fromisoformat(time["dateTime"]).astimezone(UTC)


def stamp_of(time: Json) -> str:
    """Write a start as ids of occurrences end."""
    moment = moment_of(time)
    return f"{moment:%Y%m%d}" if "date" in time else f"{moment:%Y%m%dT%H%M%SZ}"


def from_stamp(stamp: str, zone: ZoneInfo) -> Json:
    """Read the start that the id of an occurrence ends with."""
    if "T" not in stamp:
        return {"date": f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}"}
    moment = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).astimezone(zone)
    return {"dateTime": written(moment), "timeZone": zone.key}


def length(body: Json) -> timedelta:
    """Say how long an entry takes."""
    return moment_of(body["end"]) - moment_of(body["start"])


def shifted(start: Json, by: timedelta) -> Json:
    """Give the end of an entry that begins then."""
    if "date" in start:
        return {"date": (moment_of(start) + by).date().isoformat()}
    zone = ZoneInfo(start["timeZone"])
    return {"dateTime": written((moment_of(start) + by).astimezone(zone)), "timeZone": start["timeZone"]}
