"""Retention: events go when nobody needs them any more, so that the outbox does not grow for ever.

What a thing now is stays: the newest event of each object that is not gone is what a new consumer of the present state begins with. All
else goes when every consumer has read it and it is old enough; when it is so old that nobody is waited for; or, oldest first, when there is
more than there is room for. The word that something is gone stays longest. Identity is in the object index, and is not touched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

import msgspec

from oo_daemon.ports import SECOND, Clock, Metrics
from oo_daemon.store import outbox, retention
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.retention import Old
from oo_daemon.store.storage import Storage
from oo_sdk import Log

#: Seconds between two ticks.
EVERY: Final = 10.0
#: Events that are looked at at once, that one transaction lets go of, and that one tick looks at: a stop waits for its end.
STRETCH, BATCH, MOST = 1000, 100, 20_000
#: Seconds after which what was spared is looked at again: a thing may have changed since, and its older event be needed no more.
AGAIN: Final = 6 * 3600.0

#: Why an event goes.
Why = Literal["read", "unread", "tombstone", "size"]


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """For how long (seconds), and how much (bytes)."""

    read: float  #: an event that every consumer has read
    unread: float  #: one that a consumer has still to read, or that is among its dead letters
    tombstones: float  #: the word that something is gone
    size: int  #: events in all


def why(event: Old, *, now: int, read: int, bytes_: int, keep: Keep) -> Why | None:
    """Say why an event goes now; None: it stays. `read` is up to where every consumer is, `bytes_` what there is in all."""
    if event.still_so:
        return None
    age = (now - event.accepted_at) / SECOND
    if event.gone:
        return "tombstone" if age >= keep.tombstones else None
    waited_for = event.dead or event.position > read
    if age >= (keep.unread if waited_for else keep.read):
        return "unread" if waited_for else "read"
    return "size" if bytes_ > keep.size else None


@dataclass(slots=True, kw_only=True, eq=False)
class Retention:
    """Walks along the log from its beginning, and again after a while. Belongs to the main loop."""

    storage: Storage
    checkpoint: Callable[[], Awaitable[object]]
    clock: Clock
    metrics: Metrics
    log: Log
    keep: Keep
    _reached: int = 0  #: up to here everything was looked at
    _began: float | None = None

    async def tick(self) -> None:
        """Let go of what may go by now, in small transactions. What the disk refuses is tried with the next tick."""
        try:
            gone = await self._walk()
        except CannotStore as refusal:
            self.log.warning("retention_waits", reason=str(refusal))
            return
        if unread := gone["unread"] + gone["size"]:
            self.log.warning("events_expired_early", unread=gone["unread"], size=gone["size"], events=unread)

    async def _walk(self) -> Counter[Why]:
        monotonic, now = self.clock.monotonic(), self.clock.now()
        if self._began is None or monotonic - self._began >= AGAIN:
            self._reached, self._began = 0, monotonic
        held = await self.storage.read(retention.held)
        to, left, gone = await self._bound(held.end, held.read, held.bytes, now), held.bytes, Counter[Why]()
        for _ in range(MOST // STRETCH):
            if self._reached >= to:
                break
            events = await self.storage.read(retention.oldest, self._reached, to, STRETCH)
            going = []
            for event in events:
                if (reason := why(event, now=now, read=held.read, bytes_=left, keep=self.keep)) is not None:
                    going.append((event.position, reason))
                    left -= event.size
            rest = iter(going)
            while some := list(islice(rest, BATCH)):
                await self.storage.write(retention.drop, [position for position, _ in some])
                await self.checkpoint()  # or the log of many small deletions grows with all of them
                for kind, count in Counter(reason for _, reason in some).items():
                    self.metrics.count("events_expired", count, kind=kind)
                    gone[kind] += count
            self._reached = events[-1].position if events else to
        return gone

    async def _bound(self, end: int, read: int, size: int, now: int) -> int:
        """Up to where events may go: nothing behind it is old enough."""
        if size > self.keep.size:
            return end
        old = await self.storage.read(outbox.before, now - int(self.keep.read * SECOND) + 1)
        older = await self.storage.read(outbox.before, now - int(self.keep.unread * SECOND) + 1)
        return max(min(old, read), older)
