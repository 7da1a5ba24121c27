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


def test_show(daemon: FakeDaemon, oo: Oo) -> None:
    """One delivery is shown with its headers and its body; one without a body says so."""
    daemon.deliveries = [DEAD, delivery()]
    shown = oo("inbox", "show", "18").output
    assert "content-type" in shown
    assert shown.endswith('{"a":1}\n')
    assert oo("inbox", "show", "17").output.endswith("The body was dropped.\n")
    assert json.loads(oo("inbox", "show", "18", "--json").stdout)["body"] == "eyJhIjoxfQ=="
    assert oo("inbox", "show", "99").exit_code == 1


def test_replay(daemon: FakeDaemon, oo: Oo) -> None:
    """One, a range, a source or a state; but not all of them by accident."""
    daemon.deliveries = [DEAD, delivery()]
    assert oo("inbox", "replay", "18").output == "Being worked on once more: 1 delivery.\n"
    assert oo("inbox", "replay", "--source", "todoist").output == "Being worked on once more: 2 deliveries.\n"
    assert json.loads(oo("inbox", "replay", "17", "18", "--state", "dead", "--json").stdout) == {"deliveries": ["18"]}
    assert [each.body for each in daemon.asked("POST /v1/deliveries/replay")] == [
        {"first": "18", "last": "18"},
        {"source": "todoist"},
        {"first": "17", "last": "18", "state": "dead"},
    ]
    assert oo("inbox", "replay").exit_code == 2
    assert oo("inbox", "replay", "1", "2", "3").exit_code == 2


def test_drop(daemon: FakeDaemon, oo: Oo) -> None:
    """It is asked first, unless --yes says so."""
    daemon.deliveries = [DEAD]
    assert oo("inbox", "drop", "18", input="n\n").exit_code == 130
    assert daemon.asked("POST /v1/deliveries/drop") == []
    assert oo("inbox", "drop", "18", "--yes").output == "Dropped: 1 delivery.\n"
