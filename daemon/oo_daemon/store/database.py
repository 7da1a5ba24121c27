"""The database connection: SQLite through apsw, with the profile that keeps what was promised.

peewee and apsw live in this folder only. Named queries are functions that take a `Database` first; the hot ones use `rows` and `many`
with `?` placeholders, which both dialects understand, the others peewee's models, executed with `.execute(database)`.
"""

from __future__ import annotations

import re
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import apsw

from oo_daemon.store import checked
from oo_daemon.store.errors import CannotOpen
from oo_daemon.store.orm import APSWDatabase, peewee

A = TypeVar("A")
T = TypeVar("T")
Row = tuple[Any, ...]

BUSY_TIMEOUT_MS = 5_000
#: Statements that are kept prepared: all that there are.
STATEMENTS = 512
PROFILE = {
    "journal_mode": "wal",
    "synchronous": 2,  # FULL: an answered promise survives a power cut
    "foreign_keys": 1,
    "secure_delete": 1,
    "mmap_size": 0,
    "trusted_schema": 0,
    "wal_autocheckpoint": 0,  # checkpoints are taken off the commit path: see Storage.checkpoint
    "journal_size_limit": 16 * 1024 * 1024,  # what a long read has made it grow to is given back once it is begun anew
}
#: The one row of an INSERT; and how many rows one statement writes at most.
_ROW, LARGEST = re.compile(r"(?<= )VALUES (\([^()]*\))"), 64
#: From the first on, the WAL-reset corruption bug is repaired; in the older lines of the others, too.
REPAIRED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))
#: File systems on which SQLite's locks or its shared memory cannot be trusted.
# fmt: off
NETWORK = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "gpfs", "orangefs", "ocfs2",
    "gfs2", "davfs", "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.davfs2",
    "fuse.gcsfuse", "fuse.goofys", "fuse.juicefs", "fuse.mfs", "fuse.gvfsd-fuse", "fuse.curlftpfs", "fuse.smbnetfs",
}
# fmt: on


def holding(column: str) -> str:
    """True where a column has words in it, in any case; its value is the `pattern` of the words."""
    return f"lower({column}) LIKE ? ESCAPE '!'"


def pattern(words: str) -> str:
    """The pattern of words that mean themselves, signs of patterns included."""
    return "%" + "".join("!" + each if each in "!%_" else each for each in words.lower()) + "%"


@lru_cache(1024)
def of_rows(sql: str, count: int) -> str:
    """An INSERT of one row as one of so many."""
    return _ROW.sub(lambda row: "VALUES " + ", ".join([row[1]] * count), sql, count=1)


@lru_cache(1024)
def _writes_a_row(sql: str) -> bool:
    return _ROW.search(sql) is not None


def by_powers_of_two(rows: Sequence[A]) -> Iterator[Sequence[A]]:
    """Rows in parts of which there are few sizes, since each is a statement that is kept prepared."""
    done = 0
    while left := len(rows) - done:
        size = min(1 << (left.bit_length() - 1), LARGEST)
        yield rows[done : done + size]
        done += size


class Database(peewee.Database):
    """What named queries are given: a peewee database with two short-cuts for the hot paths."""

    dialect: ClassVar[Literal["sqlite", "postgresql"]]

    def locking(self, clause: str) -> str:
        """The clause that ends a SELECT whose rows must stay as they are until the commit; SQLite has one writer and needs none."""
        return clause if self.dialect == "postgresql" else ""

    def among(self, query: str) -> str:
        """The condition that a column's value is among what a query gives, a few rows that are found first and then looked up one by one.

        PostgreSQL must be told so: it does not know how few there are, and might read the whole table beside them.
        """
        return f"= ANY (ARRAY({query}))" if self.dialect == "postgresql" else f"IN ({query})"

    def alone(self, what: str) -> None:
        """Keep others who would be alone with the same thing waiting until the commit; SQLite has one writer and needs nothing."""
        if self.dialect == "postgresql":
            self.rows("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", (what,))

    @abstractmethod
    def in_transaction_now(self) -> bool:
        """Say whether a transaction is open: an error can have ended it."""

    @abstractmethod
    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Execute one statement and read its answer to the end: an unread RETURNING would fail the commit."""

    @abstractmethod
    def changed(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Execute one statement that answers nothing; gives how many rows it has written or deleted."""

    def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Execute one statement for each of the parameters; what writes rows writes many of them with one.

        So rows of one call must not be the same to an ON CONFLICT.
        """
        if not _writes_a_row(sql):
            self._one_by_one(sql, parameters)
            return
        for rows in by_powers_of_two([*parameters]):
            self.rows(of_rows(sql, len(rows)), [*chain.from_iterable(rows)])

    @abstractmethod
    def _one_by_one(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Execute one statement for each of the parameters."""

    @abstractmethod
    def alike(self, sql: str, parameters: Sequence[Any], keys: Sequence[int]) -> None:
        """Execute one statement, which ends in a `= ?`, for each of the keys, with the same parameters before it."""

    @abstractmethod
    def each(self, sql: str, parameters: Iterable[Sequence[Any]]) -> list[Row]:
        """Execute one statement that answers for each of the parameters; gives all answers, in order."""


class ForMany(Generic[A, T]):
    """A query for one caller that can be run once for many: it takes what each gave, and gives what each is told.

    `many` gives None where it cannot be done for all at once. Whatever it wrote is then undone, and each caller's is run alone.
    """

    def __init__(self, many: Callable[[Database, Sequence[A]], Sequence[T] | None]) -> None:
        self.many = many

    def __call__(self, database: Database, given: A) -> T:
        """Run it for one."""
        results = self.many(database, [given])
        assert results is not None
        return results[0]


class _Role(threading.local):
    reads_only = False
    on_log: Callable[[int], None] | None = None


class SqliteDatabase(APSWDatabase, Database):  # type: ignore[misc]  # playhouse has no types
    """One SQLite file. Each thread has a connection of its own; a thread that called `read_only` gets one that cannot write."""

    dialect = "sqlite"

    def __init__(self, path: Path, *, vfs: str | None = None) -> None:
        super().__init__(str(path), autoconnect=False)
        self.path = path
        self.vfs = vfs
        self._role = _Role()

    def read_only(self) -> None:
        """Make the calling thread a reader, before it connects."""
        self._role.reads_only = True

    def watch_log(self, listener: Callable[[int], None]) -> None:
        """Have the listener hear, in the calling thread, of how many pages the write-ahead log has after each commit of this thread."""
        self._role.on_log = listener

    def _connect(self) -> apsw.Connection:
        reading = self._role.reads_only
        flags = apsw.SQLITE_OPEN_READONLY if reading else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        connection = checked.connect(self.database, flags=flags, vfs=self.vfs, statementcachesize=STATEMENTS)
        try:
            # Else SQLite plans a statement anew for each value that a partial index might have to do with: five times what a claim costs.
            # What such an index is for stands in the statement.
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            for name, value in PROFILE.items():
                if not (reading and name == "journal_mode"):
                    connection.pragma(name, value)
            if reading:
                connection.pragma("query_only", True)
            if (listener := self._role.on_log) is not None:
                connection.set_wal_hook(lambda _connection, _name, pages: listener(pages) or apsw.SQLITE_OK)
            _read_back(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def handle(self) -> apsw.Connection:
        """The calling thread's connection."""
        return self.connection()  # type: ignore[no-any-return, no-untyped-call]  # peewee leaves it untyped

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Execute one statement and read its answer to the end: an unread RETURNING would fail the commit."""
        return self.handle().execute(sql, parameters).fetchall()

    def changed(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Execute one statement that answers nothing; gives how many rows it has written or deleted."""
        connection = self.handle()
        connection.execute(sql, parameters)
        return connection.changes()

    def _one_by_one(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        self.handle().executemany(sql, parameters)

    def alike(self, sql: str, parameters: Sequence[Any], keys: Sequence[int]) -> None:
        """Execute one statement, which ends in a `= ?`, for each of the keys, with the same parameters before it."""
        self.handle().executemany(sql, [(*parameters, key) for key in keys])

    def each(self, sql: str, parameters: Iterable[Sequence[Any]]) -> list[Row]:
        """Execute one statement that answers for each of the parameters; gives all answers, in order."""
        return self.handle().executemany(sql, parameters).fetchall()

    def in_transaction_now(self) -> bool:
        """False also where an error inside a savepoint has ended the whole transaction (SQLITE_FULL does)."""
        return bool(self.handle().in_transaction)


def _read_back(connection: apsw.Connection) -> None:
    for name, wanted in PROFILE.items():
        found = connection.pragma(name)
        if found != wanted:
            raise CannotOpen(f"SQLite refused {name} = {wanted} and has {found}: the file system or the build cannot keep our promises.")
    if connection.pragma("busy_timeout") != BUSY_TIMEOUT_MS:
        raise CannotOpen("SQLite refused the busy timeout.")


def refuse_affected(version: str) -> None:
    """Refuse a SQLite that can corrupt a write-ahead log."""
    found = tuple(int(part) for part in version.split(".")[:3])
    if found < REPAIRED[0] and not any(found[:2] == good[:2] and found >= good for good in REPAIRED):
        raise CannotOpen(f"SQLite {version} can corrupt its write-ahead log: install apsw 3.51.3 or newer.")


def refuse_network(path: Path, mounts: str) -> None:
    """Refuse a folder on a network file system. `mounts` is the text of /proc/self/mounts."""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1])
        if len(point) >= len(best) and (path == Path(point) or Path(point) in path.parents):
            best, kind = point, fields[2]
    if kind in NETWORK:
        raise CannotOpen(f"{path} is on a network file system ({kind}), where SQLite's locks do not hold: choose a local folder.")
