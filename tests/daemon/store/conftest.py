"""Databases in real files."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("daemon.store.contract", "daemon.store.inbox_contract")

from daemon.store.world import Book, encode  # noqa: E402  # after the rewriting of the contract is asked for

from oo_daemon.store.storage import ThreadedStorage, open_database  # noqa: E402  # see above

#: Modules whose tests with a `book` are run on each dialect.
PORTABLE = {
    "test_accept",
    "test_api_tokens",
    "test_consumers",
    "test_copy",
    "test_everywhere",
    "test_jobs",
    "test_leases",
    "test_retention",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give portable tests a book of each dialect."""
    if "book" in metafunc.fixturenames and metafunc.module.__name__.rpartition(".")[2] in PORTABLE:
        metafunc.parametrize("book", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with nothing in it, to be copied: making one costs 20 times as much."""
    path = tmp_path_factory.mktemp("store") / "empty.db"
    open_database(path).close()
    return path


@pytest.fixture
def path(empty: Path, tmp_path: Path) -> Path:
    """Where the database lies."""
    return Path(shutil.copy(empty, tmp_path / "oo.db"))


@pytest.fixture
def book(request: pytest.FixtureRequest) -> Book:
    """A database on the test's own thread."""
    if getattr(request, "param", "sqlite") == "postgresql":
        return Book(request.getfixturevalue("shared"))
    return Book(open_database(request.getfixturevalue("path")))


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[ThreadedStorage]:
    """A writer thread and readers, closed in the end."""
    threaded = ThreadedStorage(open_database(path), encode)
    yield threaded
    await threaded.close()
