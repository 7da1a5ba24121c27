"""An import whose daemon or reader is killed at any moment: everything of the file comes in, and nothing twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from apple_health.generator import Phone

from oo_client import Client, DaemonNotRunning, Upload
from oo_daemon.cli.stage import Stage, stage

#: In the ordinary run, and in the long one.
KILLS = int(os.environ.get("OO_TEST_IMPORT_KILLS", "4"))
#: Of one file: after five at the same place it would be given up.
OF_ONE = 2
#: In the long run large enough for checkpoints in the middle of it.
PHONE = Phone(records=5_000 if KILLS < 20 else 40_000, days=60)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Stage]:
    """A daemon as a process."""
    async with stage(tmp_path) as here:
        here.write_settings()
        await here.oo("vault", "init")
        await here.start_daemon()
        yield here


async def hand_in(here: Stage, file: bytes, user: str) -> str:
    async with Client(here.socket) as client:
        id_ = (await client.await_upload(provider="apple_health", user=user, name="export.zip", size=len(file))).upload.id
        await client.send_upload(id_, file, offset=0)
        return id_


async def ended(here: Stage, id_: str) -> Upload:
    async with asyncio.timeout(300), Client(here.socket) as client:
        while (found := await client.upload(id_, wait=20)).state in {"queued", "running"}:
            pass
    return found


async def told(here: Stage, user: str) -> list[tuple[str, str]]:
    async with Client(here.socket) as client:
        return sorted(
            [
                (event.type, event.subject)
                async for event in client.events(follow=False, user=user)
                if event.type.startswith("apple_health.")
            ]
        )


async def reader(here: Stage, id_: str) -> int | None:
    """The process of the reader, once there is one; None where the import has ended."""
    daemon = here.processes["daemon"].child.pid
    async with asyncio.timeout(60), Client(here.socket) as client:
        while True:
            with suppress(OSError):
                for pid in Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split():
                    if b"oo_daemon.reader" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        return int(pid)
            with suppress(DaemonNotRunning):
                if (await client.upload(id_)).state == "done":
                    return None


@pytest.mark.rows("A2")
@pytest.mark.timeout(7200)
async def test_killed_at_any_moment_of_an_import(here: Stage, tmp_path: Path) -> None:
    """Daemon and reader by turns: each file is whole in the end, told once, and its numbers are those of one that nothing disturbed."""
    file, chance = PHONE.zip(tmp_path / "export.zip").read_bytes(), random.Random(KILLS)
    began = time.perf_counter()
    whole = await ended(here, await hand_in(here, file, "undisturbed"))
    lasts = time.perf_counter() - began
    expected = await told(here, "undisturbed")
    assert (whole.state, whole.events, len(set(expected))) == ("done", len(expected), len(expected))
    kills = missed = 0
    while kills < KILLS:
        user = f"user-{kills}-{missed}"
        id_ = await hand_in(here, file, user)
        for _ in range(min(OF_ONE, KILLS - kills)):
            pid = await reader(here, id_)
            await asyncio.sleep(chance.uniform(0, lasts))  # the moment of the kill, and nothing that is waited for
            async with Client(here.socket) as client:
                if pid is None or (await client.upload(id_)).state == "done":
                    missed += 1
                    break
            if kills % 2:
                await here.processes["daemon"].kill()
                await here.start_daemon()
            else:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            kills += 1
        done = await ended(here, id_)
        assert (done.state, done.records, done.events) == ("done", whole.records, whole.events), done
        assert await told(here, user) == expected
    assert not list((tmp_path / "uploads").iterdir())
    print(f"\nimports: {kills} kills, {missed} came too late, {len(expected)} events each, {time.perf_counter() - began:.0f} s")
