"""A rotation that is killed at random points, again and again."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import pytest
from daemon.connections.vaulted import NEW, OLD, fill, fill_others, grant, opened, opened_others

from oo_daemon.outbox import wire
from oo_daemon.store import sealed
from oo_daemon.store.storage import InlineStorage, open_database
from oo_vault import Keyring

#: The long run has 200 kills over 10,000 rows.
KILLS = int(os.environ.get("OO_TEST_ROTATION_KILLS", "4"))
ROWS = int(os.environ.get("OO_TEST_ROTATION_ROWS", "2000"))
OTHERS = 3
TESTS = Path(__file__).parents[1]


@pytest.mark.rows("C3")
@pytest.mark.timeout(3600)
async def test_a_killed_rotation_loses_nothing(tmp_path: Path) -> None:
    """Killed at random points and begun again, a rotation leaves every value open at any time and ends with all sealed anew, none plain."""
    path = tmp_path / "oo.sqlite3"
    storage = InlineStorage(open_database(path), wire.encode)
    await storage.write(fill, Keyring([OLD]), range(ROWS))
    await storage.write(fill_others, Keyring([OLD]))
    both, wanted = Keyring([NEW, OLD]), [grant(number) for number in range(ROWS)]
    chance = random.Random(7)
    keys, cut = (NEW, OLD), 0
    for kill in range(KILLS):
        newest = Keyring([keys[0]]).newest.key_id
        await rotate(path, keys, chance)
        counts = await storage.read(sealed.counted)
        assert sum(counts.values()) == ROWS + OTHERS
        if kill % 10 == 0:  # what no longer opens stays so: to look at each time would only cost
            assert await storage.read(opened, both) == wanted
        if counts == {newest: ROWS + OTHERS}:  # done in spite of the kills: the other way round, so that each kill has its chance
            keys = (keys[1], keys[0])
        else:
            cut += counts.get(newest, 0) > 0
    await rotate(path, keys, None)
    alone = Keyring([keys[0]])
    assert await storage.read(sealed.counted) == {alone.newest.key_id: ROWS + OTHERS}
    assert await storage.read(opened, alone) == wanted
    assert len(await storage.read(opened_others, alone)) == OTHERS
    assert cut >= KILLS // 3
    for file in tmp_path.iterdir():
        assert b"canary" not in file.read_bytes()


async def rotate(path: Path, keys: tuple[bytes, bytes], chance: random.Random | None) -> None:
    """Rotate in a process of its own, which is killed somewhere in the middle."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(TESTS / "faults" / "rotate_and_die.py"), str(path), *(key.hex() for key in keys)]
    process = await asyncio.create_subprocess_exec(*command, env=environ, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"rotating\n"
    if chance is not None:
        try:
            await asyncio.wait_for(process.wait(), chance.uniform(0, ROWS / 9_000))
        except TimeoutError:
            process.kill()
    assert await process.wait() in ({0} if chance is None else {0, -9})
