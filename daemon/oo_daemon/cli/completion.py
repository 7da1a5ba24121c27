"""`oo completion`: have the shell complete verbs and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

#: Where each shell looks for what this prints.
PLACES = {
    "bash": "~/.local/share/bash-completion/completions/oo",
    "zsh": "a file _oo in a folder of $fpath",
    "fish": "~/.config/fish/completions/oo.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(sorted(PLACES)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what a shell needs, to be kept where it looks: `oo completion bash > ~/.local/share/bash-completion/completions/oo`."""
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"This click knows no completion for {shell}.")
    click.echo(found(ctx.find_root().command, {}, "oo", "_OO_COMPLETE").source())
