"""Budgets at Google: so much a minute for each person, and so much for all people of one Cloud project together."""

from __future__ import annotations

import pytest
from google_calendar.house import ADA, GRACE, House
from oo_google_calendar.sandbox import world

from oo_daemon.connections.transport import Request
from oo_daemon.store import schedule
from oo_sdk import RateLimit, Response

MINUTE = 60.0
#: What the provider of this test allows in a minute.
PERSON, PROJECT = 60, 90


@pytest.mark.rows("E7")
async def test_google_never_has_to_refuse(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two people with many calendars ask for a sync all the time: nothing is refused, the allowance is used, and both get on."""
    monkeypatch.setattr(world, "PER_USER", PERSON)
    monkeypatch.setattr(world, "PER_PROJECT", PROJECT)
    house.connector.limits = (RateLimit(PERSON, per="minute", of="user"), RateLimit(PROJECT, per="minute", of="client"))
    for who in (ADA, GRACE):
        for number in range(25):
            house.world.add_calendar(who, f"Calendar {number}")
    assert await house.sign_in() == "connected"
    assert await house.sign_in(email=GRACE, user="grace") == "connected"
    began = house.clock.monotonic()
    asked: list[float] = []
    send = house.line.send

    async def noting(request: Request) -> Response:
        asked.append(house.clock.monotonic())
        return await send(request)

    house.line.send = noting  # type: ignore[method-assign]
    while house.clock.monotonic() - began < 4 * MINUTE:
        for number in (1, 2):
            await house.storage.write(schedule.due_now, number, house.clock.now())
        await house.clock.advance(MINUTE / 12)
        await house.tick()
    assert house.line.statuses.keys() == {200}
    assert max(sum(at <= each < at + MINUTE for each in asked) for at in asked) <= PROJECT + 1  # one may be for the token
    assert len(asked) >= 0.6 * PROJECT * 4
    assert house.difference() == []
    assert {event.user for event in house.events()} == {"ada", "grace"}
