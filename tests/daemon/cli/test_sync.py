"""`oo sync`."""

from __future__ import annotations

import json
from importlib import import_module

import pytest
from client.fake_daemon import FakeDaemon, connection, sync
from daemon.cli.conftest import Oo


def test_one(daemon: FakeDaemon, oo: Oo) -> None:
    """A sync is waited for, and its events are counted."""
    daemon.connections = [connection()]
    daemon.syncs["c-7f3a"] = [sync(events=1), sync(detail="there is more: the sync goes on soon")]
    result = oo("sync", "c-7f3a")
    assert (result.exit_code, result.output) == (0, "Done: 1 event.\n")
    assert [it.query for it in daemon.asked("POST /v1/connections/{id}/sync")] == [{"wait": "25"}]
    assert oo("sync", "c-7f3a").output == "Done: 12 events (there is more: the sync goes on soon).\n"
    assert oo("sync", "c-7f3a", "--quiet").output == ""


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (sync("later", detail="The provider asks us to wait."), "goes on later (The provider asks us to wait): the daemon does it"),
        (sync("failed", detail="no JSON"), "failed (no JSON): the daemon tries again by itself; see `oo connections show c-7f3a`"),
        (sync("signed_out"), "ada must sign in at todoist again: make a link with `oo connect todoist --user ada`"),
        (sync("running"), "the sync of c-7f3a still runs: see `oo connections show c-7f3a`"),
    ],
)
def test_not_done(daemon: FakeDaemon, oo: Oo, monkeypatch: pytest.MonkeyPatch, run: dict[str, str], says: str) -> None:
    """Every other outcome is exit code 1 with a sentence and what helps; one that never ends is left alone in the end."""
    monkeypatch.setattr(import_module("oo_daemon.cli.sync"), "PATIENCE", 0)
    daemon.connections = [connection()]
    daemon.syncs["c-7f3a"] = [run]
    result = oo("sync", "c-7f3a")
    assert result.exit_code == 1
    assert says in result.stderr
    assert result.stdout == ""


def test_json(daemon: FakeDaemon, oo: Oo) -> None:
    """--json gives the API's answer, also when the sync failed."""
    daemon.connections = [connection()]
    daemon.syncs["c-7f3a"] = [sync("failed", detail="no JSON")]
    result = oo("sync", "c-7f3a", "--json")
    assert json.loads(result.stdout) == sync("failed", detail="no JSON")
    assert result.exit_code == 1


def test_all(daemon: FakeDaemon, oo: Oo) -> None:
    """All active connections are synced; what is left out is said, and one failure makes the exit code 1."""
    daemon.connections = [connection(), connection(id="c-2", user="grace"), connection(id="c-3", state="paused")]
    daemon.syncs = {"c-7f3a": [sync()], "c-2": [sync("failed", events=0, detail="no JSON")], "c-3": [sync()]}
    result = oo("sync", "--all")
    assert (
        result.stdout
        == """\
Connection  User   Provider  Outcome  Events  Detail
c-7f3a      ada    todoist   done         12
c-2         grace  todoist   failed        0  no JSON
"""
    )
    assert "Left out because not active: 1 connection.\n" in result.stderr
    assert "Error: 1 of 2 syncs did not come to its end: see `oo connections show ID`\n" in result.stderr
    assert result.exit_code == 1
    assert not [it for it in daemon.asked("POST /v1/connections/{id}/sync") if "c-3" in it.path]


def test_all_json(daemon: FakeDaemon, oo: Oo) -> None:
    """--all --json gives one object with each outcome and its connection."""
    daemon.connections = [connection()]
    daemon.syncs["c-7f3a"] = [sync()]
    result = oo("sync", "--all", "--json")
    assert json.loads(result.stdout) == {"syncs": [{"connection": "c-7f3a", **sync()}]}
    assert result.exit_code == 0


def test_all_of_nothing(daemon: FakeDaemon, oo: Oo) -> None:
    """Where nothing is connected, the command says how that is done."""
    result = oo("sync", "--all")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("There is no active connection to sync.")


@pytest.mark.parametrize("arguments", [(), ("c-7f3a", "--all")])
def test_one_or_all(oo: Oo, arguments: tuple[str, ...]) -> None:
    """A connection or --all: neither and both make no sense."""
    result = oo("sync", *arguments)
    assert result.exit_code == 2
    assert "Name a connection, or say --all" in result.stderr


def test_unknown(daemon: FakeDaemon, oo: Oo) -> None:
    """A connection that does not exist is the daemon's refusal."""
    assert oo("sync", "c-0").exit_code == 1
