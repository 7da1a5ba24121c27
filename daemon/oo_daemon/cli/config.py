"""`oo config`: the settings."""

from __future__ import annotations

from collections import Counter

import click

import oo_config
from oo_daemon.cli import terminal
from oo_daemon.cli.call import Call, json_option, plugins_of, quiet_option
from oo_daemon.cli.terminal import Column

COLUMNS = (
    Column(title="Setting"),
    Column(title="Value", gives=True),
    Column(title="From"),
)


@click.group()
def config() -> None:
    """Check, show and explain the settings."""


@config.command()
@quiet_option
@click.pass_obj
def check(call: Call, quiet: bool) -> None:
    """Say whether the settings can be used, and everything that is wrong with them, also in the tables of plugins."""
    if wrong := plugins_of(call.settings)[1]:
        raise oo_config.ConfigError(tuple(_problem(each) for each in wrong))
    origins = Counter(str(shown.origin) for shown in oo_config.show(call.settings))
    if quiet:
        return
    defaults = origins.pop("default", 0)
    said = [f"{number} from {origin}" for origin, number in sorted(origins.items())]
    terminal.show(f"The settings can be used: {', '.join([*said, f'{defaults} by default'])}.")


def _problem(says: str) -> oo_config.Problem:
    sentence, parted, remedy = says.rpartition(": ")
    if not parted:  # a stranger's plugin need not say what to do
        sentence, remedy = says, "see `oo plugins`"
    return oo_config.Problem(place="plugins", sentence=f"{sentence}.", remedy=f"{remedy[:1].upper()}{remedy[1:]}.")


@config.command()
@json_option
@click.pass_obj
def show(call: Call, as_json: bool) -> None:
    """Show every setting as it holds, and where it came from."""
    shown = oo_config.show(call.settings)
    if as_json:
        terminal.show_json(
            {"settings": [{"setting": f"{it.section}.{it.key}", "value": it.value, "origin": str(it.origin)} for it in shown]}
        )
    else:
        terminal.show_table(COLUMNS, ((f"{it.section}.{it.key}", it.value, str(it.origin)) for it in shown))


@config.command()
def example() -> None:
    """Write a file with every setting, its reason and its default."""
    click.echo(oo_config.example(), nl=False)
