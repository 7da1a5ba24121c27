"""A calendar from the sign-in to the end: the daemon and Google's stand-in as they are run, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from journeys.house import House, served
from oo_google_calendar.sandbox import GoogleCalendarSandbox
from oo_google_calendar.sandbox.control import Control

from oo_client import Event
from oo_daemon.connections import subscriptions
from oo_vault import create_key_file

ADA = "ada@example.com"


@pytest.fixture
async def sandbox() -> GoogleCalendarSandbox:
    return GoogleCalendarSandbox()


@pytest.fixture
async def house(tmp_path: Path, sandbox: GoogleCalendarSandbox, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """A daemon that looks for what it should subscribe to all the time, and polls once an hour."""
    monkeypatch.setattr(subscriptions, "EVERY", 0.1)
    create_key_file(tmp_path / "root.key")
    async with served(sandbox) as address:
        house = House(tmp_path, cast(Any, sandbox), address, settings={"sync": {"interval": 3600}})
        await house.start()
        try:
            yield house
        finally:
            await house.stop()


def as_ada(sandbox: GoogleCalendarSandbox, method: str, path: str, body: bytes = b"") -> Any:
    control = Control(sandbox.world, sandbox.misbehaviour, sandbox.provider, sandbox.channels)
    answer = control.as_person(ADA, method, path, {}, body)
    assert answer.status < 300, answer.body
    return answer.body


def titles(events: list[Event]) -> list[str]:
    return [(event.payload or {}).get("title", "") for event in events if event.type == "google_calendar.entry"]


async def test_the_whole_way(house: House, sandbox: GoogleCalendarSandbox) -> None:
    """Connect, sync, a push that becomes an event, an action that becomes an entry and comes back, and an end that leaves nothing open."""
    connection = await house.connect(write=True)
    assert connection is not None
    assert connection.label == ADA
    async with house.client as client, asyncio.timeout(60):
        assert (await client.sync(connection.id, wait=20)).outcome == "done"
        known = await house.events()
        assert {"Tea with Mary", "Walk", "Ockham Park"} <= set(titles(known))
        while len(sandbox.channels.open_ones(ADA)) < 3:
            await asyncio.sleep(0.05)
        await sandbox.settled()
        assert [push.state for push in sandbox.channels.pushed] == ["delivered"] * 3

        followed = client.events(after=known[-1].position)
        dinner = b'{"summary": "Dinner", "start": {"date": "2026-12-24"}, "end": {"date": "2026-12-25"}}'
        made = as_ada(sandbox, "POST", "calendars/primary/events", dinner)
        pushed = await anext(followed)
        assert (pushed.type, pushed.subject, (pushed.payload or {})["title"]) == ("google_calendar.entry", f"{ADA}/{made['id']}", "Dinner")

        arguments = {"title": "Supper", "start": "2026-12-26T19:00:00Z", "end": "2026-12-26T21:00:00Z"}
        done = await client.act(connection.id, "add_entry", arguments, key="supper", wait=20)
        assert (done.state, done.result is not None) == ("done", True)
        again = await client.act(connection.id, "add_entry", arguments, key="supper", wait=20)
        assert again.id == done.id
        there = [body for body in sandbox.world.calendars[ADA].entries.bodies.values() if body.get("summary") == "Supper"]
        assert len(there) == 1
        told = {event.type: event async for event in _first(followed, 2)}
        assert told["action.done"].subject == done.id
        assert (told["google_calendar.entry"].payload or {})["title"] == "Supper"

        gone = await client.disconnect(connection.id, wait=30)
    assert gone.state == "disconnected"
    assert gone.revocation is not None
    assert (gone.revocation.revoked, "same Google Cloud project" in gone.revocation.remains) == ("fully", True)
    assert sandbox.channels.open_ones() == []
    assert not [token for token in sandbox.world.grants.tokens.values() if not token.revoked]
    asked = [*sandbox.provider.requests]
    assert asked.index("POST /calendar/v3/channels/stop") < asked.index("POST /revoke")
    assert titles(await house.events())[-1] == "Supper", "what was told stays"


async def _first(events: AsyncIterator[Event], count: int) -> AsyncIterator[Event]:
    for _ in range(count):
        yield await anext(events)
