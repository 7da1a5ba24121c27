"""Plugin discovery: real entry points of distributions that are written to a folder."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint, distributions
from itertools import count
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from oo_daemon.registry import OURS, Plugin, Registry, all_conflicts, discover
from oo_sdk.hooks import GROUP

_numbers = count()

GOOD = """
    from oo_sdk import Connector, OAuth2, Scope, Struct, hookimpl

    class Acme(Connector):
        id = "acme"
        title = "Acme Notes"
        auth = OAuth2(authorize="https://a.example/a", token="https://a.example/t", revoke="https://a.example/r")
        scopes = [Scope("notes.read", "See your notes.")]
        hosts = ["api.acme.example", "localhost:8080", "[::1]:80"]

        class Settings(Struct):
            pages: int = 10
            name: str = ""

    @hookimpl
    def oo_connectors():
        return [Acme()]
"""


class Site:
    """A folder into which distributions are installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self, source: str, distribution: str = OURS, name: str = "acme", *, metadata: bool = True, requires: Iterable[str] = ()
    ) -> str:
        """Install a distribution with one plugin; gives the name of its module."""
        module = f"plugin_{next(_numbers)}"
        (self.folder / f"{module}.py").write_text(dedent(source))
        info = self.folder / f"{distribution.replace('-', '_')}_{module}-1.2.dist-info"
        info.mkdir()
        needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
        if metadata:
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n" + needs)
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {module}\n[other]\n{name} = {module}\n")
        return module

    def points(self) -> list[EntryPoint]:
        found = distributions(path=[str(self.folder)])
        return [point for distribution in found for point in distribution.entry_points if point.group == GROUP]

    def discover(self, enabled: Iterable[str] = (), settings: Mapping[str, Mapping[str, Any]] | None = None) -> Registry:
        return discover(enabled=enabled, settings=settings or {}, found=self.points())


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.syspath_prepend(tmp_path)
    return Site(tmp_path)


def only(registry: Registry) -> Plugin:
    (plugin,) = registry.plugins
    return plugin


def test_what_is_installed() -> None:
    """The plugins that we ship are found by their entry points, and loaded."""
    registry = discover()
    ours = [plugin for plugin in registry.plugins if plugin.distribution == OURS]
    assert ours
    assert [plugin.reason for plugin in ours if plugin.state != "loaded"] == []
    assert "todoist" in registry.connectors
    assert "todoist" in registry.sandboxes


def test_only_one_is_wanted() -> None:
    """Of ours nothing else is loaded: what is called by a connector's id brings it."""
    for id_ in discover().connectors:
        found = discover(only=id_)
        assert ([*found.connectors], [plugin.name for plugin in found.plugins if plugin.state == "loaded"]) == ([id_], [id_])


def test_without_sandboxes(site: Site) -> None:
    """Who has no use for sandboxes asks nobody for one: they bring web servers along."""
    site.install(HEAD + "@hookimpl\ndef oo_connectors():\n    return []\n\n@hookimpl\ndef oo_sandboxes():\n    raise AssertionError")
    assert only(site.discover()).state == "quarantined"
    assert only(discover(found=site.points(), sandboxes=False)).state == "loaded"


def test_a_plugin(site: Site) -> None:
    """A plugin of ours is loaded, and its connector is there under its id."""
    site.install(GOOD)
    registry = site.discover()
    plugin = only(registry)
    assert (plugin.name, plugin.distribution, plugin.version, plugin.state, plugin.reason) == ("acme", OURS, "1.2", "loaded", "")
    assert registry.connectors["acme"] is plugin.connectors[0]
    assert registry.connectors["acme"].title == "Acme Notes"


def test_settings(site: Site) -> None:
    """A connector's settings are decoded into what it declares; environment variables are texts and mean the same."""
    site.install(GOOD)
    registry = site.discover(settings={"acme": {"pages": "3"}, "other": {"x": 1}})
    assert registry.connectors["acme"].settings == type(registry.connectors["acme"]).Settings(pages=3)


# --- strangers -------------------------------------------------------------------------------------------------------


@pytest.mark.rows("C8")
def test_a_stranger_is_not_loaded(site: Site) -> None:
    """A stranger's plugin is not even imported until the operator names its distribution, and the reason says how."""
    module = site.install(GOOD, "acme-notes")
    plugin = only(site.discover())
    assert (plugin.state, plugin.reason) == ("disabled", 'add "acme-notes" to plugins.enabled to load it')
    assert module not in sys.modules


@pytest.mark.parametrize("spelling", ["acme-notes", "Acme_Notes", "ACME.NOTES", "acme--notes"])
def test_a_stranger_by_any_spelling(site: Site, spelling: str) -> None:
    """A stranger is enabled by any spelling of its name."""
    site.install(GOOD, "Acme.Notes")
    assert only(site.discover(enabled=[spelling])).state == "loaded"


@pytest.mark.parametrize("spelling", ["acme", "acme-notes2", "", "acme notes"])
def test_a_stranger_by_another_name(site: Site, spelling: str) -> None:
    """Another name enables nothing."""
    site.install(GOOD, "acme-notes")
    assert only(site.discover(enabled=[spelling])).state == "disabled"


def test_a_distribution_without_metadata(site: Site) -> None:
    """What an upgrade that was cut off left behind is no reason not to start."""
    site.install(GOOD, "acme-notes", metadata=False)
    site.install(GOOD.replace("acme", "other"))
    registry = site.discover()
    assert [(plugin.distribution, plugin.state) for plugin in registry.plugins] == [(OURS, "loaded"), ("(unknown)", "disabled")]


def test_ours_come_first(site: Site) -> None:
    """A stranger cannot take the id of a connector of ours; it is set aside and ours stays."""
    site.install(GOOD.replace("Acme Notes", "Stranger"), "a-stranger", name="aaa")
    site.install(GOOD, name="zzz")
    registry = site.discover(enabled=["a-stranger"])
    assert registry.connectors["acme"].title == "Acme Notes"
    assert [(plugin.name, plugin.state) for plugin in registry.plugins] == [("zzz", "loaded"), ("aaa", "quarantined")]
    assert registry.plugins[1].reason == "there is another connector with the id acme: uninstall one of the two"
    assert registry.plugins[1].connectors == ()


# --- quarantine ------------------------------------------------------------------------------------------------------

HEAD = "from oo_sdk import Connector, OAuth2, Revocation, Revoked, Sandbox, Scope, Stored, Struct, hookimpl\n"


def connector(body: str, *, offers: str = "[Acme()]") -> str:
    lines = "\n".join(f"    {line}" for line in dedent(body).strip().splitlines())
    return f"{HEAD}class Acme(Connector):\n{lines}\n@hookimpl\ndef oo_connectors():\n    return {offers}\n"


AUTH = 'auth = OAuth2(authorize="https://a.example/a", token="https://a.example/t", revoke="https://a.example/r")'
NO_ID = "is no id for a connector: use lower-case letters, digits and _, and none of ['action', 'connection', 'user']"

BROKEN = {
    "raises at import": ("import nothing_of_the_kind", "ModuleNotFoundError while it was loaded (No module named 'nothing_of_the_kind')"),
    "no words": ("raise ValueError", "ValueError while it was loaded (no reason given)"),
    "many words": ("raise ValueError('a\\nb' + 'x' * 9999)", "ValueError while it was loaded (a)"),
    "syntax": ("def", "SyntaxError while it was loaded ("),
    "exits at import": ("raise SystemExit(3)", "SystemExit while it was loaded (3)"),
    "cancels at import": ("import asyncio\nraise asyncio.CancelledError", "CancelledError while it was loaded (no reason given)"),
    "hook raises": (connector("id = 'acme'", offers="1 / 0"), "ZeroDivisionError while it was loaded (division by zero)"),
    "hook exits": (connector("id = 'acme'", offers="exit(1)"), "SystemExit while it was loaded (1)"),
    "hook gives one": (connector("id = 'acme'", offers="Acme()"), "its oo_connectors gives a Acme and not a list: tell its author"),
    "hook yields and raises": (HEAD + "@hookimpl\ndef oo_connectors():\n    yield 1 / 0", "ZeroDivisionError while it was loaded"),
    "no connector": (connector("id = 'acme'", offers="['acme']"), "it offers a str, which is not an oo_sdk.Connector: tell its author"),
    "a class": (connector("id = 'acme'", offers="[Acme]"), "it offers a type, which is not an oo_sdk.Connector: tell its author"),
    "no sandbox": (
        HEAD + "@hookimpl\ndef oo_sandboxes():\n    return [7]",
        "it offers a int, which is not an oo_sdk.Sandbox: tell its author",
    ),
    "no hook": (HEAD + "def oo_connectors():\n    return []", "it implements no hook: its author must mark oo_connectors with @hookimpl"),
    "unknown hook": (
        HEAD + "@hookimpl\ndef oo_teapots():\n    return []",
        "it implements oo_teapots, which this version of oO does not know: correct the name, or update oO",
    ),
    "unknown argument": (HEAD + "@hookimpl\ndef oo_connectors(tea):\n    return []", "PluginValidationError while it was loaded ("),
    "no id": (connector("title = 'Acme'"), f"'' {NO_ID}"),
    "malformed id": (connector("id = 'Acme Notes'"), f"'Acme Notes' {NO_ID}"),
    "id with a dot": (connector("id = 'acme.notes'"), f"'acme.notes' {NO_ID}"),
    "id of a number": (connector("id = 7"), f"7 {NO_ID}"),
    "reserved id": (connector("id = 'connection'"), f"'connection' {NO_ID}"),
    "the same id twice": (
        connector("id = 'acme'", offers="[Acme(), Acme()]"),
        "there is another connector with the id acme: uninstall one of the two",
    ),
    "no hosts": (
        connector(f"id = 'acme'\n{AUTH}"),
        "acme declares no hosts: name the only hosts that its credential may be sent to",
    ),
    "hosts as one text": (
        connector(f"id = 'acme'\n{AUTH}\nhosts = 'api.acme.example'"),
        'the hosts of acme must be a list of "name" or "name:port", without a scheme or a path',
    ),
    "hosts with a scheme": (connector(f"id = 'acme'\n{AUTH}\nhosts = ['https://api.acme.example']"), "the hosts of acme must be a list of"),
    "no way to revoke": (
        connector("id = 'acme'\nhosts = ['a.example']\nauth = OAuth2(authorize='https://a.example/a', token='https://a.example/t')"),
        "acme declares no way to revoke: give auth.revoke an address, or write revoke()",
    ),
    "a scope without a sentence": (
        connector(f"id = 'acme'\nhosts = ['a.example']\n{AUTH}\nscopes = [Scope('notes.read', 'notes')]"),
        "the scope notes.read of acme has no sentence that a person could read: write one",
    ),
    "nothing said of what it stores": (
        connector("id = 'acme'\nasync def fetch_signals(self, ctx, since):\n    yield 1"),
        "acme declares nothing that it stores: say in `stores` what is kept of each event, and what for",
    ),
    "stored without a purpose": (
        connector("id = 'acme'\nstores = [Stored('note', 'your notes', '', ['title'])]"),
        "acme does not say in words what it stores of a note, and what for: a person reads them",
    ),
    "stored is no list of fields": (
        connector("id = 'acme'\nstores = [Stored('note', 'your notes', 'show them', 'title')]"),
        "the fields that acme stores of a note must be a list of names",
    ),
    "stored twice": (
        connector("id = 'acme'\nstores = [Stored('note', 'your notes', 'show them', ['title'])] * 2"),
        "acme declares twice what it stores of a note: leave one",
    ),
    "stored is something else": (
        connector("id = 'acme'\nstores = ['note']"),
        "the stores of acme hold a str, which is not an oo_sdk.Stored: tell its author",
    ),
    "settings of no shape": (connector("id = 'acme'\nSettings = dict"), "TypeError while it was loaded ("),
    "settings that cannot be set": (
        connector("id = 'acme'\nsettings = property(lambda self: None)"),
        "AttributeError while it was loaded (",
    ),
    "a property that raises": (connector("id = 'acme'\nhosts = property(lambda self: 1 / 0)"), "ZeroDivisionError while it was loaded"),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN)
def test_quarantine(site: Site, source: str, reason: str) -> None:
    """A plugin that does not work is set aside with a reason that says what to do, and the rest goes on."""
    site.install(source, "acme-notes", name="bad")
    site.install(GOOD.replace("acme", "good"), "good", name="good")
    registry = site.discover(enabled=["acme-notes", "good"])
    bad, good = registry.plugins
    assert (bad.state, bad.connectors, bad.sandboxes) == ("quarantined", (), ())
    assert bad.reason.startswith(reason)
    assert "\n" not in bad.reason
    assert len(bad.reason) < 400
    assert good.state == "loaded"
    assert [*registry.connectors] == ["good"]


def test_a_reason_names_the_distribution(site: Site) -> None:
    """The reason for a plugin that fails at import ends in what the operator can do."""
    site.install("raise ValueError('no')", "acme-notes")
    assert only(site.discover(enabled=["acme-notes"])).reason == "ValueError while it was loaded (no): update or uninstall acme-notes"


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"page": 3}, "[connectors.acme] has no setting page: it has name, pages"),
        ({"pages": "many"}, "[connectors.acme] is wrong (Expected `int`, got `str` - at `$.pages`): see `oo config show`"),
        ("many", "[connectors.acme] must be a table of settings: see `oo config show`"),
    ],
    ids=["unknown", "wrong type", "no table"],
)
def test_wrong_settings(site: Site, table: Any, reason: str) -> None:
    """A connector whose settings are wrong is set aside, and the reason names the place."""
    site.install(GOOD)
    plugin = only(site.discover(settings={"acme": table}))
    assert (plugin.state, plugin.reason) == ("quarantined", reason)


def test_the_operator_may_stop_it(site: Site) -> None:
    """Ctrl-C while plugins are loaded stops the program."""
    site.install("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        site.discover()


def test_what_may_be(site: Site) -> None:
    """A hook that offers nothing, one for a later version, and a way to revoke of one's own are well."""
    site.install(HEAD + "@hookimpl\ndef oo_connectors():\n    return None", name="nothing")
    site.install(
        HEAD + "@hookimpl(optionalhook=True)\ndef oo_teapots():\n    return []\n@hookimpl\ndef oo_connectors():\n    return ()",
        name="later",
    )
    own = """
        id = "acme"
        hosts = ["a.example"]
        auth = OAuth2(authorize="https://a.example/a", token="https://a.example/t")
        async def revoke(self, ctx):
            return Revocation(revoked=Revoked.FULLY)
    """
    site.install(connector(own), name="own")
    site.install(connector("id = 'open'"), name="open")
    assert [(plugin.name, plugin.state, plugin.reason) for plugin in site.discover().plugins] == [
        (name, "loaded", "") for name in ("later", "nothing", "open", "own")
    ]


@pytest.mark.parametrize(
    ("requires", "reason"),
    [
        ("oo-integrations", ""),
        ("oo_integrations >=0.1,<99", ""),
        ("oo-integrations >=99; extra == 'never'", ""),
        ("oo-integrations >=99; python_version < '3'", ""),
        ("no-such-distribution", ""),
        ("oo-integrations >=99", "acme-oo needs oo-integrations>=99, and 0.1.0 is installed: update the older of the two"),
        ("oo.integrations ==0.0.9", "acme-oo needs oo.integrations==0.0.9, and 0.1.0 is installed: update the older of the two"),
    ],
)
@pytest.mark.rows("E12")
def test_the_sdk_that_it_was_written_for(site: Site, requires: str, reason: str) -> None:
    """A plugin says which SDK it needs; with another one it is set aside before anything of it is imported."""
    module = site.install(GOOD, distribution="acme-oo", requires=[requires])
    (plugin,) = discover(enabled=["acme-oo"], found=site.points()).plugins
    assert (plugin.state, plugin.reason) == (("quarantined", reason) if reason else ("loaded", ""))
    assert (module in sys.modules) is not bool(reason)


def test_versions_in_conflict_are_named_without_loading_anything(site: Site) -> None:
    """Of what is enabled, each need that is not met here has a sentence; what is not enabled is not looked at."""
    needs = ["pluggy <1", "no-such-distribution >=2", "pluggy", "no requirement at all!"]
    module = site.install(GOOD, distribution="acme-oo", requires=needs)
    site.install(GOOD, distribution="other-oo", requires=needs)
    sentences = all_conflicts(["Acme_OO"], site.points())
    assert [sentence.partition(", and ")[0] for sentence in sentences] == [
        "acme-oo needs pluggy<1",
        "acme-oo needs no-such-distribution>=2, which is not installed",
        "acme-oo says what it needs in a way that cannot be read",
    ]
    assert module not in sys.modules
    assert all_conflicts([]) == []  # ours: what we need is here


# --- strikes ---------------------------------------------------------------------------------------------------------


@pytest.mark.rows("H10")
def test_what_was_set_aside_is_not_even_imported(site: Site) -> None:
    """A plugin with too many strikes is listed with the reason, the others are loaded, and while each is, it is said whose code runs."""
    module = site.install(GOOD, "acme-notes")
    site.install(GOOD.replace('id = "acme"', 'id = "good"'), "good", "good")
    loaded: list[str] = []

    @contextmanager
    def loading(key: str) -> Iterator[None]:
        loaded.append(f"{key} begins")
        yield
        loaded.append(f"{key} has ended")

    aside = {"acme-notes/acme": "it ended the daemon, 3 times"}
    registry = discover(enabled=["acme-notes", "good"], found=site.points(), aside=aside, loading=loading)
    states = {plugin.name: (plugin.state, plugin.reason, plugin.struck) for plugin in registry.plugins}
    assert states == {"acme": ("quarantined", "it ended the daemon, 3 times", True), "good": ("loaded", "", False)}
    assert module not in sys.modules
    assert loaded == ["good/good begins", "good/good has ended"]


def test_whose_a_guest_is(site: Site) -> None:
    """A connector is known by the key of the plugin that brought it; what nobody brought has none."""
    site.install(GOOD, "Acme_Notes")
    registry = site.discover(enabled=["acme-notes"])
    assert registry.named(registry.connectors["acme"]) == "acme-notes/acme"
    assert registry.named(object()) == ""
