"""The Apple Health connector: an export of the Health app, from its first record to its last, and what an app on the phone pushes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from oo_apple_health.archive import Export, opened
from oo_apple_health.meaning import Meaning
from oo_apple_health.pushed import SCHEME
from oo_apple_health.pushed import read as pushed
from oo_apple_health.records import Records
from oo_apple_health.routes import electrocardiogram
from oo_apple_health.stored import STORES
from oo_sdk import Checkpoint, Connector, ConnectorBug, Cursor, Delivery, News, Scheme, Stored, Told, Unreadable, Upload

#: How far a file is read from one checkpoint to the next (bytes).
STRIDE: Final = 8 * 1024 * 1024


class AppleHealth(Connector):
    """What a phone measured. There is nothing to sign in to: a person hands in what the Health app exports, or has the phone push it."""

    id = "apple_health"
    title = "Apple Health"
    stores: Sequence[Stored] = STORES
    takes = (".zip", ".xml")
    webhooks: Scheme | None = SCHEME

    async def route(self, delivery: Delivery) -> Sequence[str]:
        """Not asked: each phone has an address of its own."""
        raise ConnectorBug("the address of a phone belongs to one connection")

    async def read(self, delivery: Delivery) -> Sequence[News]:
        """What Health Auto Export pushes."""
        return pushed(delivery)

    def parse(self, upload: Upload, since: Cursor | None) -> Iterator[Told]:
        """Read an export; the cursor is a place in the main file, or a number of those beside it."""
        with opened(upload) as export:
            if since is None or "part" not in since:
                yield from self._records(export, int(since["offset"]) if since else 0)
            yield from self._electrocardiograms(export, int(since["part"]) if since and "part" in since else 0)

    def _records(self, export: Export, offset: int) -> Iterator[Told]:
        meaning = Meaning(export)
        with export.records() as stream:
            records = Records(stream, offset)
            told = records.offset
            for found in records.read():
                yield from meaning.rows(found) if isinstance(found, list) else meaning.element(found)
                if records.offset - told >= STRIDE:
                    told = records.offset
                    yield Checkpoint({"offset": told})
        yield Checkpoint({"part": 0})

    def _electrocardiograms(self, export: Export, done: int) -> Iterator[Told]:
        names = sorted(name for name in export.parts if name.startswith("electrocardiograms/") and name.lower().endswith(".csv"))
        for number, name in enumerate(names[done:], start=done + 1):
            try:
                yield from electrocardiogram(export.part(name))
            except (ValueError, OverflowError):
                raise Unreadable("An electrocardiogram of the export is damaged: export it again. What came before is kept.") from None
            if number % 100 == 0:
                yield Checkpoint({"part": number})
