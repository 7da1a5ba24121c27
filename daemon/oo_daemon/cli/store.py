"""`oo store`: move everything to another database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from oo_daemon.cli import terminal
from oo_daemon.cli.call import Call, json_option, quiet_option
from oo_daemon.cli.terminal import NotDone

if TYPE_CHECKING:
    from oo_config import Server

_BEGIN = ("sqlite:///", "postgresql://", "postgres://")


@click.group()
def store() -> None:
    """Move everything to another database, while no daemon runs."""


def _place(text: str) -> Path | Server:
    from oo_config import Server  # here, since the group alone needs no settings

    if text.startswith("sqlite:///"):
        return Path("/") / text.removeprefix("sqlite:///")
    if text.startswith(_BEGIN):
        return Server(text)
    raise click.UsageError(f"{text} is no database: write sqlite:///PATH or postgresql://USER@HOST/DATABASE.")


@store.command()
@click.argument("source")
@click.argument("target", required=False)
@json_option
@quiet_option
@click.pass_obj
def copy(call: Call, source: str, target: str | None, as_json: bool, quiet: bool) -> None:
    """Copy everything into an empty database, and compare the two; without a target into that of the settings.

    A copy that was cut off goes on where it was. Positions, ids and keys stay as they are, so that nobody notices but the operator.
    """
    from oo_daemon.store import copy as work
    from oo_daemon.store.engines import alone_on

    origin, goal = _place(source), _place(target) if target else call.settings.places.database
    if isinstance(origin, Path) and not origin.exists():
        raise NotDone(f"there is no {origin}", "name the file that places.database names")
    with alone_on(origin) as here:
        rows = sum(work.counted(here).values())
        with alone_on(goal) as there:
            with terminal.progress("Copying", rows, quiet=quiet) as told:
                work.copy(here, there, str(origin), told)
            try:
                with terminal.progress("Comparing", 2 * rows, quiet=quiet) as told:
                    done = work.compare(here, there, told)
            except work.Differs as wrong:
                raise NotDone(str(wrong), "empty the database and copy again, while no daemon runs on either") from None
    if as_json:
        terminal.show_json({"target": str(goal), "rows": dict(done.rows), "position": f"{done.epoch}-{done.position}"})
    elif not quiet:
        terminal.show(
            f"Copied and compared: {terminal.count(sum(done.rows.values()), 'row')}, the outbox up to {done.epoch}-{done.position}."
        )
        terminal.show("Next: set places.database to the new one, and start the daemon with the same keys and the same places.state.")
        terminal.show("Keep the old one until you trust the new one, and start no daemon on it: two would renew the same grants.")


@store.command()
@click.option("--yes", is_flag=True, help="Do not ask first.")
@quiet_option
@click.pass_obj
def adopt(call: Call, yes: bool, quiet: bool) -> None:
    """Say that the server's database was restored from a backup: positions get a new epoch, and grants are tried with care.

    `oo restore` does so for a file by itself.
    """
    from oo_daemon.store.backup import restored
    from oo_daemon.store.engines import alone_on

    place = call.settings.places.database
    if isinstance(place, Path):
        raise NotDone("the database is a file", "`oo restore` puts a backup in its place")
    if not yes:
        click.confirm(f"Was {place} restored from a backup?", abort=True, err=True)
    with alone_on(place) as database:
        restored(database)
    if not quiet:
        terminal.show("Start the daemons. Consumers ahead of the backup are told so and start again from its beginning or its end.")
