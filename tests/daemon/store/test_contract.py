"""Each storage keeps the one contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from daemon.store.contract import StoreContract
from daemon.store.world import encode

from oo_daemon.store.pool import PooledStorage
from oo_daemon.store.postgresql import PostgresqlDatabase
from oo_daemon.store.storage import InlineStorage, Storage, ThreadedStorage, open_database


class TestThreaded(StoreContract):
    """SQLite behind a writer thread and readers."""

    @pytest.fixture
    async def storage(self, path: Path) -> AsyncIterator[Storage]:
        threaded = ThreadedStorage(open_database(path), encode)
        yield threaded
        await threaded.close()


class TestInline(StoreContract):
    """SQLite in the caller's thread."""

    @pytest.fixture
    def storage(self, path: Path) -> Storage:
        return InlineStorage(open_database(path), encode)


class TestPostgresql(StoreContract):
    """PostgreSQL with several writers at once."""

    @pytest.fixture
    async def storage(self, shared: PostgresqlDatabase) -> AsyncIterator[Storage]:
        pooled = PooledStorage(shared, encode)
        yield pooled
        await pooled.close()
        shared.connect()
