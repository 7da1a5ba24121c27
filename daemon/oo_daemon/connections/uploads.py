"""Uploads: from the ticket to the file that lies here, whole.

A ticket is for one file of one user and becomes a connection without a credential. The bytes come in pieces, each at its place, so that a
broken line or a restart costs only what was on its way; what is written down as received is on the disk.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from oo_daemon.connections.errors import Declined
from oo_daemon.connections.kept import sentences
from oo_daemon.ports import SECOND, Chance, Clock
from oo_daemon.registry import Registry
from oo_daemon.store import connections, schedule, uploads
from oo_daemon.store.accept import Batch, Draft
from oo_daemon.store.connections import Connection, SignedIn
from oo_daemon.store.database import Database
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.storage import Lane, Storage
from oo_daemon.store.uploads import Upload
from oo_sdk import Takes

#: Bytes that are written at once.
PIECE = 1024 * 1024
#: Longest name of a file that is kept.
LONGEST_NAME = 200


class ConnectionEvent(Protocol):
    """Makes an event of ours about a connection."""

    def __call__(self, connection: Connection, what: str, at: int, **fields: str) -> Draft:
        """`connection.{what}`."""


class Files(msgspec.Struct, frozen=True):
    """The folder of the files; nobody else may look into it."""

    folder: Path
    place: str = ""  #: what tells it from those of other hosts, where there are such

    def path(self, connection: str, upload: str) -> Path:
        """Where a file lies."""
        return self.folder / f"{connection}.{upload}"

    def open(self, path: Path, size: int) -> int:
        """Open a file to be written on after so many bytes; gives the descriptor. Raises `OSError`."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.ftruncate(descriptor, size)
            os.lseek(descriptor, size, os.SEEK_SET)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def remove(self, connection: str, upload: str = "*") -> int:
        """Remove one file, or all of a connection; gives how many there were."""
        found = list(self.folder.glob(f"{connection}.{upload}"))
        for path in found:
            path.unlink(missing_ok=True)
        return len(found)

    def keep_only(self, known: set[str]) -> int:
        """Remove files that belong to nothing any more: `known` are the names of those that stay."""
        strays = [path for path in self.folder.glob("*") if path.name not in known]
        for path in strays:
            path.unlink(missing_ok=True)
        return len(strays)


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """An upload, and whose it is."""

    upload: Upload
    connection: Connection
    title: str  #: of the provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A new upload. The ticket is told once."""

    held: Held
    ticket: str = field(repr=False)
    url: str = field(repr=False)  #: the page for the person


@dataclass(slots=True, kw_only=True, eq=False)
class Uploads:
    """Takes files in. Belongs to the main loop."""

    storage: Storage
    registry: Registry
    files: Files
    clock: Clock
    chance: Chance
    room: Callable[[int], bool]  #: so many bytes more can be kept
    largest: int  #: bytes
    life: float  #: seconds that a ticket waits for its file
    public_url: str
    connection_event: ConnectionEvent
    stopped: Callable[[str], Awaitable[None]] | None = None  #: an import of this upload must not go on
    _receiving: set[str] = field(default_factory=set)

    # --- tickets ------------------------------------------------------------------------------------------------------

    async def await_file(self, *, provider: str, user: str, account: str = "default", name: str = "", size: int | None = None) -> Ticket:
        """Make a ticket, and the connection that the file will belong to. Raises `Declined`, `CannotStore`."""
        self._title(provider)
        self._check_size(size, 0)
        ticket = base64.urlsafe_b64encode(self.chance.token_bytes(32)).rstrip(b"=").decode()
        new_connection, new_upload = self.chance.token_bytes(16).hex(), self.chance.token_bytes(16).hex()
        now = self.clock.now()

        def prepare(database: Database) -> Batch:
            known = connections.of(database, user, provider, account)
            if known is not None and known.state not in {"active", "disconnected"}:
                remedy = "Resume it first." if known.state == "paused" else "Wait until that is done, or name another account."
                raise Declined("not_active", f"The connection {known.id} is {known.state.replace('_', ' ')}.", remedy)
            connection = known
            if known is None or known.state != "active":
                signed_in = SignedIn(
                    id=new_connection,
                    user=user,
                    provider=provider,
                    account=account,
                    registration=None,
                    provider_account="",
                    label="",
                    scopes=(),
                    meta={},
                )
                connection = connections.put(database, signed_in, now)
                schedule.create(database, connection.number, None)
            assert connection is not None
            uploads.add(
                database,
                id_=new_upload,
                connection=connection.number,
                ticket_hash=_hash(ticket),
                expires_at=now + int(self.life * SECOND),
                name=_plain(name),
                size=size,
                now=now,
            )
            what = "connected" if known is None else "recovered"
            drafts = () if connection is known else (self.connection_event(connection, what, now),)
            return Batch(connection=connection, observed_at=now, drafts=drafts)

        await self.storage.accept(prepare, Lane.INGEST)
        return Ticket(held=await self.held(new_upload), ticket=ticket, url=f"{self.public_url.rstrip('/')}/import/{ticket}")

    async def held(self, id_: str) -> Held:
        """An upload. Raises `Declined`."""
        return await self._held(await self.storage.read(uploads.by_id, id_))

    async def of_ticket(self, ticket: str) -> Held:
        """The upload that a ticket is for. Raises `Declined` where it is for none, or has run out before its file was here."""
        held = await self._held(await self.storage.read(uploads.by_ticket, _hash(ticket)))
        if held.upload.state == "awaited" and held.upload.expires_at <= self.clock.now():
            raise _unknown()
        return held

    async def listed(self, *, user: str | None = None) -> list[Held]:
        """The latest uploads, newest first."""
        return [await self._held(each) for each in await self.storage.read(uploads.listed, user=user)]

    async def _held(self, upload: Upload | None) -> Held:
        connection = None if upload is None else await self.storage.read(connections.by_number, upload.connection)
        if upload is None or connection is None:
            raise _unknown()
        connector = self.registry.connectors.get(connection.provider)
        return Held(upload=upload, connection=connection, title=connector.title if connector else connection.provider)

    def endings(self, provider: str) -> tuple[str, ...]:
        """How the names of the files end that a provider's connector takes."""
        connector = self.registry.connectors.get(provider)
        return tuple(connector.takes) if isinstance(connector, Takes) else ()

    def kept(self, provider: str) -> tuple[str, ...]:
        """What a provider's connector stores of a file and what for, in sentences."""
        connector = self.registry.connectors.get(provider)
        return sentences(connector, None) if connector else ()

    # --- receiving ----------------------------------------------------------------------------------------------------

    async def receive(
        self, held: Held, pieces: AsyncIterable[bytes], *, offset: int, name: str = "", size: int | None = None, whole: bool = False
    ) -> Held:
        """Write what comes at its place: after what is here, or at 0 to begin anew. `whole`: the file ends with it.

        What came before a line broke stays. Raises `Declined`, `CannotStore`.
        """
        upload = held.upload
        if upload.id in self._receiving:
            raise Declined(
                "busy", "Another part of this file is on its way just now.", "Wait until it has arrived, then ask how far it is."
            )
        self._receiving.add(upload.id)
        try:
            upload = (await self.held(upload.id)).upload
            if upload.state != "awaited":
                raise Declined("not_awaited", "This file is here already, or is not awaited any more.", "Ask for a new ticket.")
            there = upload.received if upload.place == self.files.place else 0  # what another host has is not here
            if offset not in {0, there}:
                raise Declined("offset", f"{there} bytes of this file are here.", f"Go on at {there}, or begin at 0.")
            if offset == 0:
                upload = await self._begin(upload, name or upload.name, size if size is not None else upload.size)
            here = await self._write(held.connection, upload, pieces, offset)
            if whole or here == upload.size:
                await self.storage.write(uploads.queue, upload.id)
        finally:
            self._receiving.discard(upload.id)
        return await self.held(upload.id)

    async def _begin(self, upload: Upload, name: str, size: int | None) -> Upload:
        self._check_size(size, 0)
        await self.storage.write(uploads.received, upload.id, 0, self.files.place)
        await self.storage.write(uploads.described, upload.id, _plain(name), size)
        return (await self.held(upload.id)).upload

    async def _write(self, connection: Connection, upload: Upload, pieces: AsyncIterable[bytes], offset: int) -> int:
        loop, here = asyncio.get_running_loop(), offset
        most = self.largest if upload.size is None else upload.size
        descriptor = self._open(connection, upload, offset)
        try:
            async for some in _gathered(pieces):
                if here + len(some) > most:
                    raise Declined(
                        "too_large", f"More came than the {most} bytes that this file may have.", "Begin again with the whole file."
                    )
                self._check_size(None, len(some))
                if upload.id not in self._receiving:
                    raise Declined("not_awaited", "This upload was cancelled.", "Ask for a new ticket.")
                await _on_disk(loop, _write_all, descriptor, some)
                here += len(some)
        finally:
            try:
                await _on_disk(loop, os.fsync, descriptor)
                await self.storage.write(uploads.received, upload.id, here, self.files.place)
            finally:
                os.close(descriptor)
        return here

    def _open(self, connection: Connection, upload: Upload, offset: int) -> int:
        try:
            return self.files.open(self.files.path(connection.id, upload.id), offset)
        except OSError as refusal:
            raise CannotStore(f"the file cannot be written ({refusal.strerror})") from None

    # --- ending -------------------------------------------------------------------------------------------------------

    async def cancel(self, held: Held) -> Held:
        """Stop an upload or its import, and remove the file. What came in before stays. One that has ended is left as it is."""
        upload = held.upload
        if await self.storage.write(uploads.end, upload.id, "cancelled", "", self.clock.now()):
            self._receiving.discard(upload.id)
            if self.stopped is not None:
                await self.stopped(upload.id)
            self.files.remove(held.connection.id, upload.id)
        return await self.held(upload.id)

    async def purge(self, connection: Connection) -> int:
        """Remove all files of a connection; gives how many there were."""
        for upload in await self.storage.read(uploads.unfinished):
            if upload.connection == connection.number and self.stopped is not None:
                await self.stopped(upload.id)
        return self.files.remove(connection.id)

    async def tidy(self) -> None:
        """End what nobody sends any more, and remove files that belong to nothing: a database that was restored knows them not."""
        now, kept = self.clock.now(), set()
        for upload in await self.storage.read(uploads.unfinished):
            if upload.state == "awaited" and upload.expires_at <= now and upload.id not in self._receiving:
                await self.storage.write(uploads.end, upload.id, "cancelled", "", now)
            else:
                kept.add(upload.id)
        kept |= {each.id for each in await self.storage.read(uploads.listed, limit=10_000) if each.state == "done"}
        self.files.keep_only({path.name for path in self.files.folder.glob("*") if path.name.partition(".")[2] in kept})

    def _title(self, provider: str) -> None:
        if not isinstance(self.registry.connectors.get(provider), Takes):
            known = ", ".join(sorted(id_ for id_, each in self.registry.connectors.items() if isinstance(each, Takes)))
            raise Declined("no_imports", f"{provider} takes no files.", f"These do: {known or 'none that is installed'}.")

    def _check_size(self, size: int | None, more: int) -> None:
        if size is not None and not 0 < size <= self.largest:
            raise Declined("too_large", f"A file may have up to {self.largest} bytes.", "Raise imports.largest, or hand in a smaller one.")
        if not self.room(size or more):
            raise Declined("disk", "There is not enough room on the disk for this file.", "Free some space, then try again.")


def _unknown() -> Declined:
    return Declined("not_found", "There is no such upload.", "See `oo import --list`.")


def _hash(ticket: str) -> bytes:
    # Unkeyed and fast is enough: nobody guesses 256 random bits.
    return hashlib.blake2b(ticket.encode(), digest_size=32).digest()


def _plain(name: str) -> str:
    """The name of a file without a path, and without what a page or a terminal would trip over."""
    return "".join(letter for letter in name.replace("\\", "/").rpartition("/")[2] if letter.isprintable())[:LONGEST_NAME]


async def _gathered(pieces: AsyncIterable[bytes]) -> AsyncIterable[bytes]:
    some: list[bytes] = []
    size = 0
    async for piece in pieces:
        some.append(piece)
        size += len(piece)
        if size >= PIECE:
            yield b"".join(some)
            some, size = [], 0
    if some:
        yield b"".join(some)


async def _on_disk(loop: asyncio.AbstractEventLoop, work: Callable[..., None], *arguments: object) -> None:
    try:
        await loop.run_in_executor(None, work, *arguments)
    except OSError as refusal:
        raise CannotStore(f"the file cannot be written ({refusal.strerror})") from None


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
