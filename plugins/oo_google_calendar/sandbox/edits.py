"""Changing entries: what may be written, by whom, and what follows from it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from oo_google_calendar.sandbox import almanac
from oo_google_calendar.sandbox.calendars import Calendar, from_stamp, moment_of, written
from oo_google_calendar.sandbox.misbehaviour import Misbehaviour
from oo_google_calendar.sandbox.refusals import Refusal, changed, deleted, forbidden, invalid, not_found, required
from oo_google_calendar.sandbox.world import World

Json = dict[str, Any]

#: Members that are Google's to write.
READ_ONLY = {"kind", "etag", "created", "updated", "creator", "organizer", "htmlLink", "hangoutLink", "recurringEventId", "locked"}
READ_ONLY |= {"originalStartTime", "attendeesOmitted", "privateCopy", "iCalUID"}
#: What a guest may change in their own copy.
GUESTS = {"attendees", "reminders", "colorId", "extendedProperties", "transparency", "visibility"}
_ID = re.compile(r"[a-v0-9]{5,1024}")
_INSTANCE = re.compile(r"(.+)_(\d{8}(?:T\d{6}Z)?)")
_WORDS = {
    "status": {"confirmed", "tentative", "cancelled"},
    "transparency": {"opaque", "transparent"},
    "visibility": {"default", "public", "private", "confidential"},
}


class Edits:
    """Writing to the calendars of one world."""

    def __init__(self, world: World, misbehaviour: Misbehaviour) -> None:
        self._world = world
        self._misbehaviour = misbehaviour

    def find(self, calendar: Calendar, id_: str) -> Json:
        """Give an entry, a cancelled one too, or an occurrence of a series as its rule has it."""
        body = calendar.entries.bodies.get(id_)
        if body is not None:
            return body
        found = _INSTANCE.fullmatch(id_)
        master = calendar.live(found[1]) if found else None
        if found is None or master is None or "recurrence" not in master:
            raise not_found()
        start = {"timeZone": calendar.zone, **master["start"]}
        moment = moment_of(from_stamp(found[2], ZoneInfo("UTC")))
        if found[2] not in almanac.occurrences(master["recurrence"], start, moment):
            raise not_found()
        return calendar.instance(master, found[2])

    def insert(self, calendar: Calendar, email: str, asked: Json) -> Json:
        """Make an entry."""
        id_ = asked.get("id", self._world.new_id())
        if not isinstance(id_, str) or not _ID.fullmatch(id_):
            raise invalid("id", "Invalid resource id value.")
        if id_ in calendar.entries.bodies:
            raise Refusal(409, "duplicate", "The requested identifier already exists.")
        now = self._now()
        person = {"email": email}
        body = {
            "kind": "calendar#event",
            "id": id_,
            "status": "confirmed",
            "htmlLink": f"https://www.google.com/calendar/event?eid={id_}",
            "created": now,
            "creator": person,
            "organizer": {"email": calendar.id} if calendar.id == email else {"email": calendar.id, "displayName": calendar.summary},
            "iCalUID": asked.get("iCalUID", f"{id_}@google.com"),
            "sequence": 0,
            "reminders": {"useDefault": True},
            "eventType": "default",
        }
        return self._write(calendar, None, _merged(body, _writable(asked)))

    def update(self, calendar: Calendar, email: str, id_: str, asked: Json, *, if_match: str | None, whole: bool) -> Json:
        """Change an entry: all of it, or the members that are given."""
        before = self.find(calendar, id_)
        self._match(before, if_match)
        kept = (
            {name: value for name, value in before.items() if name in READ_ONLY | {"id", "status", "sequence", "eventType"}}
            if whole
            else before
        )
        after = _merged(kept, _writable(asked))
        own = before["organizer"]["email"] == calendar.id if "organizer" in before else True
        if not own:
            self._as_guest(calendar, before, after)
        return self._write(calendar, before, after)

    def delete(self, calendar: Calendar, id_: str, *, if_match: str | None) -> None:
        """Delete an entry; of a series, an occurrence is called off."""
        before = self.find(calendar, id_)
        if calendar.is_gone(before) or before["status"] == "cancelled":
            raise deleted()
        self._match(before, if_match)
        if "recurringEventId" in before:
            after = {name: before[name] for name in ("kind", "id", "recurringEventId", "originalStartTime")}
            self._world.put(calendar, {**after, "status": "cancelled"})
            return
        self._world.put(calendar, {**before, "status": "cancelled", "updated": self._now()})
        silent = self._misbehaviour.take("silent_occurrences") is not None if "recurrence" in before else False
        for each in sorted(calendar.occurrences.pop(id_, ())):
            exception = {name: calendar.entries.bodies[each][name] for name in ("kind", "id", "recurringEventId", "originalStartTime")}
            self._world.put(calendar, {**exception, "status": "cancelled"}, silent=silent)
        if "organizer" in before:
            self._world.invite(calendar, {**before, "status": "cancelled"}, before)

    def move(self, calendar: Calendar, id_: str, target: Calendar) -> Json:
        """Move an entry, and with a series its exceptions, to another calendar, which then organizes it."""
        before = self.find(calendar, id_)
        if calendar.is_gone(before):
            raise not_found()
        if before["organizer"]["email"] != calendar.id or "recurringEventId" in before:
            raise forbidden("cannotChangeOrganizer", "The organizer of this event cannot be changed.")
        if id_ in target.entries.bodies and target.live(id_) is not None:
            raise Refusal(409, "duplicate", "The requested identifier already exists.")
        exceptions = [calendar.entries.bodies[each] for each in sorted(calendar.occurrences.get(id_, ()))]
        self._world.put(calendar, {**before, "status": "cancelled", "updated": self._now()})
        for each in exceptions:
            gone = {name: each[name] for name in ("kind", "id", "recurringEventId", "originalStartTime")}
            self._world.put(calendar, {**gone, "status": "cancelled"})
        calendar.occurrences.pop(id_, None)
        organizer = {"email": target.id}
        moved = self._world.put(target, {**before, "organizer": organizer, "updated": self._now()})
        for each in exceptions:
            self._world.put(target, {**each, "organizer": organizer} if "organizer" in each else each)
        return moved

    def _write(self, calendar: Calendar, before: Json | None, after: Json) -> Json:
        _check(after)
        if "attendees" in after:
            known = {guest["email"]: guest for guest in (before or {}).get("attendees", ())}
            organizer = after["organizer"]["email"]
            after["attendees"] = [
                {"responseStatus": "accepted" if guest["email"] == organizer else "needsAction"}
                | {name: value for name, value in known.get(guest["email"], {}).items() if name == "responseStatus"}
                | {name: value for name, value in guest.items() if name != "self"}
                | ({"organizer": True} if guest["email"] == organizer else {})
                for guest in after["attendees"]
            ]
        if before is not None and any(before.get(name) != after.get(name) for name in ("start", "end", "recurrence")):
            after["sequence"] = after.get("sequence", 0) + 1
        body = self._world.put(calendar, {**after, "updated": self._now()})
        if "organizer" in body:
            self._world.invite(calendar, body, before)
            if body["organizer"]["email"] != calendar.id:
                self._answered(calendar, body)
        return body

    def _as_guest(self, calendar: Calendar, before: Json, after: Json) -> None:
        """Refuse what only the organizer may change."""
        for name in sorted(before.keys() | after.keys()):
            if name not in GUESTS and before.get(name) != after.get(name):
                raise forbidden("forbiddenForNonOrganizer", "Shared properties can only be changed by the organizer of the event.")
        others = [[guest for guest in body.get("attendees", ()) if guest["email"] != calendar.id] for body in (before, after)]
        if [guest["email"] for guest in others[0]] != [guest["email"] for guest in others[1]]:
            raise forbidden("forbiddenForNonOrganizer", "Shared properties can only be changed by the organizer of the event.")

    def _answered(self, calendar: Calendar, body: Json) -> None:
        """Tell the organizer, and through them the others, what a guest has answered."""
        organizer = self._world.calendars.get(body["organizer"]["email"])
        theirs = organizer.live(body["id"]) if organizer is not None else None
        own = next((guest for guest in body.get("attendees", ()) if guest["email"] == calendar.id), None)
        if organizer is None or theirs is None or own is None:
            return
        guests = [{**guest, **own} if guest["email"] == calendar.id else guest for guest in theirs.get("attendees", ())]
        if guests != theirs.get("attendees"):
            changed_body = self._world.put(organizer, {**theirs, "attendees": guests, "updated": self._now()})
            for email in sorted({guest["email"] for guest in guests} & self._world.people.keys() - {calendar.id, organizer.id}):
                copy = self._world.calendars[email].live(body["id"])
                if copy is not None:
                    self._world.put(self._world.calendars[email], {**copy, "attendees": guests, "updated": changed_body["updated"]})

    def _match(self, before: Json, if_match: str | None) -> None:
        if if_match not in {None, "*", before["etag"]}:
            raise changed()

    def _now(self) -> str:
        return f"{self._world.now().astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{self._world.now().microsecond // 1000:03}Z"


def _writable(asked: Json) -> Json:
    return {name: value for name, value in asked.items() if name not in READ_ONLY | {"id", "sequence"}}


def _merged(before: Json, changes: Json) -> Json:
    """Merge as PATCH does: null takes away, objects member by member, lists whole."""
    after = dict(before)
    for name, value in changes.items():
        if value is None:
            after.pop(name, None)
        elif isinstance(value, dict):
            after[name] = _merged(after[name] if isinstance(after.get(name), dict) else {}, value)
        else:
            after[name] = value
    return after


def _check(body: Json) -> None:
    """Refuse what an entry cannot be."""
    for name, words in _WORDS.items():
        if name in body and body[name] not in words:
            raise invalid(name)
    for name, kind in (("summary", str), ("description", str), ("location", str), ("attendees", list), ("recurrence", list)):
        if name in body and not isinstance(body[name], kind):
            raise invalid(name)
    for guest in body.get("attendees", ()):
        if not isinstance(guest, dict) or "@" not in str(guest.get("email", "")):
            raise invalid("attendees[].email", "Invalid attendee email.")
    for name in ("start", "end"):
        if name not in body:
            raise required(name)
    times = [_time(name, body) for name in ("start", "end")]
    if ("date" in body["start"]) != ("date" in body["end"]):
        raise invalid("end", "Start and end times must either both be date or both be dateTime.")
    if times[1] < times[0]:
        raise Refusal(400, "timeRangeEmpty", "The specified time range is empty.", domain="calendar")
    if body.get("recurrence"):
        if "dateTime" in body["start"] and "timeZone" not in body["start"]:
            raise required("start.timeZone")
        try:
            almanac.read(body["recurrence"])
        except (almanac.Unruly, AttributeError):
            raise invalid("recurrence", "Invalid recurrence rule.") from None


def _time(name: str, body: Json) -> datetime:
    """Check a start or an end; what is null is not there."""
    time = body[name]
    if not isinstance(time, dict):
        raise invalid(name)
    time = body[name] = {member: value for member, value in time.items() if value is not None}
    try:
        if "timeZone" in time:
            ZoneInfo(time["timeZone"])
        if ("date" in time) == ("dateTime" in time):
            raise invalid(name, f"Missing {name} time.")
        if "date" in time:
            date.fromisoformat(time["date"])
            time.pop("timeZone", None)
        else:
            moment = datetime.fromisoformat(time["dateTime"])
            if moment.tzinfo is None:
                if "timeZone" not in time:
                    raise Refusal(400, "required", f"Missing time zone definition for {name} time.")
                moment = moment.replace(tzinfo=ZoneInfo(time["timeZone"]))
            time["dateTime"] = written(moment)
        return moment_of(time)
    except (ValueError, TypeError, ZoneInfoNotFoundError):
        raise invalid(name) from None
