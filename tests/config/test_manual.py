"""The example file and the descriptions say what the loader does."""

import re
import tomllib
from pathlib import Path

from oo_config import describe, example, load, show

HOME = {"HOME": "/home/ada"}


def uncommented() -> str:
    return re.sub(r"^#(?=[a-z])", "", example(), flags=re.MULTILINE)


def written(folder: Path, text: str) -> Path:
    path = folder / "oo.toml"
    path.write_text(text)
    return path


def test_the_example_changes_nothing_as_it_stands(tmp_path: Path) -> None:
    """The example file, as printed, sets nothing."""
    settings = load(written(tmp_path, example()), HOME)
    assert settings == load(environ=HOME)
    assert {origin.kind for origin in settings.origins.values()} == {"default"}


def test_the_example_uncommented_says_the_defaults(tmp_path: Path) -> None:
    """With every # removed it sets every setting, and each to its default."""
    settings = load(written(tmp_path, uncommented()), HOME)
    assert settings == load(environ=HOME)
    assert {origin.kind for origin in settings.origins.values()} == {"file"}
    tables = tomllib.loads(uncommented())
    assert [(section, key) for section, table in tables.items() for key in table] == [(told.section, told.key) for told in describe()]


def test_the_example_is_the_same_everywhere() -> None:
    """No folder of the machine on which it was printed gets into the example."""
    assert not re.search(r'= "/', example())


def test_every_setting_is_described() -> None:
    """Each setting says what it may be, its default, its reason and its variable."""
    told = {f"{each.section}.{each.key}": each for each in describe()}
    port = told["public.port"]
    assert (port.type, port.default, port.variable) == ("a whole number from 0 to 65535", "8710", "OO_PUBLIC_PORT")
    assert told["places.database"].default == "oo.sqlite3 in places.state"
    assert all(each.reason and each.about.endswith(".") and not each.reason.endswith(".") for each in told.values())


def test_what_holds_is_shown_with_its_origin(tmp_path: Path) -> None:
    """Each value is shown as TOML with where it came from; a connector's settings are shown to be set, and no more."""
    path = written(tmp_path, '[connectors.todoist]\nclient_secret = "hunter2"\n[sync]\nlease = 90')
    shown = {
        f"{each.section}.{each.key}": (each.value, str(each.origin))
        for each in show(load(path, HOME | {"OO_PUBLIC_TRUSTED_PROXIES": "10.0.0.1"}))
    }
    assert shown["sync.lease"] == ('"90 s"', str(path))
    assert shown["public.trusted_proxies"] == ('["10.0.0.1/32"]', "OO_PUBLIC_TRUSTED_PROXIES")
    assert shown["public.port"] == ("8710", "default")
    assert shown["connectors.todoist.client_secret"] == ("…", str(path))
    assert "hunter2" not in str(shown)
    assert len(shown) == len(list(describe())) + 1


def test_shown_values_can_be_put_into_a_file(tmp_path: Path) -> None:
    """What is shown, written into a file, loads to the same settings."""
    settings = load(environ=HOME | {"OO_SYNC_TICK": "0.125", "OO_PLUGINS_ENABLED": "a,b", "OO_PLACES_STATE": '/a "b" \\ ü'})
    lines = [f"{each.section}.{each.key} = {each.value}" for each in show(settings)]
    assert load(written(tmp_path, "\n".join(lines)), HOME) == settings
