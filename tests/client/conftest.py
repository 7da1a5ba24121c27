"""A fake daemon for each test, held against the contract at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from client.contract import hold
from client.fake_daemon import FakeDaemon, running


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    """Give a daemon that answers on a socket."""
    with running(FakeDaemon(socket=tmp_path / "oo.sock")) as fake:
        yield fake
    hold(fake.exchanges)
