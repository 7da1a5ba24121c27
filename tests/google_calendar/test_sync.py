"""Whole syncs of the daemon against the sandbox: in the end the outbox says what the provider has."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from google_calendar.house import ADA, GRACE, House, payload

from oo_daemon.ports import SECOND
from oo_daemon.store.storage import InlineStorage
from oo_sdk.vocabulary import Attendee, CalendarEntry

RULE: dict[str, Any] = {"recurrence": ["RRULE:FREQ=DAILY;COUNT=10"]}


@pytest.fixture
async def synced(house: House) -> House:
    """Signed in and synced once."""
    assert await house.sign_in() == "connected"
    assert (await house.run()).outcome == "done"
    return house


async def test_everything_there_is(synced: House) -> None:
    """A first sync tells of every calendar and of every entry, whole; the next one says nothing new and asks for changes only."""
    assert synced.difference() == []
    assert len(synced.present()) == 8
    count = len(synced.events())
    synced.line.asked.clear()
    assert (await synced.run()).outcome == "done"
    assert len(synced.events()) == count
    assert [("syncToken" in asked.query, asked.path[-1]) for asked in synced.line.asked] == [
        (True, "calendarList"),
        *[(True, "events")] * 2,
    ]


async def test_what_an_entry_says(synced: House) -> None:
    """Times keep their zone, days stay days, guests their answers, and an occurrence names its series and its place in it."""
    entries = {payload(event).title: payload(event) for event in synced.events() if event.type.endswith("entry")}
    tea, park, notes = entries["Tea with Mary"], entries["Ockham Park"], entries["Compare notes"]
    assert (tea.start.time_zone, tea.start.instant.ToJsonString()[11:], tea.location) == ("Europe/London", "16:00:00Z", "St James's Square")
    assert (len(park.start.date), park.free, park.end.date > park.start.date) == (10, True, True)
    assert [(guest.person.email, guest.answer, guest.person.self) for guest in notes.attendees] == [
        (ADA, Attendee.ANSWER_ACCEPTED, True),
        (GRACE, Attendee.ANSWER_NONE, False),
        ("charles@example.com", Attendee.ANSWER_NONE, False),
    ]
    walks = [payload(event) for event in synced.events() if payload(event).title == "Walk"]
    (series,) = [walk for walk in walks if walk.recurrence]
    (moved,) = [walk for walk in walks if walk.series]
    assert list(series.recurrence) == ["RRULE:FREQ=WEEKLY"]
    assert (moved.location, moved.original_start) == ("Hyde Park", moved.start)
    assert moved.series in {event.subject for event in synced.events()}


async def test_changes(synced: House) -> None:
    """What is added, changed and deleted is told as such, once."""
    begin = len(synced.events())
    made = synced.add("Lunch")["id"]
    await synced.run()
    synced.api("PATCH", f"calendars/primary/events/{made}", {"summary": "Late lunch"})
    await synced.run()
    synced.api("DELETE", f"calendars/primary/events/{made}")
    await synced.run()
    assert synced.told(begin) == [(made, 1, "Lunch"), (made, 1, "Late lunch"), (made, 2, "")]
    assert synced.difference() == []


async def test_both_meanings_of_cancelled(synced: House) -> None:
    """An occurrence that is called off is still told of, as such; an entry or series that is deleted is gone, with all it had."""
    series = synced.add("Stand-up", **RULE)["id"]
    occurrence = f"{series}_20261128T120000Z"
    synced.api("PATCH", f"calendars/primary/events/{series}_20261127T120000Z", {"location": "Outside"})
    await synced.run()
    begin = len(synced.events())
    synced.api("DELETE", f"calendars/primary/events/{occurrence}")
    await synced.run()
    (event,) = synced.events()[begin:]
    assert (event.change, event.subject) == (1, f"{ADA}/{series}/{occurrence}")
    assert (payload(event).cancelled, payload(event).series) == (True, f"{ADA}/{series}")
    assert payload(event).original_start.instant.ToJsonString() == "2026-11-28T12:00:00Z"
    synced.api("DELETE", f"calendars/primary/events/{series}")
    await synced.run()
    assert {(subject, change) for subject, change, _ in synced.told(begin + 1)} == {
        (series, 2),
        (occurrence, 2),
        (f"{series}_20261127T120000Z", 2),
    }
    assert synced.difference() == []


@pytest.mark.parametrize("switch", ["silent_occurrences", "small_pages", "empty_pages", "duplicate_items", "unknown_fields"])
async def test_a_series_that_is_deleted(synced: House, switch: str) -> None:
    """Its occurrences go with it, whether Google tells of them before, after, on another page or not at all."""
    synced.misbehaviour.on(switch)
    series, other = synced.add("Stand-up", **RULE)["id"], synced.add("Stand-up too", **RULE)["id"]
    for number in range(6, 9):
        for each in (series, other):
            synced.api("PATCH", f"calendars/primary/events/{each}_202611{number + 20}T120000Z", {"location": "Outside"})
    await synced.run()
    assert synced.difference() == []
    synced.api("DELETE", f"calendars/primary/events/{series}")
    for _ in range(2):
        await synced.run()
        assert synced.difference() == []
    assert sum(title == "Stand-up too" for _, _, title in synced.told()) == 4


@pytest.mark.parametrize("switch", [None, "bad_token_400", "small_pages", "empty_pages"])
async def test_a_place_that_is_lost(synced: House, switch: str | None) -> None:
    """When Google no longer knows where we left off everything is listed again, and only what changed meanwhile is told."""
    kept, deleted = synced.add("Kept")["id"], synced.add("Deleted")["id"]
    await synced.run()
    begin = len(synced.events())
    synced.api("DELETE", f"calendars/primary/events/{deleted}")
    synced.misbehaviour.on("forget_sync_tokens")
    if switch is not None:
        synced.misbehaviour.on(switch)
    assert (await synced.run()).outcome == "done"
    assert synced.told(begin) == [(deleted, 2, "")]
    assert kept in {subject.rpartition("/")[2] for _, subject in synced.present()}
    assert synced.difference() == []


async def test_one_calendar_that_loses_its_place(synced: House) -> None:
    """Where only one calendar must be listed again, nothing of the others is asked for again or taken for gone."""
    engine = next(id_ for id_ in synced.world.calendars if id_.startswith("c_"))
    cursor = dict((await synced.schedule()).cursor or {})
    place = synced.world.sealed(f"events {engine} False []", -1, synced.clock.now() // SECOND, 0)
    changed = {**cursor, "calendars": {**cursor["calendars"], engine: place}}
    await synced.storage.write(lambda database: database.rows("UPDATE schedule SET cursor = ?", (__import__("json").dumps(changed),)))
    count = len(synced.events())
    assert (await synced.run()).outcome == "done"
    assert len(synced.events()) == count
    assert synced.difference() == []


async def test_a_calendar_comes_and_goes(synced: House) -> None:
    """A new calendar is read; one that is no longer in the list is gone, and all that was in it; an ACL change is none of ours."""
    garden = synced.world.add_calendar(ADA, "Garden", "Europe/London")
    synced.add("Prune", calendar=garden.id)
    await synced.run()
    assert synced.difference() == []
    assert any(title == "Prune" for _, _, title in synced.told())
    synced.world.change_listed(ADA, garden.id, hidden=True)
    await synced.run()
    assert synced.difference() == []
    begin = len(synced.events())
    synced.world.remove_calendar(garden)
    await synced.run()
    assert [(event.type, int(event.change)) for event in synced.events()[begin:]] == [
        ("google_calendar.entry", 2),
        ("google_calendar.calendar", 2),
    ]
    assert synced.difference() == []


async def test_calendars_removed_while_the_list_is_lost(synced: House) -> None:
    """A calendar that is missing from a new listing of calendars is gone, with what was in it."""
    garden = synced.world.add_calendar(ADA, "Garden")
    synced.add("Prune", calendar=garden.id)
    await synced.run()
    synced.world.remove_calendar(garden)
    del synced.world.lists[ADA].bodies[garden.id]
    synced.misbehaviour.on("forget_sync_tokens")
    await synced.run()
    assert synced.difference() == []


async def test_an_entry_that_is_moved(synced: House) -> None:
    """It is gone from one calendar and there in the other, under the same id."""
    engine = next(id_ for id_ in synced.world.calendars if id_.startswith("c_"))
    series = synced.add("Stand-up", **RULE)["id"]
    synced.api("PATCH", f"calendars/primary/events/{series}_20261127T120000Z", {"location": "Outside"})
    await synced.run()
    synced.api("POST", f"calendars/primary/events/{series}/move", destination=engine)
    await synced.run()
    assert ("google_calendar.entry", f"{engine}/{series}/{series}_20261127T120000Z") in synced.present()
    assert synced.difference() == []


async def test_a_listing_that_is_cut_goes_on(house: House) -> None:
    """After a fault in the middle of a first listing the next run goes on at the page it had come to."""
    await house.sign_in()
    for number in range(9):
        house.add(f"Lunch {number}")
    house.misbehaviour.on("small_pages", items=3)
    asked = 0
    send = house.line.send

    async def failing(request: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 6:
            house.misbehaviour.on("user_rate_limit", times=1)
        return await send(request)

    house.line.send = failing  # type: ignore[method-assign]
    assert (await house.run()).outcome == "later"
    before = len(house.told())
    assert before > 0
    assert (await house.run()).outcome == "done"
    assert house.difference() == []
    subjects = [event.subject for event in house.events()]
    assert len(subjects) == len(set(subjects))


@pytest.mark.parametrize(
    ("switch", "outcome", "words"),
    [
        ("rate_limit", "later", "slow down"),
        ("user_rate_limit", "later", "slow down"),
        ("quota", "later", "slow down"),
        ("status_429", "later", "slow down"),
        ("daily_limit", "later", "daily limit"),
        ("not_configured", "later", "enable it there"),
        ("status_500", "later", "answered 500"),
        ("status_503", "later", "answered 503"),
        ("html_answer", "later", "web page"),
    ],
)
async def test_what_stands_in_the_way(synced: House, switch: str, outcome: str, words: str) -> None:
    """Limits, by their reasons, and faults are waited for; nothing is lost."""
    synced.add("Lunch")
    synced.misbehaviour.on(switch, times=1)
    planned = await synced.run()
    assert (planned.outcome, words in (planned.detail or "")) == (outcome, True), planned.detail
    if switch == "daily_limit":
        assert planned.next_run_at is not None
        assert planned.next_run_at - synced.clock.now() >= 3600 * SECOND
    await synced.run()
    assert synced.difference() == []


async def test_a_token_that_is_refused_is_renewed(synced: House) -> None:
    """A 401 leads to one refresh; the refresh token stays as it was."""
    synced.misbehaviour.on("expire_tokens")
    synced.add("Lunch")
    assert (await synced.run()).outcome == "done"
    assert synced.difference() == []
    assert sum(token.kind == "refresh" for token in synced.world.grants.tokens.values()) == 1


async def test_a_calendar_that_cannot_be_reached(synced: House) -> None:
    """A calendar that the list still has but that may not be read any more is passed over; the others are read."""
    engine = next(calendar for id_, calendar in synced.world.calendars.items() if id_.startswith("c_"))
    engine.roles[ADA] = "none"
    synced.add("Lunch")
    assert (await synced.run()).outcome == "done"
    assert synced.log.said("calendar_unreachable")
    engine.roles[ADA] = "owner"
    await synced.run()
    assert synced.difference() == []


async def test_a_list_without_a_sync_token(house: House) -> None:
    """A calendar whose listing ends without a token is listed again the next time; nothing is told twice."""
    house.misbehaviour.on("no_sync_token")
    await house.sign_in()
    for _ in range(3):
        assert (await house.run()).outcome == "done"
    assert house.difference() == []
    assert len(house.events()) == len(house.truth())


async def test_how_far_back(storage: InlineStorage) -> None:
    """Single entries that ended before a first fetch begins are not told; one that moves out of reach is gone; series stay."""

    house = House(storage)
    house.sync = dataclasses.replace(house.sync, limits=msgspec.structs.replace(house.limits, first_fetch_days=30))
    await house.sign_in()
    old = house.add("Long ago", start="2020-01-01T12:00:00Z")["id"]
    series = house.add("Since long", start="2020-01-02T12:00:00Z", recurrence=["RRULE:FREQ=YEARLY"])["id"]
    today = house.clock.now() // SECOND
    from datetime import UTC, datetime

    new = house.add("Now", start=datetime.fromtimestamp(today, UTC).strftime("%Y-%m-%dT%H:00:00Z"))["id"]
    await house.run()
    titles = {title for _, _, title in house.told()}
    assert "Long ago" not in titles
    assert {"Since long", "Now"} <= titles
    house.api("PATCH", f"calendars/primary/events/{old}", {"summary": "Still long ago"})
    house.api(
        "PATCH",
        f"calendars/primary/events/{new}",
        {"start": {"dateTime": "2020-01-01T12:00:00Z"}, "end": {"dateTime": "2020-01-01T13:00:00Z"}},
    )
    begin = len(house.events())
    await house.run()
    assert house.told(begin) == [(new, 2, "")]
    house.misbehaviour.on("forget_sync_tokens")
    await house.run()
    assert house.told(begin + 1) == []
    assert series in {subject.rpartition("/")[2] for _, subject in house.present()}


async def test_free_and_busy_only(house: House) -> None:
    """A calendar of which only free and busy is shown gives entries with times and nothing else."""
    calendar = house.world.add_calendar(GRACE, "Navy")
    house.world.subscribe(ADA, calendar, "freeBusyReader")
    times = {"start": {"date": "2026-11-26"}, "end": {"date": "2026-11-27"}}
    house.api("POST", f"calendars/{calendar.id}/events", {"summary": "Secret", **times}, email=GRACE)
    await house.sign_in()
    await house.run()
    (event,) = [event for event in house.events() if event.subject.startswith(f"{calendar.id}/")]
    shown = payload(event)
    assert (shown.title, shown.start.date, len(shown.attendees)) == ("", "2026-11-26", 0)
    assert isinstance(shown, CalendarEntry)
