"""`oo inbox`."""

from __future__ import annotations

import json

from client.fake_daemon import FakeDaemon, delivery
from daemon.cli.conftest import Oo

DEAD = delivery(id="18", delivery_id="9f" * 16, weak=True, state="dead", reason="the body is not JSON", tries=5, done_at=None, age=90061.2)


def test_list(daemon: FakeDaemon, oo: Oo) -> None:
    """Deliveries are a table with their age and the reason why they are dead, never their bodies."""
    daemon.deliveries = [DEAD, delivery()]
    assert (
        oo("inbox", "list", COLUMNS="140").output
        == """\
Delivery  Source   Sender's id                              State  Tries             Age  Reason
18        todoist  9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f (hash)  dead       5  1 day, 1:01:01  the body is not JSON
17        todoist  d-1                                      done       1         0:00:42
"""
    )
    assert json.loads(oo("inbox", "list", "--json").stdout) == {"deliveries": daemon.deliveries}


def test_some(daemon: FakeDaemon, oo: Oo) -> None:
    """State, source and number are asked of the daemon."""
    daemon.deliveries = [DEAD, delivery()]
    assert oo("inbox", "list", "--state", "dead").output.count("todoist") == 1
    assert oo("inbox", "list", "--source", "nowhere").output == "No delivery matches.\n"
    assert oo("inbox", "list", "--limit", "1").output.count("todoist") == 1
    assert oo("inbox", "list", "--state", "odd").exit_code == 2


def test_nothing_yet(daemon: FakeDaemon, oo: Oo) -> None:
    """An empty inbox says where webhooks are to be posted to."""
    assert oo("inbox", "list").output.startswith("Nothing has arrived yet. `oo registration list`")
