"""`oo sinks`: where events are pushed to, and how each is."""

from __future__ import annotations

import click

from oo_client import Client
from oo_client import Sink as Known
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option, quiet_option
from oo_daemon.cli.consumers import LETTERS, letter_row
from oo_daemon.cli.terminal import Column

COLUMNS = (
    Column(title="Sink"),
    Column(title="Kind"),
    Column(title="State"),
    Column(title="Position"),
    Column(title="Behind", number=True),
    Column(title="Dead", number=True),
    Column(title="Reason", gives=True),
)


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def sinks(ctx: click.Context, as_json: bool) -> None:
    """See where events are pushed to, pause it, and have dead letters given again.

    A sink runs where a table [sinks.NAME] stands in the settings.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_, as_json=as_json)


@sinks.command("list")
@json_option
@click.pass_obj
def list_(call: Call, as_json: bool) -> None:
    """List the sinks, and how far behind the end of the outbox each is."""
    found = ask(call, Client.sinks)
    if as_json:
        terminal.show_json({"sinks": found})
    elif found:
        terminal.show_table(COLUMNS, map(_row, found))
    else:
        terminal.show(
            "There is no sink. Write [sinks.NAME] into the settings and start the daemon anew; `oo plugins` shows which there are."
        )


@sinks.command()
@click.argument("name")
@json_option
@quiet_option
@click.pass_obj
def pause(call: Call, name: str, as_json: bool, quiet: bool) -> None:
    """Have a sink wait until it is resumed; what comes meanwhile is kept for it, as long as retention says."""
    _tell(ask(call, lambda client: client.pause_sink(name)), "Paused", as_json=as_json, quiet=quiet)


@sinks.command()
@click.argument("name")
@json_option
@quiet_option
@click.pass_obj
def resume(call: Call, name: str, as_json: bool, quiet: bool) -> None:
    """Let a sink go on."""
    _tell(ask(call, lambda client: client.resume_sink(name)), "Resumed", as_json=as_json, quiet=quiet)


@sinks.command("dead-letters")
@click.argument("name")
@click.option("-n", "--limit", type=click.IntRange(min=1, max=1000), default=100, show_default=True, help="At most so many.")
@json_option
@click.pass_obj
def dead_letters(call: Call, name: str, limit: int, as_json: bool) -> None:
    """List the events that a sink could not take, newest first."""
    found = ask(call, lambda client: client.dead_letters(f"sink:{name}", limit=limit))
    if as_json:
        terminal.show_json({"dead_letters": found})
    elif found:
        terminal.show_table(LETTERS, map(letter_row, found))
    else:
        terminal.show("There are no dead letters.")


@sinks.command()
@click.argument("name")
@click.argument("positions", nargs=-1)
@json_option
@quiet_option
@click.pass_obj
def replay(call: Call, name: str, positions: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Have dead letters given to a sink again: those at these positions, or all."""
    count = ask(call, lambda client: client.replay_dead_letters(name, positions or None))
    if as_json:
        terminal.show_json({"replayed": count})
    elif not quiet:
        terminal.show(f"Given again: {terminal.count(count, 'event')}")


def _tell(known: Known, what: str, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        terminal.show_json(known)
    elif not quiet:
        terminal.show(f"{what}: {known.name}, {terminal.count(known.lag, 'position')} behind the end")


def _row(known: Known) -> tuple[str, ...]:
    return known.name, known.kind, known.state, known.position, str(known.lag), str(known.dead_letters), known.reason
