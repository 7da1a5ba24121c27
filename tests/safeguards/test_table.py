"""The table of safeguards fits the tree: what `make safeguards` takes minutes to prove can be begun at any time."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from safeguards.run import ROOT, changed
from safeguards.table import SAFEGUARDS, Safeguard

NAMES = [safeguard.name for safeguard in SAFEGUARDS]
LEAST = 25  #: G4


@cache
def found_in(path: Path) -> frozenset[str]:
    """The tests of a file and of the files whose classes it takes: names such as `test_a` and `TestB::test_a`."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    imported: dict[str, Path] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            file = ROOT / "tests" / f"{node.module.replace('.', '/')}.py"
            imported |= {alias.name: file for alias in node.names if file.exists()}
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name, body=body, bases=bases):
                found |= {f"{name}::{item.name}" for item in body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}
                for base in bases:
                    if isinstance(base, ast.Name) and base.id in imported:
                        theirs = found_in(imported[base.id])
                        found |= {f"{name}::{test.partition('::')[2]}" for test in theirs if test.startswith(f"{base.id}::")}
    return frozenset(found)


@pytest.mark.rows("G4")
def test_there_are_enough_and_each_has_a_name_of_its_own() -> None:
    """At least 25, none twice, each serving a row."""
    assert len(NAMES) == len(set(NAMES)) >= LEAST
    assert all(re.fullmatch(r"[A-H]\d{1,2}", safeguard.row) for safeguard in SAFEGUARDS)


@pytest.mark.rows("G4")
@pytest.mark.parametrize("safeguard", SAFEGUARDS, ids=NAMES)
def test_a_safeguard_can_be_switched_off(safeguard: Safeguard) -> None:
    """The text to change is there exactly once, what becomes of it is Python, and the tests that must notice exist."""
    for change in safeguard.off:
        source = (ROOT / change.file).read_text()
        after = changed(source, change.text, change.instead)
        assert ast.dump(ast.parse(after)) != ast.dump(ast.parse(source))
    assert safeguard.tests
    for test in safeguard.tests:
        file, _, name = test.partition("::")
        assert name in found_in(ROOT / file), test


def test_a_place_that_is_not_there_is_told() -> None:
    """A text that is not there, or there twice, is no place to change."""
    for source in ("", "aa"):
        with pytest.raises(ValueError, match="times"):
            changed(source, "a", "b")
