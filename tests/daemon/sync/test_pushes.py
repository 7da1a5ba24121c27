"""Polls beside pushes: seldom where pushes work, often again where they stop."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from daemon.sync.world import Hub, Scripted, note

from oo_daemon.ports import SECOND
from oo_daemon.store.inbox import Nudged, Pushed
from oo_daemon.store.schedule import Schedule
from oo_daemon.sync.plan import RECONCILE, stretched
from oo_sdk import Checkpoint, RetryLater

QUIET = [Checkpoint({"at": 1})]


def wait(planned: Schedule) -> float:
    """Seconds from the end of the last sync to the next."""
    assert planned.next_run_at is not None
    assert planned.finished_at is not None
    return (planned.next_run_at - planned.finished_at) / SECOND


async def nudge(hub: Hub) -> None:
    mark = Nudged(connection=1, now=hub.clock.now())
    await hub.storage.write(lambda database: mark.apply(database))


@pytest.mark.rows("A22")
async def test_where_pushes_work_polls_thin_out(hub: Hub) -> None:
    """Once a push was heard, each poll that finds nothing waits twice as long for the next, up to the reconciliation."""
    await hub.connect()
    sync = hub.sync(Scripted(QUIET))
    await hub.once(sync)
    assert wait(await hub.schedule()) == 300
    await nudge(hub)
    await hub.once(sync)
    waits = []
    for _ in range(9):
        await hub.when_due(sync)
        waits.append(wait(await hub.schedule()))
    assert waits == [600, 1200, 2400, 4800, 9600, 19200, 21600, 21600, 21600]
    assert RECONCILE <= 24 * 3600


async def test_events_that_are_pushed_count_too(hub: Hub) -> None:
    """A push that brings the events themselves lets polls thin out, and makes nothing due."""
    await hub.connect()
    sync = hub.sync(Scripted(QUIET))
    await hub.once(sync)
    before = (await hub.schedule()).next_run_at
    mark = Pushed(connection=1, now=hub.clock.now())
    await hub.storage.write(lambda database: mark.apply(database))
    assert (await hub.schedule()).next_run_at == before
    await hub.when_due(sync)
    assert wait(await hub.schedule()) == 600


@pytest.mark.rows("A22")
async def test_where_pushes_stop_polls_thicken(hub: Hub) -> None:
    """A poll that finds what no push has told makes the interval short again; what a push announced does not."""
    await hub.connect()
    scripts: list[list[Any]] = [QUIET, QUIET, QUIET, [note("n1"), Checkpoint({"at": 2})], QUIET, [note("n2"), Checkpoint({"at": 3})]]
    sync = hub.sync(Scripted(*scripts))
    await hub.once(sync)
    await nudge(hub)
    await hub.once(sync)
    await hub.when_due(sync)
    assert wait(await hub.schedule()) == 600
    await nudge(hub)
    await hub.once(sync)
    assert wait(await hub.schedule()) == 600
    await hub.when_due(sync)
    assert wait(await hub.schedule()) == 1200
    await hub.when_due(sync)
    assert wait(await hub.schedule()) == 300
    assert hub.told() == [("n1", "A", 1), ("n2", "A", 1)]


async def test_a_nudge_keeps_to_what_the_provider_asks(hub: Hub) -> None:
    """Where a provider has its quota spent a nudge waits for it; nudges without number come to one sync."""
    await hub.connect()
    sync = hub.sync(Scripted([RetryLater("busy", after=timedelta(seconds=900))], QUIET))
    await hub.once(sync)
    floor = hub.clock.now() + 900 * SECOND
    await hub.storage.write(lambda database: database.rows("UPDATE schedule SET tries = 0"))
    for _ in range(50):
        await nudge(hub)
    assert (await hub.schedule()).next_run_at == floor
    await hub.when_due(sync)
    assert wait(await hub.schedule()) == 300


@pytest.mark.parametrize(
    ("before", "heard", "announced", "news", "after"),
    [
        (8, False, False, False, 1),
        (8, True, False, True, 1),
        (8, True, True, True, 8),
        (8, True, True, False, 8),
        (8, True, False, False, 16),
        (72, True, False, False, 72),
    ],
)
def test_by_how_much(before: int, heard: bool, announced: bool, news: bool, after: int) -> None:
    """The interval is stretched only as long as polls find nothing that was not pushed."""
    assert stretched(before, heard=heard, announced=announced, news=news, interval=300) == after
