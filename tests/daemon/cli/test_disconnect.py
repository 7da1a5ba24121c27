"""`oo disconnect`."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Callable
from importlib import import_module

import pytest
from client.fake_daemon import FakeDaemon, connection, revocation
from daemon.cli.conftest import Oo

MANUAL = "https://app.todoist.com/app/settings/integrations"


def test_done(daemon: FakeDaemon, oo: Oo) -> None:
    """It is waited for; what became of the grant is shown, with what is left to be done by hand."""
    partly = revocation("partly", remains="The refresh token lives on.", manual_url=MANUAL)
    daemon.disconnected = [
        connection(state="revoking", revocation=revocation("pending")),
        connection(state="disconnected", revocation=partly),
    ]
    result = oo("disconnect", "c-7f3a", "--yes")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (
        result.stdout
        == f"""\
Disconnected. The credential is erased; events that were written stay.
Revoked  partly, 2026-11-22 09:30:02 UTC
Remains  The refresh token lives on.
By hand  {MANUAL}
"""
    )
    assert len(daemon.asked("DELETE /v1/connections/{id}")) == 2
    assert oo("disconnect", "c-7f3a", "--yes", "--quiet").output == ""
    assert json.loads(oo("disconnect", "c-7f3a", "--yes", "--json").stdout)["revocation"] == partly


def test_a_provider_that_could_not_be_told(daemon: FakeDaemon, oo: Oo) -> None:
    """That is said, with the reason, and is no failure of disconnecting."""
    daemon.disconnected = [connection(state="disconnected", revocation=revocation("failed", reason="no answer", manual_url=MANUAL))]
    result = oo("disconnect", "c-7f3a", "--yes")
    assert result.exit_code == 0
    assert "no: the provider could not be told (no answer), 2026-11-22 09:30:02 UTC" in result.stdout


def test_not_yet(daemon: FakeDaemon, oo: Oo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that is down is left to the daemon after a while."""
    monkeypatch.setattr(import_module("oo_daemon.cli.disconnect"), "PATIENCE", 0)
    daemon.disconnected = [connection(state="revoking", revocation=revocation("pending", reason="the provider answered 500"))]
    result = oo("disconnect", "c-7f3a", "--yes")
    assert result.exit_code == 1
    assert "todoist has not been told yet (the provider answered 500): oO reads nothing more" in result.stderr


def test_not_unasked(daemon: FakeDaemon, oo: Oo) -> None:
    """Without a terminal to ask at, nothing is done unless --yes says so."""
    daemon.connections = [connection()]
    result = oo("disconnect", "c-7f3a", input="y\n")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert daemon.asked("DELETE /v1/connections/{id}") == []


@pytest.mark.parametrize(("answer", "code", "asked"), [(b"n\n", 130, 0), (b"y\n", 0, 1)])
def test_asked_first(daemon: FakeDaemon, start: Callable[..., subprocess.Popen[bytes]], answer: bytes, code: int, asked: int) -> None:
    """At a terminal it says what will be gone, and does it only after a yes."""
    daemon.connections = [connection()]
    daemon.disconnected = [connection(state="disconnected", revocation=revocation())]
    keyboard, terminal = pty.openpty()
    try:
        process = start("disconnect", "c-7f3a", stdin=terminal)
        os.write(keyboard, answer)
        _, words = process.communicate(timeout=20)
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert process.returncode == code
    assert b"This disconnects ada's todoist (ada@example.com)" in words
    assert len(daemon.asked("DELETE /v1/connections/{id}")) == asked


def test_shown_later(daemon: FakeDaemon, oo: Oo) -> None:
    """`oo connections show` says what became of the grant."""
    daemon.connections = [connection(state="disconnected", revocation=revocation("unsupported", remains="All of it.", manual_url=MANUAL))]
    shown = oo("connections", "show", "c-7f3a").output
    assert "no: the provider has no way to, 2026-11-22 09:30:02 UTC" in shown
    assert "All of it." in shown
    assert MANUAL in shown
