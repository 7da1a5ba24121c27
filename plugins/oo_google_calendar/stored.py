"""What is kept of a person's calendars, and what for."""

from __future__ import annotations

from typing import Final

from oo_sdk import Stored

STORES: Final = (
    Stored(
        "calendar",
        "the list of your calendars: their names, colours and time zones, and what you may do with each",
        "tell your calendars apart",
        (
            "title",
            "description",
            "location",
            "time_zone",
            "access",
            "primary",
            "selected",
            "hidden",
            "color",
            "default_alarms",
        ),
    ),
    Stored(
        "entry",
        "what is in your calendars: when, where and what about, who calls, who is invited and what they answered, and how to join",
        "show and plan your time in the programs that you use",
        (
            "title",
            "description",
            "location",
            "start",
            "end",
            "calendar",
            "cancelled",
            "url",
            "uid",
            "recurrence",
            "series",
            "original_start",
            "tentative",
            "free",
            "visibility",
            "kind",
            "end_unknown",
            "creator",
            "organizer",
            "attendees",
            "attendees_omitted",
            "conference",
            "alarms",
            "default_alarms",
            "color",
            "label",
            "source_url",
            "created_at",
            "sequence",
            "locked",
        ),
    ),
)
