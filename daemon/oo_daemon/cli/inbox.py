"""`oo inbox`: webhooks as they arrived, and what became of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

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
    """Look at webhooks as they arrived, replay them, and drop them."""


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


@inbox.command()
@click.argument("delivery")
@json_option
@click.pass_obj
def show(call: Call, delivery: str, as_json: bool) -> None:
    """Show one delivery with its headers and its body."""
    found = ask(call, lambda client: client.delivery(delivery))
    if as_json:
        terminal.show_json(found)
        return
    terminal.show_fields(
        [
            ("Delivery", found.id),
            ("Source", found.source),
            ("Sender's id", f"{found.delivery_id} (hash)" if found.weak else found.delivery_id),
            ("State", found.state),
            ("Reason", found.reason),
            ("Tries", str(found.tries)),
            ("Received (UTC)", terminal.moment(found.received_at)),
            ("Next try (UTC)", terminal.moment(found.next_try_at)),
            ("Done (UTC)", terminal.moment(found.done_at)),
            *found.headers.items(),
        ]
    )
    terminal.show("")
    if found.body is None:
        terminal.show("The body was dropped.")
    else:
        for line in found.body.decode(errors="replace").splitlines() or [""]:
            terminal.show(line)


def _which(verb: Any) -> Any:
    """Give a verb the ways to name deliveries."""
    for option in (
        click.option("--state", type=click.Choice(["received", "done", "dead"]), help="Only those in this state."),
        click.option("--source", help="Only those of this source."),
        click.argument("deliveries", nargs=-1, metavar="[FIRST [LAST]]"),
    ):
        verb = option(verb)
    return verb


def _range(deliveries: tuple[str, ...], source: str | None, state: str | None) -> dict[str, str | None]:
    if len(deliveries) > 2:
        raise click.UsageError("Name one delivery, or the first and the last of several.")
    if not (deliveries or source or state):
        raise click.UsageError("Say which: one delivery, the first and the last, --source or --state.")
    return {
        "first": deliveries[0] if deliveries else None,
        "last": deliveries[-1] if deliveries else None,
        "source": source,
        "state": state,
    }


@inbox.command()
@_which
@json_option
@click.pass_obj
def replay(call: Call, deliveries: tuple[str, ...], source: str | None, state: str | None, as_json: bool) -> None:
    """Have deliveries worked on once more: one, a range, or those of a source or state. What was told is not told again."""
    chosen = _range(deliveries, source, state)
    done = ask(call, lambda client: client.replay(**chosen))
    if as_json:
        terminal.show_json({"deliveries": done})
    else:
        terminal.show(f"Being worked on once more: {_count(done)}.")


@inbox.command()
@_which
@click.option("--yes", is_flag=True, help="Do not ask first.")
@json_option
@click.pass_obj
def drop(call: Call, deliveries: tuple[str, ...], source: str | None, state: str | None, yes: bool, as_json: bool) -> None:
    """Forget the bodies of deliveries for good; what was still to become events does not."""
    chosen = _range(deliveries, source, state)
    if not yes:
        click.confirm("The bodies cannot be brought back. Drop them?", abort=True, err=True)
    done = ask(call, lambda client: client.drop(**chosen))
    if as_json:
        terminal.show_json({"deliveries": done})
    else:
        terminal.show(f"Dropped: {_count(done)}.")


def _count(done: tuple[str, ...]) -> str:
    return f"{len(done)} {'delivery' if len(done) == 1 else 'deliveries'}"


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
