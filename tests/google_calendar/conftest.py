from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google_calendar.house import House

from oo_daemon.outbox import wire
from oo_daemon.store.storage import InlineStorage, open_database

REALDATA = Path(__file__).parents[3] / "shared" / "realdata" / "google_calendar" / "northworld-google_calendar" / "test" / "mocks"


@pytest.fixture
def real() -> Callable[[str], bytes]:
    """Read a body that the real Google Calendar produced."""
    if not REALDATA.is_dir():
        pytest.skip("the recorded bodies of the real Google Calendar are not here (../shared/realdata/google_calendar)")
    return lambda name: (REALDATA / f"{name}.json").read_bytes()


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with nothing in it, to be copied: making one costs 20 times as much."""
    path = tmp_path_factory.mktemp("google") / "empty.db"
    open_database(path).close()
    return path


@pytest.fixture
def storage(empty: Path, tmp_path: Path) -> Iterator[InlineStorage]:
    """A database of one's own."""
    database = open_database(Path(shutil.copy(empty, tmp_path / "oo.db")))
    database.rows("PRAGMA synchronous = 0")  # no power is cut here
    yield InlineStorage(database, wire.encode)
    database.close()


@pytest.fixture
def house(storage: InlineStorage) -> House:
    """A daemon and a sandbox; nobody is signed in yet."""
    return House(storage)
