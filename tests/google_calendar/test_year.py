"""Months of calendar life on a virtual clock: people edit, tokens and places end, channels are replaced, pushes and answers get lost.

In the end a reader of the outbox has exactly what Google has. The long run lives a whole year of it.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from google_calendar.house import ADA, GRACE, House

from oo_daemon.ports import SECOND

DAYS = int(os.environ.get("OO_TEST_CALENDAR_DAYS", "20"))
#: What a year has.
ENTRIES, SERIES, EDITS = 10_000, 200, 4_000
HOUR, DAY = 3600.0, 86_400.0
#: Looks that the daemon takes in a day.
LOOKS = 6
RULES = ("FREQ=DAILY;COUNT=20", "FREQ=WEEKLY;BYDAY=MO,TH", "FREQ=MONTHLY;BYMONTHDAY=15", "FREQ=WEEKLY;INTERVAL=2;COUNT=10")
#: What goes wrong, each now and then, and for how many requests.
TROUBLES = {
    "expire_tokens": None,
    "forget_sync_tokens": None,
    "drop_pushes": 3,
    "duplicate_pushes": 3,
    "forge_pushes": 2,
    "status_500": 2,
    "status_503": 1,
    "user_rate_limit": 1,
    "unauthorized": 1,
    "small_pages": 6,
    "empty_pages": 6,
    "duplicate_items": 4,
    "unknown_fields": 4,
    "silent_occurrences": 1,
    "no_sync_token": 1,
    "bad_token_400": 1,
    "token_500": 1,
}


@dataclass
class Life:
    """Somebody who lives by a calendar."""

    house: House
    chance: random.Random = field(default_factory=lambda: random.Random(11))
    did: Counter[str] = field(default_factory=Counter)
    entries: list[tuple[str, str]] = field(default_factory=list)  #: calendar and entry
    invitations: list[tuple[str, str]] = field(default_factory=list)  #: of those that stay where they are
    series: list[tuple[str, str, datetime]] = field(default_factory=list)
    calendars: list[str] = field(default_factory=lambda: [ADA])

    def add(self, recurrence: str = "") -> None:
        """Write something down, for some day of the coming months."""
        at = self.now() + timedelta(days=self.chance.randrange(90), hours=self.chance.randrange(12))
        calendar = self.chance.choice(self.calendars)
        more: dict[str, Any] = {"recurrence": [f"RRULE:{recurrence}"]} if recurrence else {}
        if self.chance.random() < 0.2:
            times = {"start": {"date": f"{at:%Y-%m-%d}"}, "end": {"date": f"{at + timedelta(days=1):%Y-%m-%d}"}}
        else:
            times = {"start": self.moment(at), "end": self.moment(at + timedelta(hours=1))}
        invites = not recurrence and self.chance.random() < 0.1
        if invites:
            calendar, more["attendees"] = ADA, [{"email": ADA}, {"email": GRACE}]
        made = self.house.api("POST", f"calendars/{calendar}/events", {"summary": f"No {sum(self.did.values())}", **times, **more})
        if recurrence:
            self.series.append((calendar, made["id"], at))
        else:
            (self.invitations if invites else self.entries).append((calendar, made["id"]))
        self.did["series" if recurrence else "entries"] += 1

    def add_series(self) -> None:
        """Write down what comes again and again."""
        self.add(self.chance.choice(RULES))

    def edit(self) -> None:
        """Change something that is there."""
        match self.chance.choice(["title", "time", "title", "delete", "occurrence", "occurrence", "call_off", "move", "end_series"]):
            case "title" if self.entries:
                self.patch({"summary": f"Changed {self.did['title']}"}, "title")
            case "time" if self.entries:
                at = self.now() + timedelta(days=self.chance.randrange(60))
                none = {"date": None}
                self.patch({"start": self.moment(at) | none, "end": self.moment(at + timedelta(hours=2)) | none}, "time")
            case "delete" if self.entries:
                calendar, id_ = self.entries.pop(self.chance.randrange(len(self.entries)))
                self.house.api("DELETE", f"calendars/{calendar}/events/{id_}")
                self.did["delete"] += 1
            case "move" if self.entries and len(self.calendars) > 1:
                calendar, id_ = self.entries.pop(self.chance.randrange(len(self.entries)))
                to = self.chance.choice([each for each in self.calendars if each != calendar])
                self.house.api("POST", f"calendars/{calendar}/events/{id_}/move", destination=to)
                self.entries.append((to, id_))
                self.did["move"] += 1
            case ("occurrence" | "call_off") as what if self.series:
                self.one_of_a_series(what)
            case "end_series" if len(self.series) > 3 and self.chance.random() < 0.2:
                calendar, id_, _ = self.series.pop(self.chance.randrange(len(self.series)))
                self.house.api("DELETE", f"calendars/{calendar}/events/{id_}")
                self.did["end_series"] += 1

    def patch(self, body: dict[str, Any], what: str) -> None:
        """Change one entry."""
        calendar, id_ = self.chance.choice([*self.entries, *self.invitations])
        self.house.api("PATCH", f"calendars/{calendar}/events/{id_}", body)
        self.did[what] += 1

    def one_of_a_series(self, what: str) -> None:
        """Change or call off one occurrence."""
        calendar, id_, at = self.chance.choice(self.series)
        found = self.house.world.calendars[calendar]
        there = [each for each in found.instances(found.entries.bodies[id_], at + timedelta(days=60)) if each["status"] != "cancelled"]
        if there:
            one = self.chance.choice(there)["id"]
            if what == "occurrence":
                self.house.api("PATCH", f"calendars/{calendar}/events/{one}", {"location": f"Room {self.did[what]}"})
            else:
                self.house.api("DELETE", f"calendars/{calendar}/events/{one}")
            self.did[what] += 1

    def turn_calendars(self) -> None:
        """Begin another calendar, or give up one of those that were begun."""
        if len(self.calendars) < 4:
            self.calendars.append(self.house.world.add_calendar(ADA, f"Calendar {self.did['calendars']}").id)
        else:
            gone = self.calendars.pop(1)
            self.house.world.remove_calendar(self.house.world.calendars[gone])
            self.entries = [each for each in self.entries if each[0] != gone]
            self.series = [each for each in self.series if each[0] != gone]
        self.did["calendars"] += 1

    def trouble(self) -> None:
        """Have something go wrong."""
        name = self.chance.choice([*TROUBLES])
        self.house.misbehaviour.on(name, times=TROUBLES[name])
        self.did["troubles"] += 1

    def now(self) -> datetime:
        """The time, to the minute."""
        return datetime.fromtimestamp(self.house.clock.now() // SECOND, UTC).replace(second=0)

    def moment(self, at: datetime) -> dict[str, str]:
        """How Google writes it."""
        return {"dateTime": f"{at:%Y-%m-%dT%H:%M:%SZ}", "timeZone": "Europe/London"}


def due(day: int, all_of_them: int) -> int:
    """How many of a year's things fall on this day."""
    return all_of_them * (day + 1) // 365 - all_of_them * day // 365


async def test_the_outbox_has_what_google_has(house: House) -> None:
    """Whatever was lost, refused, ended or forgotten on the way: in the end there is no difference, and no channel is left over."""
    began, life = time.process_time(), Life(house)
    assert await house.sign_in() == "connected"
    for day in range(DAYS):
        todo = [life.add] * due(day, ENTRIES) + [life.add_series] * due(day, SERIES) + [life.edit] * due(day, EDITS)
        life.chance.shuffle(todo)
        if day % 9 == 2:
            life.turn_calendars()
        for look in range(LOOKS):
            for work in todo[look::LOOKS]:
                work()
            if life.chance.random() < 0.5:
                life.trouble()
            await house.clock.advance(DAY / LOOKS)
            if day % 50 != 33:  # a day on which the host is off
                await house.tick()
        if day % 7 == 0:
            await house.intake.tidy()
            house.line.asked.clear()
    house.misbehaviour.off()
    for _ in range(8):
        await house.clock.advance(6 * HOUR)
        await house.tick()
    assert house.difference() == []
    channels = house.channels()
    there = [id_ for id_, listed in house.world.lists[ADA].bodies.items() if not listed.get("deleted")]
    assert sorted(channel.resource for channel in channels) == sorted([f"{ADA}/calendarList", *(f"{id_}/events" for id_ in there)])
    refreshed = sum(number for name, number in house.line.sandbox.provider.requests.items() if name == "POST /token")
    figures = {
        "days": DAYS,
        **life.did,
        "channels opened": len(house.sandbox.channels.channels),
        "tokens renewed": refreshed,
        "requests": house.sandbox.provider.requests.total(),
        "events": len(house.events()),
        "objects": len(house.present()),
        "difference": 0,
        "CPU seconds": round(time.process_time() - began, 1),
    }
    print("\n" + ", ".join(f"{name} {number}" for name, number in figures.items()))
    assert life.did["entries"] >= ENTRIES * DAYS // 365
