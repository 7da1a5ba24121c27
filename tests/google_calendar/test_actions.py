"""What is done at Google Calendar happens once, and writes nothing over."""

from __future__ import annotations

import pytest
from google_calendar.house import ADA, GRACE, House, payload
from oo_google_calendar.actions import entry_id

from oo_sdk import ActionRefused, RetryLater
from oo_sdk.vocabulary import Attendee

TIMES = {"start": "2026-11-26T12:00:00Z", "end": "2026-11-26T13:00:00Z"}


@pytest.fixture
async def writing(house: House) -> House:
    """Signed in for changing, and synced."""
    assert await house.sign_in(write=True) == "connected"
    await house.run()
    return house


def count(house: House, title: str) -> int:
    """How many entries of that title Ada's first calendar has."""
    calendar = house.world.calendars[ADA]
    return sum(body.get("summary") == title and not calendar.is_gone(body) for body in calendar.entries.bodies.values())


async def test_a_whole_life_of_an_entry(writing: House) -> None:
    """An entry that is added, changed, moved and deleted from our side is told back as such."""
    made = await writing.act(
        "add_entry", "1", title="Lunch", **TIMES, time_zone="Europe/London", guests=[GRACE], location="Pub", alarm_minutes=[5], free=True
    )
    await writing.run()
    shown = payload(writing.events()[-1])
    assert (writing.events()[-1].subject, shown.title, shown.location, shown.free) == (made.subject, "Lunch", "Pub", True)
    assert ([guest.person.email for guest in shown.attendees], shown.alarms[0].minutes_before) == ([GRACE], 5)
    await writing.act("update_entry", "2", id=made.subject, title="Late lunch", start="2026-11-27", end="2026-11-28", location="")
    await writing.run()
    shown = payload(writing.events()[-1])
    assert (shown.title, shown.start.date, shown.end.date, shown.location) == ("Late lunch", "2026-11-27", "2026-11-28", "")
    engine = next(id_ for id_ in writing.world.calendars if id_.startswith("c_"))
    moved = await writing.act("move_entry", "3", id=made.subject, calendar=engine)
    assert moved.subject == f"{engine}/{made.subject.rpartition('/')[2]}"
    await writing.run()
    assert writing.difference() == []
    await writing.act("delete_entry", "4", id=moved.subject)
    await writing.run()
    assert (writing.events()[-1].subject, int(writing.events()[-1].change)) == (moved.subject, 2)
    assert writing.difference() == []


@pytest.mark.parametrize("name", ["add_entry", "update_entry", "move_entry", "delete_entry", "answer_invitation"])
async def test_a_lost_answer(writing: House, name: str) -> None:
    """After a lost answer the same action is done again: it has happened once, and gives the same."""
    engine = next(id_ for id_ in writing.world.calendars if id_.startswith("c_"))
    invited = writing.add("Ours", email=GRACE, calendar=GRACE, attendees=[{"email": ADA}])["id"]
    mine = writing.add("Mine")["id"]
    arguments = {
        "add_entry": {"title": "New", **TIMES},
        "update_entry": {"id": f"{ADA}/{mine}", "title": "New"},
        "move_entry": {"id": f"{ADA}/{mine}", "calendar": engine},
        "delete_entry": {"id": f"{ADA}/{mine}"},
        "answer_invitation": {"id": f"{ADA}/{invited}", "answer": "accepted"},
    }[name]
    writing.line.lose = 1
    with pytest.raises(RetryLater):
        await writing.act(name, "key", **arguments)
    position = writing.world.position
    first = await writing.act(name, "key", **arguments)
    assert await writing.act(name, "key", **arguments) == first
    assert writing.world.position == position
    if name == "add_entry":
        assert count(writing, "New") == 1


async def test_a_change_of_somebody_else_is_not_written_over(writing: House) -> None:
    """A repeated try does not undo what somebody else did since; a change since the version that the caller saw is refused."""
    mine = writing.add("Mine")
    subject, version = f"{ADA}/{mine['id']}", mine["etag"]
    writing.line.lose = 1
    with pytest.raises(RetryLater):
        await writing.act("update_entry", "1", id=subject, title="Ours")
    writing.api("PATCH", f"calendars/primary/events/{mine['id']}", {"summary": "Theirs"})
    await writing.act("update_entry", "1", id=subject, title="Ours")
    assert count(writing, "Theirs") == 1
    for name, more in (("update_entry", {"title": "Ours"}), ("delete_entry", {})):
        with pytest.raises(ActionRefused, match="has changed since that version"):
            await writing.act(name, "2", id=subject, version=version, **more)
    assert count(writing, "Theirs") == 1


async def test_an_entry_that_changes_in_between(writing: House) -> None:
    """What changes between reading and writing is read again; an answer then keeps the other guests' answers."""
    invited = writing.add("Ours", email=GRACE, calendar=GRACE, attendees=[{"email": ADA}, {"email": "charles@example.com"}])["id"]
    send, others = writing.line.send, [{"email": ADA}, {"email": "charles@example.com", "responseStatus": "declined"}]

    async def meanwhile(request: object) -> object:
        answer = await send(request)  # type: ignore[arg-type]
        if others and getattr(request, "method", "") == "GET":
            writing.api("PATCH", f"calendars/{GRACE}/events/{invited}", {"attendees": list(others)}, email=GRACE)
            others.clear()
        return answer

    writing.line.send = meanwhile  # type: ignore[method-assign,assignment]
    await writing.act("answer_invitation", "1", id=f"{ADA}/{invited}", answer="tentative", comment="If I can")
    await writing.run()
    shown = next(payload(event) for event in reversed(writing.events()) if event.subject.endswith(invited))
    answers = {guest.person.email: (guest.answer, guest.comment) for guest in shown.attendees}
    assert answers == {ADA: (Attendee.ANSWER_TENTATIVE, "If I can"), "charles@example.com": (Attendee.ANSWER_DECLINED, "")}
    theirs = writing.world.calendars[GRACE].entries.bodies[invited]
    assert {guest["email"]: guest["responseStatus"] for guest in theirs["attendees"]} == {
        ADA: "tentative",
        "charles@example.com": "declined",
    }


async def test_what_is_refused(writing: House) -> None:
    """What cannot be done is refused in words that help and hold nothing of the person's."""
    invited = writing.add("Ours", email=GRACE, calendar=GRACE, attendees=[{"email": ADA}])["id"]
    mine = f"{ADA}/{writing.add('Mine')['id']}"
    dead = writing.add("Dead")["id"]
    writing.api("DELETE", f"calendars/primary/events/{dead}")
    for words, name, arguments in (
        ("that is no entry", "delete_entry", {"id": "abc"}),
        ("does not know", "delete_entry", {"id": f"{ADA}/abcdef"}),
        ("does not know", "add_entry", {"title": "x", **TIMES, "calendar": "nobody@example.com"}),
        ("does not take", "add_entry", {"title": "x", "start": "soon", "end": "later"}),
        ("does not take", "add_entry", {"title": "x", **TIMES, "recurrence": ["RRULE:FREQ=SOMETIMES"], "time_zone": "UTC"}),
        ("nothing to change", "update_entry", {"id": mine}),
        ("was deleted", "update_entry", {"id": f"{ADA}/{dead}", "title": "x"}),
        ("its owner or organizer may", "update_entry", {"id": f"{ADA}/{invited}", "title": "x"}),
        ("its owner or organizer may", "move_entry", {"id": f"{ADA}/{invited}", "calendar": ADA}),
        ("is not invited", "answer_invitation", {"id": mine, "answer": "accepted"}),
    ):
        with pytest.raises(ActionRefused, match=words) as raised:
            await writing.act(name, words, **arguments)
        assert "example.com" not in str(raised.value) or words == "that is no entry"


async def test_an_occurrence(writing: House) -> None:
    """One occurrence of a series is changed and called off by its own subject; the others stay."""
    series = writing.add("Stand-up", recurrence=["RRULE:FREQ=DAILY;COUNT=5"])["id"]
    await writing.run()
    await writing.act("update_entry", "1", id=f"{ADA}/{series}/{series}_20261127T120000Z", location="Outside")
    await writing.act("delete_entry", "2", id=f"{ADA}/{series}/{series}_20261128T120000Z")
    await writing.run()
    shown = [payload(event) for event in writing.events()[-2:]]
    assert [(each.location, each.cancelled) for each in shown] == [("Outside", False), ("", True)]
    assert writing.difference() == []


def test_ids() -> None:
    """An id has Google's digits only, is the same for the same key, and another for another."""
    one, two = entry_id("00000000-0000-0000-0000-000000000001"), entry_id("ffffffff-ffff-ffff-ffff-ffffffffffff")
    assert (one, two) == ("0" * 25 + "1", "7" + "v" * 25)
