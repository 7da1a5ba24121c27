"""`oo audit`."""

from __future__ import annotations

import json

from client.fake_daemon import FakeDaemon
from daemon.cli.conftest import Oo


def test_the_list(oo: Oo, daemon: FakeDaemon) -> None:
    """A table for people, JSON for programs."""
    assert "DELETE /v1/users/{user}" in oo("audit", "list").stdout
    assert json.loads(oo("audit", "list", "--json").stdout)["entries"][0]["about"] == "user ada"


def test_the_verdict(oo: Oo, daemon: FakeDaemon) -> None:
    """Whole gives the head to keep; what is not whole ends with 1, a reason and a remedy."""
    assert "0f0f" in oo("audit", "verify").stdout
    ended = oo("audit", "verify", "--head", "ab")
    assert (ended.exit_code, "the end was cut off" in ended.stderr) == (1, True)
