"""What a file, variables and defaults come to, and what is said when they come to nothing."""

import dataclasses
import datetime
import json
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st

from oo_config import ConfigError, Problem, Settings, describe, load

HOME = {"HOME": "/home/ada"}
STATE = Path("/home/ada/.local/state/oo-integrations")


def load_text(folder: Path, text: str, environ: Mapping[str, str] = HOME) -> Settings:
    path = folder / "oo.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, environ)


def problems(folder: Path, text: str = "", environ: Mapping[str, str] = HOME) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load_text(folder, text, environ)
    return caught.value.problems


def get(settings: Settings, name: str) -> Any:
    section, key = name.split(".")
    return getattr(getattr(settings, section), key)


def test_nothing_set_gives_the_defaults() -> None:
    """Without file and variables there are settings, all of them by default."""
    settings = load(environ=HOME)
    assert (settings.places.state, settings.places.database) == (STATE, STATE / "oo.sqlite3")
    assert (settings.places.socket, settings.vault.key_file) == (STATE / "oo.sock", STATE / "root.key")
    assert settings.public.url == "http://127.0.0.1:8710"
    assert (settings.sync.tick, settings.sync.batch, settings.http.response_limit) == (0.2, 500, 33_554_432)
    assert settings.connectors == {}
    assert {origin.kind for origin in settings.origins.values()} == {"default"}


def test_settings_are_frozen() -> None:
    """Nobody changes a setting, nor what connectors are told, after loading."""
    settings = load(environ=HOME | {"OO_CONNECTORS__TODOIST__API": "x"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.public.port = 1  # type: ignore[misc]  # the point of the test
    with pytest.raises(TypeError):
        settings.connectors["todoist"]["api"] = "y"  # type: ignore[index]  # the point of the test


@pytest.mark.parametrize(
    ("environ", "name", "value"),
    [
        ({"XDG_STATE_HOME": "/xdg"}, "places.state", Path("/xdg/oo-integrations")),
        ({"XDG_STATE_HOME": "relative"}, "places.state", STATE),
        ({"XDG_STATE_HOME": "/a\0b"}, "places.state", STATE),
        ({"XDG_STATE_HOME": "/xdg", "STATE_DIRECTORY": "/var/lib/oo"}, "places.state", Path("/var/lib/oo")),
        ({"STATE_DIRECTORY": "/var/lib/oo:/var/lib/other"}, "places.database", Path("/var/lib/oo/oo.sqlite3")),
        ({"RUNTIME_DIRECTORY": "/run/oo"}, "places.socket", Path("/run/oo/oo.sock")),
        ({"OO_PLACES_STATE": "/srv"}, "vault.key_file", Path("/srv/root.key")),
        ({"OO_PLACES_STATE": "~/oo"}, "places.socket", Path("/home/ada/oo/oo.sock")),
        ({"HOME": "/srv/a:b"}, "places.state", Path("/srv/a:b/.local/state/oo-integrations")),
        ({"OO_PUBLIC_PORT": "0"}, "public.url", "http://127.0.0.1:0"),
        ({"OO_PUBLIC_HOST": "::1"}, "public.url", "http://[::1]:8710"),
    ],
)
def test_defaults_follow_from_the_unit_the_home_folder_and_other_settings(environ: dict[str, str], name: str, value: object) -> None:
    """systemd's folders come before XDG's, these before the home folder; files follow their folder, the URL the port."""
    assert get(load(environ=HOME | environ), name) == value


def test_a_systemd_credential_is_the_key_file(tmp_path: Path) -> None:
    """The root key is read from the unit's credentials when, and only when, it is among them."""
    environ = HOME | {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert load(environ=environ).vault.key_file == STATE / "root.key"
    (tmp_path / "oo-root-key").touch()
    assert load(environ=environ).vault.key_file == tmp_path / "oo-root-key"
    assert load(environ=environ | {"CREDENTIALS_DIRECTORY": "/" + "x" * 5000}).vault.key_file == STATE / "root.key"


@pytest.mark.parametrize(
    ("line", "variable", "value"),
    [
        ("[public]\nport = 443", "443", 443),
        ('[public]\nhost = "Proxy.Example"', "Proxy.Example", "proxy.example"),
        ('[public]\nurl = "https://OO.example:8443/"', "https://OO.example:8443/", "https://oo.example:8443"),
        ('[public]\nurl = "http://app.localhost:1"', "http://app.localhost:1", "http://app.localhost:1"),
        ("[public]\nmin_rate = 5", "5", 5),
        ('[public]\nbody_limit = "25 MiB"', "25 MiB", 26_214_400),
        ('[sync]\ntick = "500 ms"', " 500ms ", 0.5),
        ("[sync]\ninterval = 7.5", "7.5", 7.5),
        ('[sync]\nlease = "1.5 min"', "1.5 min", 90.0),
        ('[log]\nlevel = "debug"', "debug", "debug"),
        ('[places]\nsocket = "~/oo.sock"', "~/oo.sock", Path("/home/ada/oo.sock")),
        ("[private]\nadmin_uids = [0, 1000]", "0, 1000,", (0, 1000)),
        ("[private]\nadmin_groups = []", "", ()),
        ('[plugins]\nenabled = ["oo-acme", "oo.b"]', "oo-acme,oo.b", ("oo-acme", "oo.b")),
        (
            '[public]\ntrusted_proxies = ["10.0.0.0/8", "::1"]',
            "10.0.0.0/8, ::1",
            (ip_network("10.0.0.0/8"), ip_network("::1/128")),
        ),
    ],
)
def test_file_and_variable_say_the_same(tmp_path: Path, line: str, variable: str, value: object) -> None:
    """What can be written in the file can be written in a variable, and means the same."""
    section, key = line.split(" =")[0].removeprefix("[").split("]\n")
    extra = "" if "public" in line else '\n[public]\nurl = "https://oo.example"'
    environ = HOME if "url" in line + extra else HOME | {"OO_PUBLIC_URL": "https://oo.example"}
    assert get(load_text(tmp_path, line + extra, environ), f"{section}.{key}") == value
    assert get(load(environ=environ | {f"OO_{section}_{key}".upper(): variable}), f"{section}.{key}") == value


def test_a_variable_wins_over_the_file(tmp_path: Path) -> None:
    """A variable wins over the file, the file over the default, and each value knows where it came from."""
    settings = load_text(tmp_path, "[sync]\nbatch = 1\nworkers = 2", HOME | {"OO_SYNC_BATCH": "3"})
    assert (settings.sync.batch, settings.sync.workers, settings.sync.first_fetch_days) == (3, 2, 90)
    assert str(settings.origin("sync", "batch")) == "OO_SYNC_BATCH"
    assert str(settings.origin("sync", "workers")) == str(tmp_path / "oo.toml")
    assert str(settings.origin("sync", "first_fetch_days")) == "default"


def test_variables_of_others_are_left_alone() -> None:
    """Variables without our prefix, and those that only tests read, are not settings."""
    load(environ=HOME | {"PORT": "x", "oo_public_port": "x", "OO_TEST_POSTGRES": "x", "OOPS": "x"})


def test_connectors_tables_pass_through(tmp_path: Path) -> None:
    """A connector's table keeps its shape, variables over it, and can be read into the connector's own Struct."""

    class Api(msgspec.Struct):
        page: int
        hosts: list[str]

    environ = HOME | {"OO_CONNECTORS__TODOIST__PAGE": "50", "OO_CONNECTORS__ACME_NOTES__A__B": "x"}
    settings = load_text(tmp_path, '[connectors.todoist]\npage = 1\nhosts = ["a"]', environ)
    assert settings.connectors == {"todoist": {"page": "50", "hosts": ["a"]}, "acme_notes": {"a": {"b": "x"}}}
    assert msgspec.convert(settings.connectors["todoist"], Api, strict=False) == Api(page=50, hosts=["a"])
    assert settings.origin("connectors", "todoist.page").kind == "variable"
    assert settings.origin("connectors", "todoist.hosts").kind == "file"


def test_a_sink_runs_where_its_table_stands(tmp_path: Path) -> None:
    """An empty table is one, and a variable makes one; a sink and a connector of the same id are told different things."""
    settings = load_text(tmp_path, "[sinks.acme_file]\n[connectors.acme]\na = 1", HOME | {"OO_SINKS__ACME__PATH": "/tmp/x"})
    assert settings.sinks == {"acme_file": {}, "acme": {"path": "/tmp/x"}}
    assert settings.connectors == {"acme": {"a": 1}}
    assert settings.origin("sinks", "acme.path").kind == "variable"


def test_what_connectors_are_told_is_not_printed() -> None:
    """The text of the settings holds nothing of a connector's, since it may be a secret."""
    assert "hunter2" not in repr(load(environ=HOME | {"OO_CONNECTORS__TODOIST__API": "hunter2"}))


@pytest.mark.parametrize(
    ("text", "place", "sentence", "remedy"),
    [
        ("[public]\nprot = 1", ", public.prot", "no such setting", "mean public.port?"),
        ("[sync]\nread_timeout = 1", ", sync.read_timeout", "no such setting", "mean http.read_timeout?"),
        ("[sync]\nzzzz = 1", ", sync.zzzz", "no such setting", "config example"),
        ('[sync]\n"a b\\n" = 1', ', sync."a b\\n"', "no such setting", "config example"),
        ("[pubic]\nport = 1", ", pubic", "no such section", "mean public?"),
        ("port = 1", ", port", "no such section", "mean public.port?"),
        ("public = 1", ", public", "must be a section", "[public]"),
        ("[[public]]\nport = 1", ", public", "must be a section", "[public]"),
        ("connectors = 1", ", connectors", "must be a section", "[connectors]"),
        ("[connectors]\ntodoist = 1", ", connectors.todoist", "must be a section", "[connectors.<id>]"),
        ("[sinks]\nacme = 1", ", sinks.acme", "must be a section", "settings of a sink"),
        ('[public]\nport = "1"', ", public.port", "a whole number from 0 to 65535", "8710"),
        ("[public]\nport = true", ", public.port", "a whole number", "8710"),
        ("[public]\nport = 65536", ", public.port", "a whole number", "8710"),
        ('[public]\ntrusted_proxies = "10.0.0.1"', ", public.trusted_proxies", "a list", "[]"),
        ('[public]\ntrusted_proxies = ["10.0.0.1/8"]', ", public.trusted_proxies", "a list", "[]"),
        ("[public]\ntrusted_proxies = 10", ", public.trusted_proxies", "a list", "[]"),
        ("[public]\ntrusted_proxies = [10]", ", public.trusted_proxies", "a list", "[]"),
        ("[private]\nadmin_uids = [-1]", ", private.admin_uids", "whole number from 0", "[]"),
        ('[plugins]\nenabled = ["a b"]', ", plugins.enabled", "distribution", "[]"),
        ("[sync]\nbatch = 501", ", sync.batch", "from 1 to 500", "500"),
        ("[sync]\ninterval = inf", ", sync.interval", "a duration", "5 min"),
        ('[log]\nlevel = "loud"', ", log.level", "one of debug, info, warning, error", "info"),
        ('[places]\nstate = "here"', ", places.state", "begins with /", "$STATE_DIRECTORY"),
    ],
)
def test_a_problem_in_the_file_has_its_place_and_a_remedy(tmp_path: Path, text: str, place: str, sentence: str, remedy: str) -> None:
    """One thing wrong in the file is one problem: where, what is wrong, and what to do."""
    (problem,) = problems(tmp_path, text)
    assert problem.place == f"{tmp_path / 'oo.toml'}{place}"
    assert sentence in problem.sentence
    assert remedy in problem.remedy


@pytest.mark.parametrize(
    ("variable", "value", "sentence", "remedy"),
    [
        ("OO_PUBLIC_PROT", "1", "No setting", "mean OO_PUBLIC_PORT?"),
        ("OO_", "1", "No setting", "config example"),
        ("OO_CONNECTORS", "1", "no setting of a connector", "OO_CONNECTORS__<ID>__<KEY>"),
        ("OO_CONNECTORS_TODOIST__API__URL", "1", "no setting of a connector", "OO_CONNECTORS__<ID>__<KEY>"),
        ("OO_PUBLIC_PORT", "", "a whole number", "8710"),
        ("OO_PUBLIC_PORT", "http", "a whole number", "8710"),
        ("OO_PRIVATE_ADMIN_UIDS", "1,ada", "a list", "[]"),
        ("OO_CONNECTORS__TODOIST", "1", "no setting of a connector", "OO_CONNECTORS__<ID>__<KEY>"),
        ("OO_SINKS__ACME", "1", "no setting of a sink", "OO_SINKS__<ID>__<KEY>"),
        ("OO_CONNECTORS____API", "1", "no setting of a connector", "OO_CONNECTORS__<ID>__<KEY>"),
        ("OO_CONNECTORS__TODOIST__API__URL", "1", "both a value and a table", "Rename"),
        ("OO_CONNECTORS__TODOIST__TABLE", "1", "both a value and a table", "Rename"),
    ],
)
def test_a_problem_in_a_variable_names_the_variable(tmp_path: Path, variable: str, value: str, sentence: str, remedy: str) -> None:
    """One thing wrong in the environment is one problem, and its place is the variable."""
    text = '[connectors.todoist]\napi = "x"\n[connectors.todoist.table]'
    (problem,) = problems(tmp_path, text, HOME | {variable: value})
    assert problem.place == variable
    assert sentence in problem.sentence
    assert remedy in problem.remedy


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """Unknown names, wrong values and broken relations are told together, and a wrong value hides no relation."""
    text = '[public]\nprot = 1\n[sync]\nbatch = 0\nlease = "20 s"'
    found = problems(tmp_path, text, HOME | {"OO_LOG_LEVEL": "loud", "OO_NONE": ""})
    file = tmp_path / "oo.toml"
    assert [problem.place for problem in found] == [
        f"{file}, public.prot",
        "OO_NONE",
        f"{file}, sync.batch",
        "OO_LOG_LEVEL",
        f"{file}, sync.lease",
    ]
    told = str(ConfigError(found))
    assert told.startswith("The settings have 5 problems:\n- ")
    assert all(str(problem) in told for problem in found)
    assert str(ConfigError(found[:1])) == str(found[0])


def test_a_wrong_value_makes_no_other_wrong(tmp_path: Path) -> None:
    """A relation is not looked at while one of its settings has a problem of its own."""
    (problem,) = problems(tmp_path, environ=HOME | {"OO_SYNC_HEARTBEAT": "often", "OO_SYNC_LEASE": "20 s"})
    assert problem.place == "OO_SYNC_HEARTBEAT"


def test_a_broken_file_does_not_hide_the_variables(tmp_path: Path) -> None:
    """What is wrong with the file and what is wrong with the environment are told together."""
    first, second = problems(tmp_path, "port", HOME | {"OO_SYNC_BATCH": "0"})
    assert first.place.startswith(str(tmp_path))
    assert second.place == "OO_SYNC_BATCH"


def test_no_problem_repeats_a_value(tmp_path: Path) -> None:
    """A key pasted into the wrong line is not told back."""
    key = "oo1-hunter2"
    text = "\n".join(f'[{section}]\nmistaken = "{key}"' for section in {told.section for told in describe()})
    environ = {told.variable: key for told in describe()}
    found = problems(tmp_path, text, HOME | environ)
    assert len(found) > 30
    assert key not in str(ConfigError(found))


def test_a_problem_can_be_printed_anywhere() -> None:
    """Bytes that are no text, or that a terminal would obey, are written out."""
    told = str(Problem(place="OO_\x1b[2J\udcff\n", sentence="No.", remedy="None."))
    assert told == "OO_\\x1b[2J\\udcff\\n: No. None."


def test_a_home_folder_is_needed_once(tmp_path: Path) -> None:
    """Where only the home folder could say where to keep things and there is none, that is one problem, not four."""
    (problem,) = problems(tmp_path, environ={})
    assert problem.place == "places.state"
    assert "Set HOME" in problem.remedy
    load_text(tmp_path, '[places]\nstate = "/srv"', {})


def outcome(path: Path | None, environ: Mapping[str, str]) -> tuple[Problem, ...]:
    try:
        load(path, environ)
    except ConfigError as error:
        return error.problems
    return ()


TIMES = st.sampled_from([datetime.date(2026, 1, 1), datetime.time(1), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | TIMES
VALUES = st.recursive(
    SCALARS.filter(lambda value: value is not None),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def toml(value: object) -> str:
    match value:
        case bool() | str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case int() | float():
            return repr(value)
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return f"{{{', '.join(f'{toml(key)} = {toml(item)}' for key, item in value.items())}}}"
        case datetime.date() | datetime.time():
            return value.isoformat()
        case _:
            raise TypeError(value)


@run(deadline=None)
@given(value=VALUES)
def test_any_value_of_a_file_is_taken_or_refused(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    """Whatever TOML stands at any key, there are settings or there are problems, and nothing else."""
    names = [f"{told.section}.{told.key}" for told in describe()]
    path = tmp_path_factory.getbasetemp() / "any.toml"
    lines = [f"{name} = {toml(value)}\n" for name in [*names, "connectors.todoist", "connectors.a.b", "nobody.x", "x"]]
    path.write_text("".join(sorted(lines)), encoding="utf-8", newline="")
    places = {problem.place.removeprefix(f"{path}, ") for problem in outcome(path, HOME)}
    assert {"nobody", "x", "sync.batch", "log.level"} - places <= ({"sync.batch"} if isinstance(value, int) else set())
    assert places <= {*names, "connectors.todoist", "nobody", "x"}


@run(deadline=None)
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")))
def test_any_file_is_taken_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever bytes a file holds, there are settings or there are problems, and nothing else."""
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    assert all(problem.place.startswith(str(path)) for problem in outcome(path, HOME))


VARIABLES = st.sampled_from([told.variable for told in describe()]) | st.text().map("OO_{}".format)


@run(deadline=None)
@given(
    environ=st.dictionaries(
        VARIABLES | st.sampled_from(["HOME", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "OO_CONNECTORS__A__B"]),
        st.text(st.characters(), max_size=20),
    )
)
def test_any_environment_is_taken_or_refused(environ: dict[str, str]) -> None:
    """Whatever the environment holds, there are settings or there are problems, and nothing else."""
    for problem in outcome(None, environ | {"XDG_CONFIG_HOME": "/nowhere"}):
        assert str(problem).isprintable()
