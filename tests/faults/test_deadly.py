"""A plugin that ends the process or holds it up, in real processes: it is named, set aside in time, and the rest goes on."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from faults.load import Bench
from faults.nursery import LAB, Borne, Nursery, nursery
from ports import free_port

from oo_client import Client, DaemonNotRunning

PATIENCE = 20.0
#: Starts that the mightiest of faults may take; each is a tenth of a second.
STARTS = 8


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """A daemon's folder, with the lab's connector and one connection."""
    monkeypatch.syspath_prepend(str(LAB))
    with tempfile.TemporaryDirectory(prefix="oo-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        made = Bench(Path(folder), free_port())
        await made.prepare()
        yield made


@pytest.fixture
async def bears(tmp_path: Path) -> AsyncIterator[Nursery]:
    """Where processes come from."""
    async with nursery(tmp_path / "borne") as made:
        yield made


async def until_one_lives(bench: Bench, bears: Nursery, daemon: Borne) -> int:
    """Start daemons until one has had nothing to do for a while; gives how many starts that took."""
    starts = 0
    while starts < STARTS:
        if await _lives(bench, daemon):
            return starts
        daemon = await bears.suspicious(bench.config)
        starts += 1
    raise AssertionError("none of them lived")


async def _lives(bench: Bench, daemon: Borne) -> bool:
    async with asyncio.timeout(PATIENCE):
        while not daemon.ended:
            try:
                async with bench.client as client:
                    received = await client.deliveries(state="received", limit=1)
                    synced = [known.last_sync for known in await client.connections()]
                    if not received and all(last is not None and last.outcome != "running" for last in synced):
                        return True
            except DaemonNotRunning:
                pass
            await asyncio.sleep(0.01)
    return False


@pytest.mark.rows("H10")
@pytest.mark.timeout(60)
async def test_a_payload_that_ends_the_process(bench: Bench, bears: Nursery) -> None:
    """The fourth start lives: the delivery is dead and says why, those beside it are done, and its connector goes on."""
    daemon = await bears.suspicious(bench.config)
    assert await _lives(bench, daemon)
    for message in ("before", "after", "exit-now"):
        await bench.post(message)
    assert await until_one_lives(bench, bears, daemon) == 3
    async with bench.client as client:
        states = {entry.delivery_id: (entry.state, entry.reason) for entry in await client.deliveries()}
        lab = next(plugin for plugin in await client.plugins() if plugin.id == "lab")
    assert states["before"][0] == states["after"][0] == "done"
    assert states["exit-now"] == ("dead", "the daemon ended each time that it was worked on: update the connector, and replay it")
    assert (lab.state, lab.strikes) == ("loaded", 1)


@pytest.mark.rows("E12", "H10")
@pytest.mark.timeout(120)
async def test_a_connection_that_ends_the_process(bench: Bench, bears: Nursery) -> None:
    """The fourth start lives: the connection is left alone and says why, its connector goes on, and a release has it tried again."""
    feed = bench.folder / "feed"
    feed.write_text("exit now\n")
    bench.make_due()
    assert await until_one_lives(bench, bears, await bears.suspicious(bench.config)) == 3
    async with bench.client as client:
        (known,) = await client.connections()
        lab = next(plugin for plugin in await client.plugins() if plugin.id == "lab")
        assert (lab.state, lab.strikes) == ("loaded", 1)
        assert known.last_sync is not None
        assert (known.last_sync.outcome, known.last_sync.detail) == (
            "failed",
            "the daemon ended each time that it was synced: update the connector, then `oo plugins release` it",
        )
        feed.write_text("n1 mended\n")
        assert (await client.sync("c" * 32, wait=PATIENCE)).outcome == "failed"
        await client.release_plugin("lab")
        assert (await client.sync("c" * 32, wait=PATIENCE)).outcome == "done"


@pytest.mark.rows("B7", "H10")
@pytest.mark.timeout(60)
async def test_an_event_that_ends_the_process_in_a_sink(bench: Bench, bears: Nursery) -> None:
    """The fifth start lives: that event is a dead letter, what came with it is taken, and the sink goes on."""
    with bench.config.open("a") as settings:
        settings.write("\n[sinks.lab_sink]\nbatch = 10\n")
    (bench.folder / "feed").write_text("".join(f"n-{name} tea\n" for name in ("a", "b", "deadly", "c")))
    bench.make_due()
    daemon, starts = await bears.suspicious(bench.config), 1
    async with asyncio.timeout(PATIENCE), bench.client as client:
        while not (await _sinks(client) == {"lab_sink": ("running", 0, 1)} and not daemon.ended):
            if daemon.ended:
                daemon, starts = await bears.suspicious(bench.config), starts + 1
            await asyncio.sleep(0.01)
        assert starts == 5
        (letter,) = await client.dead_letters("sink:lab_sink")
        assert letter.reason.startswith("the daemon ended each time that this was given to the sink")
        assert {plugin.name: plugin.state for plugin in await client.plugins()}["lab"] == "loaded"


async def _sinks(client: Client) -> dict[str, tuple[str, int, int]]:
    with suppress(DaemonNotRunning):
        return {each.name: (each.state, each.lag, each.dead_letters) for each in await client.sinks()}
    return {}


@pytest.mark.rows("E12", "H10")
@pytest.mark.timeout(120)
async def test_a_connector_that_ends_the_process(bench: Bench, bears: Nursery) -> None:
    """It ends it with one connection, and with another: a start after the third to the fifth end lives without it (which of the two
    connections is first each time is chance), says which it is and why, takes what is pushed meanwhile, and loads it once released."""
    feed = bench.folder / "feed"
    feed.write_text("exit now\n")
    bench.make_another()
    bench.make_due()
    assert await until_one_lives(bench, bears, await bears.suspicious(bench.config)) in {3, 4, 5}
    async with bench.client as client:
        plugins = {plugin.name: plugin for plugin in await client.plugins()}
        assert plugins["lab"].state == "quarantined"
        assert plugins["lab"].reason.startswith("it ended the daemon, 3 times until ")
        assert plugins["lab"].reason.endswith("update or uninstall it, then `oo plugins release lab`")
        assert plugins["todoist"].state == "loaded"
        assert "lab" in (await client.health()).parts["plugins"].says
        assert await bench.post("meanwhile") == 503, "its sender comes again"
        await client.release_plugin("lab")
        assert {plugin.name: plugin.reason for plugin in await client.plugins()}["lab"].startswith("it was released")
    await bears.borne[-1].stop()
    feed.write_text("n1 mended\n")
    daemon = await bears.suspicious(bench.config)
    assert await _lives(bench, daemon)
    async with bench.client as client:
        assert (await client.sync("c" * 32, wait=PATIENCE)).outcome == "done"


@pytest.mark.rows("E12")
@pytest.mark.timeout(60)
async def test_a_connector_that_holds_up_the_others(bench: Bench, bears: Nursery) -> None:
    """While it blocks, deliveries are taken as fast as ever and the private doors answer; afterwards a number and a line name it."""
    daemon = await bears.suspicious(bench.config)
    assert await _lives(bench, daemon)
    await bench.post("sleep-1.5")
    took: list[float] = []
    began = time.monotonic()
    while time.monotonic() - began < 1.0:
        asked = time.monotonic()
        assert await bench.post(f"m{len(took)}") == 200
        took.append(time.monotonic() - asked)
    assert len(took) > 20
    assert sorted(took)[int(0.99 * len(took))] < 0.25
    assert await _lives(bench, daemon)
    async with bench.client as client:
        assert 'oo_integrations_plugin_blocks_total{plugin="oo-lab/lab"} 1.0' in await client.metrics()
    assert "plugin_blocked" in daemon.said.read_text()


@pytest.mark.rows("E12")
@pytest.mark.timeout(60)
async def test_a_connector_that_never_comes_back(bench: Bench, bears: Nursery) -> None:
    """After a minute (here half a second) it has a strike and the daemon ends by itself, in order or not, to be started again."""
    (bench.folder / "feed").write_text("sleep-600 x\n")
    bench.make_due()
    daemon = await bears.bear("faults.worker:impatient", "--config", str(bench.config), "run")
    await daemon.end()
    assert "plugin_stands" in daemon.said.read_text()
    (bench.folder / "feed").write_text("n1 x\n")
    daemon = await bears.suspicious(bench.config)
    assert await _lives(bench, daemon)
    async with bench.client as client:
        assert {plugin.name: plugin.strikes for plugin in await client.plugins()}["lab"] == 1
