"""`oo plugins`."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from client.fake_daemon import FakeDaemon, plugin
from daemon.cli.conftest import Oo

from oo_daemon import registry
from oo_daemon.host import HostClock
from oo_daemon.strikes import Strikes


def test_of_the_daemon(daemon: FakeDaemon, oo: Oo) -> None:
    """The daemon's plugins are a table, with the reason where one is not loaded."""
    daemon.plugins = [
        plugin(),
        plugin(id="acme", title="", distribution="acme-oo", version="2.1", state="disabled", reason='add "acme-oo" to plugins.enabled'),
    ]
    result = oo("plugins")
    assert (
        result.output
        == """\
Plugin   Title    State     Distribution     Version  Reason
todoist  Todoist  loaded    oo-integrations  0.1.0
acme              disabled  acme-oo          2.1      add "acme-oo" to plugins.enabled
"""
    )
    assert json.loads(oo("plugins", "--json").stdout) == {"plugins": daemon.plugins}


def test_sinks_follow_the_plugins(daemon: FakeDaemon, oo: Oo) -> None:
    """Sinks have a table of their own, with the names under which each runs."""
    daemon.plugins = [plugin(sinks=[{"id": "http", "runs": ["billing", "crm"]}, {"id": "file", "runs": []}])]
    *_, blank, head, first, second = oo("plugins").output.splitlines()
    assert (blank, head.split()) == ("", ["Sink", "Runs", "as"])
    assert (first.split(), second.split()[:2]) == (["http", "billing,", "crm"], ["file", "nothing:"])


def test_none(daemon: FakeDaemon, oo: Oo) -> None:
    """An empty list says how one gets there."""
    assert oo("plugins").output.startswith("No plugins are installed.")


def test_without_a_daemon(oo: Oo) -> None:
    """Without a daemon the installed plugins are looked at, in the same shape."""
    result = oo("plugins", "--json")
    found = {it["id"]: it for it in json.loads(result.stdout)["plugins"]}
    assert found["todoist"].keys() == plugin().keys()
    assert found["todoist"]["state"] == "loaded"
    assert found["todoist"]["scopes"][0].keys() == plugin()["scopes"][0].keys()
    assert result.stderr == "No daemon runs; this is what it would find.\n"
    assert oo("plugins", "--quiet").stderr == ""


def test_a_package_that_brings_nothing(oo: Oo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that cannot be loaded is listed under the name of its entry point, with the reason."""
    broken = registry.discover(enabled=["(unknown)"], found=[EntryPoint("acme", "no_such_module", "oo.plugins")])
    monkeypatch.setattr(registry, "discover", lambda **settings: broken)
    (found,) = json.loads(oo("plugins", "--json").stdout)["plugins"]
    assert (found["id"], found["state"], found["scopes"]) == ("acme", "quarantined", [])
    assert "no_such_module" in found["reason"]


def test_before_a_restart(daemon: FakeDaemon, oo: Oo, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--installed` the daemon is not asked: what it would find at its next start is shown, and what is in conflict."""
    monkeypatch.setattr(registry, "all_conflicts", lambda enabled: ["acme-oo needs pluggy<1, and 1.6.0 is installed"])
    daemon.plugins = []
    result = oo("plugins", "--installed", "--json")
    assert "todoist" in {it["id"] for it in json.loads(result.stdout)["plugins"]}
    assert result.stderr == "In conflict: acme-oo needs pluggy<1, and 1.6.0 is installed.\n"


def test_strikes_are_shown_and_forgotten(daemon: FakeDaemon, oo: Oo) -> None:
    """A loaded plugin with strikes says so; the operator releases it by its name, and a name without strikes is an error."""
    daemon.plugins = [plugin(id="acme", name="acme-notes", strikes=2)]
    assert "2 of 3 strikes: it ended the daemon" in oo("plugins").output
    result = oo("plugins", "release", "acme-notes")
    assert result.exit_code == 0
    assert result.output.startswith("The strikes of acme-notes are forgotten.")
    assert "strikes" not in oo("plugins").output
    result = oo("plugins", "release", "acme-notes")
    assert result.exit_code == 1
    assert "No plugin of this name has a strike." in result.stderr


def test_strikes_without_a_daemon(oo: Oo, tmp_path: Path) -> None:
    """Where the daemon does not even start, its plugin is shown as set aside, and released, all the same."""
    strikes = Strikes(tmp_path, HostClock())
    for _ in range(3):
        strikes.give("oo-integrations/todoist", "ended")
    (found,) = [it for it in json.loads(oo("plugins", "--json").stdout)["plugins"] if it["name"] == "todoist"]
    assert (found["id"], found["state"]) == ("todoist", "quarantined")
    assert found["reason"].endswith("`oo plugins release todoist`")
    assert oo("plugins", "release", "--quiet", "todoist").output == ""
    assert "no plugin todoist has a strike: see `oo plugins`" in oo("plugins", "release", "todoist").stderr
    assert Strikes(tmp_path, HostClock()).aside == {}
