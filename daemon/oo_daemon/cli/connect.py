"""`oo connect`: a link by which a person connects an account."""

from __future__ import annotations

import asyncio
import shlex

import click

from oo_client import Client, Code, ConnectProgress
from oo_client.client import WAIT
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option, quiet_option


@click.command()
@click.argument("provider")
@click.option("--user", required=True, help="The person, as your product names them.")
@click.option("--account", default="default", show_default=True, help="Tells several accounts of one person apart.")
@click.option("--registration", help="Needed only where the provider has several.")
@click.option("--write", is_flag=True, help="Ask the person to allow changes, too.")
@click.option("--return-to", default="", metavar="URL", help="Where the last page leads; it must be on the list oauth.return_to.")
@click.option("--device", is_flag=True, help="By a code that the person enters at the provider, on any machine.")
@click.option("--yes", is_flag=True, help="With --device: take whatever account it is.")
@click.option("--no-wait", is_flag=True, help="End once the link is written.")
@json_option
@quiet_option
@click.pass_obj
def connect(
    call: Call,
    provider: str,
    user: str,
    account: str,
    registration: str | None,
    write: bool,
    return_to: str,
    device: bool,
    yes: bool,
    no_wait: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Make a link by which a person connects an account.

    Writes the link and waits until the person has signed in. With --json there are two lines: the link, then how it ended. With --device a
    code is written in place of the link, and you are asked whether it is the right account.
    """
    if yes and not device:
        raise click.UsageError("--yes belongs to --device: with a link, the person answers on the page.")

    async def connecting(client: Client) -> ConnectProgress | None:
        session = await client.connect(
            provider=provider, user=user, account=account, registration=registration, write=write, return_to=return_to, device=device
        )
        if device:
            _show(await client.connect_code(session.id), provider, user, as_json=as_json, quiet=quiet)
        elif as_json:
            terminal.show_json_lines([session])
        elif quiet:
            terminal.show(session.url)
        else:
            terminal.show(f"Open this link to connect {provider} for {user}; it works until {terminal.moment(session.expires_at)} UTC:")
            terminal.show("")
            terminal.show_link(session.url)
            terminal.show("")
        if no_wait:
            return None
        with terminal.waiting("Waiting for the sign-in", quiet=quiet):
            # The daemon ends it: a link that nobody opens expires.
            while not (reached := await client.connect_progress(session.id, wait=WAIT)).ended:
                if device and reached.status == "pending":
                    break
        if not reached.ended:
            right = yes or (not as_json and await asyncio.to_thread(_asked, reached, user))
            reached = await client.answer(session.id, right=right)
        return reached

    reached = ask(call, connecting)
    if reached is None:
        return
    if as_json:
        terminal.show_json_lines([reached])
    if reached.status != "connected":
        given = [*(["--account", account] if account != "default" else []), *(["--write"] if write else [])]
        again = shlex.join(["oo", "connect", provider, "--user", user, *given])
        happened = {"denied": "was refused at the provider", "expired": "did not happen in time"}.get(reached.status, "failed")
        reason = f" ({reached.reason.rstrip('.')})" if reached.reason else ""
        raise terminal.NotDone(f"the sign-in of {user} at {provider} {happened}{reason}", f"make a new link with `{again}`")
    if not (as_json or quiet):
        terminal.show(f"Connected: {reached.connection}")


def _show(code: Code, provider: str, user: str, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        terminal.show_json_lines([code])
    elif quiet:
        terminal.show(code.user_code)
        terminal.show(code.verification_uri)
    else:
        terminal.show(f"To connect {provider} for {user}, open this address, on any machine, until {terminal.moment(code.expires_at)} UTC:")
        terminal.show("")
        terminal.show_link(code.verification_uri)
        terminal.show("")
        terminal.show(f"and enter this code there: {code.user_code}")
        terminal.show("")


def _asked(reached: ConnectProgress, user: str) -> bool:
    account = reached.label or "an account that the provider did not name"
    return click.confirm(f"Signed in as {account}. Is that the right account for {user}?", err=True)
