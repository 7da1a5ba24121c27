"""`oo connections reap`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from client.fake_daemon import FakeDaemon, connection, revocation
from daemon.cli.conftest import Oo


def waits(id_: str, days: float, **changes: Any) -> dict[str, Any]:
    """A connection that has waited so long for its owner."""
    then = (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    synced = {"started_at": then, "finished_at": then, "outcome": "signed_out", "detail": "", "events": 0}
    return connection(id=id_, **{"state": "needs_sign_in", "reason": "invalid_grant", "last_sync": synced, **changes})


@pytest.fixture
def waiting(daemon: FakeDaemon) -> FakeDaemon:
    """Two that have waited long, and others."""
    daemon.connections = [
        waits("c-1", 91),
        waits("c-2", 89),
        waits("c-3", 200, last_sync=None, created_at=(datetime.now(UTC) - timedelta(days=200)).strftime("%Y-%m-%dT%H:%M:%SZ")),
        waits("c-4", 400, state="paused"),
        connection(id="c-5"),
    ]
    daemon.disconnected = [
        connection(state="revoking", revocation=revocation("pending")),
        connection(state="disconnected", revocation=revocation()),
    ]
    return daemon


def test_a_dry_run_changes_nothing(waiting: FakeDaemon, oo: Oo) -> None:
    """It shows which they are, and since when they wait."""
    result = oo("connections", "reap", "--dry-run")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["Connection", "c-1", "c-3"]
    assert "Without --dry-run 2 connections would be disconnected." in result.stderr
    assert [each["id"] for each in json.loads(oo("connections", "reap", "--dry-run", "--json").stdout)["connections"]] == ["c-1", "c-3"]
    assert waiting.asked("DELETE /v1/connections/{id}") == []


def test_those_that_waited_are_disconnected(waiting: FakeDaemon, oo: Oo) -> None:
    """And no other: neither one that is paused nor one whose owner may still come."""
    result = oo("connections", "reap", "--yes")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == "Disconnected 2 connections; oO goes on telling 1 provider for a day."
    assert [each.path for each in waiting.asked("DELETE /v1/connections/{id}")] == ["/v1/connections/c-1", "/v1/connections/c-3"]


def test_not_unasked(waiting: FakeDaemon, oo: Oo) -> None:
    """Without a terminal to ask at, nothing is done unless --yes says so."""
    result = oo("connections", "reap", "--days", "30", input="y\n")
    assert result.exit_code == 2
    assert "--dry-run" in result.stderr
    assert waiting.asked("DELETE /v1/connections/{id}") == []


def test_nobody_waits(daemon: FakeDaemon, oo: Oo) -> None:
    """That is said, and is no failure; the provider is asked of the daemon."""
    daemon.connections = [waits("c-2", 89)]
    result = oo("connections", "reap", "--yes", "--provider", "todoist")
    assert (result.exit_code, result.stdout) == (0, "No connection has waited for its owner for 90 days.\n")
    assert daemon.asked("GET /v1/connections")[0].query == {"provider": "todoist"}
    assert json.loads(oo("connections", "reap", "--yes", "--json").stdout) == {"connections": []}
