"""Levels: how much there is and how old it is, measured every few seconds; and how long commits take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from oo_daemon.ports import SECOND, Clock, Metrics
from oo_daemon.store import levels
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.storage import Storage

#: Seconds between two looks.
LOOK = 15.0


@dataclass(slots=True, kw_only=True, eq=False)
class Levels:
    """Measures what lies in the tables."""

    storage: Storage
    database: Path | None  #: None: it is on a server
    clock: Clock
    metrics: Metrics
    _seen: frozenset[tuple[str, str]] = frozenset()

    async def look(self) -> None:
        """Measure. What cannot be read now is measured the next time."""
        with suppress(CannotStore):
            found = await self.storage.read(levels.looked_at)
            self._tell(found, self.clock.now())

    def _tell(self, found: levels.Levels, now: int) -> None:
        gauge = self.metrics.gauge
        gauge("inbox_oldest_seconds", _age(found.inbox_oldest, now))
        gauge("outbox_depth", found.outbox)
        gauge("outbox_bytes", found.outbox_bytes)
        gauge("outbox_oldest_seconds", _age(found.outbox_oldest, now))
        for consumer, behind in found.behind.items():
            gauge("consumer_lag", behind, consumer=consumer)
            gauge("consumer_oldest_seconds", _age(found.unread_since.get(consumer), now), consumer=consumer)
        for provider, state in self._seen | found.connections.keys():  # a state that nobody is in any more is told as none
            gauge("connections", found.connections.get((provider, state), 0), provider=provider, state=state)
        self._seen = frozenset(found.connections)
        for provider, at in found.stalest.items():
            gauge("sync_stalest_seconds", _age(at, now), provider=provider)
        if self.database is not None:
            log = self.database.with_name(self.database.name + "-wal")
            with suppress(OSError):
                gauge("wal_bytes", log.stat().st_size)


def _age(since: int | None, now: int) -> float:
    return 0.0 if since is None else max(0.0, (now - since) / SECOND)


class CommitTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Measures commits; called around each, in the writer's thread."""

    clock: Clock
    metrics: Metrics

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Measure one."""
        began = self.clock.monotonic()
        yield
        self.metrics.observe("commit_seconds", self.clock.monotonic() - began)
