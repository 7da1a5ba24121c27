"""`oo sync`: sync now, and wait."""

from __future__ import annotations

import asyncio
import shlex

import click
import msgspec

from oo_client import Client, Connection, Sync
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option, quiet_option
from oo_daemon.cli.terminal import Column, NotDone

#: Syncs asked for at once; the daemon has workers of its own and queues the rest.
AT_ONCE = 8
#: Seconds after which a sync that still runs is left alone: the daemon cuts a run at `sync.run_limit`, so something is wrong.
PATIENCE = 3600.0

COLUMNS = (
    Column(title="Connection"),
    Column(title="User", gives=True),
    Column(title="Provider"),
    Column(title="Outcome"),
    Column(title="Events", number=True),
    Column(title="Detail", gives=True),
)


@click.command()
@click.argument("connection", required=False)
@click.option("--all", "every", is_flag=True, help="Sync every active connection.")
@json_option
@quiet_option
@click.pass_obj
def sync(call: Call, connection: str | None, every: bool, as_json: bool, quiet: bool) -> None:
    """Sync a connection now and wait for it."""
    if every == (connection is not None):
        raise click.UsageError("Name a connection, or say --all; `oo connections` lists them.")
    if connection is None:
        _sync_all(call, as_json=as_json, quiet=quiet)
    else:
        _sync_one(call, connection, as_json=as_json, quiet=quiet)


def _sync_one(call: Call, connection: str, *, as_json: bool, quiet: bool) -> None:
    async def syncing(client: Client) -> tuple[Sync, Connection]:
        with terminal.waiting(f"Syncing {connection}", quiet=quiet):
            return await client.sync_and_wait(connection, patience=PATIENCE), await client.connection(connection)

    run, found = ask(call, syncing)
    if as_json:
        terminal.show_json(run)
    if run.outcome != "done":
        raise _not_done(run, found)
    if not (as_json or quiet):
        more = f" ({run.detail.rstrip('.')})" if run.detail else ""
        terminal.show(f"Done: {terminal.count(run.events, 'event')}{more}.")


def _sync_all(call: Call, *, as_json: bool, quiet: bool) -> None:
    async def syncing(client: Client) -> tuple[list[tuple[Connection, Sync]], int]:
        found = await client.connections()
        active = [each for each in found if each.state == "active"]
        turn = asyncio.Semaphore(AT_ONCE)
        with terminal.progress("Syncing", len(active), quiet=quiet) as advance:

            async def one(each: Connection) -> tuple[Connection, Sync]:
                async with turn:
                    run = await client.sync_and_wait(each.id, patience=PATIENCE)
                advance(1)
                return each, run

            return list(await asyncio.gather(*map(one, active))), len(found) - len(active)

    runs, left_out = ask(call, syncing)
    if as_json:
        terminal.show_json({"syncs": [{"connection": each.id} | msgspec.to_builtins(run) for each, run in runs]})
    elif not quiet:
        if runs:
            terminal.show_table(COLUMNS, (_row(each, run) for each, run in runs))
        if left_out:
            terminal.note(f"Left out because not active: {terminal.count(left_out, 'connection')}.")
        if not runs:
            terminal.show("There is no active connection to sync. `oo connect PROVIDER --user USER` makes a link for one.")
    if behind := sum(run.outcome != "done" for _, run in runs):
        raise NotDone(f"{behind} of {terminal.count(len(runs), 'sync')} did not come to its end", "see `oo connections show ID`")


def _not_done(run: Sync, connection: Connection) -> NotDone:
    detail = f" ({run.detail.rstrip('.')})" if run.detail else ""
    look = f"see `{shlex.join(['oo', 'connections', 'show', connection.id])}`"
    match run.outcome:
        case "signed_out":
            account = ["--account", connection.account] if connection.account != "default" else []
            again = shlex.join(["oo", "connect", connection.provider, "--user", connection.user, *account])
            return NotDone(f"{connection.user} must sign in at {connection.provider} again{detail}", f"make a link with `{again}`")
        case "later":
            return NotDone(f"the sync of {connection.id} goes on later{detail}", f"the daemon does it by itself; {look}")
        case "stalled":
            return NotDone(f"the sync of {connection.id} gets no further{detail}", f"the daemon asks less often; {look}")
        case "running":
            return NotDone(f"the sync of {connection.id} still runs", look)
        case _:
            return NotDone(f"the sync of {connection.id} failed{detail}", f"the daemon tries again by itself; {look}")


def _row(connection: Connection, run: Sync) -> tuple[str, ...]:
    events = f"{run.events:,}".replace(",", "\u2009")
    return connection.id, connection.user, connection.provider, run.outcome.replace("_", " "), events, run.detail
