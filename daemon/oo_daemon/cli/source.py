"""`oo source`: addresses that anything can post webhooks to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from oo_client import Client, GivenSource, Source
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option, quiet_option
from oo_daemon.cli.terminal import Column, NotDone

COLUMNS = (
    Column(title="Source"),
    Column(title="Provider"),
    Column(title="Scheme"),
    Column(title="State"),
    Column(title="Secrets", number=True),
    Column(title="Address"),
)
HOUR = 3600.0
#: Fields of a scheme that hold several values.
_LISTS = {"keep", "secret"}


@click.group()
def source() -> None:
    """Make and keep addresses that anything can post webhooks to."""


def _secret_option(verb: Any) -> Any:
    return click.option("--secret-file", metavar="FILE", help="Read the sender's secret from this file, or with - from standard input.")(
        verb
    )


@source.command()
@click.argument("name")
@click.option("--user", required=True, help="Whose events they become, as your product names people.")
@click.option("--scheme", default="", help="How the sender proves itself, such as github, standard or hmac; `none` must be written out.")
@click.option("--connector", default="webhook", show_default=True, help="What makes events of it.")
@_secret_option
@click.option("--set", "changes", metavar="FIELD=VALUE", multiple=True, help="Set a field of the scheme, such as header=X-Sign.")
@click.option("--type", "type_", metavar="EXPRESSION", help="What the event is called, in JMESPath over body, headers and id.")
@click.option("--subject", metavar="EXPRESSION", help="What it is about.")
@click.option("--at", metavar="EXPRESSION", help="When it happened.")
@click.option("--id", "id_", metavar="EXPRESSION", help="What tells two events apart.")
@click.option("--field", "fields", metavar="NAME=EXPRESSION", multiple=True, help="Keep only what is named so; all of it without.")
@json_option
@quiet_option
@click.pass_obj
def add(
    call: Call,
    name: str,
    user: str,
    scheme: str,
    connector: str,
    secret_file: str | None,
    changes: tuple[str, ...],
    type_: str | None,
    subject: str | None,
    at: str | None,
    id_: str | None,
    fields: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Make an address, and show it with the secret that its sender is to be told.

    Where the sender makes the secret, enter the address there first, then give the secret with `oo source rotate`.
    """
    secret = None if secret_file is None else _secret(secret_file)
    said = {"type": type_, "subject": subject, "at": at, "id": id_, "fields": dict(map(_pair, fields)) or None}
    options = {key: value for key, value in said.items() if value is not None}
    added = ask(
        call,
        lambda client: client.add_source(
            name, user=user, scheme=scheme, provider=connector, changes=_changes(changes), options=options, secret=secret
        ),
    )
    if as_json:
        terminal.show_json(added)
    elif quiet:
        terminal.show(added.url)
    else:
        terminal.show(f"Source {added.id} is made. Have its sender post to this address:")
        terminal.show("")
        terminal.show_link(added.url)
        _show_secret(added)
        if not added.verified:
            terminal.note("Nothing is verified: whoever knows the address is believed.")
        elif added.reason:
            terminal.note(f"All deliveries are refused now: {added.reason}.")


@source.command("list")
@json_option
@click.pass_obj
def list_(call: Call, as_json: bool) -> None:
    """List the addresses, those of registrations too."""
    found = ask(call, lambda client: client.sources())
    if as_json:
        terminal.show_json({"sources": found})
    elif found:
        terminal.show_table(COLUMNS, map(_row, found))
        if closed := [each for each in found if each.reason]:
            terminal.show("")
            terminal.show_fields((each.id, each.reason) for each in closed)
    else:
        terminal.show("There is no source. `oo source add NAME --user USER --scheme SCHEME` makes one.")


@source.command()
@click.argument("name")
@json_option
@click.pass_obj
def show(call: Call, name: str, as_json: bool) -> None:
    """Show one address, and the secret that its sender made, if it did."""
    found = ask(call, lambda client: client.source(name))
    if as_json:
        terminal.show_json(found)
        return
    secrets = ", ".join(f"{each.role}{f' until {terminal.moment(each.until)} UTC' if each.until else ''}" for each in found.secrets)
    terminal.show_fields(
        [
            ("Source", found.id),
            ("Provider", found.provider),
            ("Connection", found.connection or ""),
            ("Scheme", _scheme(found)),
            ("State", found.state),
            ("Reason", found.reason),
            ("Secrets", secrets),
            ("Address", found.url),
            ("Secret of the sender", found.secret or ""),
        ]
    )


@source.command()
@click.argument("name")
@_secret_option
@click.option("--keep", "hours", type=click.FloatRange(min=0, max=8784), default=24.0, show_default=True, help="Hours for the old one.")
@click.option("--next", "staged", is_flag=True, help="Take the new one beside the old one; the next rotation makes it the current one.")
@json_option
@quiet_option
@click.pass_obj
def rotate(call: Call, name: str, secret_file: str | None, hours: float, staged: bool, as_json: bool, quiet: bool) -> None:
    """Give an address a new secret; deliveries signed with the old one are taken for a while."""
    secret = None if secret_file is None else _secret(secret_file)
    given = ask(call, lambda client: client.rotate_source(name, secret=secret, keep=hours * HOUR, staged=staged))
    if as_json:
        terminal.show_json(given)
    elif not quiet:
        terminal.show(f"Source {given.id} takes the new secret{' beside the current one' if staged else ''}.")
        _show_secret(given)
    elif given.secret:
        terminal.show(given.secret)


def _switch(call: Call, name: str, enabled: bool, as_json: bool) -> None:
    found = ask(call, lambda client: client.switch_source(name, enabled))
    if as_json:
        terminal.show_json(found)
    else:
        terminal.show(f"Source {found.id} is {found.state}.")


@source.command()
@click.argument("name")
@json_option
@click.pass_obj
def disable(call: Call, name: str, as_json: bool) -> None:
    """Close an address: it looks like one that does not exist."""
    _switch(call, name, False, as_json)


@source.command()
@click.argument("name")
@json_option
@click.pass_obj
def enable(call: Call, name: str, as_json: bool) -> None:
    """Open an address that was closed."""
    _switch(call, name, True, as_json)


@source.command("try")
@click.argument("name")
@click.argument("body", type=click.Path(allow_dash=True))
@click.option("--header", "headers", metavar="NAME:VALUE", multiple=True, help="A header that came with it.")
@json_option
@click.pass_obj
def try_(call: Call, name: str, body: str, headers: tuple[str, ...], as_json: bool) -> None:
    """Show what a body would become, without keeping anything. BODY is a file, or - for standard input."""
    content, sent = _content(body), dict(map(_header, headers))
    found = ask(call, lambda client: client.try_source(name, content, sent))
    if as_json:
        terminal.show_json({"events": found})
        return
    for event in found:
        terminal.show_fields(
            [
                ("Type", event.type),
                ("Subject", event.subject),
                ("Occurred (UTC)", terminal.moment(event.occurred_at)),
                ("Event id", event.id),
            ]
        )
        terminal.show_json(event.payload)


@source.command()
@click.argument("name")
@click.option("--body", type=click.Path(allow_dash=True), help="What to post: a file, or - for standard input.")
@json_option
@click.pass_obj
def test(call: Call, name: str, body: str | None, as_json: bool) -> None:
    """Post a delivery to the address from here, signed as its sender would. It becomes an event like any other."""
    content = b'{"test":true}' if body is None else _content(body)

    async def tested(client: Client) -> int:
        return await client.test_source(name, content)

    status = ask(call, tested)
    if as_json:
        terminal.show_json({"status": status})
    if status != 200:
        raise NotDone(f"the address answered {status}", "compare public.url with the proxy in front, and see `oo source list`")
    if not as_json:
        terminal.show("The address answered 200: the delivery is kept. See `oo inbox list`.")


def _row(found: Source) -> tuple[str, ...]:
    return (found.id, found.provider, _scheme(found), found.state, str(len(found.secrets)), found.url)


def _scheme(found: Source) -> str:
    name = found.scheme or "the connector's"
    return name if found.verified else f"{name} (not verified)"


def _show_secret(given: GivenSource) -> None:
    if given.secret:
        terminal.show("")
        terminal.show("Its sender is to use this secret, which is not shown again:")
        terminal.show("")
        terminal.show_link(given.secret)


def _changes(texts: tuple[str, ...]) -> dict[str, Any]:
    """Fields of a scheme, `stamp.header=X-Time` leading inwards."""
    changes: dict[str, Any] = {}
    for text in texts:
        name, value = _pair(text)
        outer, _, inner = name.partition(".")
        if inner:
            changes.setdefault(outer, {})[inner] = value
        else:
            changes[name] = value.split(",") if name in _LISTS else value
    return changes


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and name):
        raise click.UsageError(f"{text!r} is not of the form NAME=VALUE.")
    return name, value


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (colon and name.strip()):
        raise click.UsageError(f"{text!r} is not of the form NAME:VALUE.")
    return name.strip(), value.strip()


def _content(path: str) -> bytes:
    return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()


def _secret(file: str) -> str:
    """Read a secret; never from the command line, which every process on the host can see."""
    try:
        text = (sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")).strip()
    except (OSError, UnicodeDecodeError) as wrong:
        # Without the file's name: somebody may have pasted the secret in its place.
        why = wrong.strerror if isinstance(wrong, OSError) else "it is not text"
        raise NotDone(f"the secret file cannot be read ({why})", "name a readable file, or - for standard input") from None
    if not text:
        raise NotDone("there is no secret in the secret file", "put it on its first line")
    return text
