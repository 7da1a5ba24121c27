"""Handing out: everything that is kept of a user, as files that a person and a program can read."""

from __future__ import annotations

import asyncio
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from oo_daemon.ports import Clock, moment
from oo_daemon.store import export
from oo_daemon.store.storage import Storage

README = """\
Everything that oO keeps of {user}, as of {at:%Y-%m-%d %H:%M} UTC.

connections.json   the accounts that were connected: provider, state, what was allowed, how far each was read
events.jsonl       what happened in them, one event a line, oldest first
deliveries.jsonl   what providers pushed to us about them, as it arrived, as far as it is still kept
runs.jsonl         when each account was read, and how that ended
actions.jsonl      what was changed in them through oO
uploads.jsonl      files that were handed in, and what became of each
uses.jsonl         how often the access that was given to us was used, in which hour and at which host

Times are in UTC, in microseconds since 1970 where they are numbers.

Not in here: the access that providers gave us, which is sealed and shown to nobody; the files that were handed in, which are not kept once
they are imported unless whoever runs this place says so, and then lie in its folder uploads; digests by which oO knows what is new; and
backups.
"""
#: Rows that are read at once.
SOME = 500


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """Writes exports."""

    storage: Storage
    folder: Path
    clock: Clock
    as_json: Callable[[bytes], dict[str, Any]]  #: an event of the outbox

    async def of_user(self, user: str) -> Path:
        """A zip file that is the caller's to remove. Raises `CannotStore`."""
        held = await self.storage.read(export.of_user, user)
        descriptor, name = await asyncio.to_thread(tempfile.mkstemp, ".zip", ".export-", self.folder)
        with os.fdopen(descriptor, "wb") as file:
            try:
                await self._write(file, user, held)
            except BaseException:
                os.unlink(name)  # noqa: PTH108 - quick, and the loop may wait for that
                raise
        return Path(name)

    async def _write(self, file: BinaryIO, user: str, held: export.Held) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as whole:
            whole.writestr("README.txt", README.format(user=user, at=moment(self.clock.now())))
            whole.writestr("connections.json", msgspec.json.format(msgspec.json.encode(held.connections), indent=2))
            for part in ("deliveries", "runs", "actions", "uploads", "uses"):
                whole.writestr(f"{part}.jsonl", _lines(getattr(held, part)))
            with whole.open("events.jsonl", "w", force_zip64=True) as events:
                after = 0
                while some := await self.storage.read(export.events, user, after, SOME):
                    events.write(_lines({"position": position, **self.as_json(body)} for position, body in some))
                    after = some[-1][0]


def _lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
