"""The database connection: PostgreSQL through psycopg 3, for named queries that are written once for both dialects.

psycopg is imported here and in `hints` only, and nothing imports the two unless it has a PostgreSQL to talk to (the extra `postgresql`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8Dumper

from oo_daemon.store import migrations
from oo_daemon.store.database import Database, Row
from oo_daemon.store.errors import CannotOpen, CannotStore, Corrupt, Erased
from oo_daemon.store.orm import peewee

_peewee: Any = peewee
if _peewee.psycopg is None:  # what it would have imported itself: see `orm`
    _peewee.psycopg, _peewee.TransactionStatus = psycopg, TransactionStatus
    for _name in ("idle", "inerror", "unknown"):
        setattr(_peewee.Psycopg3Adapter, f"txn_{_name}", TransactionStatus[_name.upper()])

#: A writer holds the stream's row until its commit: one that has died in the middle must not stop the others for long.
IDLE_IN_TRANSACTION_MS = 30_000
#: How long a statement waits for what another transaction holds, and how long it may take in all.
LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS = 5_000, 60_000
#: What a page at a random place costs beside the next one: on a disk without heads hardly more. By PostgreSQL's own 4 it would rather read
#: a small table to its end, dead versions and all, than find the few rows that are claimed.
RANDOM_PAGE = 1.1
#: Statements that a connection keeps prepared: all that there are.
STATEMENTS = 512
#: As the server knows our connections.
NAME = "oo-integrations"
#: The oldest server that the named queries are tried on.
OLDEST = 15
#: What a server must be set to, to keep a promise in a power cut; it is read back on every connection.
PROMISES = ("fsync", "synchronous_commit", "full_page_writes")
#: Unless the address says otherwise: a server that does not answer is noticed within seconds, also one whose host has gone.
PATIENCE = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}

_ANSWERS = re.compile(r"\A\s*(?:SELECT|WITH)\b|\bRETURNING\b")
_PIECE = re.compile(r"""'[^']*'|"[^"]*"|[?%]""")


class PostgresqlDatabase(peewee.PostgresqlDatabase, Database):
    """One PostgreSQL database, named by a `postgresql://` address. Each thread has a connection of its own, at READ COMMITTED.

    `forgetful`: a server that may lose what it has promised is taken, too; for tests.
    """

    dialect = "postgresql"

    def __init__(self, address: str, *, forgetful: bool = False) -> None:
        self.forgetful = forgetful
        given = _parsed(address)
        options = (
            f"{given.get('options', '')} -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_MS} "
            f"-c lock_timeout={LOCK_TIMEOUT_MS} -c statement_timeout={STATEMENT_TIMEOUT_MS} -c random_page_cost={RANDOM_PAGE}"
        )
        missing: dict[str, Any] = {name: value for name, value in {**PATIENCE, "client_encoding": "UTF8"}.items() if name not in given}
        super().__init__(
            re.sub(r"\Apostgres://", "postgresql://", address),
            autoconnect=False,
            prefer_psycopg3=True,
            application_name=NAME,
            options=options.strip(),
            **missing,
        )

    def _connect(self) -> psycopg.Connection[Row]:
        # Not by peewee's own way, which would leave one behind that breaks just then.
        connection: psycopg.Connection[Row] = psycopg.connect(self.database, autocommit=True, **self.connect_params)
        connection.prepared_max = STATEMENTS
        # At its first use: psycopg takes a later one for prepared even where the pipeline that was to prepare it was refused, and then each
        # use of it fails for as long as the connection lives.
        connection.prepare_threshold = 0
        connection.adapters.register_dumper(
            int, Int8Dumper
        )  # else a statement is prepared anew for each mixture of small and large numbers
        try:
            if not self.forgetful:
                _read_back(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def handle(self) -> psycopg.Connection[Row]:
        """The calling thread's connection."""
        return self.connection()  # type: ignore[no-any-return, no-untyped-call]  # peewee leaves it untyped

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Execute one statement and read its answer to the end."""
        cursor = self.handle().execute(translated(sql), parameters)
        return cursor.fetchall() if _answers(sql) else []

    def run(self, statements: str) -> None:
        """Execute statements without values, several at once."""
        self.handle().execute(statements, prepare=False)

    def changed(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Execute one statement that answers nothing; gives how many rows it has written or deleted."""
        return self.handle().execute(translated(sql), parameters).rowcount

    def _one_by_one(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        self.handle().cursor().executemany(translated(sql), parameters)

    def alike(self, sql: str, parameters: Sequence[Any], keys: Sequence[int]) -> None:
        """Execute one statement, which ends in a `= ?`, for all of the keys at once, with the same parameters before it."""
        self.handle().execute(translated(f"{sql.removesuffix('?')}ANY (?)"), (*parameters, [*keys]))

    def each(self, sql: str, parameters: Iterable[Sequence[Any]]) -> list[Row]:
        """Execute one statement that answers for each of the parameters; gives all answers, in order."""
        cursor, rows = self.handle().cursor(), list[Row]()
        cursor.executemany(translated(sql), parameters, returning=True)
        while cursor.description:
            rows += cursor.fetchall()
            if not cursor.nextset():
                break
        return rows

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """Wait for no answer that nobody reads: what is written goes out at once, and what was wrong with it is raised later.

        So rows that are written last go together with their COMMIT. At the end everything has been answered.
        """
        with self.handle().pipeline() as line:
            try:
                yield
            except BaseException:
                with suppress(psycopg.Error):  # else what is still on its way would be logged
                    line.sync()
                raise

    def in_transaction_now(self) -> bool:
        """True also where an error has broken the transaction, which takes nothing but its ROLLBACK any more."""
        return self.handle().info.transaction_status != TransactionStatus.IDLE

    def version(self) -> str:
        """The server's, as people write it: 18.6."""
        number = self.handle().info.server_version
        return f"{number // 10_000}.{number % 10_000}"

    def fresh(self) -> psycopg.Connection[Row]:
        """A connection that belongs to no thread; whoever asked for it closes it."""
        return self._connect()

    def others(self) -> int:
        """How many connections of daemons there are to this database, besides our own."""
        sql = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = ? AND pid <> pg_backend_pid()"
        )
        ((count,),) = self.rows(sql, (NAME,))
        return int(count)

    def is_lost(self) -> bool:
        """Say whether the calling thread's connection is of no use any more."""
        return self.is_closed() or self.handle().closed


def open_database(address: str) -> PostgresqlDatabase:
    """Reach the server, check what must hold before anything is promised, and bring its schema up to date.

    Raises `CannotOpen` with a sentence that says what to do.
    """
    database = PostgresqlDatabase(address)
    try:
        with in_words():
            database.connect()
            migrations.migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def schema_of(address: str) -> tuple[int, int]:
    """The schema that the database has (0: there is none yet), and the one that this program lives on. Raises `CannotOpen`."""
    database = PostgresqlDatabase(address)
    try:
        with in_words():
            database.connect()
            ours = database.rows("SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'migration'")
            return migrations.schema(database) if ours else 0, migrations.MIGRATIONS[-1].number
    finally:
        database.close()


@contextmanager
def in_words() -> Iterator[None]:
    """Have whoever opens a database told in our words why that cannot be. Raises `CannotOpen`."""
    try:
        yield
    except Exception as wrong:
        if isinstance(origin := getattr(wrong, "orig", wrong), psycopg.Error):
            raise _cannot_open(origin) from None
        raise


def _parsed(address: str) -> dict[str, Any]:
    try:
        return conninfo_to_dict(address)
    except psycopg.ProgrammingError:
        raise CannotOpen("places.database is no address that PostgreSQL knows: write postgresql://user@host/database.") from None


def _cannot_open(error: psycopg.Error) -> CannotOpen:
    match error:
        case errors.InsufficientPrivilege():
            return CannotOpen("PostgreSQL lets this user make no tables: make it the owner of the database named by places.database.")
        case _:
            # Its first line says what is wrong: no server, no such database, a wrong password. No message of libpq's holds that.
            said = (str(error).splitlines() or [type(error).__name__])[0]
            return CannotOpen(f"PostgreSQL cannot be used ({said}): check that it runs, and places.database.")


def _read_back(connection: psycopg.Connection[Row]) -> None:
    """Refuse a server that cannot keep our promises."""
    shown = ", ".join(f"current_setting('{name}')" for name in (*PROMISES, "server_encoding", "server_version_num"))
    row = connection.execute(f"SELECT {shown}, pg_is_in_recovery()").fetchone()
    assert row is not None
    *promises, encoding, version, standby = row
    for name, value in zip(PROMISES, promises, strict=True):
        if value == "off":
            raise CannotOpen(f"PostgreSQL runs with {name}=off and would lose what we have promised in a power cut: set it to on.")
    if int(version) < OLDEST * 10_000:
        raise CannotOpen(f"PostgreSQL {int(version) // 10_000} is too old: install {OLDEST} or newer.")
    if encoding != "UTF8":
        raise CannotOpen(f"The database is encoded in {encoding}, which cannot hold every text: make one with ENCODING 'UTF8'.")
    if standby:
        raise CannotOpen("This PostgreSQL is a standby, which takes no writes: let places.database name the primary.")


def explain(error: BaseException) -> BaseException:
    """Say in our words why PostgreSQL refused; any other error stays as it is."""
    match getattr(error, "orig", error):  # peewee wraps what psycopg raises
        case errors.DataCorrupted() | errors.IndexCorrupted():
            return Corrupt("PostgreSQL finds its data damaged: stop the daemons and restore a backup")
        case errors.DiskFull():
            return CannotStore("the disk of PostgreSQL is full: free some space there and try again")
        case errors.LockNotAvailable() | errors.QueryCanceled() | errors.DeadlockDetected() | errors.SerializationFailure():
            return CannotStore("another transaction holds what is needed: try again")
        case errors.ForeignKeyViolation():
            return Erased("what this belongs to was erased")
        case errors.ReadOnlySqlTransaction():
            return CannotStore("PostgreSQL is read-only now: let places.database name the primary")
        case psycopg.OperationalError() | psycopg.InterfaceError() | psycopg.InternalError() as refusal:
            return CannotStore(f"PostgreSQL cannot be used now ({type(refusal).__name__}): see whether it runs, and its log")
        case CannotOpen():  # a server that is there again, but set otherwise
            return CannotStore(str(error))
        case StopIteration():
            return RuntimeError("a query ran out of rows")  # asyncio's futures cannot carry a StopIteration
        case _:
            return error


def crossed(error: BaseException) -> bool:
    """Say whether others that ran at the same time ended a transaction: it may be run again at once."""
    return isinstance(getattr(error, "orig", error), errors.DeadlockDetected | errors.SerializationFailure)


def in_the_way(error: BaseException) -> bool:
    """Say whether another transaction holds what is needed, and did for as long as could be waited."""
    return isinstance(getattr(error, "orig", error), errors.LockNotAvailable)


@lru_cache(1024)
def _answers(sql: str) -> bool:
    return _ANSWERS.search(sql) is not None


@lru_cache(1024)
def translated(sql: str) -> str:
    """A statement with psycopg's placeholders for ours. What is quoted stays as it is, and a `%` means itself."""
    return _PIECE.sub(lambda piece: "%s" if piece[0] == "?" else piece[0].replace("%", "%%"), sql)
