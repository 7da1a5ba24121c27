"""`oo erasures`: what was asked to be forgotten, and how far that is."""

from __future__ import annotations

import click

from oo_client import Client, Erasure
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option
from oo_daemon.cli.terminal import Column, moment

COLUMNS = (
    Column(title="Erasure"),
    Column(title="Of"),
    Column(title="State"),
    Column(title="Asked for (UTC)"),
    Column(title="Done (UTC)"),
    Column(title="Waits for", gives=True),
)
PARTS = (
    Column(title="Connection"),
    Column(title="Provider"),
    Column(title="State"),
    Column(title="Revoked"),
    Column(title="Last tried (UTC)"),
    Column(title="What remains", gives=True),
)


@click.command()
@click.argument("erasure", required=False)
@json_option
@click.pass_obj
def erasures(call: Call, erasure: str | None, as_json: bool) -> None:
    """List erasures, or show one as its receipt: what the providers were told, what went, and who has read that it did."""
    if erasure is not None:
        found = ask(call, lambda client: client.erasure(erasure))
        if as_json:
            terminal.show_json(found)
        else:
            show_erasure(found)
        return
    known = ask(call, Client.erasures)
    if as_json:
        terminal.show_json({"erasures": known})
    elif known:
        rows = ((it.id, it.kind, it.state, moment(it.created_at), moment(it.finished_at), it.waits_for) for it in known)
        terminal.show_table(COLUMNS, rows)
    else:
        terminal.show("Nothing was asked to be forgotten.")


#: What is left on the disk.
LEFT = {
    "done": "nothing is left",
    "pending": "physical pending: until the file is packed",
    "server": "the rows are gone; PostgreSQL uses their room again by itself",
}


def show_erasure(found: Erasure) -> None:
    """Write one as its receipt."""
    terminal.show_fields(
        [
            ("Erasure", found.id),
            ("State", found.state if not found.waits_for else f"{found.state}: {found.waits_for}"),
            ("Taken back at the provider" if found.cause == "withdrawn" else "Asked for", moment(found.created_at)),
            ("Not to be found since", moment(found.erased_at)),
            ("In the file", LEFT[found.physical]),
            ("Erased", ", ".join(f"{table} {count}" for table, count in sorted(found.erased.items()))),
            ("Read by", ", ".join(f"{name} ({moment(at)})" for name, at in sorted(found.consumers.items()) if at)),
            ("Not yet read by", ", ".join(sorted(name for name, at in found.consumers.items() if not at))),
        ]
    )
    if found.connections:
        terminal.show("")
        terminal.show_table(
            PARTS,
            ((it.connection, it.provider, it.state, it.revoked, moment(it.tried_at), it.remains or it.reason) for it in found.connections),
        )
