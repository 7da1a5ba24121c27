"""`oo erase`: forget a user, or one connection."""

from __future__ import annotations

import sys

import click

from oo_client import Client, Erasure
from oo_client.client import WAIT
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option, quiet_option
from oo_daemon.cli.erasures import show_erasure
from oo_daemon.cli.terminal import NotDone

#: Seconds after which what is still waited for is left to the daemon.
PATIENCE = 60.0


@click.command()
@click.option("--user", help="Everything of this user.")
@click.option("--connection", help="One connection and everything of it.")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@click.option(
    "--without-keys", is_flag=True, help="The vault's keys are lost: work on the file, while no daemon runs, and tell no provider."
)
@json_option
@quiet_option
@click.pass_obj
def erase(call: Call, user: str | None, connection: str | None, yes: bool, without_keys: bool, as_json: bool, quiet: bool) -> None:
    """Forget: connections, credentials, events, deliveries, run logs. Providers are told, and so are those who read the outbox.

    It cannot be undone. `oo export` hands out what is kept, and might come first.
    """
    if (user is None) == (connection is None):
        raise click.UsageError("Name a --user or a --connection.")
    what = f"everything of {user}" if user is not None else f"the connection {connection} and everything of it"
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("There is no terminal to ask at: say --yes.")
        terminal.note(f"This erases {what}. It cannot be undone; `oo export` hands out what is kept.")
        named = user if user is not None else connection
        if click.prompt("To go on, type the name again", err=True, default="", show_default=False) != named:
            raise NotDone("that was not the name", "nothing was erased")
    if without_keys:
        count = _on_the_file(call, user, connection or "")
        if not quiet:
            terminal.show(f"Erased: {terminal.count(count, 'connection')}. No provider was told: the people concerned can remove oO there.")
        return

    async def erasing(client: Client) -> Erasure:
        with terminal.waiting("Erasing", quiet=quiet):
            found = await (client.erase_user(user) if user is not None else client.erase_connection(connection or ""))
            waited = 0.0
            while found.state == "running" and waited < PATIENCE:
                found = await client.erasure(found.id, wait=WAIT)
                waited += WAIT
            if found.state == "waiting":
                found = await client.erasure(found.id, wait=5)
        return found

    found = ask(call, erasing)
    if as_json:
        terminal.show_json(found)
    elif not quiet:
        show_erasure(found)


def _on_the_file(call: Call, user: str | None, connection: str) -> int:
    """Erase without the daemon; gives how many connections there were."""
    from oo_daemon.connections.uploads import Files  # here, since only this way of erasing does without the daemon
    from oo_daemon.host import HostChance, HostClock
    from oo_daemon.outbox import own, wire
    from oo_daemon.privacy.offline import Offline

    places = call.settings.places
    offline = Offline(
        place=places.database,
        beside=places.beside,
        clock=HostClock(),
        chance=HostChance(),
        purge=lambda erased: Files(places.state / "uploads").remove(erased.id),
        erased_event=own.erased_event,
        encode=wire.encode,
    )
    return offline.of_user(user) if user is not None else offline.of_connection(connection)
