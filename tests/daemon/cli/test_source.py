"""`oo source`."""

from __future__ import annotations

import json
from pathlib import Path

from client.fake_daemon import FakeDaemon, source
from daemon.cli.conftest import Oo


def test_add(daemon: FakeDaemon, oo: Oo) -> None:
    """The address and the secret are shown, each on a line of its own, to be copied."""
    shown = oo("source", "add", "hooks", "--user", "ada", "--scheme", "github")
    assert (
        shown.output
        == """\
Source hooks is made. Have its sender post to this address:

  http://127.0.0.1:9/webhooks/token

Its sender is to use this secret, which is not shown again:

  made-secret
"""
    )
    (asked,) = daemon.asked("POST /v1/sources")
    assert asked.body == {"id": "hooks", "user": "ada", "scheme": "github", "provider": "webhook", "changes": {}, "options": {}}


def test_add_with_everything(daemon: FakeDaemon, oo: Oo, tmp_path: Path) -> None:
    """Fields of the scheme, expressions and the sender's secret go to the daemon; the secret is not told again."""
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    said = (
        "--set",
        "header=X-Sign",
        "--set",
        "stamp.header=X-Time",
        "--set",
        "keep=X-A,X-B",
        "--type",
        "body.kind",
        "--field",
        "a=body.b=1",
    )
    shown = oo("source", "add", "bell", "--user", "ada", "--scheme", "hmac", "--secret-file", str(file), *said)
    assert shown.exit_code == 0, shown.output
    assert "s3cret" not in shown.output
    (asked,) = daemon.asked("POST /v1/sources")
    assert asked.body["changes"] == {"header": "X-Sign", "stamp": {"header": "X-Time"}, "keep": ["X-A", "X-B"]}
    assert asked.body["options"] == {"type": "body.kind", "fields": {"a": "body.b=1"}}
    assert asked.body["secret"] == "s3cret"
    assert oo("source", "add", "x", "--user", "ada", "--set", "header").exit_code == 2
    assert oo("source", "add", "x", "--user", "ada", "--scheme", "odd").exit_code == 1


def test_none_is_said_to_verify_nothing(daemon: FakeDaemon, oo: Oo) -> None:
    """Wherever it is shown."""
    assert "Nothing is verified" in oo("source", "add", "bell", "--user", "ada", "--scheme", "none").output
    assert "none (not verified)" in oo("source", "list", COLUMNS="140").output
    assert "none (not verified)" in oo("source", "show", "bell").output


def test_list(daemon: FakeDaemon, oo: Oo) -> None:
    """A table, with the reasons of those that are closed below it."""
    assert oo("source", "list").output.startswith("There is no source.")
    daemon.sources = [source(), source(id="todoist", provider="todoist", scheme="", state="closed", reason="it is switched off")]
    shown = oo("source", "list", COLUMNS="140").output
    assert "the connector's" in shown
    assert shown.endswith("todoist  it is switched off\n")
    assert json.loads(oo("source", "list", "--json").stdout) == {"sources": daemon.sources}


def test_rotate(daemon: FakeDaemon, oo: Oo) -> None:
    """A secret that is made is shown; how long the old one is taken goes to the daemon."""
    daemon.sources = [source()]
    assert oo("source", "rotate", "hooks", "--keep", "2").output.endswith("  newer-secret\n")
    assert oo("source", "rotate", "hooks", "--next", "--quiet").output == "newer-secret\n"
    assert [each.body for each in daemon.asked("POST /v1/sources/{id}/rotate")] == [
        {"keep": 7200.0, "staged": False},
        {"keep": 86400.0, "staged": True},
    ]
    assert oo("source", "rotate", "nowhere").exit_code == 1


def test_switch(daemon: FakeDaemon, oo: Oo) -> None:
    """Closed and opened again."""
    daemon.sources = [source()]
    assert oo("source", "disable", "hooks").output == "Source hooks is closed.\n"
    assert json.loads(oo("source", "enable", "hooks", "--json").stdout)["state"] == "open"


def test_try(daemon: FakeDaemon, oo: Oo, tmp_path: Path) -> None:
    """What a body would become, with the headers that came with it."""
    daemon.sources = [source()]
    file = tmp_path / "body.json"
    file.write_bytes(b'{"a":1}')
    shown = oo("source", "try", "hooks", str(file), "--header", "X-GitHub-Event: push").output
    assert "todoist.task" in shown
    (asked,) = daemon.asked("POST /v1/sources/{id}/try")
    assert asked.body == {"body": "eyJhIjoxfQ==", "headers": {"X-GitHub-Event": "push"}}
    assert oo("source", "try", "hooks", str(tmp_path / "none")).exit_code == 1
    assert oo("source", "try", "hooks", str(file), "--header", "odd").exit_code == 2


def test_an_address_that_cannot_be_reached(daemon: FakeDaemon, oo: Oo) -> None:
    """A test from here says what to look at."""
    daemon.sources = [source()]
    shown = oo("source", "test", "hooks")
    assert shown.exit_code == 1
    assert "public.url" in shown.output
