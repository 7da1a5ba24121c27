"""`oo proxy`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from client.fake_daemon import FakeDaemon
from daemon.cli.conftest import Oo

URL = "https://api.todoist.com/api/v1/tasks?limit=2&cursor=a%2Fb"


def test_what_the_provider_answers(daemon: FakeDaemon, oo: Oo, tmp_path: Path) -> None:
    """The body as it is, or everything as JSON; the address goes on letter by letter."""
    assert (oo("proxy", "c-7f3a", URL).stdout, oo("proxy", "c-7f3a", URL).exit_code) == ("api.todoist.com/api/v1/tasks", 0)
    asked = daemon.asked("GET /v1/connections/{id}/proxy/{path}")[0]
    assert asked.query == {"limit": "2", "cursor": "a/b"}
    (tmp_path / "body").write_text('{"content": "Milk"}')
    how = ("--method", "POST", "--header", "Content-Type: application/json", "--body", str(tmp_path / "body"), "--json")
    told = json.loads(oo("proxy", "c-7f3a", URL, *how).stdout)
    assert (told["status"], told["headers"]["x-kind"], told["body"]) == (200, "test", "api.todoist.com/api/v1/tasks")
    assert daemon.asked("POST /v1/connections/{id}/proxy/{path}")[0].body == {"content": "Milk"}


def test_what_is_refused(daemon: FakeDaemon, oo: Oo) -> None:
    """A provider's own refusal is written and is exit code 1; ours is a sentence with its remedy."""
    missing = oo("proxy", "c-7f3a", "https://api.todoist.com/missing")
    assert (missing.exit_code, missing.stdout) == (1, "api.todoist.com/missing")
    assert "the provider answered 404" in missing.stderr
    ours = oo("proxy", "c-7f3a", "https://elsewhere.example/x")
    assert (ours.exit_code, ours.stdout) == (1, "")
    assert "Begin it with one of" in ours.stderr


@pytest.mark.parametrize("arguments", [("c-7f3a",), ("c-7f3a", URL, "--header", "oops"), ("c-7f3a", URL, "--method", "TRACE")])
def test_what_makes_no_sense(oo: Oo, arguments: tuple[str, ...]) -> None:
    """A command line without an address, or with what is none."""
    assert oo("proxy", *arguments).exit_code == 2
