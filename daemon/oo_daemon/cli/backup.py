"""`oo backup`: an encrypted copy of everything, restored and checked before it counts."""

from __future__ import annotations

import asyncio

import click

from oo_client import Backup, Client
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option, quiet_option
from oo_daemon.cli.terminal import Column, moment, size

COLUMNS = (Column(title="Backup"), Column(title="Made (UTC)"), Column(title="Size", number=True), Column(title="Position"))


@click.command()
@click.option("--list", "as_list", is_flag=True, help="Show the backups there are, and make none.")
@json_option
@quiet_option
@click.pass_obj
def backup(call: Call, as_list: bool, as_json: bool, quiet: bool) -> None:
    """Make a backup in `backup.folder`. It is encrypted, and was restored beside and checked before this command ends."""
    if as_list:
        known = ask(call, Client.backups)
        if as_json:
            terminal.show_json({"backups": known})
        elif known:
            terminal.show_table(COLUMNS, ((each.name, moment(each.made_at), size(each.size), each.position) for each in known))
        else:
            terminal.show("There is no backup yet; `oo backup` makes one.")
        return

    made = ask(call, lambda client: _made(client, quiet))
    if as_json:
        terminal.show_json(made)
    elif not quiet:
        terminal.show(f"Made and checked: {made.name}.")


#: Seconds between two looks at how far it is.
LOOK = 0.1


async def _made(client: Client, quiet: bool) -> Backup:
    making = asyncio.ensure_future(client.make_backup())
    try:
        while (now := await client.backup_making()) is None and not making.done():
            await asyncio.wait({making}, timeout=LOOK)
        if now is None:
            return await making
        with terminal.progress("Making a backup, and restoring it beside", now.total, of_bytes=True, quiet=quiet) as told:
            shown, total = 0, now.total
            while not making.done():
                if now is not None and now.done > shown:
                    told(now.done - shown)
                    shown = now.done
                await asyncio.wait({making}, timeout=LOOK)
                now = await client.backup_making()
            told(total - shown)
        return await making
    finally:
        making.cancel()
