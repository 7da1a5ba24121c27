"""Backups: one state of the database, encrypted, and not called a backup before it was restored and looked at."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from oo_daemon.connections.errors import Declined
from oo_daemon.ports import SECOND, Clock, Metrics, moment
from oo_daemon.store import backup as files
from oo_daemon.store.errors import CannotStore, Corrupt
from oo_sdk import Log
from oo_vault import CREDENTIAL, PART, Context, CredentialRow, Keyring, read_backup, write_backup

#: How often each byte is gone through while a backup is made.
STEPS: Final = 5
_NAME: Final = re.compile(r"oo-(\d{8}T\d{6})Z-(\d+-\d+)\.backup")


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """A file in the backup folder."""

    name: str
    size: int  #: bytes
    made_at: int
    position: str  #: of the outbox, as callers see it


class Making(msgspec.Struct, frozen=True):
    """How far the backup is that is being made. Each byte is gone through five times: copied, looked at, encrypted, restored, looked at."""

    done: int  #: bytes
    total: int


@dataclass(slots=True, eq=False)
class _Steps:
    """Counts bytes over all steps; the total is by the size of the database, of which a packed copy may be less."""

    size: int
    say: Callable[[Making], None]
    step: int = 0

    def told(self, of: int) -> Callable[[int], None]:
        """What one step tells how many of so many bytes it has done."""
        return lambda done: self._say(min(done, of) / max(of, 1))

    def next(self) -> None:
        """A step is done."""
        self.step += 1
        self._say(0.0)

    def _say(self, part: float) -> None:
        self.say(Making(int(self.size * (self.step + part)), self.size * STEPS))


@dataclass(slots=True, kw_only=True, eq=False)
class Backups:
    """Makes, checks, lists and forgets backups. One is made at a time."""

    database: Path
    folder: Path
    keep: int
    keyring: Keyring
    clock: Clock
    metrics: Metrics
    log: Log
    making: Making | None = None  #: the one that is made now
    _one: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def make(self) -> Backup:
        """Make one, and check it by restoring it beside. Raises `CannotStore`, `Corrupt`, `VaultError`."""
        async with self._one:
            try:
                made = await asyncio.get_running_loop().run_in_executor(None, self._make, self.clock.now())
            finally:
                self.making = None
        self.measure()
        self.log.info("backup_made", name=made.name, bytes=made.size)
        return made

    def listed(self) -> list[Backup]:
        """What there is, newest first."""
        found = []
        for path in self.folder.glob("*.backup"):
            match = _NAME.fullmatch(path.name)
            if match is not None:
                found.append(Backup(name=path.name, size=path.stat().st_size, made_at=_time(match[1]), position=match[2]))
        return sorted(found, key=lambda each: (each.made_at, each.name), reverse=True)

    def measure(self) -> None:
        """Say how old the newest one is."""
        known = self.listed()
        if known:
            self.metrics.gauge("backup_age_seconds", max(0.0, (self.clock.now() - known[0].made_at) / SECOND))

    async def look(self) -> None:
        """Measure, as a job of the ticker."""
        self.measure()

    def _make(self, now: int) -> Backup:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".making-", dir=self.folder) as place:
                plain, steps = Path(place) / "plain.sqlite3", _Steps(self.database.stat().st_size, self._say)
                files.snapshot(self.database, plain, steps.told(steps.size))
                steps.next()
                size = plain.stat().st_size
                whole = files.content(plain, steps.told(size), bare=True)
                steps.next()
                partial = Path(place) / "partial"
                _encrypt(self.keyring, plain, partial, _summed(steps.told(size)))
                plain.unlink()
                steps.next()
                # The drill: from the bytes on the disk, as a restore would.
                again = Path(place) / "again.sqlite3"
                decrypt(self.keyring, partial, again, _summed(steps.told(partial.stat().st_size)))
                steps.next()
                if files.content(again, steps.told(size), bare=True) != whole:
                    raise Corrupt("the backup does not hold what the database held: look at the disk")
                check(self.keyring, whole)
                name = f"oo-{moment(now):%Y%m%dT%H%M%S}Z-{whole.epoch}-{whole.position}.backup"
                partial.rename(self.folder / name)
            files.through(self.folder)
        except OSError as wrong:
            raise CannotStore(f"the backup could not be written ({wrong.strerror}): free some space, or set backup.folder") from None
        for old in self.listed()[self.keep :]:
            (self.folder / old.name).unlink(missing_ok=True)
        return next(each for each in self.listed() if each.name == name)

    def _say(self, making: Making) -> None:
        self.making = making


class Elsewhere(msgspec.Struct, frozen=True):
    """The database is on a server, and backed up there."""

    making: None = None

    async def make(self) -> Backup:
        """Raises `Declined`."""
        message = "The database is on PostgreSQL, which is backed up on its own server."
        raise Declined("backed_up_elsewhere", message, "Use pg_dump, or pgBackRest for every moment; keep the root key apart from it.")

    def listed(self) -> list[Backup]:
        """None that we know of."""
        return []


def decrypt(keyring: Keyring, source: Path, to: Path, told: Callable[[int], None] = lambda _: None) -> None:
    """Write the database that a backup holds, bare, into a new file. Raises `VaultError` and `OSError`."""
    with source.open("rb") as encrypted, _new(to) as plain:
        for part in read_backup(keyring, encrypted, told=told):
            plain.write(part)
        _through(plain)


def check(keyring: Keyring, content: files.Content) -> None:
    """Open what the keys must be able to open. Raises `VaultError`."""
    for answer in content.known_answers:
        keyring.check(answer)
    if content.credential is not None:
        keyring.open(_place(content.credential), content.credential.sealed)


def _place(row: CredentialRow) -> Context:
    return Context(
        purpose=CREDENTIAL,
        connection=row.connection,
        user=row.user,
        provider=row.provider,
        account=row.account,
        token_version=row.token_version,
    )


def _summed(told: Callable[[int], None]) -> Callable[[int], None]:
    """Tells how many bytes there were by now, where it hears how many there are more."""
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        told(done)

    return more


def _encrypt(keyring: Keyring, source: Path, to: Path, told: Callable[[int], None]) -> None:
    def parts() -> Iterator[bytes]:
        with source.open("rb") as plain:
            while part := plain.read(PART):
                yield part
                told(len(part))

    with _new(to) as encrypted:
        write_backup(keyring.newest, parts(), encrypted)
        _through(encrypted)


def _new(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _through(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _time(text: str) -> int:
    from datetime import UTC, datetime

    return int(datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp()) * SECOND
