"""Every event of the log is documented, and nothing is documented that is not logged."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error"}
#: By what loggers are called where events are logged; a plugin's own logger is the plugin's.
LOGGERS = {"log", "_log", "out"}


def events() -> dict[str, tuple[str, set[str]]]:
    """Name → level and fields of each event that the hub logs."""
    found: dict[str, tuple[str, set[str]]] = {}
    for path in sorted((ROOT / "daemon" / "oo_daemon").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=owner, attr=level), args=[ast.Constant(value=str(name)), *_], keywords=keywords):
                    logs = ast.unparse(owner).split(".")[-1] in LOGGERS or "log_for(" in ast.unparse(owner)
                    if level in LEVELS and logs and re.fullmatch(r"[a-z_]+", name):
                        found.setdefault(name, (level, set()))[1].update(keyword.arg or "…" for keyword in keywords)
    found["request"] = (
        "debug",
        {"method", "path", "status", "ms"},
    )  # info where it is refused: chosen by a name, which is not followed here
    return found


def documented() -> dict[str, str]:
    """Name → level, as the page has them."""
    rows = re.findall(r"^\| `([a-z_]+)` \| (\w+) \|", (ROOT / "docs" / "operations" / "log.md").read_text(), re.MULTILINE)
    return dict(rows)


def test_every_event_is_documented() -> None:
    """A new name needs a row that says what it means; a row without an event goes."""
    assert documented() == {name: level for name, (level, _) in events().items()}


def test_no_field_names_a_person() -> None:
    """Fields are kinds, counts, reasons and ids of ours: never a user, an account or a label."""
    assert not {field for _, fields in events().values() for field in fields} & {"user", "account", "label", "email", "name_of", "title"}
