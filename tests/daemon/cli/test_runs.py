"""`oo runs`, and pausing."""

from __future__ import annotations

import json
from typing import Any

from client.fake_daemon import FakeDaemon, connection
from daemon.cli.conftest import Oo


def run(**changes: Any) -> dict[str, Any]:
    """One sync of the log."""
    usual = {
        "connection": "c-7f3a",
        "outcome": "done",
        "detail": "",
        "calls": 3,
        "bytes": 2048,
        "pages": 2,
        "events": 1234,
        "unreadable": 0,
        "started_at": "2026-11-22T09:30:01Z",
        "finished_at": "2026-11-22T09:30:03.500000Z",
        "next_sync_at": "2026-11-22T09:35:01Z",
    }
    return usual | changes


def test_a_table_of_syncs(daemon: FakeDaemon, oo: Oo) -> None:
    """The log is a table, newest first; one that still runs has no duration, and one that died says so."""
    lost = run(outcome="lost", detail="the daemon ended before it did", calls=0, pages=0, events=0)
    daemon.runs = [run(outcome="running", finished_at=None, next_sync_at=None, events=0), run(), lost]
    lines = oo("runs", COLUMNS="140").output.splitlines()
    assert lines[0].split() == ["Started", "(UTC)", "Connection", "Outcome", "Seconds", "Calls", "Pages", "Events", "Detail"]
    assert lines[1].split() == ["2026-11-22", "09:30:01", "c-7f3a", "running", "3", "2", "0"]
    assert lines[2].split() == ["2026-11-22", "09:30:01", "c-7f3a", "done", "2.5", "3", "2", "1", "234"]
    assert lines[3].endswith("the daemon ended before it did")


def test_of_one_connection_as_json(daemon: FakeDaemon, oo: Oo) -> None:
    """One connection's are asked of the daemon; --json gives the API's words."""
    daemon.runs = [run(), run(connection="c-8")]
    assert json.loads(oo("runs", "c-8", "--limit", "5", "--json").stdout) == {"runs": [run(connection="c-8")]}
    assert daemon.asked("GET /v1/runs")[0].query == {"connection": "c-8", "limit": "5"}
    daemon.runs = []
    assert oo("runs").output.startswith("Nothing has been synced yet.")


def test_pause_and_resume(daemon: FakeDaemon, oo: Oo) -> None:
    """A connection is paused and goes on; each says what that means."""
    daemon.connections = [connection()]
    assert oo("connections", "pause", "c-7f3a").output == "Paused. `oo connections resume c-7f3a` lets it go on from where it was.\n"
    assert json.loads(oo("connections", "pause", "c-7f3a", "--json").stdout)["state"] == "paused"
    assert oo("connections", "resume", "c-7f3a").output == "It goes on, and is synced now.\n"
