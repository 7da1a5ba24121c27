"""The daemon's keys: checked at the start, loaded again, and changed without a stop.

A new key is put above the old ones where the keys are kept; from the next load on it seals. What older keys have sealed is then sealed
again, batch by batch and beside everything else: each value is replaced only where it is still what was read, so that a renewal or a
sign-in always wins. What is left to do stands in the rows themselves, in their key ids, and that it is to be done beside the newest key: a
daemon that dies in the middle, or is killed, has nothing to repair, and goes on by itself when it is there again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import msgspec

from oo_daemon.connections import connect, registration, sources
from oo_daemon.connections.errors import Declined
from oo_daemon.ports import Clock
from oo_daemon.store import flows, registrations, sealed, vault_keys
from oo_daemon.store import sources as source_rows
from oo_daemon.store.sealed import Old, Row
from oo_daemon.store.storage import Storage
from oo_sdk import Log
from oo_vault import Context, Keyring, Sealed, Tampered, VaultError

A = TypeVar("A")
B = TypeVar("B")

#: Credentials sealed again in one commit, while the next are worked on: enough that a flush takes no longer than they do.
BATCH = 128


class Beside(Protocol):
    """Does beside the loop what takes the processor for a while."""

    async def __call__(self, work: Callable[[A], B], of: Sequence[A], /) -> list[B]:
        """Do it with each, one after another, and give what it gives."""


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One key. It seals, or opens what it once sealed; a dropped one is not needed any more and can go from where it is kept."""

    id: str
    state: Literal["seals", "opens", "dropped"]
    sealed: int
    since: int | None


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """How far what is sealed has come to the newest key."""

    running: bool
    since: int | None  #: when it was begun, until everything is sealed with the newest key; it goes on by itself if it was cut off
    done: int
    total: int
    rate: float  #: values a second, of the rotation that runs or ran last; 0 before one
    refused: int  #: values that their key does not open: moved, changed or forged


class Vault(msgspec.Struct, frozen=True, kw_only=True):
    """The keys, newest first, and the rotation."""

    source: str
    keys: Sequence[Key]
    rotation: Rotation


@dataclass(slots=True)
class _Run:
    """One rotation of this process."""

    began: float
    done: int = 0
    refused: int = 0
    ended: float | None = None


class Keys:
    """What can be done with the keys. `load` reads them from where they are kept, which `source` names for people."""

    def __init__(
        self,
        *,
        storage: Storage,
        keyring: Keyring,
        source: str,
        load: Callable[[], Awaitable[Keyring]],
        settle: Callable[[], Awaitable[None]],
        clock: Clock,
        log: Log,
        beside: Beside,
    ) -> None:
        self._storage = storage
        self._keyring = keyring
        self._source = source
        self._load = load
        self._settle = settle
        self._clock = clock
        self._log = log
        self._beside = beside
        self._run: _Run | None = None
        self._task: asyncio.Task[None] | None = None

    async def reload(self) -> None:
        """Load the keys again. Raises `VaultError`, and then goes on with those it has."""
        try:
            fresh = await self._load()
            await check(self._storage, fresh, self._clock)
        except VaultError as error:
            self._log.warning("keys_not_loaded", kind=type(error).__name__, reason=str(error))
            raise
        self._keyring.take(fresh)
        self._log.info("keys_loaded", keys=list(fresh.ids))

    @property
    def idle(self) -> bool:
        """No rotation runs."""
        return self._task is None or self._task.done()

    async def begin(self) -> None:
        """Load the keys again and begin to seal everything with the newest, unless that is under way. Raises `VaultError`."""
        if not self.idle:
            return
        await self.reload()
        self._task = asyncio.create_task(self.rotate())

    async def go_on(self) -> None:
        """Go on with a rotation that was cut off, if there is one."""
        if self.idle and await self._storage.read(vault_keys.rotating_since) is not None:
            self._log.info("rotation_goes_on", key=self._keyring.newest.key_id)
            self._task = asyncio.create_task(self.rotate())

    async def ended(self, wait: float) -> None:
        """Wait for the end of the rotation that runs, at most so many seconds."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=wait)

    async def stop(self) -> None:
        """End the rotation where it is; the next daemon goes on from there."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def rotate(self) -> None:
        """Seal with the newest key whatever another has sealed."""
        run = self._run = _Run(self._clock.monotonic())
        newest = self._keyring.newest.key_id
        try:
            await self._storage.write(vault_keys.rotation_begun, newest, self._clock.now())
            await self._secrets(run)
            resealed = list[tuple[Old, Sealed]]()
            rows = await self._storage.read(sealed.old_credentials, newest, 0, BATCH)
            while rows:  # each step seals some, while the last are committed and the next are read
                more = self._storage.read(sealed.old_credentials, newest, rows[-1][0], BATCH)
                _, tried, rows = await asyncio.gather(self._replace(run, resealed), self._beside(self._resealed, rows), more)
                resealed = [each for each in tried if each is not None]
                run.refused += len(tried) - len(resealed)
            await self._replace(run, resealed)
            await self._storage.write(vault_keys.rotation_ended)
        except Exception as error:
            self._log.warning("rotation_interrupted", kind=type(error).__name__, done=run.done)
            raise
        finally:
            run.ended = self._clock.monotonic()
        self._log.info("rotation_ended", key=newest, done=run.done, refused=run.refused)

    async def _replace(self, run: _Run, resealed: Sequence[tuple[Old, Sealed]]) -> None:
        await self._storage.write(sealed.replace_credentials, resealed)
        run.done += len(resealed)

    async def drop(self, key_id: str) -> None:
        """Need an older key no more. Raises `Declined` while anything is sealed with it."""
        known = {each.answer.key_id for each in await self._storage.read(vault_keys.listed)}
        if key_id not in known:
            raise Declined("not_found", f"This database needs no key {key_id}.", "See `oo vault status`.")
        if key_id == self._keyring.newest.key_id:
            raise Declined(
                "key_newest", f"The key {key_id} is the one that seals.", "Put a newer one above it, then run `oo vault rotate`."
            )
        await self._settle()  # a renewal under way may have sealed with it, and not committed yet
        if left := await self._storage.write(vault_keys.drop, key_id):
            raise Declined("key_in_use", f"The key {key_id} has still sealed {left:,} values.", "Run `oo vault rotate` first.")
        self._keyring.drop(key_id)
        self._log.info("key_dropped", key=key_id)

    async def status(self) -> Vault:
        """The keys and how far the rotation has come, as the rows say."""
        counts = await self._storage.read(sealed.counted)
        since = {each.answer.key_id: each.created_at for each in await self._storage.read(vault_keys.listed)}
        newest = self._keyring.newest.key_id
        keys = [
            Key(
                id=id_,
                state="seals" if id_ == newest else "opens" if id_ in since else "dropped",
                sealed=counts.get(id_, 0),
                since=since.get(id_),
            )
            for id_ in self._keyring.ids
        ]
        run = self._run
        seconds = 0.0 if run is None else (self._clock.monotonic() if run.ended is None else run.ended) - run.began
        rotation = Rotation(
            running=not self.idle,
            since=await self._storage.read(vault_keys.rotating_since),
            done=counts.get(newest, 0),
            total=sum(counts.values()),
            rate=run.done / seconds if run and seconds else 0.0,
            refused=run.refused if run else 0,
        )
        return Vault(source=self._source, keys=keys, rotation=rotation)

    async def _secrets(self, run: _Run) -> None:
        """Registrations, sources and sign-ins: few, so all at once."""
        newest = self._keyring.newest.key_id
        found: list[tuple[str, str, Context, Sealed]] = []
        keyring = self._keyring
        for each in await self._storage.read(registrations.listed):
            place = registration.place(each.id, each.provider)
            found.append(("registration", each.id, place, Sealed(key_id=each.key_id, blob=each.secrets)))
        for source in await self._storage.read(source_rows.listed):
            found.append(("source", source.id, sources.place(source.id, source.provider), source.sealed))
        resealed: list[tuple[str, str, Sealed, Sealed]] = []
        for sign_in in await self._storage.read(flows.sealing):
            if sign_in.sealed is None or sign_in.sealed.key_id == newest:
                continue
            if sign_in.found is None:
                found.append(("flow", sign_in.id, connect.verifier_place(sign_in), sign_in.sealed))
                continue
            place = connect.grant_place(sign_in)
            try:
                resealed.append(("flow", sign_in.id, sign_in.sealed, keyring.seal(place, keyring.open(place, sign_in.sealed))))
            except VaultError:
                run.refused += 1
        for table, id_, place, old in found:
            if old.key_id != newest:
                try:
                    resealed.append((table, id_, old, keyring.wrap(place, keyring.unwrap(place, old))))
                except VaultError:
                    run.refused += 1
        await self._storage.write(sealed.replace_secrets, resealed)
        run.done += len(resealed)

    def _resealed(self, row: Row) -> tuple[Old, Sealed] | None:
        old = Old.of(row)
        try:
            return old, self._keyring.seal(old.context, self._keyring.open(old.context, old.sealed))
        except VaultError as error:  # it stays as it is, and keeps its key from being dropped
            tag = self._keyring.log_tag(old.context.connection)
            self._log.warning("credential_not_opened", connection=tag, tampered=isinstance(error, Tampered))
            return None


async def check(storage: Storage, keyring: Keyring, clock: Clock) -> None:
    """Refuse keys that did not seal this database; note a new newest key. Raises `WrongKey`."""
    known = [each.answer for each in await storage.read(vault_keys.listed)]
    for answer in known:
        keyring.check(answer)
    if not keyring.only_seals and keyring.newest.key_id not in {answer.key_id for answer in known}:
        await storage.write(vault_keys.add, keyring.known_answer(), clock.now())
