"""One door per library: each foreign library is imported in one or two places, and everything behind them speaks our words."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("config", "daemon", "plugins", "systemd", "vault")

#: library → path prefixes that may import it
DOORS = {
    "peewee": {"daemon/oo_daemon/store/"},
    "playhouse": {"daemon/oo_daemon/store/"},
    "apsw": {"daemon/oo_daemon/store/"},
    "psycopg": {"daemon/oo_daemon/store/postgresql.py", "daemon/oo_daemon/store/hints.py"},
    "apscheduler": {"daemon/oo_daemon/sync/schedule.py", "daemon/oo_daemon/sync/timetable.py"},
    "nacl": {"vault/oo_vault/box.py"},
    "nats": {"plugins/oo_nats/server.py"},
    "pluggy": {"daemon/oo_daemon/registry.py", "plugins/oo_sdk/hooks.py"},
    "jinja2": {"daemon/oo_daemon/ingress/pages.py"},
    "structlog": {"daemon/oo_daemon/ops/log.py"},
    "opentelemetry": {"daemon/oo_daemon/ops/traces.py"},
    "prometheus_client": {"daemon/oo_daemon/ops/exposition.py"},
    "tomllib": {"config/oo_config/"},
    "rich": {"daemon/oo_daemon/cli/terminal.py"},
    "jmespath": {"plugins/oo_webhook/expression.py"},
    "joserfc": {"daemon/oo_daemon/identity/jose.py"},
    "click": {"daemon/oo_daemon/cli/"},
    "yaml": {"daemon/oo_daemon/ingress/contract.py"},
}
#: The generated protobuf, and Google's runtime, are met only where events become bytes and where connectors name their payloads.
PROTOBUF_DOORS = {
    "plugins/oo_sdk/cloudevents.py",
    "plugins/oo_sdk/events.py",
    "plugins/oo_sdk/stored.py",
    "plugins/oo_sdk/uploads.py",
    "plugins/oo_sdk/vocabulary.py",
    "plugins/oo_sdk/_schema/",
    "daemon/oo_daemon/outbox/wire.py",
}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def imported(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def importers(library: str) -> set[str]:
    return {path for path, tree in sources() if any(name == library or name.startswith(f"{library}.") for name in imported(tree))}


@pytest.mark.parametrize(("library", "doors"), DOORS.items())
def test_a_library_has_one_door(library: str, doors: set[str]) -> None:
    """A library is imported behind its door only, and the door is in use."""
    found = importers(library)
    assert found
    assert {path for path in found if not any(path.startswith(door) for door in doors)} == set()


@pytest.mark.parametrize("library", ["google.protobuf", "oo_sdk._schema"])
def test_protobuf_has_its_doors(library: str) -> None:
    """The generated protobuf is imported only by the SDK's events and vocabulary, and by the hub's wire."""
    strangers = {path for path in importers(library) if not any(path.startswith(door) for door in PROTOBUF_DOORS)}
    assert strangers == set()
