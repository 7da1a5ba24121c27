"""The command `oo`: one file per verb, imported only when that verb is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import click

import oo_daemon
from oo_daemon.cli.call import Call

#: Each verb and what it does, in the order in which one meets them. Its command has the verb's name, in the file of that name.
#: The sentences stand here too, since `oo --help` would otherwise import every verb with all that it needs.
VERBS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "demo": "Show the main job with real processes; no account needed.",
        "run": "Run the daemon.",
        "plugins": "List the plugins, also those that could not be loaded.",
        "registration": "Add and list our OAuth clients at providers.",
        "connect": "Make a link by which a person connects an account.",
        "connections": "List connections, or show one.",
        "sync": "Sync a connection now and wait for it.",
        "import": "Import a file, such as an export of Apple Health.",
        "runs": "List the newest syncs, and what each came to.",
        "act": "Change something at a provider.",
        "proxy": "Ask a provider as a user, without the token.",
        "disconnect": "Give a connection's access back and erase its credential.",
        "events": "Read the outbox.",
        "consumers": "Register readers of the outbox, and see how far each is.",
        "sinks": "Show where events are pushed to, and pause it.",
        "source": "Make and keep addresses that anything can post webhooks to.",
        "inbox": "Look at webhooks as they arrived, replay them, and drop them.",
        "token": "Make, list and revoke tokens for the private API over TCP.",
        "vault": "Make, change and look at the keys that seal credentials.",
        "visit": "Make a link by which a person opens their own page.",
        "erase": "Forget a user, or one connection.",
        "erasures": "List what was asked to be forgotten, and how far that is.",
        "export": "Write everything that is kept of a user into a zip file.",
        "audit": "List what administrators did, and check that it is whole.",
        "doctor": "Look at each part of this installation, and say what to do.",
        "backup": "Make an encrypted backup, restored beside and checked.",
        "restore": "Put a backup in the place of the database.",
        "store": "Move everything to another database.",
        "config": "Check, show and explain the settings.",
        "systemd": "Install and remove the service.",
        "completion": "Print what a shell needs to complete `oo`.",
        "new": "Begin a plugin of your own.",
        "try": "Run a connector that is one file, and look at what it tells.",
        "sandbox": "Serve a stand-in for a provider until Ctrl-C.",
    }
)


class Verbs(click.Group):
    """Loads a verb when it is used, and is where every error ends."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the verbs."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's file."""
        if cmd_name not in VERBS:
            return None
        command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{cmd_name}.py has no command {cmd_name}")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; an error becomes a sentence, a remedy and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except BaseException as error:
            from oo_daemon.cli import terminal  # here, since `oo --version` should not pay for rich

            ctx.exit(terminal.end(error, debug=bool(ctx.params.get("debug"))))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Read the settings from this file.")
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
@click.version_option(version=oo_daemon.__version__, prog_name="oo")
@click.pass_context
def oo(ctx: click.Context, config: Path | None, debug: bool) -> None:
    """Turn what happens in a person's other services into one ordered stream of events."""
    ctx.obj = Call(config=config, debug=debug, environ=os.environ)


def main() -> None:
    """Be the command `oo`."""
    try:
        oo(prog_name="oo")
    except KeyboardInterrupt:  # before click could take it, while a verb is being imported
        sys.exit(130)
