"""Google's own Python client makes a whole tour of the sandbox over HTTP, and every answer is as the discovery document says."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import pytest
from google.oauth2.credentials import Credentials
from google_calendar.clients.discovery import document, wrong
from google_calendar.visitor import Visitor, receiving, visiting
from googleapiclient.discovery import build_from_document
from googleapiclient.errors import HttpError

T = TypeVar("T")
Json = dict[str, Any]

GRACE = "grace@example.com"


class Google:
    """The client, whose calls run in a thread since it waits in them; each answer is held against its schema."""

    def __init__(self, visitor: Visitor) -> None:
        found = copy.deepcopy(document())
        found["rootUrl"] = f"{visitor.address}/"
        found["baseUrl"] = f"{visitor.address}/calendar/v3/"
        self.visitor = visitor
        self.credentials = Credentials(  # type: ignore[no-untyped-call]  # google-auth declares no types here
            token=visitor.access,
            refresh_token=visitor.refresh,
            token_uri=f"{visitor.address}/token",
            client_id=visitor.sandbox.client_id,
            client_secret=visitor.sandbox.client_secret,
        )
        self.service = build_from_document(json.dumps(found), credentials=self.credentials)
        self.checked: set[str] = set()

    async def __call__(self, resource: str, method: str, **given: Any) -> Any:
        """Make one call."""
        request = getattr(getattr(self.service, resource)(), method)(**given)
        body = await asyncio.to_thread(request.execute)
        schema = document()["resources"][resource]["methods"][method].get("response", {}).get("$ref")
        if schema is None:
            assert body == ""
        else:
            assert wrong(schema, body) == []
        self.checked.add(f"{resource}.{method}")
        return body

    async def everything(self, resource: str, method: str, **given: Any) -> list[Json]:
        """Follow the pages as the client does, to their end; gives the whole answers."""
        collection = getattr(self.service, resource)()
        request = getattr(collection, method)(**given)
        answers = []
        while request is not None:
            answer = await asyncio.to_thread(request.execute)
            assert wrong("Events" if resource == "events" else "CalendarList", answer) == []
            answers.append(answer)
            request = getattr(collection, f"{method}_next")(request, answer)
        return answers

    async def refused(self, resource: str, method: str, **given: Any) -> tuple[int, str]:
        """Make a call that is refused; gives the status and the reason."""
        with pytest.raises(HttpError) as refusal:
            await self(resource, method, **given)
        return refusal.value.status_code, refusal.value.error_details[0]["reason"]


@pytest.fixture
async def google() -> AsyncIterator[Google]:
    """The client, signed in as Ada."""
    async with visiting() as visitor:
        await visitor.sign_in()
        google = Google(visitor)
        yield google
        google.service.close()


def hour(start: str, zone: str = "Europe/London") -> Json:
    """An hour from then on."""
    end = f"{start[:11]}{int(start[11:13]) + 1:02}{start[13:]}"
    return {"start": {"dateTime": start, "timeZone": zone}, "end": {"dateTime": end, "timeZone": zone}}


async def test_the_list_of_calendars(google: Google) -> None:
    """The list, one of it, a page at a time, what changed in it, and a calendar itself."""
    whole = await google("calendarList", "list", showHidden=True)
    assert [entry.get("primary", False) for entry in whole["items"]].count(True) == 1
    own = await google("calendarList", "get", calendarId="primary")
    assert own["id"] == "ada@example.com"
    assert (await google("calendars", "get", calendarId="primary"))["timeZone"] == "Europe/London"
    pages = await google.everything("calendarList", "list", maxResults=1)
    assert [len(page["items"]) for page in pages] == [1, 1]
    world = google.visitor.sandbox.world
    world.remove_calendar(world.add_calendar("ada@example.com", "Garden"))
    changes = await google("calendarList", "list", syncToken=whole["nextSyncToken"])
    assert [entry["deleted"] for entry in changes["items"]] == [True]
    assert await google.refused("calendarList", "list", syncToken="no token") == (400, "invalid")
    assert await google.refused("calendarList", "get", calendarId="nobody@example.com") == (404, "notFound")


async def test_the_life_of_an_entry(google: Google) -> None:
    """An entry is added, read, patched, replaced, moved, answered, deleted; each step is in the changes."""
    begun = await google("events", "list", calendarId="primary")
    engine = next(entry["id"] for entry in (await google("calendarList", "list"))["items"] if not entry.get("primary"))
    asked = {
        "id": "0123456789abcdefghijklmnop",
        "summary": "Lunch",
        "attendees": [{"email": "ada@example.com"}, {"email": GRACE, "optional": True}],
        "reminders": {"useDefault": False, "overrides": [{"method": "popup", "minutes": 10}]},
        "extendedProperties": {"private": {"oo.action": "k"}},
        "colorId": "7",
        **hour("2026-11-26T12:00:00Z"),
    }
    made = await google("events", "insert", calendarId="primary", body=asked, sendUpdates="none")
    assert await google.refused("events", "insert", calendarId="primary", body=asked) == (409, "duplicate")
    assert await google("events", "get", calendarId="primary", eventId=made["id"]) == made
    patched = await google("events", "patch", calendarId="primary", eventId=made["id"], body={"summary": "Late lunch", "location": "Here"})
    assert (patched["summary"], patched["location"], len(patched["attendees"])) == ("Late lunch", "Here", 2)
    whole = {"summary": "Whole", **hour("2026-11-26T13:00:00Z")}
    replaced = await google("events", "update", calendarId="primary", eventId=made["id"], body=whole)
    assert (replaced["summary"], "location" in replaced, "attendees" in replaced) == ("Whole", False, False)
    day = {"start": {"date": "2026-11-26", "dateTime": None}, "end": {"date": "2026-11-27", "dateTime": None}}
    assert (await google("events", "patch", calendarId="primary", eventId=made["id"], body=day))["start"] == {"date": "2026-11-26"}
    moved = await google("events", "move", calendarId="primary", eventId=made["id"], destination=engine)
    assert moved["organizer"]["email"] == engine
    changes = await google("events", "list", calendarId="primary", syncToken=begun["nextSyncToken"])
    assert [(entry["id"], entry["status"]) for entry in changes["items"]] == [(made["id"], "cancelled")]
    await google("events", "delete", calendarId=engine, eventId=made["id"])
    assert await google.refused("events", "delete", calendarId=engine, eventId=made["id"]) == (410, "deleted")
    assert (await google("events", "get", calendarId=engine, eventId=made["id"]))["status"] == "cancelled"


async def test_etags(google: Google) -> None:
    """Who names the version that they read does not write over a newer one, and is not given it twice."""
    made = await google("events", "insert", calendarId="primary", body={"summary": "Lunch", **hour("2026-11-26T12:00:00Z")})
    service = google.service.events()
    read = service.get(calendarId="primary", eventId=made["id"])
    read.headers["If-None-Match"] = made["etag"]
    with pytest.raises(HttpError) as same:
        await asyncio.to_thread(read.execute)
    assert same.value.status_code == 304
    await google("events", "patch", calendarId="primary", eventId=made["id"], body={"summary": "Late lunch"})
    late = service.patch(calendarId="primary", eventId=made["id"], body={"summary": "Mine"})
    late.headers["If-Match"] = made["etag"]
    with pytest.raises(HttpError) as changed:
        await asyncio.to_thread(late.execute)
    assert (changed.value.status_code, changed.value.error_details[0]["reason"]) == (412, "conditionNotMet")


async def test_a_series(google: Google) -> None:
    """A series, its occurrences, one that is different, one that is called off, in all the ways to look at them."""
    body = {"summary": "Stand-up", "recurrence": ["RRULE:FREQ=DAILY;COUNT=5"], **hour("2026-11-24T09:00:00Z")}
    series = await google("events", "insert", calendarId="primary", body=body)
    occurrences = (await google("events", "instances", calendarId="primary", eventId=series["id"]))["items"]
    assert [entry["id"] for entry in occurrences] == [f"{series['id']}_202611{day}T090000Z" for day in range(24, 29)]
    assert len(await google.everything("events", "instances", calendarId="primary", eventId=series["id"], maxResults=2)) == 3
    await google("events", "patch", calendarId="primary", eventId=occurrences[1]["id"], body={"location": "Outside"})
    await google("events", "delete", calendarId="primary", eventId=occurrences[2]["id"])
    shown = await google("events", "instances", calendarId="primary", eventId=series["id"], showDeleted=True)
    assert [entry["status"] for entry in shown["items"]].count("cancelled") == 1
    listed = (await google("events", "list", calendarId="primary"))["items"]
    assert len([entry for entry in listed if entry.get("recurringEventId") == series["id"]]) == 2
    window = {"timeMin": "2026-11-24T00:00:00Z", "timeMax": "2026-11-29T00:00:00Z"}
    expanded = await google("events", "list", calendarId="primary", singleEvents=True, orderBy="startTime", q="stand-up", **window)
    assert [entry["start"]["dateTime"][:10] for entry in expanded["items"]] == ["2026-11-24", "2026-11-25", "2026-11-27", "2026-11-28"]


async def test_ways_to_list(google: Google) -> None:
    """By pages, by time, by words, by property, in another zone, with few guests; what cannot be together is refused."""
    pages = await google.everything("events", "list", calendarId="primary", maxResults=2)
    assert ["nextSyncToken" in page for page in pages] == [False] * (len(pages) - 1) + [True]
    ids = [entry["id"] for page in pages for entry in page["items"]]
    assert len(set(ids)) == len(ids) == 5
    found = await google("events", "list", calendarId="primary", timeZone="Asia/Tokyo", maxAttendees=1, q="compare")
    (notes,) = found["items"]
    assert (notes["start"]["dateTime"][-6:], notes["attendeesOmitted"], len(notes["attendees"])) == ("+09:00", True, 1)
    assert (await google("events", "list", calendarId="primary", privateExtendedProperty="a=b"))["items"] == []
    by_id = await google("events", "list", calendarId="primary", iCalUID=notes["iCalUID"], showDeleted=True)
    assert [entry["id"] for entry in by_id["items"]] == [notes["id"]]
    assert (await google("events", "list", calendarId="primary", updatedMin="2026-11-20T00:00:00Z", orderBy="updated"))["items"]
    token = pages[-1]["nextSyncToken"]
    for name, value in (("timeMin", "2026-11-24T00:00:00Z"), ("q", "x"), ("orderBy", "updated"), ("iCalUID", "x"), ("showDeleted", False)):
        assert (await google.refused("events", "list", calendarId="primary", syncToken=token, **{name: value}))[0] == 400
    assert await google.refused("events", "list", calendarId="primary", updatedMin="2026-01-01T00:00:00Z") == (410, "updatedMinTooLongAgo")
    await google.visitor.misbehave("forget_sync_tokens")
    assert await google.refused("events", "list", calendarId="primary", syncToken=token) == (410, "fullSyncRequired")


async def test_what_cannot_be(google: Google) -> None:
    """Entries that make no sense are refused as Google refuses them."""
    good = {"summary": "x", **hour("2026-11-26T12:00:00Z")}
    for more, refusal in (
        ({"id": "UPPER"}, (400, "invalid")),
        ({"start": {"date": "2026-11-26"}}, (400, "invalid")),
        ({"end": {"dateTime": "2026-11-26T11:00:00Z"}}, (400, "timeRangeEmpty")),
        ({"recurrence": ["RRULE:FREQ=SOMETIMES"]}, (400, "invalid")),
        ({"attendees": [{"email": "nobody"}]}, (400, "invalid")),
        ({"start": None}, (400, "required")),
        ({"summary": 7}, (400, "invalid")),
    ):
        assert await google.refused("events", "insert", calendarId="primary", body={**good, **more}) == refusal, more
    made = await google("events", "insert", calendarId="primary", body=good)
    assert await google.refused("events", "patch", calendarId="primary", eventId=made["id"], body={"end": None}) == (400, "required")
    assert await google.refused("events", "update", calendarId="primary", eventId=made["id"], body={"summary": "x"}) == (400, "required")
    assert await google.refused("events", "get", calendarId="primary", eventId="none0") == (404, "notFound")
    assert await google.refused("events", "insert", calendarId=GRACE, body=good) == (404, "notFound")


async def test_channels(google: Google) -> None:
    """Channels of a calendar and of the list are opened and stopped; each begins with a message that it does."""
    async with receiving() as app:
        for number, (resource, given) in enumerate((("events", {"calendarId": "primary"}), ("calendarList", {}))):
            asked = {"id": f"channel-{number}", "type": "web_hook", "address": app.url, "token": "t", "params": {"ttl": "3600"}}
            opened = await google(resource, "watch", body=asked, **given)
            assert (opened["id"], opened["token"]) == (asked["id"], "t")
            assert await google.refused(resource, "watch", body=asked, **given) == (400, "channelIdNotUnique")
            await google("channels", "stop", body={"id": opened["id"], "resourceId": opened["resourceId"]})
            assert await google.refused("channels", "stop", body={"id": opened["id"], "resourceId": opened["resourceId"]}) == (
                *(404, "notFound"),
            )
        await google.visitor.sandbox.settled()
        assert app.told("Resource-State") == ["sync", "sync"]


async def test_a_token_that_ends(google: Google) -> None:
    """The client renews its access token by itself, and cannot when the grant is gone."""
    await google.visitor.misbehave("expire_tokens")
    assert (await google("calendarList", "list"))["items"]
    assert google.credentials.token != google.visitor.access
    await google.visitor.misbehave("kill_grant")
    wanted: Callable[[], Any] = google.service.calendarList().list().execute
    with pytest.raises(Exception, match="invalid_grant"):
        await asyncio.to_thread(wanted)


async def test_what_is_not_in_the_schema() -> None:
    """The validator sees a member that nobody documented, a kind that is not right and a day that is none."""
    assert wrong("Event", {"summary": "x", "start": {"date": "2026-11-26"}}) == []
    for body in ({"sandboxUnknown": 1}, {"summary": 1}, {"start": {"date": "soon"}}, {"attendees": [{"email": ["x"]}]}):
        assert wrong("Event", body)
