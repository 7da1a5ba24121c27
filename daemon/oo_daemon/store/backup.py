"""A copy of the database file: made beside the writer, looked at, and put in the place of another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import msgspec

from oo_daemon.store import checked, credentials, vault_keys
from oo_daemon.store.accept import STREAM
from oo_daemon.store.database import Database, SqliteDatabase
from oo_daemon.store.errors import CannotOpen, Corrupt
from oo_daemon.store.migrations import schema
from oo_daemon.store.orm import peewee
from oo_daemon.store.storage import explain
from oo_vault import CredentialRow, Sealed

#: SQLite's own steps between two words about how far it is: some thousands a second.
STEPS = 50_000
#: Pages that are copied at once.
PAGES = 4_096
Told = Callable[[int], None]


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What a database holds, as far as a check compares it."""

    epoch: int
    position: int
    rows: int  #: of all tables together
    known_answers: tuple[Sealed, ...]
    credential: CredentialRow | None  #: any one
    schema: int


def snapshot(path: Path, to: Path, told: Told = lambda _: None) -> None:
    """Write one state of a database that is in use into a new file, packed, which is bare: its pages have room for checksums, and none.

    `told` hears how long it is by now. Raises `CannotStore`, `Corrupt`.
    """
    try:
        connection = checked.connect(str(path), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI)
        try:
            connection.set_busy_timeout(5_000)
            _watch(connection, lambda: told(to.stat().st_size if to.exists() else 0))
            # It writes the first page last, and those before it would have no checksums: see `with_checksums`.
            connection.execute("VACUUM INTO ?", (f"{to.absolute().as_uri()}?reserve={checked.RESERVED}&vfs={checked.BARE}",))
        finally:
            connection.close()
        through(to)
    except apsw.Error as error:
        raise explain(error) from error


def with_checksums(bare: Path, to: Path) -> None:
    """Copy a bare file into a new one whose pages have their checksums. Raises `CannotOpen`."""
    try:
        os.close(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # SQLite would let others read it
        source, target = checked.connect(str(bare), vfs=checked.BARE), checked.connect(str(to))
        try:
            for name in ("journal_mode", "synchronous"):  # it is worth nothing before it is whole
                target.pragma(name, "off")
            target.execute("CREATE TABLE first (page)")  # the shim knows that there are checksums once it has seen the first page
            with target.backup("main", source, "main") as copy:
                while not copy.done:
                    copy.step(PAGES)
        finally:
            target.close()
            source.close()
        through(to)
    except (apsw.Error, OSError) as error:
        raise CannotOpen(f"{to} cannot be written ({error}): check the disk.") from None


def content(path: Path, told: Told = lambda _: None, *, bare: bool = False) -> Content:
    """Check a file that nobody else uses, and say what it holds; `told` hears how many bytes were read of it by now.

    Raises `Corrupt`, and `NewerSchema` where a newer program wrote it.
    """
    database = SqliteDatabase(path, vfs=checked.BARE if bare else None)
    try:
        database.connect()
        file = database.handle()
        page = file.pragma("page_size")
        _watch(file, lambda: told(page * file.status(apsw.SQLITE_DBSTATUS_CACHE_MISS)[0]))
        verdicts = [verdict for (verdict,) in database.rows("PRAGMA integrity_check(3)")]
        if verdicts != ["ok"]:
            raise Corrupt(f"{path.name} is damaged ({verdicts[0]}): take another backup.")
        if broken := database.rows("PRAGMA foreign_key_check"):
            raise Corrupt(f"{path.name} is damaged ({len(broken)} rows of {broken[0][0]} belong to nothing): take another backup.")
        tables = [name for (name,) in database.rows("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")]
        counted = [database.rows(f'SELECT count(*) FROM "{name}"')[0][0] for name in tables]
        ((epoch, position),) = database.rows("SELECT epoch, position FROM stream WHERE id = ?", (STREAM,))
        some = database.rows("SELECT c.id FROM credential k JOIN connection c ON c.number = k.connection LIMIT 1")
        return Content(
            epoch=epoch,
            position=position,
            rows=sum(counted),
            known_answers=tuple(known.answer for known in vault_keys.listed(database)),
            credential=credentials.read(database, some[0][0]) if some else None,
            schema=schema(database),
        )
    except (apsw.Error, peewee.PeeweeException) as error:
        raise Corrupt(f"{path.name} is damaged or no database of ours ({error}): take another backup.") from None
    finally:
        database.close()


def _watch(connection: apsw.Connection, look: Callable[[], None]) -> None:
    """Look now and then while a statement runs."""

    def goes_on() -> bool:
        look()
        return False  # True would end it

    connection.set_progress_handler(goes_on, STEPS)


def through(path: Path) -> None:
    """Wait until a file, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def restored(database: Database) -> None:
    """Say that a database is older than it was."""
    database.rows("BEGIN IMMEDIATE" if database.dialect == "sqlite" else "BEGIN")
    database.rows("UPDATE stream SET epoch = epoch + 1 WHERE id = ?", (STREAM,))
    database.rows("UPDATE credential SET state = 'verify' WHERE state IN ('good', 'consent_soon')")
    database.rows("COMMIT")


def adopt(path: Path) -> None:
    """Make a restored file ready to be lived on.

    Positions get a higher epoch, since consumers may be ahead of the file; and grants are marked, since a provider may have renewed them
    after the backup was made. Raises `CannotOpen`.
    """
    database = SqliteDatabase(path)
    try:
        database.connect()
        restored(database)
        database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    except (apsw.Error, peewee.PeeweeException) as error:
        raise CannotOpen(f"{path} cannot be written ({error}): check the disk.") from None
    finally:
        database.close()


@contextmanager
def gone_afterwards(*paths: Path) -> Iterator[None]:
    """Leave no file of these behind, nor take one that a killed process has left for new."""
    for path in paths:
        path.unlink(missing_ok=True)
    try:
        yield
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def put_in_place(restored: Path, database: Path) -> Path | None:
    """Rename a file to be the database. Gives where the one that was there is kept, with its write-ahead log."""
    kept = None
    if database.exists():
        number = next(number for number in range(1, 1_000_000) if not database.with_name(f"{database.name}.before-{number}").exists())
        kept = database.with_name(f"{database.name}.before-{number}")
        for suffix in ("-wal", "-shm"):
            log = database.with_name(database.name + suffix)
            if log.exists():
                log.rename(kept.with_name(kept.name + suffix))
        database.rename(kept)
    restored.rename(database)
    for suffix in ("-wal", "-shm"):  # of the file while it was made ready; empty
        restored.with_name(restored.name + suffix).unlink(missing_ok=True)
    through(database.parent)
    return kept
