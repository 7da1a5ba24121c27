"""`oo connect`."""

from __future__ import annotations

import json

import pytest
from client.fake_daemon import FakeDaemon, reached
from daemon.cli.conftest import Oo

LINK = "http://127.0.0.1:8710/connect/one-use"


def test_connected(daemon: FakeDaemon, oo: Oo) -> None:
    """The link is shown at once, and the command ends when the person has signed in."""
    daemon.progress = [reached("open"), reached("begun"), reached("connected")]
    result = oo("connect", "todoist", "--user", "ada")
    assert (
        result.output
        == f"""\
Open this link to connect todoist for ada; it works until 2026-11-22 09:45:00 UTC:

  {LINK}

Connected: c-7f3a
"""
    )
    assert result.exit_code == 0
    assert daemon.asked("POST /v1/connect-sessions")[0].body == {"provider": "todoist", "user": "ada", "account": "default"}
    assert all(it.query["wait"] == "25" for it in daemon.asked("GET /v1/connect-sessions/{id}"))


def test_write(daemon: FakeDaemon, oo: Oo) -> None:
    """With --write the person is asked to allow changes, too, and so again where it did not succeed."""
    daemon.progress = [reached("denied")]
    result = oo("connect", "todoist", "--user", "ada", "--write")
    assert daemon.asked("POST /v1/connect-sessions")[0].body["write"] is True
    assert "make a new link with `oo connect todoist --user ada --write`" in result.stderr


def test_no_wait(daemon: FakeDaemon, oo: Oo) -> None:
    """With --no-wait the link is all, and with --quiet nothing is around it."""
    result = oo("connect", "todoist", "--user", "ada", "--account", "work", "--registration", "r1", "--no-wait", "--quiet")
    assert (result.exit_code, result.output) == (0, f"{LINK}\n")
    assert daemon.asked("GET /v1/connect-sessions/{id}") == []
    assert daemon.asked("POST /v1/connect-sessions")[0].body["registration"] == "r1"


@pytest.mark.parametrize(
    ("ended", "says"),
    [
        (reached("denied"), "the sign-in of ada at todoist was refused at the provider: make a new link with"),
        (reached("expired"), "the sign-in of ada at todoist did not happen in time: make a new link with"),
        (reached("failed", reason="It is another account."), "the sign-in of ada at todoist failed (It is another account): make"),
    ],
)
def test_not_connected(daemon: FakeDaemon, oo: Oo, ended: dict[str, str], says: str) -> None:
    """Each other end is exit code 1, with the reason and the command that helps."""
    daemon.progress = [ended]
    result = oo("connect", "todoist", "--user", "ada", "--account", "at work", "--quiet")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {says}")
    assert result.stderr.endswith("`oo connect todoist --user ada --account 'at work'`\n")


def test_json(daemon: FakeDaemon, oo: Oo) -> None:
    """With --json there is a line for the link and one for the end, also for a bad one."""
    daemon.progress = [reached("denied")]
    result = oo("connect", "todoist", "--user", "ada", "--json")
    link, end = map(json.loads, result.stdout.splitlines())
    assert link == {"id": "s-1", "url": LINK, "expires_at": "2026-11-22T09:45:00Z"}
    assert end == reached("denied")
    assert result.exit_code == 1


def test_a_code_in_place_of_a_link(daemon: FakeDaemon, oo: Oo) -> None:
    """With --device the code and its address are shown, and whoever runs it says whether it is the right account."""
    daemon.progress = [reached("begun"), reached("pending", label="ada@example.org"), reached("connected")]
    result = oo("connect", "todoist", "--user", "ada", "--device", input="y\n")
    for words in ("https://todoist.example/device", "enter this code there: 123-456", "Connected: c-7f3a"):
        assert words in result.stdout
    assert "Signed in as ada@example.org. Is that the right account for ada?" in result.stderr
    assert daemon.asked("POST /v1/connect-sessions")[0].body["device"] is True
    assert daemon.asked("POST /v1/connect-sessions/{id}/answer")[0].body == {"right": True}
    daemon.progress = [reached("pending"), reached("denied")]
    result = oo("connect", "todoist", "--user", "ada", "--device", "--quiet", input="n\n")
    assert (result.exit_code, result.stdout.splitlines()) == (1, ["123-456", "https://todoist.example/device"])
    assert daemon.asked("POST /v1/connect-sessions/{id}/answer")[1].body == {"right": False}
    daemon.progress = [reached("pending"), reached("connected")]
    code, end = map(json.loads, oo("connect", "todoist", "--user", "ada", "--device", "--yes", "--json").stdout.splitlines())
    assert (code["user_code"], end["status"]) == ("123-456", "connected")
    assert oo("connect", "todoist", "--user", "ada", "--yes").exit_code == 2


def test_unknown_provider(daemon: FakeDaemon, oo: Oo) -> None:
    """The daemon's refusal is shown with its remedy."""
    result = oo("connect", "nowhere", "--user", "ada")
    assert (result.exit_code, result.stderr) == (1, "Error: No connector is called nowhere. See `oo plugins`.\n")


def test_a_user_is_needed(oo: Oo) -> None:
    """Without --user the command line makes no sense."""
    assert oo("connect", "todoist").exit_code == 2
