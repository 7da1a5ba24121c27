"""A disk that is full to the last byte: people are forgotten all the same, and everything goes on once there is room again (B11)."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest
from faults.test_processes import fill
from journeys.house import House, served
from journeys.test_erase import connected
from journeys.test_webhooks import address, post, push, signed

from oo_client import TryLater, Unexpected
from oo_daemon.ops.disk import BALLAST, MIB
from oo_todoist.sandbox import TodoistSandbox
from oo_vault import create_key_file

#: Seconds that nothing here may take.
PATIENCE = 40.0
LEAST = 100 * MIB


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A daemon on a disk of its own, with room for its ballast."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = f"size={LEAST + 3 * BALLAST}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here ({mounted.stderr.strip()}): erasing on a full disk is NOT TESTED")
    try:
        create_key_file(folder / "root.key")
        sandbox = TodoistSandbox()
        async with served(sandbox) as where:
            house = House(folder, sandbox, where, settings={"sync": {"interval": 3600}, "disk": {"least_free": LEAST}})
            await house.start()
            try:
                yield house
            finally:
                await house.stop()
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=PATIENCE)


@pytest.mark.rows("B11", "F3")
@pytest.mark.timeout(120)
async def test_erasing_on_a_full_disk(house: House) -> None:
    """The ballast makes room for it; nothing new is taken meanwhile, and once the disk has room it is, without a restart."""
    await connected(house)
    hook, filler, ballast = await address(house), house.folder / "filler", house.folder / "ballast"
    assert ballast.stat().st_size == BALLAST
    async with house.client as client, asyncio.timeout(PATIENCE):
        fill(filler)
        while True:
            try:
                begun = await client.erase_user("ada")
                break
            except (TryLater, Unexpected):  # not one byte is left until the ballast is noticed to be needed
                await asyncio.sleep(0.05)
        while (found := await client.erasure(begun.id, wait=5)).state != "done":
            assert await post(hook, push(house), signed(house, push(house), "meanwhile")) == 503
        assert (found.physical, ballast.exists()) == ("done", False)
        assert (await client.health()).status == "not_ready"
        assert await post(hook, push(house), signed(house, push(house), "meanwhile")) == 503
        assert [event.type for event in await house.events()] == ["user.erased"]
        filler.unlink()
        while (await client.health()).status != "ok" or not ballast.exists():
            await asyncio.sleep(0.05)
    await connected(house, "grace")
    assert await post(hook, push(house), signed(house, push(house), "after")) == 200
    file = apsw.Connection(str(house.folder / "oo.sqlite3"))
    assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    file.close()
