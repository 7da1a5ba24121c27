"""`oo proxy`: ask a provider as a user."""

from __future__ import annotations

from typing import BinaryIO

import click

from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option
from oo_daemon.cli.terminal import NotDone


@click.command()
@click.argument("connection")
@click.argument("url")
@click.option(
    "--method", type=click.Choice(["GET", "POST", "PUT", "PATCH", "DELETE"]), default="GET", show_default=True, help="The method."
)
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header of the request; may be given several times.")
@click.option("--body", type=click.File("rb"), help="A file to send, - for the input.")
@json_option
@click.pass_obj
def proxy(call: Call, connection: str, url: str, method: str, headers: tuple[str, ...], body: BinaryIO | None, as_json: bool) -> None:
    """Ask the provider at URL as the user of a connection, and write what it answers.

    The address is one of the connector's hosts. The token goes with the request and is shown to nobody.
    """
    said = dict(_header(each) for each in headers)
    sent = b"" if body is None else body.read()
    answer = ask(call, lambda client: client.proxy(connection, method, url, body=sent, headers=said))
    if as_json:
        text = answer.body.decode(errors="replace")
        terminal.show_json({"status": answer.status, "headers": dict(answer.headers), "body": text})
    else:
        click.echo(answer.body, nl=False)
    if answer.status >= 400:
        raise NotDone(f"the provider answered {answer.status}", "compare the address and the body with its documentation")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"{text!r} is no header: write NAME:VALUE.")
    return name.strip(), value.strip()
