"""`oo plugins`: what is installed, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator

import click
import msgspec

from oo_client import ActionKind, DaemonNotRunning, Plugin, Scope, SinkKind, Stored
from oo_daemon import registry
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option, quiet_option
from oo_daemon.cli.terminal import Column, NotDone
from oo_daemon.host import HostClock
from oo_daemon.strikes import MOST, Strikes

COLUMNS = (
    Column(title="Plugin"),
    Column(title="Title"),
    Column(title="State"),
    Column(title="Distribution"),
    Column(title="Version"),
    Column(title="Reason", gives=True),
)
SINKS = (Column(title="Sink"), Column(title="Runs as", gives=True))


@click.group(invoke_without_command=True)
@click.option("--installed", is_flag=True, help="Look at what is installed now: what the daemon finds at its next start.")
@json_option
@quiet_option
@click.pass_context
def plugins(ctx: click.Context, installed: bool, as_json: bool, quiet: bool) -> None:
    """List the plugins, also those that could not be loaded.

    Asks the daemon; where none runs, looks at what is installed, and says which versions are in conflict.
    """
    if ctx.invoked_subcommand is not None:
        return
    call = ctx.find_object(Call) or ctx.fail("no call")
    try:
        found = None if installed else ask(call, lambda client: client.plugins())
    except DaemonNotRunning:
        found = None
        if not quiet:
            terminal.note("No daemon runs; this is what it would find.")
    if found is None:
        found = tuple(_installed(call))
        for sentence in registry.all_conflicts(call.settings.plugins.enabled):
            terminal.note(f"In conflict: {sentence}.")
    if as_json:
        terminal.show_json({"plugins": found})
    elif found:
        terminal.show_table(COLUMNS, ((it.id, it.title, it.state, it.distribution, it.version, _reason(it)) for it in found))
        if sinks := [sink for it in found for sink in it.sinks]:
            terminal.show("")
            terminal.show_table(SINKS, ((it.id, ", ".join(it.runs) or "nothing: write [sinks.NAME] into the settings") for it in sinks))
    else:
        terminal.show("No plugins are installed. `pip install` one beside oo-integrations to see it here.")


@plugins.command()
@click.argument("name")
@quiet_option
@click.pass_obj
def release(call: Call, name: str, quiet: bool) -> None:
    """Forget the strikes of a plugin that ended the daemon or held it up.

    One that was set aside for them is loaded at the next start of the daemon.
    """
    try:
        ask(call, lambda client: client.release_plugin(name))
    except DaemonNotRunning:
        if not _strikes(call).release(name):
            raise NotDone(f"no plugin {name} has a strike", "see `oo plugins`") from None
    if not quiet:
        terminal.show(f"The strikes of {name} are forgotten. If it was set aside, the next start of the daemon loads it.")


def _reason(plugin: Plugin) -> str:
    """Why it is not loaded, or what speaks against it."""
    return plugin.reason or (f"{plugin.strikes} of {MOST} strikes: it ended the daemon, or held it up" if plugin.strikes else "")


def _strikes(call: Call) -> Strikes:
    return Strikes(call.settings.places.beside, HostClock())


def _installed(call: Call) -> Iterator[Plugin]:
    """Look for plugins as the daemon does at its start: one for each connector, or for a package that brought none."""
    settings, strikes = call.settings, _strikes(call)
    counted = strikes.counted()
    found = registry.discover(enabled=settings.plugins.enabled, settings=settings.connectors, sinks=settings.sinks, aside=strikes.aside)
    running = found.sinks.values()
    for package in found.plugins:
        sinks = tuple(SinkKind(id=it.id, runs=tuple(at.name for at in running if at.sink.id == it.id)) for it in package.sinks)
        for connector in package.connectors:
            yield Plugin(
                id=connector.id,
                title=connector.title,
                name=package.name,
                distribution=package.distribution,
                version=package.version,
                state=package.state,
                reason=package.reason,
                strikes=counted.get(package.key, 0),
                scopes=tuple(Scope(id=it.id, sentence=it.sentence, access=it.access, required=it.required) for it in connector.scopes),
                stores=tuple(Stored(name=it.name, what=it.what, purpose=it.purpose, fields=tuple(it.fields)) for it in connector.stores),
                hosts=tuple(connector.hosts),
                actions=tuple(
                    ActionKind(name=it.name, sentence=it.sentence, scope=it.scope, arguments=msgspec.json.schema(it.arguments))
                    for it in connector.actions
                ),
                sinks=sinks,
            )
            sinks = ()  # they stand with the first
        if not package.connectors:
            yield Plugin(
                id=package.name,
                title="",
                name=package.name,
                distribution=package.distribution,
                version=package.version,
                state=package.state,
                reason=package.reason,
                strikes=counted.get(package.key, 0),
                scopes=(),
                stores=(),
                hosts=(),
                actions=(),
                sinks=sinks,
            )
