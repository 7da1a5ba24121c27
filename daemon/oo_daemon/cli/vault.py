"""`oo vault`: the key that seals credentials."""

from __future__ import annotations

import click

from oo_daemon.cli import terminal
from oo_daemon.cli.call import Call, json_option
from oo_vault import create_key_file


@click.group()
def vault() -> None:
    """Make the key that seals credentials."""


@vault.command()
@json_option
@click.pass_obj
def init(call: Call, as_json: bool) -> None:
    """Make a root key, and show the recovery key this once."""
    path = call.settings.vault.key_file
    recovery = create_key_file(path)
    if as_json:
        terminal.show_json({"key_file": str(path), "recovery_key": recovery})
        return
    terminal.show(f"The root key is in {path}.")
    terminal.show("Keep this recovery key elsewhere; it is not shown again, and without it backups are worthless:")
    terminal.show("")
    terminal.show_link(recovery)
