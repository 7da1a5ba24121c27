"""`oo inbox`: webhooks as they arrived, and what became of them."""

from __future__ import annotations

from datetime import timedelta

import click

from oo_client import Delivery
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option
from oo_daemon.cli.terminal import Column

COLUMNS = (
    Column(title="Delivery"),
    Column(title="Source"),
    Column(title="Sender's id", gives=True),
    Column(title="State"),
    Column(title="Tries", number=True),
    Column(title="Age", number=True),
    Column(title="Reason", gives=True),
)


@click.group()
def inbox() -> None:
    """List webhooks as they arrived, and what became of them."""


@inbox.command("list")
@click.option("--state", type=click.Choice(["received", "done", "dead"]), help="Only those in this state.")
@click.option("--source", help="Only those of this source; a registration's has the registration's id.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many.")
@json_option
@click.pass_obj
def list_(call: Call, state: str | None, source: str | None, limit: int, as_json: bool) -> None:
    """List deliveries, newest first."""
    found = ask(call, lambda client: client.deliveries(state=state, source=source, limit=limit))
    if as_json:
        terminal.show_json({"deliveries": found})
    elif found:
        terminal.show_table(COLUMNS, map(_row, found))
    elif state or source:
        terminal.show("No delivery matches.")
    else:
        terminal.show("Nothing has arrived yet. `oo registration list` shows the addresses that webhooks are to be posted to.")


def _row(delivery: Delivery) -> tuple[str, ...]:
    return (
        delivery.id,
        delivery.source,
        f"{delivery.delivery_id} (hash)" if delivery.weak else delivery.delivery_id,
        delivery.state,
        str(delivery.tries),
        str(timedelta(seconds=int(delivery.age))),
        delivery.reason,
    )
