"""`oo sinks`: lists, pauses, resumes, shows dead letters and has them given again."""

from __future__ import annotations

import json

from client.fake_daemon import FakeDaemon, consumer, sink
from daemon.cli.conftest import Oo


def test_list(daemon: FakeDaemon, oo: Oo) -> None:
    """Each has a row: what it is, how it is, how far behind, and why."""
    assert oo("sinks").output == oo("sinks", "list").output
    assert oo("sinks").output.startswith("There is no sink. Write [sinks.NAME] into the settings and start the daemon anew")
    daemon.sinks = [sink(), sink(name="crm", state="waiting", reason="the receiver answered 503", lag=40, dead_letters=3)]
    head, first, second = oo("sinks", "list").output.splitlines()
    assert head.split() == ["Sink", "Kind", "State", "Position", "Behind", "Dead", "Reason"]
    assert first.split() == ["billing", "http", "running", "1-40", "2", "0"]
    assert second.split() == ["crm", "http", "waiting", "1-40", "40", "3", "the", "receiver", "answered", "503"]
    assert json.loads(oo("sinks", "list", "--json").output)["sinks"][1]["dead_letters"] == 3


def test_pause_resume_and_replay(daemon: FakeDaemon, oo: Oo) -> None:
    """Each says what came of it; what is not there is said."""
    daemon.sinks = [sink(dead_letters=3)]
    daemon.consumers = [consumer(name="sink:billing")]
    assert "Paused: billing" in oo("sinks", "pause", "billing").output
    assert daemon.sinks[0]["state"] == "paused"
    assert json.loads(oo("sinks", "resume", "billing", "--json").output)["state"] == "running"
    assert "Given again: 3 events" in oo("sinks", "replay", "billing").output.replace("\u2009", " ")
    assert json.loads(oo("sinks", "replay", "billing", "1-4", "1-7", "--json").output) == {"replayed": 2}
    assert oo("sinks", "dead-letters", "billing").output.startswith("There are no dead letters.")
    gone = oo("sinks", "pause", "nobody")
    assert (gone.exit_code, "There is no such sink" in gone.stderr) == (1, True)
