"""`oo connections reap`: disconnect what its owner has long stopped giving."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import click

from oo_client import Client, Connection
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option, quiet_option
from oo_daemon.cli.terminal import Column

COLUMNS = (
    Column(title="Connection"),
    Column(title="User", gives=True),
    Column(title="Provider"),
    Column(title="Account", gives=True),
    Column(title="Waits since (UTC)"),
    Column(title="Reason", gives=True),
)


@click.command()
@click.option("--days", type=click.FloatRange(min=1), default=90, show_default=True, help="For how long they have waited for their owner.")
@click.option("--provider", help="Only those at this provider.")
@click.option("--dry-run", is_flag=True, help="Only show which they are.")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@json_option
@quiet_option
@click.pass_obj
def reap(call: Call, days: float, provider: str | None, dry_run: bool, yes: bool, as_json: bool, quiet: bool) -> None:
    """Disconnect connections that have waited long for their owner to sign in again.

    Their grants are gone or not used, and a credential that nobody needs is best not kept. Events that were written stay.
    """
    dead = _dead(ask(call, lambda client: client.connections(provider=provider)), datetime.now(UTC) - timedelta(days=days))
    if as_json and dry_run:
        terminal.show_json({"connections": dead})
        return
    if not dead:
        if as_json:
            terminal.show_json({"connections": []})
        elif not quiet:
            terminal.show(f"No connection has waited for its owner for {days:g} days.")
        return
    if not (as_json or quiet):
        terminal.show_table(COLUMNS, ((it.id, it.user, it.provider, it.label or it.account, _waits(it), it.reason) for it in dead))
    if dry_run:
        terminal.note(f"Without --dry-run {terminal.count(len(dead), 'connection')} would be disconnected.")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("There is no terminal to ask at: say --yes, or look first with --dry-run.")
        click.confirm(f"Disconnect {terminal.count(len(dead), 'connection')}?", abort=True, err=True)

    async def disconnecting(client: Client) -> list[Connection]:
        with terminal.progress("Disconnecting", len(dead), quiet=quiet) as told:
            gone = []
            for each in dead:
                gone.append(await client.disconnect(each.id))
                told(1)
        return gone

    gone = ask(call, disconnecting)
    if as_json:
        terminal.show_json({"connections": gone})
    elif not quiet:
        told = sum(1 for each in gone if each.state == "disconnected")
        rest = f"; oO goes on telling {terminal.count(len(gone) - told, 'provider')} for a day" if told < len(gone) else ""
        terminal.show(f"Disconnected {terminal.count(len(gone), 'connection')}{rest}.")


def _dead(known: Sequence[Connection], before: datetime) -> list[Connection]:
    return [each for each in known if each.state == "needs_sign_in" and _since(each) < before]


def _since(connection: Connection) -> datetime:
    """When it began to wait: a connection whose owner must sign in is not synced any more."""
    last = connection.last_sync
    return (last.finished_at or last.started_at) if last else connection.created_at


def _waits(connection: Connection) -> str:
    return terminal.moment(_since(connection))
