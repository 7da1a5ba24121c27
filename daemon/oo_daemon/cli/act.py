"""`oo act`: change something at a provider."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from oo_client import Action, ActionKind, Client
from oo_client.client import WAIT
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option, quiet_option
from oo_daemon.cli.terminal import Column, NotDone

#: Seconds after which an action that is still tried is left to the daemon.
PATIENCE = 120.0

COLUMNS = (
    Column(title="Action"),
    Column(title="What it does", gives=True),
    Column(title="Takes"),
    Column(title="Allowed"),
)


@click.command()
@click.argument("connection")
@click.argument("name", required=False)
@click.argument("given", metavar="[ARG=VALUE]...", nargs=-1)
@click.option("--list", "as_list", is_flag=True, help="Show what can be done instead.")
@click.option("--json-args", metavar="FILE", help="Read arguments as a JSON object from this file, or with - from standard input.")
@click.option("--key", help="Names this action: asked for again with the same key, it is not done again.")
@click.option("--no-wait", is_flag=True, help="End once the daemon has taken it.")
@json_option
@quiet_option
@click.pass_obj
def act(
    call: Call,
    connection: str,
    name: str | None,
    given: tuple[str, ...],
    as_list: bool,
    json_args: str | None,
    key: str | None,
    no_wait: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Change something at a provider, such as `oo act CONNECTION complete_task id=ID`.

    What the daemon has taken it does, also if this command is interrupted: it tries for up to a day.
    """
    if as_list == (name is not None):
        raise click.UsageError("Name an action, or say --list to see those there are.")
    if name is None:
        _list(call, connection, as_json=as_json)
        return
    arguments = _arguments(given, json_args)

    async def acting(client: Client) -> Action:
        with terminal.waiting(f"{name} at {connection}", quiet=quiet):
            done = await client.act(connection, name, arguments, key=key, wait=0 if no_wait else WAIT)
            waited = WAIT
            while done.state == "queued" and not no_wait and waited < PATIENCE:
                done = await client.action(done.id, wait=WAIT)
                waited += WAIT
        return done

    done = ask(call, acting)
    if as_json:
        terminal.show_json(done)
    if done.state == "done":
        if not (as_json or quiet):
            terminal.show(f"Done: {done.name}{f' ({done.result.subject})' if done.result and done.result.subject else ''}.")
    elif done.state == "failed":
        raise NotDone(f"{done.name} was not done ({done.reason.rstrip('.')})", "correct that and ask again, under a new key")
    elif not no_wait:
        raise NotDone(
            f"{done.name} is not done yet{f' ({done.reason})' if done.reason else ''}",
            f"the daemon goes on trying; ask again with --key {shlex.quote(done.key)} to see how it stands",
        )
    elif not (as_json or quiet):
        terminal.show(f"Taken: {done.name}, with the key {done.key}.")


def _list(call: Call, connection: str, *, as_json: bool) -> None:
    async def looking(client: Client) -> tuple[Sequence[ActionKind], frozenset[str]]:
        found = await client.connection(connection)
        kinds = [kind for plugin in await client.plugins() if plugin.id == found.provider for kind in plugin.actions]
        return kinds, frozenset(found.scopes)

    kinds, granted = ask(call, looking)
    if as_json:
        terminal.show_json({"actions": kinds})
    elif kinds:
        rows = ((kind.name, kind.sentence, _takes(kind), "yes" if kind.scope in {"", *granted} else "no") for kind in kinds)
        terminal.show_table(COLUMNS, rows)
        if any(kind.scope and kind.scope not in granted for kind in kinds):
            terminal.note("What is not allowed yet, the person allows with `oo connect PROVIDER --user USER --write`.")
    else:
        terminal.show("Nothing can be changed through this connection.")


def _takes(kind: ActionKind) -> str:
    """Name the arguments; those that may be left out stand in brackets."""
    schema = kind.arguments
    if "$ref" in schema:
        schema = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    needed = schema.get("required", [])
    return " ".join(name if name in needed else f"[{name}]" for name in schema.get("properties", {}))


def _arguments(given: Sequence[str], json_args: str | None) -> dict[str, Any]:
    arguments = _read(json_args) if json_args is not None else {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise click.UsageError(f"{pair!r} is no argument: write ARG=VALUE.")
        if name in arguments:
            raise click.UsageError(f"{name} is given twice.")
        arguments[name] = value
    return arguments


def _read(file: str) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
        return msgspec.json.decode(text, type=dict[str, Any])
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as wrong:
        why = wrong.strerror if isinstance(wrong, OSError) else "it is no JSON object"
        raise NotDone(
            f"the arguments in {file} cannot be read ({why})", "name a file with a JSON object, or - for standard input"
        ) from None
