"""The reference of the SDK, written from its code: `python -m design.reference` writes docs/reference/sdk.md again."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import oo_sdk
import oo_sdk.testing
from oo_sdk import hooks

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "sdk.md"
HEAD = """\
# Reference of the SDK

Made from the code by `make reference`. Times are in seconds unless a name says otherwise; instants have a zone. How it is used:
[the tutorial](../tutorial/connector.md).
"""


def page() -> str:
    """Everything public, by name."""
    parts = [HEAD, "## Hooks\n", *_hooks()]
    for module in (oo_sdk, oo_sdk.testing):
        parts += [f"## {module.__name__}\n", *(_entry(module, name) for name in module.__all__ if name != "hookimpl")]
    return "\n".join(parts)


def _hooks() -> Iterator[str]:
    for name, hook in inspect.getmembers(hooks, inspect.isfunction):
        if name.startswith("oo_"):
            yield f"### {name}{inspect.signature(hook)}\n\n{inspect.getdoc(hook)}\n".replace("'", "")


def _entry(module: ModuleType, name: str) -> str:
    thing = getattr(module, name)
    home = f"{thing.__module__.replace('.', '/')}.py" if getattr(thing, "__module__", "").startswith("oo_sdk") else ""
    source = f" ([source](../../plugins/{home}))" if home and not home.startswith("oo_sdk/_schema") else ""
    text = f"### {name}{source}\n\n{_says(thing)}\n"
    if inspect.isclass(thing) and source:
        members = "".join(f"- {line}\n" for line in _members(thing))
        text += f"\n{members}" if members else ""
    return text


def _says(thing: Any) -> str:
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return f"Stands for `{thing}`.".replace("collections.abc.", "").replace("typing.", "")
    return inspect.cleandoc(thing.__dict__.get("__doc__") or "A message of oO's schema." if inspect.isclass(thing) else thing.__doc__ or "")


def _members(thing: type[Any]) -> Iterator[str]:
    """Fields and methods as they are written, with what the comment beside them or their first line says."""
    lines = inspect.getsource(thing).splitlines()
    (tree,) = ast.parse(dedent("\n".join(lines))).body
    assert isinstance(tree, ast.ClassDef)
    for node in tree.body:
        if isinstance(node, ast.AnnAssign | ast.Assign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(target, ast.Name) and not target.id.startswith("_"):
                yield _line(ast.unparse(node), lines[(node.end_lineno or node.lineno) - 1].partition("#:")[2].strip())
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith(("_", "test_")):
            if any(isinstance(each, ast.Name) and each.id == "overload" for each in node.decorator_list):
                continue
            word = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
            gives = f" -> {ast.unparse(node.returns)}" if node.returns else ""
            yield _line(f"{word}{node.name}({ast.unparse(node.args)}){gives}", (ast.get_docstring(node) or "").partition("\n")[0])
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield _line(node.name, (ast.get_docstring(node) or "").partition("\n")[0])


def _line(code: str, says: str) -> str:
    return f"`{code}`" + (f": {says}" if says else "")


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
