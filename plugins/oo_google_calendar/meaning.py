"""What Google's calendars and entries mean in the common vocabulary.

Pure functions: the same body always gives the same event. Google calls an entry an event; here that word means what oO tells.

A subject of an entry is "{calendar}/{entry}", since people who share an entry have it under one id, each in a calendar of theirs. An
occurrence that differs from its series is "{calendar}/{series}/{occurrence}", so that those of one series can be found together.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Final

from oo_google_calendar.shapes import Conference as Meeting
from oo_google_calendar.shapes import Entry, Guest, Listed, Moment, Override, Someone, Subject
from oo_sdk import Change, ConnectorBug, Event, Raw, Unreadable, decode
from oo_sdk.vocabulary import Alarm, Attendee, Calendar, CalendarEntry, Conference, Person, Timestamp, When

ACCESS: Final = {
    "freeBusyReader": Calendar.ACCESS_BUSY,
    "reader": Calendar.ACCESS_READ,
    "writerWithoutPrivateAccess": Calendar.ACCESS_WRITE,
    "writer": Calendar.ACCESS_WRITE,
    "owner": Calendar.ACCESS_OWN,
}
VISIBILITY: Final = {
    "default": CalendarEntry.VISIBILITY_DEFAULT,
    "public": CalendarEntry.VISIBILITY_PUBLIC,
    "private": CalendarEntry.VISIBILITY_PRIVATE,
    "confidential": CalendarEntry.VISIBILITY_PRIVATE,
}
ANSWERS: Final = {
    "needsAction": Attendee.ANSWER_NONE,
    "declined": Attendee.ANSWER_DECLINED,
    "tentative": Attendee.ANSWER_TENTATIVE,
    "accepted": Attendee.ANSWER_ACCEPTED,
}


def calendar(listed: Listed) -> Calendar:
    """Say what a calendar is."""
    return Calendar(
        title=listed.summary_override or listed.summary or "",
        description=listed.description or "",
        location=listed.location or "",
        time_zone=listed.time_zone or "",
        access=ACCESS.get(listed.access_role or "", Calendar.ACCESS_UNSPECIFIED),
        primary=listed.primary,
        selected=listed.selected,
        hidden=listed.hidden,
        color=listed.color_id or "",
        default_alarms=_alarms(listed.default_reminders),
    )


def entry(found: Entry, calendar_id: str) -> CalendarEntry:
    """Say what an entry is. Of a cancelled occurrence no more than its place in the series may be known."""
    reminders = found.reminders
    return CalendarEntry(
        title=found.summary or "",
        description=found.description or "",
        location=found.location or "",
        start=_when(found.start),
        end=_when(found.end),
        calendar=calendar_id,
        cancelled=found.status == "cancelled",
        url=found.html_link or "",
        uid=found.ical_uid or "",
        recurrence=found.recurrence or (),
        series=subject(calendar_id, found.recurring_event_id) if found.recurring_event_id else "",
        original_start=_when(found.original_start_time),
        tentative=found.status == "tentative",
        free=found.transparency == "transparent",
        visibility=VISIBILITY.get(found.visibility or "default", CalendarEntry.VISIBILITY_UNSPECIFIED),
        kind="" if found.event_type in {None, "default"} else found.event_type,
        end_unknown=found.end_time_unspecified,
        creator=_person(found.creator),
        organizer=_person(found.organizer),
        attendees=[_attendee(guest) for guest in found.attendees or ()],
        attendees_omitted=found.attendees_omitted,
        conference=_conference(found.conference_data, found.hangout_link),
        alarms=_alarms(reminders.overrides if reminders else None),
        default_alarms=bool(reminders and reminders.use_default),
        color=found.color_id or "",
        label=found.event_label_id or "",
        source_url=(found.source and found.source.url) or "",
        created_at=_timestamp(found.created),
        sequence=found.sequence or 0,
        locked=found.locked,
    )


def subject(calendar_id: str, entry_id: str, series: str | None = None) -> str:
    """Name an entry."""
    return "/".join(filter(None, (calendar_id, series, entry_id)))


def read_calendar(raw: Raw) -> tuple[Listed | None, Event | Unreadable]:
    """Say what one entry of the list of calendars tells."""
    try:
        listed = decode(raw, Listed)
    except ConnectorBug as wrong:
        return None, Unreadable(f"a calendar was set aside: {wrong}", subject=_named(raw))
    if listed.deleted:
        return listed, Event("calendar", listed.id, Change.DELETED)
    try:
        return listed, Event("calendar", listed.id, Change.UPSERTED, version=listed.etag or "", payload=calendar(listed))
    except (ValueError, OverflowError):
        return listed, Unreadable("a calendar was set aside: it holds a text or number that cannot be one", subject=listed.id)


def read_entry(raw: Raw, calendar_id: str, reach: datetime | None) -> tuple[Entry | None, Event | Unreadable]:
    """Say what one entry of a calendar tells. What ended before `reach` is told as gone.

    Cancelled has two meanings: an occurrence of a series does not take place, or an entry was deleted. In the first case the entry
    names its series and goes on to be there, as long as the series does.
    """
    try:
        found = decode(raw, Entry)
    except ConnectorBug as wrong:
        return None, Unreadable(f"an entry was set aside: {wrong}", subject=subject(calendar_id, _named(raw)) if _named(raw) else "")
    name = subject(calendar_id, found.id, found.recurring_event_id)
    try:
        if gone(found) or _is_past(found, reach):
            return found, Event("entry", name, Change.DELETED, at=_utc(found.updated))
        payload = entry(found, calendar_id)
    except (ValueError, OverflowError):
        # Their own words may hold the value, which is the person's.
        return found, Unreadable("an entry was set aside: it holds a text, date or number that cannot be one", subject=name)
    return found, Event("entry", name, Change.UPSERTED, at=_utc(found.updated), version=found.etag or "", payload=payload)


def gone(found: Entry) -> bool:
    """Say whether a cancelled entry is one that was deleted."""
    return found.status == "cancelled" and not found.recurring_event_id


def _is_past(found: Entry, reach: datetime | None) -> bool:
    """Say whether a single entry ended too long ago. Google's own window (timeMin) would hold for a listing and not for what follows."""
    if reach is None or found.recurrence or found.recurring_event_id or found.end is None:
        return False
    if found.end.date_time:
        return _utc(datetime.fromisoformat(found.end.date_time)) <= reach  # type: ignore[operator]  # there is a moment
    return bool(found.end.date) and date.fromisoformat(found.end.date or "") <= reach.date()


def _when(moment: Moment | None) -> When | None:
    """Read a moment. An instant keeps the zone in which it was meant; a day has none."""
    if moment is None:
        return None
    if moment.date:
        return When(date=date.fromisoformat(moment.date).isoformat())
    if not moment.date_time:
        return None
    at = datetime.fromisoformat(moment.date_time).replace(microsecond=0)
    if at.tzinfo is None:
        return When(floating=at.isoformat(), time_zone=moment.time_zone or "")
    return When(instant=_timestamp(at), time_zone=moment.time_zone or "")


def _person(someone: Someone | None) -> Person | None:
    if someone is None:
        return None
    return Person(email=someone.email or "", name=someone.display_name or "", self=someone.own)


def _attendee(guest: Guest) -> Attendee:
    return Attendee(
        person=_person(guest),
        answer=ANSWERS.get(guest.response_status or "", Attendee.ANSWER_UNSPECIFIED),
        comment=guest.comment or "",
        optional=guest.optional,
        resource=guest.resource,
        organizer=guest.organizer,
        more_guests=guest.additional_guests or 0,
    )


def _alarms(overrides: Sequence[Override] | None) -> list[Alarm]:
    return [Alarm(method=each.method or "", minutes_before=each.minutes or 0) for each in overrides or ()]


def _conference(meeting: Meeting | None, link: str | None) -> Conference | None:
    """Say how to meet; older entries have a link and nothing more."""
    if meeting is None:
        return Conference(entrances=[Conference.Entrance(kind="video", uri=link)]) if link else None
    return Conference(
        title=(meeting.conference_solution and meeting.conference_solution.name) or "",
        id=meeting.conference_id or "",
        entrances=[
            Conference.Entrance(kind=point.entry_point_type or "", uri=point.uri or "", label=point.label or "")
            for point in meeting.entry_points or ()
        ],
    )


def _named(raw: Raw) -> str:
    try:
        return decode(raw, Subject).id
    except ConnectorBug:
        return ""


def _utc(written: datetime | None) -> datetime | None:
    if written is None:
        return None
    return written.astimezone(UTC) if written.tzinfo else written.replace(tzinfo=UTC)


def _timestamp(written: datetime | None) -> Timestamp | None:
    at = _utc(written)
    if at is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(at)
    return timestamp
