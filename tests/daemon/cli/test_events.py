"""`oo events`."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import pytest
from client.fake_daemon import FakeDaemon, event
from daemon.cli.conftest import Oo

from oo_daemon.cli.events import title


def test_a_table(daemon: FakeDaemon, oo: Oo) -> None:
    """Events are an aligned table with the time, what happened to what, and its title, shortened to the terminal."""
    long = "A title that does not fit into what is left of a line of one hundred characters"
    daemon.events = [
        event(1),
        event(2, change="deleted", payload=None, occurred_at=None),
        event(3, payload={"@type": "type.googleapis.com/oo.vocabulary.v1.Task", "title": long}),
    ]
    result = oo("events")
    assert (
        result.output
        == """\
Time (UTC)           Type                Change    Subject           Title
2026-11-22 09:30:00  todoist.task        upserted  6X7rM8997g3RQm01  Buy milk
2026-11-22 09:45:00  todoist.task        deleted   6X7rM8997g3RQm02
2026-11-22 09:30:00  todoist.task        upserted  6X7rM8997g3RQm03  A title that does not fit into…
"""
    )
    assert all(len(line) <= 100 for line in result.output.splitlines())


def test_none(daemon: FakeDaemon, oo: Oo) -> None:
    """An empty outbox says how events come into it; for programs it is just empty."""
    assert oo("events").output.startswith("No events. They appear here when a connection has been synced")
    assert oo("events", "--json").output == ""


def test_a_limit_says_where_to_go_on(daemon: FakeDaemon, oo: Oo) -> None:
    """A limit ends the reading, and says the position after which there is more."""
    daemon.events = [event(number) for number in range(1, 6)]
    result = oo("events", "--limit", "2", "--after", "1-1", "--json")
    assert [json.loads(line)["position"] for line in result.stdout.splitlines()] == ["1-2", "1-3"]
    assert oo("events", "--limit", "2").stderr == "There are more: go on with `--after 1-2`.\n"
    assert oo("events", "--limit", "5").stderr == ""
    assert len(oo("events", "--limit", "3", "--quiet").output.splitlines()) == 3


def test_what_is_gone_is_said(daemon: FakeDaemon, oo: Oo) -> None:
    """Whoever reads a stretch of which something was erased or has expired is told so, beside the table; programs have it in the page."""
    page = {"events": [event(4)], "position": "1-4", "more": False, "missing": 3}
    daemon.instead = [(200, json.dumps(page).encode(), {"Content-Type": "application/json"})] * 3
    result = oo("events")
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr == "3 of the positions here have no event any more: erased or expired.\n"
    assert oo("events", "--json").stderr == oo("events", "--quiet").stderr == ""


def test_a_screenful(daemon: FakeDaemon, oo: Oo) -> None:
    """Without a limit a hundred are shown, so that a long outbox does not flood the terminal."""
    daemon.events = [event(number) for number in range(1, 121)]
    result = oo("events")
    assert len(result.stdout.splitlines()) == 101
    assert result.stderr == "There are more: go on with `--after 1-100`.\n"


def test_a_big_limit_reads_pages(daemon: FakeDaemon, oo: Oo, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a page is read page by page, with one header."""
    monkeypatch.setattr(import_module("oo_daemon.cli.events"), "PAGE", 5)
    daemon.events = [event(number) for number in range(1, 13)]
    result = oo("events", "--limit", "11")
    assert len(result.stdout.splitlines()) == 12
    assert result.stdout.count("Subject") == 1
    assert result.stderr == "There are more: go on with `--after 1-11`.\n"


def test_json_lines_are_what_the_api_says(daemon: FakeDaemon, oo: Oo) -> None:
    """Each line is one event with the API's members."""
    daemon.events = [event(1), event(2, payload=None, order=3)]
    assert list(map(json.loads, oo("events", "--json").stdout.splitlines())) == daemon.events


def test_filters(daemon: FakeDaemon, oo: Oo) -> None:
    """The filters are asked of the daemon."""
    daemon.events = [event(1), event(2, type="todoist.project")]
    result = oo("events", "--user", "ada", "--provider", "todoist", "--type", "todoist.project", "--json")
    assert json.loads(result.stdout)["position"] == "1-2"
    asked = daemon.asked("GET /v1/events")[0].query
    assert (asked["user"], asked["provider"], asked["type"]) == ("ada", "todoist", "todoist.project")


def test_follow_with_a_limit(daemon: FakeDaemon, oo: Oo) -> None:
    """A follower with a limit ends by itself and has nothing to add."""
    daemon.events = [event(1), event(2), event(3)]
    result = oo("events", "--follow", "--limit", "2")
    assert (result.exit_code, result.stderr, len(result.stdout.splitlines())) == (0, "", 3)


@pytest.mark.parametrize(
    ("after", "says"), [("x", "This is no position. Use one that an answer gave."), ("1-9", "This position is ahead of the log.")]
)
def test_positions(daemon: FakeDaemon, oo: Oo, after: str, says: str) -> None:
    """A position that the daemon refuses is an error with its remedy."""
    result = oo("events", "--after", after)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {says}")


def test_a_title_cannot_command_the_terminal(daemon: FakeDaemon, oo: Oo) -> None:
    """Control characters, line breaks and reversed text in what a person wrote elsewhere stay harmless."""
    daemon.events = [event(1, payload={"@type": "x", "title": "a\x1b]0;evil\x07\nb\u202ec\x9b31m[red]d[/red]"})]
    output = oo("events").output
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(output)
    assert len(output.splitlines()) == 2
    assert "[red]d[/red]" in output


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (None, ""),
        ({}, ""),
        ({"title": "Buy milk", "completed": True}, "Buy milk (done)"),
        ({"title": "Buy milk", "completed": False}, "Buy milk"),
        ({"title": "Dentist", "cancelled": True}, "Dentist (cancelled)"),
        ({"title": 3}, ""),
        ({"kind": "HeartRate", "value": 61.5, "unit": "count/min"}, "HeartRate 61.5 count/min"),
        ({"kind": "Steps", "value": 12}, "Steps 12"),
        ({"kind": "Sleep", "category": "Asleep"}, "Sleep Asleep"),
        ({"kind": "Running", "durationSeconds": 1800.0}, "Running, 30 min"),
        ({"kind": "Stood"}, "Stood"),
        ({"fields": {"title": "Push"}}, "Push"),
        ({"fields": {"action": "opened", "number": 3, "deep": {}}}, "action: opened, number: 3"),
    ],
)
def test_titles(payload: dict[str, Any] | None, says: str) -> None:
    """Every message of the vocabulary has a short readable title, and anything else has none."""
    assert title(payload) == says
