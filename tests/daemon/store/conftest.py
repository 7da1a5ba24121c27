"""Databases in real files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("daemon.store.contract")

from daemon.store.world import Book, encode  # noqa: E402  # after the rewriting of the contract is asked for

from oo_daemon.store.storage import ThreadedStorage, open_database  # noqa: E402  # see above


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database lies."""
    return tmp_path / "oo.db"


@pytest.fixture
def book(path: Path) -> Book:
    """A database on the test's own thread."""
    return Book(open_database(path))


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[ThreadedStorage]:
    """A writer thread and readers, closed in the end."""
    threaded = ThreadedStorage(open_database(path), encode)
    yield threaded
    await threaded.close()
