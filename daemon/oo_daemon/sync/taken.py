"""What a run takes from its connector: events on their way to the waist, checkpoints, and what will be said of the run.

Events commit in batches with the cursor unmoved; the last batch before a checkpoint carries its cursor. A crash repeats at most what lies
behind the last checkpoint, and the object index swallows the repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from oo_daemon.connections.guest import sentence
from oo_daemon.connections.session import Calls
from oo_daemon.ports import SECOND, Clock, Metrics
from oo_daemon.store.accept import Accepted, Batch, Draft, Mark, Sweep
from oo_daemon.store.connections import Connection
from oo_daemon.store.runs import Tally
from oo_daemon.store.schedule import CursorMoved, Held, Listed, ListingBegun, Run, SetAside, Trailed
from oo_daemon.store.storage import Storage
from oo_sdk import Checkpoint, Connector, ConnectorBug, Cursor, Event, Listing, Log, Signal, Unreadable

#: A batch is committed early when its payloads come to this (bytes): memory, and the writer's time, are shared.
HEAVY = 4 * 1024 * 1024
#: Largest cursor (bytes of JSON).
LARGEST_CURSOR = 64 * 1024
#: Parts that one checkpoint may say were listed.
MOST_PARTS = 100
#: How many unreadable items of a run are named with their reason; all are counted.
NAMED = 5

#: (connector, event) → the event as the waist takes it, without what is not to be kept. Raises `ConnectorBug`, and `Unreadable` for one to
#: set aside.
MakeDraft = Callable[[Connector, Event], Draft]


class Means(msgspec.Struct, frozen=True, kw_only=True):
    """What all runs take with."""

    storage: Storage
    clock: Clock
    metrics: Metrics
    make_draft: MakeDraft
    batch: int  #: events in one commit


@dataclass(slots=True, eq=False)
class Taken:
    """What one run has taken so far."""

    means: Means
    run: Run
    connector: Connector
    log: Log
    calls: Calls = field(default_factory=Calls)
    drafts: list[Draft] = field(default_factory=list)
    weight: int = 0  #: bytes of the drafts' payloads
    events: int = 0
    pages: int = 0
    unreadable: int = 0
    reasons: list[str] = field(default_factory=list)  #: why the first of them could not be read
    since: Cursor | None = None  #: where the run began
    cursor: Cursor | None = None  #: the last checkpoint's; before it, where the run began
    open_end: bool = False  #: events came after the last checkpoint
    listing: bool = False
    shown: list[str] = field(default_factory=list)  #: subjects that were there, and could not be read or kept
    unclear: bool = False  #: the listing showed something of which not even the subject could be read

    @property
    def connection(self) -> Connection:
        """Whose run it is."""
        return self.run.of

    def begin(self, since: Cursor | None) -> None:
        """Say where the run begins."""
        self.since = self.cursor = since

    @property
    def moved(self) -> bool:
        """The cursor is elsewhere than at the beginning."""
        return self.cursor != self.since

    @property
    def tally(self) -> Tally:
        """The run in numbers."""
        return Tally(self.calls.made, self.calls.bytes, self.pages, self.events, self.unreadable)

    async def take(self, signal: Signal) -> None:
        """Take a signal that is no event. Raises `ConnectorBug`, `LeaseLost` and `CannotStore`."""
        match signal:
            case Checkpoint():
                await self._take_checkpoint(signal)
            case Listing():
                await self.keep()  # what came before it is no part of it
                await self._commit(ListingBegun(run=self.run, now=self.means.clock.now()))
                self.listing, self.unclear = True, False
                self.shown.clear()
            case Unreadable(subject=subject):
                self._set_aside(signal, subject)
            case _:
                raise ConnectorBug(f"{self.connection.provider} yielded a {type(signal).__name__}, which is no signal")

    async def keep(self) -> None:
        """Commit what was taken since the last checkpoint, the cursor unmoved."""
        if self.drafts:
            await self._commit(Held(run=self.run))

    async def _take_checkpoint(self, checkpoint: Checkpoint) -> None:
        place = _plain(checkpoint.cursor)
        self._refuse_going_back(place)
        marks = list[Mark]()
        if checkpoint.listed and await self._sweep(checkpoint.listed, checkpoint.within) and not checkpoint.within:
            marks.append(Listed(run=self.run, types=tuple(map(self._type, checkpoint.listed))))
        shape, now = self.connector.cursor_shape, self.means.clock.now()
        if overlap := overlap_of(self.connector):
            marks.append(Trailed(run=self.run, cursor=place, shape=shape, now=now, overlap=overlap))
        await self._commit(CursorMoved(run=self.run, cursor=place, shape=shape, now=now), *marks)
        self.cursor, self.open_end = place, False
        self.pages += 1

    def _refuse_going_back(self, place: Cursor) -> None:
        before = None if self.cursor is None else self.connector.cursor_order(self.cursor)
        after = self.connector.cursor_order(place)
        if before is not None and after is not None and after < before:
            raise ConnectorBug("the cursor went backwards: the provider's answer, or the connector, is wrong")

    def is_full_with(self, event: Event) -> bool:
        """Take an event; say whether it is time to `keep`. Raises `ConnectorBug`."""
        self.open_end = True
        try:
            draft = self.means.make_draft(self.connector, event)
        except Unreadable as item:
            self._set_aside(item, event.subject)
            return False
        self.drafts.append(draft)
        self.weight += len(draft.payload)
        return len(self.drafts) >= self.means.batch or self.weight >= HEAVY

    def _set_aside(self, item: Unreadable, subject: str) -> None:
        self.unreadable += 1
        if subject:
            self.shown.append(subject)
        self.unclear = self.unclear or not subject
        self.means.metrics.count("items_unreadable", provider=self.connection.provider)
        if self.unreadable <= NAMED:
            self.reasons.append(sentence(item))
            self.log.warning("item_unreadable", reason=sentence(item))

    async def _sweep(self, listed: tuple[str, ...], within: tuple[str, ...]) -> bool:
        """End a listing: what it did not show is gone. What it showed and could not be read is there, and stays as it was told last.

        False: nobody can say what it did not show.
        """
        if isinstance(listed, str) or not all(isinstance(name, str) for name in listed):
            raise ConnectorBug("a checkpoint's `listed` must be a tuple of names")
        if isinstance(within, str) or not all(isinstance(text, str) and text for text in within) or len(within) > MOST_PARTS:
            raise ConnectorBug(f"a checkpoint's `within` must be a tuple of at most {MOST_PARTS} texts, none of them empty")
        if not self.listing and self.run.cursor is None:
            raise ConnectorBug("a checkpoint says what was listed, but no Listing() came before it")
        await self.keep()
        if self.unclear:
            return False
        sweep = Sweep(types=tuple(map(self._type, listed)), within=tuple(within), limit=self.means.batch)
        while (await self._commit(Held(run=self.run), sweep=sweep)).swept == sweep.limit:
            pass
        return True

    async def _commit(self, *marks: Mark, sweep: Sweep | None = None) -> Accepted:
        if self.shown:
            marks = (*marks, SetAside(run=self.run, subjects=tuple(self.shown)))
        batch = Batch(connection=self.connection, observed_at=self.means.clock.now(), drafts=tuple(self.drafts), marks=marks, sweep=sweep)
        accepted = await self.means.storage.accept(batch)
        self.drafts.clear()
        self.shown.clear()
        self.weight = 0
        self.events += accepted.events
        if accepted.events:
            self.means.metrics.count("events_accepted", accepted.events, provider=self.connection.provider)
        return accepted

    def _type(self, name: str) -> str:
        return f"{self.connection.provider}.{name}"

    def aside(self) -> str:
        """What people read of the items that were set aside."""
        if not self.unreadable:
            return ""
        return f"{self.unreadable} items could not be read and were set aside: {'; '.join(dict.fromkeys(self.reasons))}"


def overlap_of(connector: Connector) -> int:
    """How far back each sync of it begins, in microseconds."""
    return int(connector.overlap.total_seconds() * SECOND)


def _plain(cursor: Mapping[str, Any]) -> Mapping[str, Any]:
    """The cursor as it will come back. Raises `ConnectorBug` where it could not be kept."""
    if not isinstance(cursor, Mapping):
        raise ConnectorBug(f"a cursor must be a JSON object, not a {type(cursor).__name__}")
    try:
        text = msgspec.json.encode(cursor)
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise ConnectorBug("a cursor must be a JSON object: it holds something that JSON does not know") from None
    if len(text) > LARGEST_CURSOR:
        raise ConnectorBug(f"a cursor may have {LARGEST_CURSOR // 1024} KiB, and this one has {len(text) // 1024}")
    plain: Mapping[str, Any] = msgspec.json.decode(text)
    return plain
