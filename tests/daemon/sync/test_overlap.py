"""Overlap: each sync goes over the last while again, so that what appeared late behind a cursor is told, and nothing twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

from daemon.sync.world import PROVIDER, Hub, Scripted, gone, note
from declared import everything

from oo_daemon.store.schedule import TRAIL
from oo_sdk import Checkpoint, Connector, Context, Cursor, CursorExpired, Event, Signal
from oo_sdk.vocabulary import Document


@dataclass
class Late(Connector):
    """A provider whose list of changes by time shows some of them only a while later."""

    id = PROVIDER
    stores = everything(Document)
    changes: list[tuple[int, Event]] = field(default_factory=list)  #: when it happened, what
    asked: list[int | None] = field(default_factory=list)

    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        self.asked.append(since["at"] if since else None)
        begin = since["at"] if since else 0
        for at, event in sorted(self.changes, key=lambda change: change[0]):
            if at >= begin:
                yield event
        yield Checkpoint({"at": int(ctx.clock.monotonic())})


async def lived(hub: Hub, connector: Late) -> list[tuple[str, str, int]]:
    """Syncs at 0, 300 and 600 s, between which something appears that happened at 290 s and is shown at 310 s."""
    await hub.connect()
    sync = hub.sync(connector)
    connector.changes.append((0, note("n1")))
    await hub.once(sync)
    await hub.when_due(sync)
    connector.changes.append((290, note("late")))
    await hub.when_due(sync)
    return hub.told()


async def test_what_appears_late_is_told(hub: Hub) -> None:
    """A change that the provider shows only after the cursor has passed its time is told with the next sync; what is met again is not."""
    connector = Late()
    connector.overlap = timedelta(seconds=30)
    assert await lived(hub, connector) == [("n1", "A", 1), ("late", "A", 1)]
    assert connector.asked == [None, 0, 0]
    for _ in range(3):
        await hub.when_due(hub.sync(connector))
    assert len(hub.told()) == 2
    assert connector.asked[3:] == [300, 600, 900], "one sync back: syncs are further apart than it"


async def test_without_an_overlap_it_would_be_lost(hub: Hub) -> None:
    """The same life of a connector that declares none."""
    assert await lived(hub, Late()) == [("n1", "A", 1)]


async def test_the_trail_is_short(hub: Hub) -> None:
    """However many checkpoints a sync makes, a dozen places are remembered; all are forgotten with the cursor, and by another shape."""
    await hub.connect()
    pages = [Checkpoint({"at": number}) for number in range(200)]
    connector = Scripted(pages, [CursorExpired()], [note("n1"), Checkpoint({"at": 500})], [gone("n1"), Checkpoint({"at": 501})])
    connector.overlap = timedelta(seconds=60)
    sync = hub.sync(connector)
    await hub.once(sync)
    ((trail,),) = hub.database.rows("SELECT trail FROM schedule")
    assert trail.count("at") <= TRAIL + 2
    for _ in range(3):
        await hub.when_due(sync)
    assert connector.asked == [None, {"at": 0}, None, {"at": 500}]
    assert hub.told() == [("n1", "A", 1), ("n1", "", 2)]
    connector.cursor_shape = 2
    await hub.when_due(sync)
    assert connector.asked[-1] is None
