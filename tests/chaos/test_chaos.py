"""Three workers and two doors on one PostgreSQL and one NATS, under fire: `make chaos SECONDS=60`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import postgresql
import pytest
from broker import broker
from chaos.checker import wrong
from chaos.fleet import Fleet, fleet
from faults.nursery import nursery

LAB = Path(__file__).parent / "lab"
#: The long run sets it to minutes; SEED repeats the order of what befalls them.
SECONDS = float(os.environ.get("OO_TEST_CHAOS_SECONDS", "5"))
SEED = int(os.environ.get("OO_TEST_CHAOS_SEED", "1"))


@pytest.fixture
async def ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    """All at work. In memory where there is such a folder: what dies here is a process, not the power."""
    programs = postgresql.programs()
    if programs is None:
        pytest.skip("NO PostgreSQL HERE: several daemons were not put under fire")
    monkeypatch.syspath_prepend(str(LAB))
    monkeypatch.setenv("PYTHONPATH", str(LAB))
    server = postgresql.Server(programs, durable=True)
    try:
        with server.database() as address, broker() as nats:
            async with nursery(tmp_path / "borne") as bears, fleet(tmp_path, bears, server, address, nats, SEED) as made:
                yield made
    finally:
        server.stop()


@pytest.mark.rows("B20", "E2", "E13", "A2")
@pytest.mark.timeout(3600)
async def test_several_daemons_under_fire(ships: Fleet) -> None:
    """Whatever is cut, killed, stopped, restarted or lost: nothing acknowledged is missing, nothing told twice or out of order."""
    async with ships.load():
        await ships.fire(SECONDS)
    rested = await ships.rest()
    history = await ships.history()
    found = wrong(history)
    figures = {
        "misfortunes": sum(ships.befell.values()),
        "deliveries acknowledged": len(history.acknowledged),
        "changes synced": sum(map(len, history.feeds.values())),
        "events": len(history.outbox),
        "messages in the stream": len(history.stream),
        "rotations": sum(history.rotations.values()),
        "calls": len(history.calls),
        "seconds until all was told": round(rested, 1),
        "wrong": len(found),
    }
    print(f"\nchaos: {', '.join(f'{number} {what}' for what, number in figures.items())}")
    assert found == []
    assert ships.faults() == {}
    assert ships.provider.refused == 0
    assert ships.answers[0] + ships.answers[503] > 0, "no sender ever met a fault"
