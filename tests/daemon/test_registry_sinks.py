"""Sinks among the plugins: which run, and which are set aside."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint
from itertools import count
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from oo_daemon.registry import UNKNOWN, Registry, Terms, discover
from oo_sdk.hooks import GROUP

_numbers = count()

GOOD = """
    from oo_sdk import Sink, hookimpl

    class Acme(Sink):
        id = "acme"

        class Settings(Sink.Settings):
            path: str
            lines: int = 10

        async def deliver(self, events): ...

    @hookimpl
    def oo_sinks():
        return [Acme()]
"""


def found(folder: Path, monkeypatch: pytest.MonkeyPatch, *sources: str, **tables: Mapping[str, Any]) -> Registry:
    """What is discovered where each source is a plugin, named a, b, …; the tables are those of sinks."""
    monkeypatch.syspath_prepend(folder)
    points = []
    for name, source in zip("abc", sources, strict=False):
        module = f"sink_plugin_{next(_numbers)}"
        (folder / f"{module}.py").write_text(dedent(source))
        points.append(EntryPoint(name, module, GROUP))
    return discover(enabled=[UNKNOWN], sinks=tables, found=points)


def test_a_sink_with_a_table_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink whose table stands is there under its id, with its settings decoded; texts of variables mean the same."""
    registry = found(tmp_path, monkeypatch, GOOD, acme={"path": "/x", "lines": "3"})
    (plugin,) = registry.plugins
    sink = registry.sinks["acme"].sink
    assert plugin.state == "loaded"
    assert [type(each) for each in plugin.sinks] == [type(sink)]
    assert registry.named(sink) == plugin.key
    assert sink.settings == type(sink).Settings(path="/x", lines=3)


def test_a_sink_without_a_table_is_only_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that nobody wrote a table for does not run, and asks for no settings."""
    registry = found(tmp_path, monkeypatch, GOOD, other={"path": "/x"})
    assert registry.sinks == {}
    assert [sink.id for plugin in registry.plugins for sink in plugin.sinks] == ["acme"]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({}, "[sinks.acme] is wrong"),
        ({"path": 1}, "[sinks.acme] is wrong"),
        ({"path": "/x", "bath": 1}, "[sinks.acme] has no setting bath"),
        ({"path": "/x", "tries": 0}, "[sinks.acme] is wrong"),
        ({"path": "/x", "kind": "nobody"}, "no loaded plugin brings the sink nobody"),
    ],
)
def test_wrong_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: Mapping[str, Any], says: str) -> None:
    """A table that does not fit sets that sink aside and no other; its reason names the table and repeats no value."""
    registry = found(tmp_path, monkeypatch, GOOD, acme=table, other={"kind": "acme", "path": "/y"})
    (plugin,) = registry.plugins
    assert (plugin.state, set(registry.sinks), set(registry.sinks_aside)) == ("loaded", {"other"}, {"acme"})
    assert says in registry.sinks_aside["acme"]
    assert "/x" not in registry.sinks_aside["acme"]


def test_an_id_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two sinks with one id the first stays and the second's plugin is set aside, also where neither has a table."""
    registry = found(tmp_path, monkeypatch, GOOD, GOOD)
    assert [plugin.state for plugin in registry.plugins] == ["loaded", "quarantined"]
    assert "another sink with the id acme" in registry.plugins[1].reason
    (twice,) = found(tmp_path, monkeypatch, GOOD.replace("[Acme()]", "[Acme(), Acme()]")).plugins
    assert twice.state == "quarantined"


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (GOOD.replace('id = "acme"', 'id = "Acme File"'), "'Acme File' is no id"),
        (GOOD.replace('id = "acme"', "pass"), "is no id for a sink"),
        (GOOD.replace("async def deliver(self, events): ...", ""), "delivers nothing"),
        (GOOD.replace("[Acme()]", "[object()]"), "not an oo_sdk.Sink"),
        (GOOD.replace("[Acme()]", "Acme()"), "not a list"),
        (GOOD.replace("lines: int", "batch: int"), "has a setting batch, which is one of every sink's"),
    ],
)
def test_a_sink_that_breaks_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, says: str) -> None:
    """What is no sink, or has no usable id, or takes nothing, is set aside with its reason; the rest goes on."""
    registry = found(tmp_path, monkeypatch, broken, GOOD, acme={"path": "/x"})
    assert [plugin.state for plugin in registry.plugins] == ["quarantined", "loaded"]
    assert says in registry.plugins[0].reason
    assert set(registry.sinks) == {"acme"}


def test_one_sink_under_several_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each table runs on a copy with settings and terms of its own."""
    tables = {"one": {"kind": "acme", "path": "/1", "user": "ada", "batch": "7"}, "two": {"kind": "acme", "path": "/2", "start": "now"}}
    registry = found(tmp_path, monkeypatch, GOOD, **tables, Three={"kind": "acme"})
    one, two = registry.sinks["one"], registry.sinks["two"]
    assert (one.sink.settings.path, two.sink.settings.path) == ("/1", "/2")  # type: ignore[attr-defined]  # of the settings above
    assert one.terms == Terms(kind="acme", user="ada", batch=7)
    assert two.terms == Terms(kind="acme", start="now")
    assert "'Three' is no name for a sink" in registry.sinks_aside["Three"]
