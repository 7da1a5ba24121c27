"""A hub with a database in a real file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon.sync.world import Hub

from oo_daemon.outbox import wire
from oo_daemon.store.storage import InlineStorage, open_database


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with nothing in it, to be copied: making one costs 20 times as much."""
    path = tmp_path_factory.mktemp("sync") / "empty.db"
    open_database(path).close()
    return path


@pytest.fixture
def hub(empty: Path, tmp_path: Path) -> Iterator[Hub]:
    """The parts of the hub that a sync meets."""
    database = open_database(Path(shutil.copy(empty, tmp_path / "oo.db")))
    database.rows("PRAGMA synchronous = 0")  # no power is cut here, and an fsync costs more than everything else
    yield Hub(storage=InlineStorage(database, wire.encode))
    database.close()
