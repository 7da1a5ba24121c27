"""Who lives in a fresh sandbox: ada and grace, who have invited each other."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from oo_google_calendar.sandbox.edits import Edits
from oo_google_calendar.sandbox.world import World

Json = dict[str, Any]

ADA, GRACE = "ada@example.com", "grace@example.com"


def settle(world: World, edits: Edits) -> None:
    """Move ada and grace in."""
    world.add_person(ADA, "Ada Lovelace", "Europe/London")
    world.add_person(GRACE, "Grace Hopper", "America/New_York")
    engine = world.add_calendar(ADA, "Analytical Engine", "Europe/London")
    world.subscribe(GRACE, engine, "reader")
    today = world.now().date()

    def at(days: int, hour: int, zone: str = "Europe/London") -> Json:
        return {"dateTime": f"{today + timedelta(days=days)}T{hour:02}:00:00", "timeZone": zone}

    def day(days: int) -> Json:
        return {"date": (today + timedelta(days=days)).isoformat()}

    own, hers = world.calendars[ADA], world.calendars[GRACE]
    edits.insert(own, ADA, {"summary": "Tea with Mary", "location": "St James's Square", "start": at(1, 16), "end": at(1, 17)})
    walk = {"summary": "Walk", "start": at(-14, 9), "end": at(-14, 10), "recurrence": ["RRULE:FREQ=WEEKLY"]}
    series = edits.insert(own, ADA, walk)
    edits.insert(own, ADA, {"summary": "Ockham Park", "start": day(7), "end": day(10), "transparency": "transparent"})
    edits.insert(
        own,
        ADA,
        {
            "summary": "Compare notes",
            "start": at(2, 14),
            "end": at(2, 15),
            "attendees": [{"email": ADA}, {"email": GRACE}, {"email": "charles@example.com"}],
        },
    )
    edits.insert(
        engine, ADA, {"summary": "Cards for the mill", "start": at(3, 10), "end": at(3, 12), "description": "Bring the <b>variables</b>."}
    )
    edits.insert(hers, GRACE, {"summary": "Find the moth", "start": at(1, 9, "America/New_York"), "end": at(1, 10, "America/New_York")})
    later = next(
        each for each in own.instances(series, world.now() + timedelta(days=30)) if each["start"]["dateTime"] > at(0, 0)["dateTime"]
    )
    edits.update(own, ADA, later["id"], {"location": "Hyde Park"}, if_match=None, whole=False)
