"""`oo consumers`: who reads the outbox by name, and how far each is."""

from __future__ import annotations

import click

from oo_client import Client, Consumer, DeadLetter
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option, quiet_option
from oo_daemon.cli.terminal import Column

COLUMNS = (
    Column(title="Consumer"),
    Column(title="State"),
    Column(title="Position"),
    Column(title="Behind", number=True),
    Column(title="Unread since (UTC)"),
    Column(title="Dead", number=True),
    Column(title="Reads"),
    Column(title="Reason", gives=True),
)
LETTERS = (
    Column(title="Position"),
    Column(title="Type"),
    Column(title="Subject"),
    Column(title="Tries", number=True),
    Column(title="At (UTC)"),
    Column(title="Reason", gives=True),
)
PLACES = "beginning, now, present (what is still so, then what is new), a position, or a time such as 2026-11-22T09:30:00Z"


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def consumers(ctx: click.Context, as_json: bool) -> None:
    """See how far each reader of the outbox is, register readers, and reset them.

    The daemon keeps the position of a consumer, gives it events in batches, and gives a batch again that nobody answered for.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_, as_json=as_json)


@consumers.command("list")
@json_option
@click.pass_obj
def list_(call: Call, as_json: bool) -> None:
    """List the consumers, and how far behind the end of the outbox each is. Sinks are among them."""
    found = ask(call, Client.consumers)
    if as_json:
        terminal.show_json({"consumers": found})
    elif found:
        terminal.show_table(COLUMNS, map(_row, found))
    else:
        terminal.show("There is no consumer. `oo consumers add NAME` makes one.")


@consumers.command()
@click.argument("name")
@click.option("--from", "start", default="beginning", show_default=True, metavar="PLACE", help=f"Where it begins: {PLACES}.")
@click.option("--user", help="Only this user's events.")
@click.option("--provider", help="Only events from this provider.")
@click.option("--type", "kind", metavar="TYPE", help="Only events of this type, such as todoist.task.")
@click.option("--tries", type=click.IntRange(min=1, max=1000), default=10, show_default=True, help="How often an event is given at most.")
@json_option
@quiet_option
@click.pass_obj
def add(
    call: Call,
    name: str,
    start: str,
    user: str | None,
    provider: str | None,
    kind: str | None,
    tries: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Register a consumer."""
    made = ask(call, lambda client: client.add_consumer(name, start=start, user=user, provider=provider, type=kind, most_tries=tries))
    _tell(made, f"Registered: {made.name}, {_behind(made)}", as_json=as_json, quiet=quiet)


@consumers.command()
@click.argument("name")
@click.option("--to", "place", required=True, metavar="PLACE", help=f"{PLACES}; or here, to go on in a log that was restored.")
@json_option
@quiet_option
@click.pass_obj
def reset(call: Call, name: str, place: str, as_json: bool, quiet: bool) -> None:
    """Put a consumer somewhere else; whoever has a batch of it loses it."""
    known = ask(call, lambda client: client.reset_consumer(name, place))
    _tell(known, f"Reset: {known.name}, {_behind(known)}", as_json=as_json, quiet=quiet)


@consumers.command()
@click.argument("name")
@json_option
@quiet_option
@click.pass_obj
def remove(call: Call, name: str, as_json: bool, quiet: bool) -> None:
    """Forget a consumer, so that nothing is kept for it any more."""
    known = ask(call, lambda client: client.remove_consumer(name))
    _tell(known, f"Removed: {known.name}", as_json=as_json, quiet=quiet)


@consumers.command("dead-letters")
@click.argument("name")
@click.option("--drop", is_flag=True, help="Forget them.")
@click.option("-n", "--limit", type=click.IntRange(min=1, max=1000), default=100, show_default=True, help="At most so many.")
@json_option
@click.pass_obj
def dead_letters(call: Call, name: str, drop: bool, limit: int, as_json: bool) -> None:
    """List the events that a consumer was given too often, newest first."""
    if drop:
        dropped = ask(call, lambda client: client.drop_dead_letters(name))
        if as_json:
            terminal.show_json({"dropped": dropped})
        else:
            terminal.show(f"Dropped: {terminal.count(dropped, 'event')}")
        return
    found = ask(call, lambda client: client.dead_letters(name, limit=limit))
    if as_json:
        terminal.show_json({"dead_letters": found})
    elif found:
        terminal.show_table(LETTERS, map(letter_row, found))
    else:
        terminal.show("There are no dead letters.")


def _tell(known: Consumer, sentence: str, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        terminal.show_json(known)
    elif not quiet:
        terminal.show(sentence)


def _behind(known: Consumer) -> str:
    return f"{terminal.count(known.lag, 'position')} behind the end"


def _row(known: Consumer) -> tuple[str, ...]:
    wanted = ", ".join(text for text in (known.user, known.provider, known.type) if text) or "everything"
    return (
        known.name,
        known.state,
        known.position,
        str(known.lag),
        terminal.moment(known.unread_since),
        str(known.dead_letters),
        wanted,
        known.reason,
    )


def letter_row(letter: DeadLetter) -> tuple[str, ...]:
    """A dead letter as a row of `LETTERS`."""
    type_, subject = (letter.event.type, letter.event.subject) if letter.event else ("(no longer kept)", "")
    return letter.position, type_, subject, str(letter.tries), terminal.moment(letter.at), letter.reason
