"""The declarations themselves, and what must hold between settings."""

import pytest

from oo_config import ConfigError, Server, describe, load, show
from oo_config.settings import RELATIONS

HOME = {"HOME": "/home/ada"}


def test_every_setting_has_its_own_variable() -> None:
    """No two settings share a variable, and none is taken by a name with another meaning."""
    variables = [told.variable for told in describe()]
    assert len(variables) == len(set(variables))
    assert not [name for name in variables if name == "OO_CONFIG" or name.startswith(("OO_TEST_", "OO_CONNECTORS"))]


def test_relations_name_settings_that_there_are() -> None:
    """Every name in a relation is a setting's."""
    names = {f"{told.section}.{told.key}" for told in describe()}
    assert {name for relation in RELATIONS for name in relation.between} <= names


def test_a_type_checker_knows_the_type_of_a_setting() -> None:
    """The port is an int, a path a Path and a duration a float, to a type checker too."""
    settings = load(environ=HOME)
    port: int = settings.public.port
    seconds: float = settings.sync.tick
    assert (port, seconds, settings.places.state.name) == (8710, 0.2, "oo-integrations")


@pytest.mark.parametrize(
    ("environ", "place", "sentence"),
    [
        ({"OO_SYNC_HEARTBEAT": "30"}, "OO_SYNC_HEARTBEAT", "lose its lease"),
        ({"OO_SYNC_LEASE": "30"}, "OO_SYNC_LEASE", "lose its lease"),
        ({"OO_SYNC_TICK": "10", "OO_SYNC_INTERVAL": "9"}, "OO_SYNC_TICK", "less often"),
        ({"OO_PRIVATE_PORT": "8710"}, "OO_PRIVATE_PORT", "share one port"),
        ({"OO_HTTP_READ_TIMEOUT": "590"}, "OO_HTTP_READ_TIMEOUT", "outlast"),
        ({"OO_PUBLIC_MAX_CONNECTIONS": "99"}, "OO_PUBLIC_MAX_CONNECTIONS", "One address"),
        ({"OO_PUBLIC_HOST": "0.0.0.0"}, "OO_PUBLIC_HOST", "Plain http"),
        ({"OO_PUBLIC_HOST": "fe80::1%eth0"}, "OO_PUBLIC_HOST", "Plain http"),
        ({"OO_PUBLIC_URL": "http://oo.example"}, "OO_PUBLIC_URL", "Plain http"),
        ({"OO_PLACES_SOCKET": "/x" + "é" * 53}, "OO_PLACES_SOCKET", "at most 107 bytes"),
        ({"OO_RETENTION_UNREAD": "13 d"}, "OO_RETENTION_UNREAD", "at least as long"),
        ({"OO_RETENTION_TOMBSTONES": "29 d"}, "OO_RETENTION_TOMBSTONES", "longest"),
        ({"OO_RETENTION_DELIVERY_IDS": "3.9 d"}, "OO_RETENTION_DELIVERY_IDS", "three days"),
        ({"OO_RETENTION_DELIVERIES": "36 d"}, "OO_RETENTION_DELIVERIES", "three days"),
        ({"STATE_DIRECTORY": "/" + "x" * 107}, "places.socket", "at most 107 bytes"),
        ({"OO_PLACES_SOCKET": "/srv/oo", "OO_PLACES_DATABASE": "/srv/oo"}, "OO_PLACES_DATABASE", "three different files"),
    ],
)
def test_settings_must_go_together(environ: dict[str, str], place: str, sentence: str) -> None:
    """Values that are right by themselves and wrong together are a problem, placed at one that somebody wrote."""
    with pytest.raises(ConfigError) as caught:
        load(environ=HOME | environ)
    (problem,) = caught.value.problems
    assert problem.place == place
    assert sentence in problem.sentence


@pytest.mark.parametrize(
    "environ",
    [
        {"OO_SYNC_HEARTBEAT": "29.9"},
        {"OO_PUBLIC_HOST": "0.0.0.0", "OO_PUBLIC_URL": "https://oo.example"},
        {"OO_PUBLIC_HOST": "::1"},
        {"OO_PUBLIC_PORT": "0", "OO_PRIVATE_PORT": "0"},
        {"OO_PLACES_SOCKET": "/" + "é" * 53},
        {"OO_PUBLIC_MAX_CONNECTIONS": "100"},
        {"OO_SYNC_TICK": "9", "OO_SYNC_INTERVAL": "9"},
        {"OO_RETENTION_READ": "30 d", "OO_RETENTION_TOMBSTONES": "30 d"},
        {"OO_RETENTION_DELIVERY_IDS": "4 d", "OO_RETENTION_DELIVERIES": "4 d"},
    ],
)
def test_settings_that_just_go_together_are_taken(environ: dict[str, str]) -> None:
    """Each relation allows what it should."""
    load(environ=HOME | environ)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://oo@db.example/oo", "postgresql://oo@db.example/oo"),
        ("postgres://oo:hun:t@r2@db.example:5432/oo?sslmode=verify-full", "postgres://oo:…@db.example:5432/oo?sslmode=verify-full"),
        ("postgresql:///oo?host=/run/postgresql&password=hunter2&user=oo", "postgresql:///oo?host=/run/postgresql&password=…&user=oo"),
    ],
)
def test_a_database_on_a_server(address: str, shown: str) -> None:
    """Its address is taken as it is, and shown without its password; what lies beside a database is in the folder of the state."""
    settings = load(environ=HOME | {"OO_PLACES_DATABASE": address})
    assert settings.places.database == Server(address)
    assert (settings.places.beside, settings.places.locked) == (settings.places.state, settings.places.state / "daemon")
    (told,) = [each for each in show(settings) if each.key == "database"]
    assert told.value == f'"{shown}"'
    assert "hunt" not in repr(settings.places) + str(settings.places.database)


@pytest.mark.parametrize("address", ["mysql://oo@db/oo", "postgresql://oo@db /oo", "postgresql://", "postgresql:/oo"])
def test_what_is_no_place_of_a_database(address: str) -> None:
    """Neither a path nor an address that could be one."""
    with pytest.raises(ConfigError, match=r"an address postgresql://host/database"):
        load(environ=HOME | {"OO_PLACES_DATABASE": address})
