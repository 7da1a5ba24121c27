"""Sinks as their operator sees and moves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from daemon.outbox.test_relay import World

from oo_daemon.connections.errors import Declined
from oo_daemon.outbox.sinks import Sinks
from oo_daemon.registry import Placed
from oo_daemon.store import consumers
from oo_daemon.store.consumers import Start
from oo_daemon.store.database import Database
from oo_daemon.store.outbox import Filter
from oo_daemon.store.storage import open_database
from oo_sdk import Sink


@pytest.fixture
def world(tmp_path: Path) -> Any:
    world = World(open_database(tmp_path / "oo.db"))
    yield world
    world.database.close()


class Quiet(Sink):
    """Takes what it is given."""

    id = "quiet"


def _of(world: World, called: list[str]) -> Sinks:
    sink = Quiet()
    placed = {name: Placed(name=name, sink=sink) for name in ("here", "new")}
    return Sinks(storage=world.storage, placed=placed, aside={"odd": "its table says nothing"}, call=called.append)


async def _ran(world: World, *names: str) -> None:
    def register(database: Database) -> None:
        for name in names:
            consumers.add(database, consumers.of_sink(name), Start(position=0), Filter(), 3, world.clock.now())

    await world.storage.write(register)


async def test_all_sinks_are_shown(world: World) -> None:
    """Those that run, those that have not run yet, those whose table is odd, and those that have none any more; consumers are none."""
    await _ran(world, "here", "gone")
    await world.storage.write(consumers.add, "reader", Start(position=0), Filter(), 3, world.clock.now())
    shown, end = await _of(world, []).listed()
    assert [(each.name, each.kind, each.state, each.consumer is not None) for each in shown] == [
        ("gone", "", "off", True),
        ("here", "quiet", "running", True),
        ("new", "quiet", "running", False),
        ("odd", "", "off", False),
    ]
    assert "it has no table [sinks.gone]: `oo consumers remove sink:gone`" in shown[0].reason
    assert shown[3].reason == "its table says nothing"
    assert end.number == 0


async def test_a_sink_waits_and_goes_on(world: World) -> None:
    """Paused and resumed, it is looked at anew each time; one that never ran, and one that is none, are said to be so."""
    called: list[str] = []
    await _ran(world, "here")
    sinks = _of(world, called)
    assert (await sinks.pause("here", True))[0].state == "paused"
    assert (await sinks.pause("here", False))[0].state == "running"
    assert called == ["here", "here"]
    with pytest.raises(Declined, match="The sink new has never run"):
        await sinks.pause("new", True)
    with pytest.raises(Declined, match="There is no sink nowhere"):
        await sinks.pause("nowhere", True)


async def test_dead_letters_are_given_again(world: World) -> None:
    """All of a sink's, or those at some positions."""
    called: list[str] = []
    await _ran(world, "here")
    await world.write(3)
    for position in (1, 2, 3):
        await world.storage.write(consumers.give_up, consumers.of_sink("here"), position - 1, position, "too odd", world.clock.now())
    sinks = _of(world, called)
    assert await sinks.give_again("here", ["1-2"]) == 1
    assert await sinks.give_again("here", None) == 3
    assert called == ["here", "here"]
