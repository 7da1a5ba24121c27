"""A process that claims the one connection of a database and writes events for it, one commit after another, until it loses the lease.

Arguments: the database, the owner's name, how many events to write before the run ends, and after how many it stops itself (SIGSTOP):
between two commits, since a process that is stopped within one holds SQLite's lock, and nobody can take over. (On PostgreSQL others pass
over what it holds, until the server cuts it off after half a minute.)
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from oo_config import Server
from oo_daemon import cli
from oo_daemon.cli import run as run_
from oo_daemon.ops import plugins
from oo_daemon.outbox import wire
from oo_daemon.ports import SECOND
from oo_daemon.store import connections, schedule
from oo_daemon.store.accept import Batch
from oo_daemon.store.engines import open_storage
from oo_daemon.store.errors import LeaseLost
from oo_daemon.store.runs import Tally
from oo_daemon.store.schedule import CursorMoved, Held, Run, RunEnded
from oo_daemon.store.storage import Storage
from oo_sdk import Change, Event
from oo_sdk.vocabulary import Document

#: Seconds that a lease holds.
LEASE = 1.0


def now() -> int:
    """The host's time, as the store counts it."""
    return time.time_ns() // 1000


async def work(place: Path | Server, owner: str, count: int, stop_after: int) -> None:
    """Claim and write."""
    storage = open_storage(place, wire.encode)
    try:
        await _write(storage, await _claimed(storage, owner), owner, count, stop_after)
    except LeaseLost:
        print("lost", flush=True)
    finally:
        await storage.close()


async def _claimed(storage: Storage, owner: str) -> Run:
    while True:
        for run in await storage.write(schedule.claim, owner, now(), now() + int(LEASE * SECOND), 1):
            return run


async def _write(storage: Storage, run: Run, owner: str, count: int, stop_after: int) -> None:
    connection = await storage.read(connections.by_number, run.connection)
    assert connection is not None
    for number in range(count):
        draft = wire.draft("lab", Event("note", f"{owner}-{number}", Change.UPSERTED, payload=Document(title=owner)))
        mark = CursorMoved(run=run, cursor={owner: number}) if number % 2 else Held(run=run)
        await storage.accept(Batch(connection=connection, observed_at=now(), drafts=[draft], marks=(mark,)))
        if not await storage.write(schedule.heartbeat, [run], now() + int(LEASE * SECOND)):
            raise LeaseLost("by its heartbeat")
        if number + 1 == stop_after:
            print("stopping", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)
    ended = RunEnded(run=run, now=now(), next_run_at=None, outcome="done", detail="", tally=Tally(events=count), keep_tries=False)
    await storage.accept(Batch(connection=connection, observed_at=now(), marks=(ended,)))
    print("ended", flush=True)


def impatient() -> None:
    """Be `oo` with less patience for plugins than a minute."""
    plugins.LONGEST, run_.FAREWELL = 0.5, 0.5
    cli.main()


def main() -> None:
    """Begin."""
    place, owner, count, *stop_after = sys.argv[1:]
    where = Server(place) if place.startswith("postgresql:") else Path(place)
    asyncio.run(work(where, owner, int(count), int(stop_after[0]) if stop_after else 0))
