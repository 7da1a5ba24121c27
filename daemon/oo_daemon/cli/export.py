"""`oo export`: everything that is kept of a user, as files."""

from __future__ import annotations

import os
from pathlib import Path

import click

from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, quiet_option
from oo_daemon.cli.terminal import NotDone


@click.command()
@click.option("--user", required=True, help="Whose.")
@click.option("--to", type=click.Path(path_type=Path, dir_okay=False), help="The zip file to write; USER.zip without it.")
@quiet_option
@click.pass_obj
def export(call: Call, user: str, to: Path | None, quiet: bool) -> None:
    """Write everything that is kept of a user into a zip file that a person and a program can read."""
    path = to or Path(f"{user}.zip")
    with terminal.waiting("Collecting", quiet=quiet):
        whole = ask(call, lambda client: client.export(user))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise NotDone(f"there is a file {path} already", "name another one with --to") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(whole)
    if not quiet:
        terminal.show(f"Wrote {path} ({terminal.size(len(whole))}). It is readable: keep it where only its owner looks.")
