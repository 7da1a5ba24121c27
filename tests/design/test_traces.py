"""Every span is declared and documented, and what is noted of it comes from closed sets."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from oo_daemon.ops.traces import NOTES, SPANS

REPOSITORY = Path(__file__).parents[2]


def calls() -> Iterator[tuple[str, str, set[str]]]:
    """(verb, name, notes) of each call of the port."""
    for path in sorted((REPOSITORY / "daemon" / "oo_daemon").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=owner, attr="span" | "note" as verb), args=arguments, keywords=keywords):
                    if ast.unparse(owner).split(".")[-1] in {"trace", "_trace"}:
                        name = arguments[0].value if arguments and isinstance(arguments[0], ast.Constant) else ""
                        yield verb, str(name), {keyword.arg or "**" for keyword in keywords} - {"parent"}


def test_what_is_traced_is_declared() -> None:
    """A name that nobody declared would fail where traces are on, and one that nobody uses would say nothing."""
    assert {name for verb, name, _ in calls() if verb == "span"} == SPANS.keys()


@pytest.mark.rows("H7", "F15")
def test_notes_come_from_closed_sets() -> None:
    """No span says anything of a person."""
    assert {note for _, _, notes in calls() for note in notes} == NOTES.keys()


def test_every_span_is_documented() -> None:
    """The page has each of them, with the same words."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+) \|$", (REPOSITORY / "docs/operations/traces.md").read_text(), re.MULTILINE)
    assert {name: (kind, says) for name, kind, says in rows} == {name: (kind.name.lower(), says) for name, (kind, says) in SPANS.items()}
