"""`oo registration`: our OAuth clients at providers."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from oo_client import Registration
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option, quiet_option
from oo_daemon.cli.terminal import Column, NotDone

COLUMNS = (
    Column(title="Registration"),
    Column(title="Provider"),
    Column(title="Client id", gives=True),
    Column(title="Redirect address"),
    Column(title="Secrets", number=True),
    Column(title="Added (UTC)"),
)


@click.group()
def registration() -> None:
    """Add and list our OAuth clients at providers."""


@registration.command()
@click.argument("provider")
@click.option("--client-id", required=True, help="Our client at the provider.")
@click.option("--id", "name", metavar="ID", help="What to call the registration; the provider's id without it.")
@click.option(
    "--secret-file",
    metavar="FILE",
    help="Read the client secret from this file, or with - from standard input; several on lines, newest first.",
)
@click.option("--public-client", is_flag=True, help="The client has no secret.")
@click.option(
    "--webhook-secret-file",
    metavar="FILE",
    help="Read what the provider signs webhooks with from this file, where it is another secret; several on lines, newest first.",
)
@json_option
@quiet_option
@click.pass_obj
def add(
    call: Call,
    provider: str,
    client_id: str,
    name: str | None,
    secret_file: str | None,
    public_client: bool,
    webhook_secret_file: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Add a registration.

    The client secret is asked for without showing it, unless --secret-file says where it is. It is sealed and never shown again.
    Webhook secrets that are kept stay unless --webhook-secret-file gives others.
    """
    if public_client and secret_file is not None:
        raise click.UsageError("A public client has no secret: leave out --public-client or --secret-file.")
    if {secret_file, webhook_secret_file} == {"-"}:
        raise click.UsageError("Standard input can hold one of the two: give --webhook-secret-file or --secret-file a file.")
    secrets = [] if public_client else _secrets(secret_file)
    hooks = None if webhook_secret_file is None else _secrets(webhook_secret_file)
    added = ask(
        call,
        lambda client: client.register(provider=provider, client_id=client_id, client_secrets=secrets, id=name, webhook_secrets=hooks),
    )
    if as_json:
        terminal.show_json(added)
    elif quiet:
        terminal.show(added.id)
    else:
        terminal.show(f"Registration {added.id} is kept. Enter this redirect address at {added.provider}:")
        terminal.show("")
        terminal.show_link(added.redirect_uri)
        if added.webhook_url:
            terminal.show("")
            terminal.show("Where the provider can push changes, enter this webhook address:")
            terminal.show("")
            terminal.show_link(added.webhook_url)
        if added.webhook_reason:
            terminal.note(f"All webhooks are refused now: {added.webhook_reason}.")


@registration.command("list")
@json_option
@click.pass_obj
def list_(call: Call, as_json: bool) -> None:
    """List the registrations, without their secrets."""
    found = ask(call, lambda client: client.registrations())
    if as_json:
        terminal.show_json({"registrations": found})
    elif found:
        terminal.show_table(COLUMNS, map(_row, found))
        if hearing := [each for each in found if each.webhook_url]:
            terminal.show("")
            terminal.show_fields((f"Webhooks of {each.id}", _webhooks(each)) for each in hearing)
    else:
        terminal.show("No client is registered yet. `oo registration add PROVIDER --client-id ID` adds one.")


def _row(found: Registration) -> tuple[str, ...]:
    return (
        found.id,
        found.provider,
        found.client_id,
        found.redirect_uri,
        str(found.secrets),
        terminal.moment(found.created_at),
    )


def _webhooks(found: Registration) -> str:
    return f"{found.webhook_url} (all refused: {found.webhook_reason})" if found.webhook_reason else found.webhook_url or ""


def _secrets(file: str | None) -> list[str]:
    """Read client secrets, newest first; never from the command line, which every process on the host can see."""
    if file is None:
        if not sys.stdin.isatty():
            raise click.UsageError("There is no terminal to ask for the client secret at: give --secret-file FILE, or - to pipe it in.")
        return [click.prompt("Client secret", hide_input=True, err=True)]
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as wrong:
        # Without the file's name: somebody may have pasted the secret in its place.
        why = wrong.strerror if isinstance(wrong, OSError) else "it is not text"
        raise NotDone(f"the secret file cannot be read ({why})", "name a readable file, or - for standard input") from None
    if not (secrets := [line.strip() for line in text.splitlines() if line.strip()]):
        raise NotDone("there is no secret in the secret file", "put one on its first line, or say --public-client")
    return secrets
