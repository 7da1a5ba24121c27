"""`oo connections`."""

from __future__ import annotations

import json

from client.fake_daemon import FakeDaemon, connection, details
from daemon.cli.conftest import Oo
from daemon.cli.test_runs import run


def test_a_table(daemon: FakeDaemon, oo: Oo) -> None:
    """Connections are an aligned table: numbers to the right, states in words, nothing longer than the terminal."""
    daemon.connections = [
        connection(),
        connection(id="c-19", user="grace", label="", account="work", state="needs_sign_in", last_sync=None),
        connection(id="c-20", user="somebody-whose-name-is-very-long-indeed", label="a-long-address@mail.example.com", state="paused"),
    ]
    result = oo("connections")
    assert (
        result.output
        == """\
Connection  User          Provider  Account       State          Last sync (UTC)      Outcome  Events
c-7f3a      ada           todoist   ada@example…  active         2026-11-22 09:30:01  done      1 234
c-19        grace         todoist   work          needs sign in
c-20        somebody-wh…  todoist   a-long-addr…  paused         2026-11-22 09:30:01  done      1 234
""".replace("1 234", "1\u2009234")
    )
    assert result.exit_code == 0


def test_filters(daemon: FakeDaemon, oo: Oo) -> None:
    """The filters are asked of the daemon, and an empty answer to them says so."""
    daemon.connections = [connection()]
    assert oo("connections", "--user", "grace", "--provider", "todoist").output == "No connection matches.\n"
    assert daemon.asked("GET /v1/connections")[0].query == {"user": "grace", "provider": "todoist"}


def test_none_yet(daemon: FakeDaemon, oo: Oo) -> None:
    """An empty list says how something comes into it."""
    assert oo("connections").output == ("Nobody has connected anything yet. `oo connect PROVIDER --user USER` makes a link for it.\n")


def test_json_is_what_the_api_says(daemon: FakeDaemon, oo: Oo) -> None:
    """--json gives the API's members and words, for the list and for one."""
    daemon.connections = [connection()]
    said = json.loads(oo("connections", "--json").stdout)
    assert said == {"connections": [connection()]} | {
        "connections": [connection() | {"last_sync": {**connection()["last_sync"], "finished_at": "2026-11-22T09:30:01.500000Z"}}]
    }
    assert json.loads(oo("connections", "show", "c-7f3a", "--json").stdout) == {**said["connections"][0], "details": details()}


def test_show(daemon: FakeDaemon, oo: Oo) -> None:
    """One connection is shown with its cursor, and without the fields that have nothing to say."""
    daemon.connections = [connection()]
    assert (
        oo("connections", "show", "c-7f3a").output
        == """\
Connection    c-7f3a
User          ada
Provider      todoist
Account       default (ada@example.com)
State         active
Granted       data:read
Not granted   data:read_write
Connected     2026-11-01 08:00:00 UTC
Last sync     2026-11-22 09:30:01 UTC
Outcome       done
Events        1 234 events
Timetable     as often as all
Next sync     2026-11-22 09:45:00 UTC
Calls left    241 of 250 at once for this person (1000 in 900 s)
Pushes        items, standing until 2026-11-22 09:45:00 UTC
Cursor        {"sync_token":"abc"}
Cursor since  2026-11-22 09:30:00 UTC
""".replace("1 234", "1\u2009234")
    )


def test_show_what_was_never_synced(daemon: FakeDaemon, oo: Oo) -> None:
    """A connection without a sync, a label or a plan says so in words."""
    daemon.connections = [
        connection(label="", last_sync=None, next_sync_at=None, state="needs_sign_in", reason="The grant is gone.", meta={"cursor": None})
    ]
    output = oo("connections", "show", "c-7f3a").output
    assert "State         needs sign in\nReason        The grant is gone.\n" in output
    assert "To do         oo connect todoist --user ada makes a link for its owner\n" in output
    assert "Last sync     none yet\nTimetable     as often as all\nNext sync     none planned\n" in output


def test_show_nothing(daemon: FakeDaemon, oo: Oo) -> None:
    """What does not exist is an error with the daemon's own remedy."""
    result = oo("connections", "show", "c-0")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "Error: There is no such connection. See `oo connections`.\n")


def test_where_a_credential_was_used(daemon: FakeDaemon, oo: Oo) -> None:
    """Hour by hour and host by host; --json gives the API's members; nothing is a sentence."""
    daemon.uses = [{"hour": "2026-11-22T09:00:00Z", "host": "api.todoist.com", "uses": 1234}]
    lines = oo("connections", "uses", "c-7f3a").output.splitlines()
    assert [line.split() for line in lines] == [
        ["Hour", "from", "(UTC)", "Host", "Uses"],
        ["2026-11-22", "09:00:00", "api.todoist.com", "1", "234"],
    ]
    assert json.loads(oo("connections", "uses", "c-7f3a", "--days", "1", "--json").stdout) == {"uses": daemon.uses}
    assert [each.query for each in daemon.asked("GET /v1/connections/{id}/uses")] == [{"days": "7"}, {"days": "1"}]
    daemon.uses = []
    assert oo("connections", "uses", "c-7f3a").output == "It was not used in that time.\n"


def test_a_timetable_is_given_and_taken(daemon: FakeDaemon, oo: Oo) -> None:
    """Minutes, or a cron expression in a zone, or as often as all; anything else is a question of usage."""
    daemon.connections = [connection()]
    assert oo("connections", "timetable", "c-7f3a", "--every", "15").output.startswith("It is synced every 15 minutes, next at ")
    assert oo("connections", "timetable", "c-7f3a", "--cron", "30 6 * * mon-fri", "--zone", "Europe/Berlin").output.startswith(
        "It is synced at 30 6 * * mon-fri (Europe/Berlin), next at "
    )
    assert "Timetable     at 30 6 * * mon-fri (Europe/Berlin)" in oo("connections", "show", "c-7f3a").output
    assert oo("connections", "timetable", "c-7f3a", "--default").output.startswith("It is synced as often as all")
    put, cron = daemon.asked("PUT /v1/connections/{id}/timetable")
    assert put.body == {"every": 900.0}
    assert cron.body == {"cron": "30 6 * * mon-fri", "zone": "Europe/Berlin"}
    assert len(daemon.asked("DELETE /v1/connections/{id}/timetable")) == 1
    for wrong in ([], ["--every", "15", "--default"], ["--every", "15", "--zone", "UTC"], ["--every", "0"]):
        assert oo("connections", "timetable", "c-7f3a", *wrong).exit_code == 2


def test_show_its_last_syncs(daemon: FakeDaemon, oo: Oo) -> None:
    """What went on of late stands below, with how to see more."""
    daemon.connections = [connection()]
    daemon.runs = [run(), run(outcome="later", detail="the provider asks us to come back later", events=0)]
    shown = oo("connections", "show", "c-7f3a")
    assert "Last syncs (UTC)" in shown.output
    assert "the provider asks us to come back later" in shown.output
    assert "`oo runs c-7f3a` lists more of them." in shown.stderr
