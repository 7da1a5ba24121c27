"""`oo visit`."""

from __future__ import annotations

import json

from client.fake_daemon import FakeDaemon
from daemon.cli.conftest import Oo

LINK = "http://127.0.0.1:8710/visit/once"


def test_a_link_to_a_persons_page(oo: Oo, daemon: FakeDaemon) -> None:
    """Until when it works, and the link; alone with --quiet, whole with --json."""
    result = oo("visit", "--user", "ada")
    assert result.output == f"The page of ada; the link works once, until 2026-11-22 09:30:00 UTC:\n\n  {LINK}\n"
    assert oo("visit", "--user", "ada", "--quiet").output == f"{LINK}\n"
    assert json.loads(oo("visit", "--user", "ada", "--json").output)["id"] == "v-1"
    assert len(daemon.asked("POST /v1/users/{user}/visits")) == 3
