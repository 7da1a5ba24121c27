"""`oo act`."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
from client.fake_daemon import FakeDaemon, action, action_kind, connection, plugin
from daemon.cli.conftest import Oo


def test_done(daemon: FakeDaemon, oo: Oo) -> None:
    """An action is waited for, with its arguments as they were given."""
    daemon.actions = [action()]
    result = oo("act", "c-7f3a", "complete_task", "id=6X7=", "--key", "k-1")
    assert (result.exit_code, result.output) == (0, "Done: complete_task (6X7rM8997g3RQmvh).\n")
    (asked,) = daemon.asked("POST /v1/actions")
    assert asked.body == {"connection": "c-7f3a", "name": "complete_task", "arguments": {"id": "6X7="}, "key": "k-1"}
    assert asked.query == {"wait": "25"}
    assert oo("act", "c-7f3a", "complete_task", "id=6X7", "--quiet").output == ""
    assert json.loads(oo("act", "c-7f3a", "complete_task", "id=6X7", "--json").stdout) == action()


def test_waited_for(daemon: FakeDaemon, oo: Oo) -> None:
    """An action that takes longer is asked about, not asked for again."""
    daemon.actions = [action("queued", reason="down"), action("queued", reason="down"), action()]
    assert oo("act", "c-7f3a", "complete_task").exit_code == 0
    assert len(daemon.asked("POST /v1/actions")) == 1
    assert len(daemon.asked("GET /v1/actions/{id}")) == 2


def test_not_waited_for(daemon: FakeDaemon, oo: Oo) -> None:
    """With --no-wait the key by which one can ask again is told."""
    daemon.actions = [action("queued")]
    result = oo("act", "c-7f3a", "complete_task", "--no-wait")
    assert (result.exit_code, result.output) == (0, "Taken: complete_task, with the key k-1.\n")
    assert daemon.asked("POST /v1/actions")[0].query == {}


def test_not_done(daemon: FakeDaemon, oo: Oo, monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed and what still waits end with 1, a sentence and what helps; an unknown action with the daemon's words."""
    daemon.actions = [action("failed", reason="Todoist does not know the task.")]
    result = oo("act", "c-7f3a", "complete_task")
    assert result.exit_code == 1
    assert "complete_task was not done (Todoist does not know the task): correct that" in result.stderr
    monkeypatch.setattr(import_module("oo_daemon.cli.act"), "PATIENCE", 0)
    daemon.actions = [action("queued", reason="the provider answered 500")]
    result = oo("act", "c-7f3a", "complete_task")
    assert result.exit_code == 1
    assert "not done yet (the provider answered 500): the daemon goes on trying; ask again with --key k-1" in result.stderr
    result = oo("act", "c-7f3a", "nothing")
    assert result.exit_code == 1
    assert "There are complete_task, add_task." in result.stderr


def test_arguments_in_json(daemon: FakeDaemon, oo: Oo, tmp_path: Path) -> None:
    """Arguments that are no text come from a file or standard input, together with those on the command line."""
    daemon.actions = [action()]
    (tmp_path / "args.json").write_text('{"labels": ["a", "b"]}')
    oo("act", "c-7f3a", "add_task", "title=Buy bread", "--json-args", str(tmp_path / "args.json"))
    oo("act", "c-7f3a", "add_task", "--json-args", "-", input='{"stars": 4}')
    assert [it.body["arguments"] for it in daemon.asked("POST /v1/actions")] == [
        {"labels": ["a", "b"], "title": "Buy bread"},
        {"stars": 4},
    ]


@pytest.mark.parametrize(
    ("arguments", "given", "code", "says"),
    [
        ((), None, 2, "--list"),
        (("add_task", "--list"), None, 2, "--list"),
        (("add_task", "title"), None, 2, "ARG=VALUE"),
        (("add_task", "=x"), None, 2, "ARG=VALUE"),
        (("add_task", "title=a", "title=b"), None, 2, "given twice"),
        (("add_task", "title=a", "--json-args", "-"), '{"title": "b"}', 2, "given twice"),
        (("add_task", "--json-args", "-"), "[1]", 1, "no JSON object"),
        (("add_task", "--json-args", "-"), "{", 1, "no JSON object"),
        (("add_task", "--json-args", "/nowhere"), None, 1, "No such file"),
    ],
)
def test_what_makes_no_sense(daemon: FakeDaemon, oo: Oo, arguments: tuple[str, ...], given: str | None, code: int, says: str) -> None:
    """A command line that makes no sense is refused before anything is asked for."""
    result = oo("act", "c-7f3a", *arguments, input=given)
    assert (result.exit_code, says in result.stderr) == (code, True)
    assert daemon.exchanges == []


def test_what_can_be_done(daemon: FakeDaemon, oo: Oo) -> None:
    """--list shows each action with its sentence, its arguments and whether it is allowed, and how to allow it."""
    daemon.connections = [connection()]
    daemon.plugins = [
        plugin(id="acme", actions=[action_kind(name="other")]),
        plugin(actions=[action_kind(), action_kind(name="x", scope="")]),
    ]
    result = oo("act", "c-7f3a", "--list")
    assert (
        result.stdout
        == """\
Action         What it does      Takes      Allowed
complete_task  Complete a task.  id [note]  no
x              Complete a task.  id [note]  yes
"""
    )
    assert "oo connect PROVIDER --user USER --write" in result.stderr
    daemon.connections = [connection(scopes=["data:read_write"])]
    assert oo("act", "c-7f3a", "--list").stderr == ""
    assert json.loads(oo("act", "c-7f3a", "--list", "--json").stdout) == {"actions": [action_kind(), action_kind(name="x", scope="")]}
    daemon.plugins = []
    assert oo("act", "c-7f3a", "--list").output == "Nothing can be changed through this connection.\n"
