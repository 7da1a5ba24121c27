"""`oo token`: what callers of the private API over TCP carry."""

from __future__ import annotations

import click

from oo_client import Token, TokenScope
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option, quiet_option
from oo_daemon.cli.terminal import Column

DAY = 86_400.0
SCOPES: dict[TokenScope, str] = {
    "read": "read everything but tokens",
    "connect": "connect people and sync",
    "act": "change things at providers",
    "admin": "do everything",
}
COLUMNS = (
    Column(title="Token"),
    Column(title="Scopes"),
    Column(title="Made (UTC)"),
    Column(title="Ends (UTC)"),
    Column(title="Last used (UTC)"),
)


@click.group()
def token() -> None:
    """Make, list and revoke tokens for the private API over TCP.

    The setting private.port opens that door. On the Unix socket no token is needed.
    """


@token.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(list(SCOPES)),
    multiple=True,
    required=True,
    help=f"What it allows; may be given several times: {'; '.join(f'{scope}: {what}' for scope, what in SCOPES.items())}.",
)
@click.option("--days", type=click.FloatRange(min=0, max=366, min_open=True), help="How long it holds; until it is revoked without it.")
@json_option
@quiet_option
@click.pass_obj
def create(call: Call, name: str, scopes: tuple[TokenScope, ...], days: float | None, as_json: bool, quiet: bool) -> None:
    """Make a token. It is shown once and kept only as a hash."""
    made = ask(call, lambda client: client.create_token(name, scopes=scopes, life=None if days is None else days * DAY))
    if as_json:
        terminal.show_json(made)
        return
    terminal.show(made.token)
    if not quiet:
        terminal.note(f"This is the token {made.name} ({', '.join(made.scopes)}); it is not shown again.")
        if not call.settings.private.port:
            terminal.note("No door takes it yet: set private.port and restart the daemon.")


@token.command("list")
@json_option
@click.pass_obj
def list_(call: Call, as_json: bool) -> None:
    """List the tokens, without what they are."""
    found = ask(call, lambda client: client.tokens())
    if as_json:
        terminal.show_json({"tokens": found})
    elif found:
        terminal.show_table(COLUMNS, map(_row, found))
    else:
        terminal.show("There is no token. `oo token create NAME --scope read` makes one.")


@token.command()
@click.argument("name")
@json_option
@quiet_option
@click.pass_obj
def revoke(call: Call, name: str, as_json: bool, quiet: bool) -> None:
    """Revoke a token: from the next request on it is refused."""
    revoked = ask(call, lambda client: client.revoke_token(name))
    if as_json:
        terminal.show_json(revoked)
    elif not quiet:
        terminal.show(f"Revoked: {revoked.name}")


def _row(found: Token) -> tuple[str, ...]:
    return (
        found.name,
        ", ".join(found.scopes),
        terminal.moment(found.created_at),
        terminal.moment(found.expires_at) or "never",
        terminal.moment(found.last_used_at) or "never",
    )
