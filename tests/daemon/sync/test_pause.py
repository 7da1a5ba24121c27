"""Pausing a connection."""

from __future__ import annotations

import asyncio

import pytest
from daemon.store.world import signed_in
from daemon.sync.world import Hub, Scripted, gate, note
from daemon.virtual import settle

from oo_daemon.connections import pause as pausing
from oo_daemon.connections.errors import Declined
from oo_daemon.store import connections, schedule
from oo_sdk import Checkpoint


async def test_a_pause_stops_a_sync_and_keeps_the_place(hub: Hub) -> None:
    """A paused connection is not synced, also a sync under way writes nothing more; it goes on from its cursor when it is resumed."""
    made = await hub.connect()
    opened, wait = gate()
    connector = Scripted(
        [note("n1"), Checkpoint({"at": 1}), wait, note("late"), Checkpoint({"at": 2})], [note("n2"), Checkpoint({"at": 2})]
    )
    working = asyncio.ensure_future(hub.sync(connector).run(await hub.claim()))
    await settle()
    await hub.storage.write(pausing.pause, made.number, hub.clock.now())
    opened.set()
    await hub.clock.until(working)
    now = hub.clock.now()
    assert await hub.storage.write(schedule.claim, "me", now, now + 60, 9) == []
    assert hub.told() == [("n1", "A", 1)]
    await hub.storage.write(pausing.resume, made.number, hub.clock.now())
    await hub.once(hub.sync(connector))
    assert connector.asked == [None, {"at": 1}]
    assert hub.told() == [("n1", "A", 1), ("n2", "A", 1)]


async def test_a_pause_outlives_signing_in(hub: Hub) -> None:
    """Who signs in again does not end a pause: only `resume` does."""
    made = await hub.connect()
    await hub.storage.write(pausing.pause, made.number, hub.clock.now())
    await hub.storage.write(pausing.pause, made.number, hub.clock.now())
    again = await hub.storage.write(connections.put, signed_in(made.id, user=made.user, account=made.account), hub.clock.now())
    assert (again.number, again.state) == (made.number, "paused")
    assert (await hub.storage.write(pausing.resume, made.number, hub.clock.now())).state == "active"


async def test_what_cannot_be_paused(hub: Hub) -> None:
    """A connection that is being left can be neither paused nor resumed, and one that waits for a sign-in is not resumed."""
    made = await hub.connect()
    await hub.change_state(made, "needs_sign_in")
    with pytest.raises(Declined):
        await hub.storage.write(pausing.resume, made.number, hub.clock.now())
    await hub.change_state(made, "revoking")
    for act in (pausing.pause, pausing.resume):
        with pytest.raises(Declined):
            await hub.storage.write(act, made.number, hub.clock.now())
    with pytest.raises(Declined):
        await hub.storage.write(pausing.pause, 99, hub.clock.now())
