"""`oo runs`: the syncs of late, and what each came to."""

from __future__ import annotations

import click

from oo_client import Run
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option
from oo_daemon.cli.terminal import Column

COLUMNS = (
    Column(title="Started (UTC)"),
    Column(title="Connection"),
    Column(title="Outcome"),
    Column(title="Seconds", number=True),
    Column(title="Calls", number=True),
    Column(title="Pages", number=True),
    Column(title="Events", number=True),
    Column(title="Detail", gives=True),
)


@click.command()
@click.argument("connection", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="So many at most.")
@json_option
@click.pass_obj
def runs(call: Call, connection: str | None, limit: int, as_json: bool) -> None:
    """List the newest syncs, of one connection or of all."""
    found = ask(call, lambda client: client.runs(connection, limit=limit))
    if as_json:
        terminal.show_json({"runs": found})
    elif found:
        terminal.show_table(COLUMNS, map(_row, found))
    else:
        terminal.show("Nothing has been synced yet. `oo connect PROVIDER --user USER` makes a link for a connection.")


def _row(run: Run) -> tuple[str, ...]:
    took = f"{(run.finished_at - run.started_at).total_seconds():.1f}" if run.finished_at else ""
    numbers = (f"{number:,}".replace(",", "\u2009") for number in (run.calls, run.pages, run.events))
    return (terminal.moment(run.started_at), run.connection, run.outcome.replace("_", " "), took, *numbers, run.detail)
