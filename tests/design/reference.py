"""The reference, written from the code: `python -m design.reference` writes docs/reference again.

sdk.md is kept, so that a change of it is seen in review; the others are made where the site is."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import click

import oo_sdk
import oo_sdk.stand_in
import oo_sdk.testing
from oo_config import describe
from oo_daemon.cli import VERBS, oo
from oo_daemon.cli.terminal import Exit
from oo_sdk import hooks

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "reference"
SDK = """\
# Reference of the SDK

Made from the code by `make reference`. Times are in seconds unless a name says otherwise; instants have a zone. How it is used:
[the tutorial](../tutorial/connector.md).
"""


COMMANDS = """\
# Reference of the command

Made from the code by `make reference`. Each verb takes `--help`. What they end with:

| exit code | means |
|---|---|
"""
SETTINGS = """\
# Reference of the settings

Made from the code by `make reference`. A setting stands in `/etc/oo-integrations/oo.toml`, or in the file that `--config` or `OO_CONFIG`
names, in the section given here; a variable such as `OO_PLACES_STATE` for `state` in `[places]` wins over the file. `oo config example`
writes all of it as a file, `oo config show` tells what holds.
"""


def pages() -> dict[str, str]:
    """Every page that is made from the code, by its file's name."""
    return {"sdk.md": sdk(), "commands.md": commands(), "settings.md": settings()}


def settings() -> str:
    """Every setting, section by section."""
    parts = [SETTINGS]
    for section, described in groupby(describe(), key=lambda each: each.section):
        known = list(described)
        parts.append(f"\n## {section}\n\n{known[0].about}\n\n| setting | may be | default | what for |\n|---|---|---|---|\n")
        parts += [f"| `{each.key}` | {_cell(each.type)} | {_cell(each.default)} | {_cell(each.reason)} |\n" for each in known]
    return "".join(parts)


def _cell(said: str) -> str:
    return said.replace("|", "\\|")


def commands() -> str:
    """Every verb, with what it takes."""
    parts = [COMMANDS, *_exits()]
    context = click.Context(oo, info_name="oo")
    for name in VERBS:
        parts.append(_verb(name, oo.get_command(context, name), context, 2))
    return "".join(parts)


def _exits() -> Iterator[str]:
    for line in inspect.getsource(Exit).splitlines():
        code, apart, says = line.partition("  #: ")
        if apart or "OK = " in line:
            yield f"| {code.split('=')[1].strip()} | {says or 'it is done'} |\n"


def _verb(name: str, command: click.Command | None, above: click.Context, level: int) -> str:
    assert command is not None
    context = click.Context(command, info_name=name, parent=above)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    text = f"\n{'#' * level} {context.command_path}\n\n{inspect.cleandoc(command.help or '')}\n\n```text\n{usage}\n```\n"
    options = [
        known for parameter in command.get_params(context) if (known := parameter.get_help_record(context)) and "--help" not in known[0]
    ]
    if options:
        text += "\n" + "".join(f"- `{' '.join(names.split())}`: {' '.join(says.split())}\n" for names, says in options)
    if isinstance(command, click.Group):
        text += "".join(_verb(each, command.get_command(context, each), context, level + 1) for each in command.list_commands(context))
    return text


def sdk() -> str:
    """Everything public of the SDK, by name."""
    parts = [SDK, "## Hooks\n", *_hooks()]
    for module in (oo_sdk, oo_sdk.testing, oo_sdk.stand_in):
        parts += [f"## {module.__name__}\n", *(_entry(module, name) for name in module.__all__ if name != "hookimpl")]
    return "\n".join(parts)


def _hooks() -> Iterator[str]:
    for name, hook in inspect.getmembers(hooks, inspect.isfunction):
        if name.startswith("oo_"):
            yield f"### {name}{inspect.signature(hook)}\n\n{inspect.getdoc(hook)}\n".replace("'", "")


def _entry(module: ModuleType, name: str) -> str:
    thing = getattr(module, name)
    home = f"{thing.__module__.replace('.', '/')}.py" if getattr(thing, "__module__", "").startswith("oo_sdk") else ""
    source = f"\n\n[Source](../../plugins/{home})" if home and not home.startswith("oo_sdk/_schema") else ""
    text = f"### {name}\n\n{_says(thing)}{source}\n"
    if inspect.isclass(thing) and source:
        # What a class has from one that has no name of its own for authors is said with it.
        hidden = [each for each in thing.__mro__ if each.__module__.startswith("oo_sdk") and each.__name__ not in module.__all__]
        members = "".join(f"- {line}\n" for each in (*hidden, thing) for line in _members(each))
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
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
