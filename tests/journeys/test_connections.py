"""One connection through its days: how it does, when it is synced, and what outlives another sign-in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from journeys.house import House, served

from oo_client import Refused
from oo_todoist.sandbox import TodoistSandbox
from oo_vault import create_key_file


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A daemon and a sandbox."""
    create_key_file(tmp_path / "root.key")
    sandbox = TodoistSandbox()
    async with served(sandbox) as address:
        made = House(tmp_path, sandbox, address)
        await made.start()
        yield made
        await made.stop()


async def synced(house: House, connection: str) -> None:
    """Wait for a sync that begins now."""
    async with house.client as client:
        assert (await client.sync(connection, wait=20)).outcome == "done"


@pytest.mark.rows("E7", "E10")
async def test_how_a_connection_does(house: House) -> None:
    """Its last syncs, what is left of the provider's limit, its scopes and its timetable are told by the private API."""
    connection = await house.connect()
    assert connection is not None
    await synced(house, connection.id)
    async with house.client as client:
        details = await client.details(connection.id)
        assert details.runs[0].outcome == "done"
        assert details.runs[0].calls > 0
        assert details.cursor_at is not None
        assert {scope.id: scope.granted for scope in details.scopes} == {"data:read": True, "data:read_write": False}
        (left,) = details.budgets
        assert (left.of, left.calls, left.seconds, left.at_once) == ("user", 1000, 900, 250)
        assert 200 < left.left < 250
        given = await client.give_timetable(connection.id, cron="30 6 * * mon-fri", zone="Europe/Berlin")
        assert given.timetable is not None
        assert (given.timetable.cron, given.timetable.zone) == ("30 6 * * mon-fri", "Europe/Berlin")
        assert given.next_sync_at is not None
        assert given.next_sync_at.strftime("%M") == "30"
        own = await client.give_timetable(connection.id, cron="30 6 * * mon-fri")
        assert own.timetable is not None
        assert own.timetable.zone == connection.meta["zone"], "the person's own, as the provider tells it"
        await client.give_timetable(connection.id, cron="30 6 * * mon-fri", zone="Europe/Berlin")
        with pytest.raises(Refused, match="no cron expression"):
            await client.give_timetable(connection.id, cron="every morning")
        await synced(house, connection.id)
        assert (await client.connection(connection.id)).next_sync_at == given.next_sync_at
        assert (await client.give_timetable(connection.id, every=3600)).timetable is not None
        assert (await client.take_timetable(connection.id)).timetable is None


@pytest.mark.rows("C14", "E10")
async def test_signing_in_again_keeps_all_but_the_grant(house: House) -> None:
    """A grant that the person has ended is a state, an event and a link; afterwards cursor and timetable are what they were."""
    connection = await house.connect()
    assert connection is not None
    await synced(house, connection.id)
    async with house.client as client:
        await client.give_timetable(connection.id, every=7200)
        before = await client.connection(connection.id)
        house.sandbox.misbehaviour.on("kill_grant")
        assert (await client.sync(connection.id, wait=20)).outcome == "signed_out"
        waiting = await client.connection(connection.id)
        assert waiting.state == "needs_sign_in"
        assert waiting.reason
        again = await house.connect()
        assert again is not None
        assert (again.id, again.state, again.timetable) == (connection.id, "active", before.timetable)
        assert again.meta["cursor"] is not None
        await synced(house, connection.id)
    types = [event.type for event in await house.events() if event.type.startswith("connection.")]
    assert types == ["connection.connected", "connection.needs_sign_in", "connection.recovered"]
