"""Real processes: killed and stopped at any moment, on disks that are full, with clocks that are set (A2, A4, B4, E2, E3)."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from faults.load import ACCOUNT, CONNECTION, Bench
from faults.nursery import LAB, Borne, Nursery, nursery
from ports import free_port

from oo_daemon.app import build
from oo_daemon.host import HostClock
from oo_daemon.outbox import wire
from oo_daemon.ports import SECOND
from oo_daemon.store import connections, credentials, inbox, jobs, schedule
from oo_daemon.store.database import Database
from oo_daemon.store.inbox import Arrival
from oo_daemon.store.storage import InlineStorage, open_database
from oo_vault import Sealed

#: `make kills KILLS=…` sets it; 50 in the ordinary run, 1,000 in the long one.
KILLS = int(os.environ.get("OO_TEST_KILLS", "50"))
PATIENCE = 60.0


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lab's connector, for a daemon in this process."""
    monkeypatch.syspath_prepend(str(LAB))


@pytest.fixture
async def bench(lab: None) -> AsyncIterator[Bench]:
    """All that a daemon needs, and nobody at work. In memory where there is such a folder: what dies here is the process, not the power."""
    with tempfile.TemporaryDirectory(prefix="oo-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        made = Bench(Path(folder), free_port())
        await made.prepare()
        yield made


@pytest.fixture
async def bears(tmp_path: Path) -> AsyncIterator[Nursery]:
    """Where processes come from."""
    async with nursery(tmp_path / "borne") as made:
        yield made


async def finished(bench: Bench, daemon: Borne) -> list[str]:
    """Let the daemon work off what there is and stop; gives what is wrong then."""
    await bench.settled()
    await daemon.stop()
    return bench.compare()


@pytest.mark.rows("A2", "B4", "E3")
@pytest.mark.timeout(3600)
async def test_killed_at_any_moment(bench: Bench, bears: Nursery) -> None:
    """Killed again and again under eight senders and syncs, a daemon loses nothing that it acknowledged and tells nothing twice."""
    chance, began = random.Random(KILLS), time.perf_counter()
    daemon = await bears.daemon(bench.config)
    async with bench.load():
        for number in range(KILLS):
            if number % 5:  # each fifth is killed while it starts, most of them
                await bench.progress()
            await asyncio.sleep(chance.uniform(0, 0.25))  # the moment of the kill, and nothing that is waited for
            assert not daemon.ended, daemon.said.read_text()[-2000:]
            await daemon.kill()
            daemon = await bears.daemon(bench.config)
        await bench.progress()
    seconds = time.perf_counter() - began
    wrong = await finished(bench, daemon)
    told = sum(map(len, bench.fed.values()))
    print(
        f"\nkills: {KILLS} in {seconds:.0f} s, {len(bench.acknowledged)} deliveries acknowledged, {told} changes synced, "
        f"{len(wrong)} lost, doubled or damaged"
    )
    assert wrong == []
    assert bench.answers[0] > 0, "no sender ever met a dead daemon"


@pytest.mark.rows("A2")
async def test_the_comparison_sees(bench: Bench, bears: Nursery) -> None:
    """The comparison can fail: what is lost, doubled or never told is named."""
    daemon = await bears.daemon(bench.config)
    async with bench.load():
        await bench.progress()
    assert await finished(bench, daemon) == []
    bench.acknowledged.add("never sent")
    bench.fed["n0"].append("never there")
    database = open_database(bench.database)
    gone = sorted(bench.acknowledged)[0]
    database.rows("DELETE FROM delivery WHERE delivery_id = ?", (gone,))
    again = 'SELECT (SELECT max(position) + 1 FROM outbox), stream, connection, "user", type, "key", body, accepted_at FROM outbox'
    database.rows(f"INSERT INTO outbox {again} WHERE type = 'lab.message' LIMIT 1")
    database.close()
    found = bench.compare()
    for words in (
        "acknowledged and lost: never sent",
        f"acknowledged and lost: {gone}",
        "never told: never sent",
        "told twice",
        "id twice",
        "n0",
    ):
        assert any(words in each for each in found), words


@pytest.mark.rows("E2")
async def test_a_process_that_was_stopped_past_its_lease_writes_nothing(bench: Bench, bears: Nursery) -> None:
    """A process that sleeps past its lease while another takes over is refused when it wakes: no event and no cursor comes after."""
    first = await bears.bear("faults.worker:main", str(bench.database), "first", "20", "6")
    await said(first, "stopping")
    second = await bears.bear("faults.worker:main", str(bench.database), "second", "20")
    await second.end()
    first.signal(signal.SIGCONT)
    await first.end()
    assert second.said.read_text().splitlines()[-1] == "ended"
    assert first.said.read_text().splitlines()[-1] == "lost"
    database = open_database(bench.database)
    rows = database.rows("SELECT body FROM outbox WHERE type = 'lab.note' ORDER BY position")
    owners = [wire.decode(bytes(body)).subject.partition("-")[0] for (body,) in rows]
    planned = schedule.of(database, 1, 0)
    database.close()
    assert owners == ["first"] * 6 + ["second"] * 20
    assert planned is not None
    assert (planned.cursor, planned.outcome) == ({"second": 19}, "done")


async def said(borne: Borne, line: str) -> None:
    """Wait until a process has written this line."""
    async with asyncio.timeout(PATIENCE):
        while not (borne.said.exists() and line in borne.said.read_text().splitlines()):
            assert not borne.ended, borne.said.read_text()
            await asyncio.sleep(0.01)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here ({mounted.stderr.strip()}): a full disk under a real daemon is NOT TESTED")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=PATIENCE)


@pytest.mark.rows("A1", "A12", "B12")
async def test_a_full_disk(small_disk: Path, lab: None, bears: Nursery) -> None:
    """On a full disk a daemon answers 503 and does not end; once there is room again it takes what comes, and nothing is lost."""
    bench = Bench(small_disk, free_port())
    await bench.prepare()
    daemon = await bears.daemon(bench.config)
    await bench.answering()
    filler = small_disk / "filler"  # the daemon has a ballast of its own
    async with bench.load(size=5000):
        for _ in range(3):
            await bench.progress()
            fill(filler)
            refused = bench.answers[503]
            async with asyncio.timeout(PATIENCE):
                while bench.answers[503] < refused + 20:
                    await asyncio.sleep(0.01)
            filler.unlink()
            await bench.progress()
    assert not daemon.ended
    await daemon.stop()  # what it could neither finish nor give back is held until its lease ends, or until a stop or a start
    daemon = await bears.daemon(bench.config)
    wrong = await finished(bench, daemon)
    assert wrong == []
    assert set(bench.answers) <= {0, 200, 503}
    assert bench.answers[0] == 0, "somebody got no answer"


def fill(path: Path) -> None:
    """Take all the room that is left."""
    with path.open("wb", buffering=0) as file:
        size = 1024 * 1024
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2


class SetClock(HostClock):
    """The host's clock, as somebody sets it."""

    def __init__(self) -> None:
        self.shifted = 0

    def now(self) -> int:
        """Microseconds since 1970, by the clock that was set."""
        return super().now() + self.shifted


@pytest.mark.rows("A2", "E10")
async def test_a_clock_that_is_set(bench: Bench) -> None:
    """Whichever way the clock is set under load, deliveries and syncs go on, none is lost and none is told twice."""
    clock = SetClock()
    async with build(bench.settings(), clock=clock):
        async with bench.load():
            for hours in (1, -1, -1, 24, -48, 0.01, 48, -24):
                clock.shifted += int(hours * 3600 * SECOND)
                for _ in range(3):
                    await bench.progress()
        await bench.settled()
    assert bench.compare() == []
    assert set(bench.answers) == {200}


@pytest.mark.rows("E3", "A19")
async def test_what_the_dead_held_is_free(bench: Bench) -> None:
    """A run, a delivery, a job and a refresh that a dead process held are not waited for: the next start frees them and goes on."""
    storage, clock = InlineStorage(open_database(bench.database), wire.encode), HostClock()
    until = clock.now() + 100 * SECOND

    def die_holding_all(database: Database) -> None:
        known = connections.by_id(database, CONNECTION)
        assert known is not None
        body = b'{"account": "%s", "message": "m"}' % ACCOUNT.encode()
        inbox.put(database, Arrival(source="lab", delivery_id="m", weak=False, headers={}, body=body, received_at=1))
        jobs.put(database, id_="j", kind="act", connection=known.number, key="k", body={"name": "nothing", "arguments": {}}, now=1)
        credentials.put(database, known.number, 1, Sealed(key_id="k", blob=b"b"), None)
        assert credentials.lease(database, CONNECTION, "dead", clock.now(), until)
        for claim in (schedule.claim, inbox.claim, jobs.claim):
            assert len(claim(database, "dead", clock.now(), until, 9)) == 1

    await storage.write(die_holding_all)
    storage.database.close()
    async with build(bench.settings()) as app:
        async with asyncio.timeout(PATIENCE):
            while (await app.storage.read(held))[:3] != ("done", "done", "failed"):
                await asyncio.sleep(0.02)
        assert await app.storage.read(held) == ("done", "done", "failed", None)


def held(database: Database) -> tuple[str | None, str, str, str | None]:
    """The outcome of the run, the states of the delivery and of the job, and who holds the credential."""
    planned, job = schedule.of(database, 1, 0), jobs.by_id(database, "j")
    assert planned is not None
    assert job is not None
    return planned.outcome, inbox.listed(database)[0].state, job.state, credentials.read(database, CONNECTION).lease_owner
