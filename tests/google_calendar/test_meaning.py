"""Bodies that the real Google Calendar produced, and hostile ones, one by one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oo_google_calendar import GoogleCalendar
from oo_google_calendar.meaning import read_calendar, read_entry
from oo_google_calendar.refusals import ChangedMeanwhile, Deleted, Forbidden, Invalid, NotThere, Taken
from oo_google_calendar.shapes import Page, spelled

from oo_sdk import Change, ConnectorBug, ConnectorError, CursorExpired, Event, Raw, Response, RetryLater, SignInAgain, Unreadable, decode
from oo_sdk.vocabulary import Calendar, CalendarEntry

Real = Callable[[str], bytes]


def raw(body: Any) -> Raw:
    """Make what a page holds."""
    return Raw(body if isinstance(body, bytes) else json.dumps(body).encode())


def opened(body: Any) -> tuple[Event, CalendarEntry]:
    """Read an entry that can be read."""
    _, event = read_entry(raw(body), "c", None)
    assert isinstance(event, Event), event
    assert isinstance(event.payload, CalendarEntry), event
    return event, event.payload


def held(entry: CalendarEntry, event: Event, body: dict[str, Any]) -> None:
    """Check that nothing of a body got lost but what is dropped on purpose."""
    assert event.subject.endswith(body["id"])
    assert event.version == body.get("etag", "")
    for theirs, ours in {
        "summary": "title",
        "description": "description",
        "location": "location",
        "htmlLink": "url",
        "iCalUID": "uid",
    }.items():
        assert getattr(entry, ours) == body.get(theirs, ""), theirs
    assert list(entry.recurrence) == body.get("recurrence", [])
    for name in ("start", "end"):
        when, written = getattr(entry, name), body.get(name, {})
        if "date" in written:
            assert (when.date, when.time_zone) == (written["date"], "")
        elif "dateTime" in written:
            assert when.instant.ToJsonString() == _utc(written["dateTime"])
            assert when.time_zone == written.get("timeZone", "")
    assert [guest.person.email for guest in entry.attendees] == [guest.get("email", "") for guest in body.get("attendees", ())]
    assert entry.organizer.email == body.get("organizer", {}).get("email", "")
    assert (entry.sequence, entry.free) == (body.get("sequence", 0), body.get("transparency") == "transparent")


def _utc(written: str) -> str:
    from datetime import UTC, datetime

    return datetime.fromisoformat(written).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize("name", ["events", "query_events", "repeating_events", "empty_events"])
def test_published_pages(real: Real, name: str) -> None:
    """Pages of the real Calendar are read without loss."""
    body = real(name)
    page = decode(body, Page)
    bodies = json.loads(body)["items"]
    assert (page.next_page_token, len(page.items)) == (json.loads(body).get("nextPageToken"), len(bodies))
    for found, given_ in zip(page.items, bodies, strict=True):
        event, entry = opened(bytes(found))
        held(entry, event, given_)


@pytest.mark.parametrize("name", ["find_event_by_id", "create_event", "create_quickadd_event"])
def test_published_entries(real: Real, name: str) -> None:
    """Entries of the real Calendar are read without loss."""
    body = real(name)
    event, entry = opened(body)
    held(entry, event, json.loads(body))


def test_a_published_occurrence_that_was_called_off(real: Real) -> None:
    """The real Calendar's cancelled occurrence names its series and when it would have been, and nothing more."""
    event, entry = opened(real("cancelled_events"))
    series = "5hskl88u70fdekmted80rkjut4_R20150527T010000"
    assert (event.change, event.subject) == (Change.UPSERTED, f"c/{series}/5hskl88u70fdekmted80rkjut4_20150701T010000Z")
    assert (entry.cancelled, entry.series, entry.title) == (True, f"c/{series}", "")
    assert entry.original_start.instant.ToJsonString() == "2015-07-01T01:00:00Z"


def test_a_published_entry_with_a_broken_date(real: Real) -> None:
    """A body that has an instant where a day belongs is set aside, by name."""
    _, signal = read_entry(raw(real("find__all_day_event_by_id")), "c", None)
    assert isinstance(signal, Unreadable)
    assert signal.subject == "c/fhru34kt6ikmr20knd2456l10n"


def test_the_published_list(real: Real) -> None:
    """The real list of calendars is read without loss."""
    bodies = json.loads(real("find_calendar_list"))["items"]
    assert bodies
    for body in bodies:
        _, event = read_calendar(raw(body))
        assert isinstance(event, Event)
        assert isinstance(event.payload, Calendar)
        assert (event.subject, event.version, event.payload.title) == (
            body["id"],
            body["etag"],
            body.get("summaryOverride", body["summary"]),
        )
        assert (event.payload.time_zone, event.payload.selected) == (body["timeZone"], body.get("selected", False))


REFUSALS: dict[str, tuple[int, type[ConnectorError] | None]] = {
    "400": (400, Invalid),
    "401": (401, None),
    "403": (403, Forbidden),
    "403_calendar_rate_limit": (403, RetryLater),
    "403_daily_limit": (403, RetryLater),
    "403_forbidden": (403, RetryLater),
    "403_rate_limit": (403, RetryLater),
    "403_unknown": (403, RetryLater),
    "403_user_rate_limit": (403, RetryLater),
    "404": (404, NotThere),
    "409": (409, Taken),
    "410": (410, Deleted),
    "412": (412, ChangedMeanwhile),
    "500": (500, None),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_published_refusals(real: Real, name: str) -> None:
    """The real refusals mean what their reasons say; of a body that is no JSON the status must do, and nothing of it is repeated."""
    status, meant = REFUSALS[name]
    error = GoogleCalendar().explain(Response(status=status, headers={}, body=real(name)))
    assert type(error) is (meant or type(None))


@pytest.mark.parametrize(
    ("status", "reason", "meant"),
    [
        (410, "fullSyncRequired", CursorExpired),
        (410, "updatedMinTooLongAgo", CursorExpired),
        (410, "deleted", Deleted),
        (403, "insufficientPermissions", SignInAgain),
        (403, "forbiddenForNonOrganizer", Forbidden),
        (403, "quotaExceeded", RetryLater),
        (429, "rateLimitExceeded", RetryLater),
        (429, "", type(None)),
        (502, "backendError", type(None)),
    ],
)
def test_refusals(status: int, reason: str, meant: type[Any]) -> None:
    """What the documentation says of each reason."""
    body = {"error": {"code": status, "message": "x", "errors": [{"domain": "calendar", "reason": reason, "message": "x"}]}}
    assert type(GoogleCalendar().explain(Response(status=status, headers={}, body=json.dumps(body).encode()))) is meant


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b'"x"',
        b"{}",
        {"id": 1},
        {"id": "x", "start": {"date": "2026-02-30"}},
        {"id": "x", "start": {"dateTime": "soon"}},
        {"id": "x", "start": "2026-01-01"},
        {"id": "x", "sequence": -1},
        {"id": "x", "sequence": 2**40},
        {"id": "x", "attendees": [{"additionalGuests": -1}]},
        {"id": "x", "attendees": {"email": "a"}},
        {"id": "x", "summary": 5},
        {"id": "x", "created": "0000-01-01T00:00:00Z"},
        {"id": "x", "summary": "\ud800"},
    ],
)
def test_junk_is_set_aside(body: Any) -> None:
    """An entry that makes no sense is set aside, named where it can be, and its value is not repeated."""
    _, signal = read_entry(raw(body), "c", None)
    assert isinstance(signal, Unreadable)
    assert "soon" not in str(signal)
    named = isinstance(body, dict) and body["id"] == "x" and "summary" not in body  # half a character makes all of it unreadable
    assert signal.subject in ({"c/x"} if named else {"c/x", ""})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)
MEMBERS = st.sampled_from(
    ["start", "end", "attendees", "recurrence", "summary", "status", "reminders", "conferenceData", "updated", "creator"]
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault
@given(body=st.dictionaries(MEMBERS, JSON))
def test_any_members(body: dict[str, Any]) -> None:
    """Whatever the members are, an entry is read or set aside."""
    _, signal = read_entry(raw({**body, "id": "x"}), "c", None)
    assert isinstance(signal, Event | Unreadable)


def test_a_page_without_items_is_no_empty_page() -> None:
    """An answer that lacks its list must not look like one with nothing in it."""
    with pytest.raises(ConnectorBug):
        decode(b"{}", Page)


def test_spelling() -> None:
    """Our names of members are Google's."""
    assert [spelled(name) for name in ("ical_uid", "own", "recurring_event_id", "id")] == ["iCalUID", "self", "recurringEventId", "id"]


def test_conferences_and_codes() -> None:
    """Ways into a conference are told; the codes and passwords that open it are not."""
    points = [{"entryPointType": "video", "uri": "https://meet", "label": "meet", "pin": "1234", "passcode": "s3cret"}]
    body = {"id": "x", "conferenceData": {"conferenceId": "m", "conferenceSolution": {"name": "Google Meet"}, "entryPoints": points}}
    _, entry = opened(body)
    assert (entry.conference.title, entry.conference.entrances[0].uri) == ("Google Meet", "https://meet")
    assert b"1234" not in entry.SerializeToString()
    assert b"s3cret" not in entry.SerializeToString()
    assert opened({"id": "x", "hangoutLink": "https://h"})[1].conference.entrances[0].uri == "https://h"
