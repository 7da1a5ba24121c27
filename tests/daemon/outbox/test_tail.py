"""The end of the outbox: those who wait there are woken, and never too late."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from daemon.outbox.test_wire import note
from daemon.virtual import VirtualClock, settle

from oo_daemon.host import HostClock
from oo_daemon.outbox import wire
from oo_daemon.outbox.tail import Tail
from oo_daemon.store import connections, outbox, retention
from oo_daemon.store.accept import Batch
from oo_daemon.store.connections import Connection, SignedIn
from oo_daemon.store.outbox import Filter, Page
from oo_daemon.store.storage import InlineStorage, ThreadedStorage, open_database

ALL = Filter()
#: No test waits longer for anything.
PATIENCE = 10.0


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with nothing in it, to be copied."""
    path = tmp_path_factory.mktemp("tail") / "empty.db"
    open_database(path).close()
    return path


@pytest.fixture
def path(empty: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(empty, tmp_path / "oo.db"))


@pytest.fixture
async def inline(path: Path) -> AsyncIterator[InlineStorage]:
    database = open_database(path)
    yield InlineStorage(database, wire.encode)
    database.close()


@pytest.fixture
async def threaded(path: Path) -> AsyncIterator[ThreadedStorage]:
    storage = ThreadedStorage(open_database(path), wire.encode)
    yield storage
    await storage.close()


Write = Callable[..., Awaitable[int]]


async def writing(storage: InlineStorage | ThreadedStorage) -> Write:
    """Something that puts a note into the outbox, each with another subject, and gives its position."""
    signed_in = SignedIn(
        id="c-1",
        user="ada",
        provider="acme",
        account="a",
        registration=None,
        provider_account="",
        label="",
        scopes=(),
        meta={},
    )
    connection: Connection = await storage.write(connections.put, signed_in, 1)
    numbers = iter(range(10**6))

    async def write(**fields: Any) -> int:
        draft = wire.draft("acme", note(subject=f"n{next(numbers)}", **fields))
        accepted = await storage.accept(Batch(connection=connection, observed_at=1, drafts=(draft,)))
        assert accepted.last_position is not None
        return accepted.last_position

    return write


def positions(page: Page) -> list[int]:
    return [stored[0] for stored in page.events]


async def test_what_is_there_already(inline: InlineStorage) -> None:
    """A reader who is behind does not wait, and hears whether there is more."""
    clock = VirtualClock()
    tail, write = Tail(inline, clock), await writing(inline)
    for _ in range(3):
        await write()
    page = await tail.page(1, 1, ALL, wait=60)
    assert (positions(page), page.more, page.end.number) == ([2], True, 3)
    assert clock.monotonic() == 0


async def test_woken_by_a_commit(inline: InlineStorage) -> None:
    """A reader who waits has an event as soon as it is committed."""
    clock = VirtualClock()
    tail, write = Tail(inline, clock), await writing(inline)
    waiting = [asyncio.ensure_future(tail.page(0, 10, ALL, wait=60)) for _ in range(3)]
    await settle()
    await write()
    await settle()
    assert [positions(task.result()) for task in waiting] == [[1], [1], [1]]
    assert clock.monotonic() == 0


async def test_nothing_comes(inline: InlineStorage) -> None:
    """A reader who waited in vain has an empty page, which says where the log ends."""
    clock = VirtualClock()
    tail, write = Tail(inline, clock), await writing(inline)
    await write()
    page = await clock.until(tail.page(1, 10, ALL, wait=20))
    assert (page.events, page.end.number, page.more) == ([], 1, False)
    assert clock.monotonic() == 20


async def test_no_wait(inline: InlineStorage) -> None:
    """A reader who does not want to wait has what there is."""
    page = await Tail(inline, VirtualClock()).page(0, 10, ALL, wait=0)
    assert page.events == []


async def test_events_that_do_not_fit(inline: InlineStorage) -> None:
    """Events that a reader does not want do not end its wait, nor does the wait begin anew; and what was looked through is not again."""
    clock = VirtualClock()
    asked: list[int] = []

    class Watched(InlineStorage):
        async def read(self, query: Any, *args: Any, **kwargs: Any) -> Any:
            asked.append(args[0])
            return await super().read(query, *args, **kwargs)

    storage = Watched(inline.database, wire.encode)
    tail, write = Tail(storage, clock), await writing(storage)
    waiting = asyncio.ensure_future(tail.page(0, 10, Filter(type="acme.memo"), wait=60))
    for _ in range(3):
        await clock.advance(10)
        await write()
    await clock.advance(10)
    assert not waiting.done()
    await write(name="memo")
    await settle()
    assert positions(waiting.result()) == [4]
    assert asked == [0, 0, 1, 2, 3][: len(asked)]
    late = asyncio.ensure_future(tail.page(4, 10, Filter(type="acme.memo"), wait=60))
    await clock.advance(30)
    await write()
    await clock.advance(30)
    assert positions(late.result()) == []


async def test_no_wake_up_is_lost(inline: InlineStorage) -> None:
    """An event that is committed between a reader's look and its wait is not slept through."""
    clock = VirtualClock()

    class Late(InlineStorage):
        async def read(self, query: Any, *args: Any, **kwargs: Any) -> Any:
            page = await super().read(query, *args, **kwargs)
            if not written:
                written.append(await write())
                await asyncio.sleep(0)  # the bell rings before the reader has begun to wait
                await asyncio.sleep(0)
            return page

    written: list[int] = []
    storage = Late(inline.database, wire.encode)
    tail, write = Tail(storage, clock), await writing(storage)
    waiting = asyncio.ensure_future(tail.page(0, 10, ALL, wait=60))
    await settle()
    assert positions(waiting.result()) == [1]
    assert clock.monotonic() == 0


async def test_a_reader_that_goes_away(inline: InlineStorage) -> None:
    """A reader that is cancelled leaves nothing behind."""
    tail = Tail(inline, VirtualClock())
    waiting = asyncio.ensure_future(tail.page(0, 10, ALL, wait=60))
    await settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_quick_reader_is_read_ahead_for(inline: InlineStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes pages at once has them in order, each event once, with few looks; then waits for what comes, as everybody does."""
    clock, looks = VirtualClock(), list[str]()

    class Watched(InlineStorage):
        async def read(self, query: Any, *args: Any, **kwargs: Any) -> Any:
            looks.append(query.__name__)
            return await super().read(query, *args, **kwargs)

    monkeypatch.setattr(outbox, "AHEAD", 6)
    storage = Watched(inline.database, wire.encode)
    tail, write = Tail(storage, clock), await writing(storage)
    for _ in range(11):
        await write()
    async with aclosing(tail.onward(0, 2, ALL, 60)) as pages:
        found = [await clock.until(anext(pages)) for _ in range(6)]
        assert [positions(page) for page in found] == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11]]
        assert looks == ["page", "pages", "pages"]
        waiting = asyncio.ensure_future(anext(pages))
        await clock.advance(59)
        await write()
        assert positions(await waiting) == [12]
        assert positions(await clock.until(anext(pages))) == []


@pytest.mark.rows("F3")
async def test_what_was_read_ahead_is_soon_forgotten(inline: InlineStorage) -> None:
    """A slow reader is not given what was erased since it was read: it is read anew, and what is gone is said."""
    clock = VirtualClock()
    tail, write = Tail(inline, clock), await writing(inline)
    for _ in range(9):
        await write()
    async with aclosing(tail.onward(0, 2, ALL, 60)) as pages:
        assert [positions(await clock.until(anext(pages))) for _ in range(2)] == [[1, 2], [3, 4]]
        await inline.write(retention.drop, [5, 6, 7])
        await clock.advance(1)
        page = await clock.until(anext(pages))
        assert (positions(page), page.missing) == ([8, 9], 3)


async def test_a_reader_that_is_behind_leaves_the_loop_to_others(threaded: ThreadedStorage) -> None:
    """Between any two pages everybody else has a turn, also where both were read at once."""
    tail, write = Tail(threaded, HostClock()), await writing(threaded)
    for _ in range(20):
        await write()
    turns: list[int] = []

    async def others() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    running = asyncio.ensure_future(others())
    async with aclosing(tail.onward(0, 2, ALL, 0)) as pages:
        for _ in range(10):
            before = len(turns)
            await anext(pages)
            assert len(turns) > before
    running.cancel()


async def test_woken_from_the_writers_thread(threaded: ThreadedStorage) -> None:
    """Readers follow a writer in another thread: each sees every event, once and in order."""
    tail, write = Tail(threaded, HostClock()), await writing(threaded)
    count = 100

    async def follow() -> list[int]:
        seen: list[int] = []
        while len(seen) < count:
            page = await tail.page(seen[-1] if seen else 0, 7, ALL, wait=PATIENCE)
            assert page.events
            seen += positions(page)
        return seen

    async with asyncio.timeout(3 * PATIENCE):
        readers = [asyncio.ensure_future(follow()) for _ in range(4)]
        for _ in range(count):
            await write()
        assert await asyncio.gather(*readers) == [list(range(1, count + 1))] * 4


async def test_rung_from_any_thread(inline: InlineStorage) -> None:
    """The bell may be rung from any thread."""
    tail, write = Tail(inline, HostClock()), await writing(inline)
    waiting = asyncio.ensure_future(tail.page(0, 10, ALL, wait=PATIENCE))
    await asyncio.sleep(0)
    inline._listeners.clear()
    await write()
    ringer = threading.Thread(target=tail.wake)
    ringer.start()
    async with asyncio.timeout(PATIENCE):
        assert positions(await waiting) == [1]
    ringer.join(PATIENCE)
