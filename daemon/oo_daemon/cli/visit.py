"""`oo visit`: a link by which a person opens their own page."""

from __future__ import annotations

import click

from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option, quiet_option


@click.command()
@click.option("--user", required=True, help="The person, as your product names them.")
@json_option
@quiet_option
@click.pass_obj
def visit(call: Call, user: str, as_json: bool, quiet: bool) -> None:
    """Make a link by which a person opens their own page.

    There they see what oO reads of theirs, connect and disconnect, hand in files, download everything and erase it. The link works once;
    unless identity.connect has people prove who they are, whoever opens it is taken for the user.
    """
    made = ask(call, lambda client: client.visit(user))
    if as_json:
        terminal.show_json(made)
    elif quiet:
        terminal.show(made.url)
    else:
        terminal.show(f"The page of {user}; the link works once, until {terminal.moment(made.expires_at)} UTC:")
        terminal.show("")
        terminal.show_link(made.url)
