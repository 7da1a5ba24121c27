"""`oo disconnect`: give a connection's access back and erase its credential."""

from __future__ import annotations

import shlex
import sys

import click

from oo_client import Client, Connection
from oo_client.client import WAIT
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option, quiet_option
from oo_daemon.cli.connections import revoked
from oo_daemon.cli.terminal import NotDone

#: Seconds after which a provider that cannot be told is left to the daemon.
PATIENCE = 60.0


@click.command()
@click.argument("connection")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@json_option
@quiet_option
@click.pass_obj
def disconnect(call: Call, connection: str, yes: bool, as_json: bool, quiet: bool) -> None:
    """Give a connection's access back at the provider and erase its credential here.

    Syncs and actions end at once; events that were written stay.
    """
    if not yes:
        _confirm(ask(call, lambda client: client.connection(connection)))

    async def disconnecting(client: Client) -> Connection:
        with terminal.waiting("Telling the provider", quiet=quiet):
            found = await client.disconnect(connection, wait=WAIT)
            waited = WAIT
            while found.state == "revoking" and waited < PATIENCE:
                found = await client.disconnect(connection, wait=WAIT)
                waited += WAIT
        return found

    found = ask(call, disconnecting)
    if as_json:
        terminal.show_json(found)
    revocation = found.revocation
    if found.state == "revoking":
        reason = f" ({revocation.reason.rstrip('.')})" if revocation and revocation.reason else ""
        raise NotDone(
            f"{found.provider} has not been told yet{reason}",
            f"oO reads nothing more and goes on telling it for a day; see `{shlex.join(['oo', 'connections', 'show', found.id])}`",
        )
    if not (as_json or quiet):
        terminal.show("Disconnected. The credential is erased; events that were written stay.")
        if revocation is not None:
            terminal.show_fields(
                [("Revoked", revoked(revocation)), ("Remains", revocation.remains), ("By hand", revocation.manual_url)],
            )


def _confirm(found: Connection) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("There is no terminal to ask at: say --yes.")
    whose = f"{found.user}'s {found.provider}{f' ({found.label})' if found.label else ''}"
    terminal.note(f"This disconnects {whose}: oO gives its access back there, erases its credential and reads nothing more.")
    terminal.note("Events that were written stay. Only the person can connect again.")
    click.confirm("Disconnect?", abort=True, err=True)
