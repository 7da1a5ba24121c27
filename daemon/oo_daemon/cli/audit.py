"""`oo audit`: what administrators did."""

from __future__ import annotations

import click

from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option
from oo_daemon.cli.terminal import Column, NotDone, moment

COLUMNS = (
    Column(title="Entry", number=True),
    Column(title="Time (UTC)"),
    Column(title="Who"),
    Column(title="What"),
    Column(title="About", gives=True),
    Column(title="Answer", number=True),
)


@click.group()
def audit() -> None:
    """List what administrators did, and check that nobody has changed it."""


@audit.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many of the latest.")
@json_option
@click.pass_obj
def list_(call: Call, limit: int, as_json: bool) -> None:
    """List the latest acts, newest first."""
    entries = ask(call, lambda client: client.audit(limit=limit))
    if as_json:
        terminal.show_json({"entries": entries})
    elif entries:
        terminal.show_table(COLUMNS, ((str(it.number), moment(it.at), it.who, it.act, it.about, str(it.status)) for it in entries))
    else:
        terminal.show("Nothing was done yet.")


@audit.command()
@click.option("--head", default="", help="A last link that you kept, such as one from the daemon's log.")
@json_option
@click.pass_obj
def verify(call: Call, head: str, as_json: bool) -> None:
    """Say whether any entry was changed, left out or cut off. Ends with 1 where one was."""
    found = ask(call, lambda client: client.audit_verdict(head=head))
    if as_json:
        terminal.show_json(found)
    if not found.whole:
        raise NotDone(f"the audit log is not whole ({found.says})", "find out who writes to the database beside the daemon")
    if not as_json:
        terminal.show(f"Nothing was changed or cut ({found.entries} so far). Keep this head elsewhere:")
        terminal.show_link(found.head or "(none yet)")
