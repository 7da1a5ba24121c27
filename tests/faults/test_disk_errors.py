"""A disk that refuses: nothing is acknowledged that is not there, and the store goes on when the disk does (B12)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from oo_daemon.outbox import wire
from oo_daemon.store import connections, schedule
from oo_daemon.store.accept import Batch, Draft
from oo_daemon.store.connections import Connection, SignedIn
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.storage import ThreadedStorage, open_database
from oo_sdk import Change, Event
from oo_sdk.vocabulary import Task

NAME = f"faulty-{os.getpid()}"
#: Which calls fail: each of the first ones, then some further on, or each of them in the long run.
STEP = int(os.environ.get("OO_TEST_DISK_STEP", "5"))
CALLS = [*range(1, 41), *range(40 + STEP, 201, STEP)]


class Faulty(apsw.VFS):
    """The ordinary VFS, until one call of one kind fails; and those after it, if the fault lasts."""

    def __init__(self, name: str) -> None:
        self.kind, self.left, self.lasts = "", 0, False
        self.error: type[apsw.Error] = apsw.IOError
        super().__init__(name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> Any:
        return _File(self, name, flags)

    def fail(self, kind: str, call: int, error: type[apsw.Error], *, lasts: bool) -> None:
        """Let the `call`-th call of this kind from now on fail."""
        self.kind, self.left, self.error, self.lasts = kind, call, error, lasts

    def mend(self) -> None:
        """Let nothing fail."""
        self.kind = ""

    def called(self, kind: str) -> None:
        """Count a call, and fail if it is the one."""
        if kind != self.kind:
            return
        self.left -= 1
        if self.left == 0 or (self.left < 0 and self.lasts):
            raise self.error("the disk refuses")


class _File(apsw.VFSFile):
    def __init__(self, vfs: Faulty, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self.vfs = vfs
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self.vfs.called("write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self.vfs.called("sync")
        super().xSync(flags)


@pytest.fixture
def vfs() -> Iterator[Faulty]:
    vfs = Faulty(NAME)
    yield vfs
    vfs.unregister()


def drafts(number: int, count: int) -> tuple[Draft, ...]:
    return tuple(
        wire.draft("todoist", Event("task", f"{number}-{place}", Change.UPSERTED, payload=Task(title="x" * 200))) for place in range(count)
    )


async def connected(storage: ThreadedStorage) -> Connection:
    who = SignedIn(
        id="c" * 32,
        user="ada",
        provider="todoist",
        account="default",
        registration=None,
        provider_account="1",
        label="",
        scopes=(),
        meta={},
    )
    connection = await storage.write(connections.put, who, 1)
    await storage.write(schedule.create, connection.number, 1)
    return connection


@pytest.mark.rows("B12")
@pytest.mark.parametrize("lasts", [False, True], ids=["once", "for a while"])
@pytest.mark.parametrize(
    ("kind", "error"), [("write", apsw.IOError), ("write", apsw.FullError), ("write", apsw.CorruptError), ("sync", apsw.IOError)]
)
async def test_no_row_no_acknowledgement(tmp_path: Path, vfs: Faulty, kind: str, error: type[apsw.Error], lasts: bool) -> None:
    """Whichever call fails, who was told "stored" is stored, nothing is there by half, and afterwards writing works."""
    storage = ThreadedStorage(open_database(tmp_path / "oo.sqlite3", vfs=NAME), wire.encode)
    connection = await connected(storage)
    told: set[str] = set()
    refused: set[str] = set()

    async def write(number: int) -> None:
        batch = Batch(connection=connection, observed_at=1, drafts=drafts(number, 3))
        try:
            await storage.accept(batch)
        except CannotStore:
            refused.update(draft.key for draft in batch.drafts)
        else:
            told.update(draft.key for draft in batch.drafts)

    number = 0
    for call in CALLS:
        vfs.fail(kind, call, error, lasts=lasts)
        # Several at once, so that they share a commit and must not share a fate they did not have.
        for _ in range(3):
            await asyncio.gather(*(write(number + place) for place in range(4)))
            number += 4
        vfs.mend()
        await write(number)
        assert f"{number}-0" in told, "writing works again once the disk does"
        number += 1
        if call % 40 == 0:
            await storage.checkpoint()
    stored = await storage.read(lambda database: {key for (key,) in database.rows('SELECT "key" FROM object')})
    rows = await storage.read(lambda database: database.rows("SELECT count(*), max(position) FROM outbox"))
    await storage.close()
    assert refused or not lasts
    assert told - stored == set(), "acknowledged and not there"
    if kind != "sync":
        # A commit whose sync failed lies in the log unsynced: it may come to life when the file is opened again, as after a power cut.
        assert stored & refused == set(), "refused and there"
    assert {key.partition("-")[0] for key in stored & refused} & {key.partition("-")[0] for key in stored - refused} == set(), "half there"
    assert rows == [(len(stored), len(stored))]
    check = apsw.Connection(str(tmp_path / "oo.sqlite3"))
    assert list(check.execute("PRAGMA integrity_check")) == [("ok",)]
    check.close()
