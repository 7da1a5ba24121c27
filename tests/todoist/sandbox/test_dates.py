from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from oo_todoist.sandbox.dates import next_due, read_due, stamp
from oo_todoist.sandbox.refusals import Refusal

TODAY = date(2026, 11, 25)  # a Wednesday


def due(**value: object) -> dict[str, Any] | None:
    return read_due(value, argument="due", today=TODAY, zone="Asia/Tokyo")


@pytest.mark.parametrize(
    ("text", "day", "recurring"),
    [
        ("today", "2026-11-25", False),
        ("Tomorrow at 9:30", "2026-11-26T09:30:00", False),
        ("wednesday", "2026-12-02", False),
        ("2027-01-01", "2027-01-01", False),
        ("every day", "2026-11-25", True),
        ("every wednesday", "2026-11-25", True),
        ("every thursday at 10:00", "2026-11-26T10:00:00", True),
        ("every 2 weeks", "2026-11-25", True),
    ],
)
def test_english_dates_are_read(text: str, day: str, recurring: bool) -> None:
    """A due string becomes a floating date, recurring when it says every."""
    assert due(string=text) == {"date": day, "timezone": None, "string": text, "lang": "en", "is_recurring": recurring}


def test_a_fixed_time_has_a_zone_and_a_floating_one_has_none() -> None:
    """A date with Z keeps the zone given, else the user's; one without has none."""
    assert due(date="2026-12-01T10:00:00Z") == {
        "date": "2026-12-01T10:00:00Z",
        "timezone": "Asia/Tokyo",
        "string": "2026-12-01T10:00:00Z",
        "lang": "en",
        "is_recurring": False,
    }
    fixed, floating = due(date="2026-12-01T10:00:00Z", timezone="Europe/Paris"), due(date="2026-12-01T10:00:00.123456")
    assert fixed is not None
    assert floating is not None
    assert (fixed["timezone"], floating["timezone"]) == ("Europe/Paris", None)


def test_no_date_takes_the_due_away() -> None:
    """null and "no date" both mean no due."""
    assert read_due(None, argument="due", today=TODAY, zone="UTC") is None
    assert due(string="no date") is None


@pytest.mark.parametrize("value", [{"date": "2026-13-01"}, {"date": 1}, {"string": "today at 25:00"}, {"string": "every blue moon"}])
def test_what_cannot_be_read_is_refused(value: dict[str, object]) -> None:
    """A date that is none is refused, not guessed."""
    with pytest.raises(Refusal):
        due(**value)


@pytest.mark.parametrize(
    ("text", "at", "then"),
    [
        ("every day", "2026-11-25", "2026-11-26"),
        ("every day at 09:00", "2026-11-20T09:00:00", "2026-11-26T09:00:00"),
        ("every other day", "2026-11-25", "2026-11-27"),
        ("every 3 days", "2026-11-24", "2026-11-27"),
        ("every! 3 days", "2026-11-24", "2026-11-28"),
        ("every weekday", "2026-11-27", "2026-11-30"),
        ("every monday", "2026-11-23", "2026-11-30"),
        ("every monday", "2026-11-02", "2026-11-30"),
        ("every week", "2026-11-18", "2026-12-02"),
        ("every month", "2026-10-31", "2026-11-30"),
        ("every month", "2026-12-31", "2027-01-31"),
        ("every year", "2024-02-29", "2027-02-28"),
    ],
)
def test_a_recurring_due_goes_to_its_next_day_after_today(text: str, at: str, then: str) -> None:
    """The next date is the rule's first after today, with the time of day kept; "every!" counts from today."""
    assert next_due({"date": at, "string": text}, TODAY)["date"] == then


def test_moments_have_microseconds_and_z() -> None:
    """A moment on the wire is UTC with six digits of microseconds."""
    assert stamp(datetime(2026, 11, 25, 8, tzinfo=UTC)) == "2026-11-25T08:00:00.000000Z"
