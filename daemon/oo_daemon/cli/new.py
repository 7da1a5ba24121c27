"""`oo new`: begin a plugin of one's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import click

import oo_daemon
from oo_daemon.cli import scaffold, terminal


@click.group()
def new() -> None:
    """Begin a plugin of your own."""


@new.command()
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(get_args(scaffold.Kind)),
    prompt=(
        "How does it learn of things: people sign in (oauth), enter a key (api-key), it is posted to (webhook), "
        "or people hand in files (import)?"
    ),
    help="How it learns of things.",
)
@click.option("--title", help="The provider's name as people know it; made of NAME where it is left out.")
@click.option("--into", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Make its folder in this one.")
def connector(name: str, kind: scaffold.Kind, title: str | None, into: Path) -> None:
    """Write a package with a connector that works and a test that passes.

    NAME is the connector's id, such as acme_notes: the types of its events begin with it.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
        raise click.UsageError(f"{name!r} is no id for a connector: use lower-case letters, digits and _.")
    made = scaffold.files(name, kind, title=title or name.replace("_", " ").title(), sdk=oo_daemon.__version__)
    folder = into / f"{name.replace('_', '-')}-oo"
    if folder.exists():
        raise terminal.NotDone(f"{folder} is there already", "choose another name, or another folder with --into")
    for path, text in made.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    terminal.show(f"{folder} holds a connector that works, for a provider that does not exist.")
    terminal.show(f"Try it: cd {folder} && pip install -e '.[test]' && pytest")
