"""`oo restore`: put a backup in the place of the database. Works without the daemon, which must not run."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from oo_daemon.cli import terminal
from oo_daemon.cli.call import Call, quiet_option
from oo_daemon.cli.keyring import keys
from oo_daemon.cli.terminal import NotDone


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--yes", is_flag=True, help="Do not ask first.")
@quiet_option
@click.pass_obj
def restore(call: Call, file: Path, yes: bool, quiet: bool) -> None:
    """Put a backup in the place of the database; what is there now is kept beside it.

    Consumers then find their positions older than the log's new epoch, and every grant is tried with care, since it may have been renewed.
    """
    from oo_daemon.ops import backup
    from oo_daemon.store import backup as files
    from oo_daemon.store import lock

    settings = call.settings
    database = settings.places.database
    if not isinstance(database, Path):
        raise NotDone("the database is on PostgreSQL, which is restored on its own server", "do so, then `oo store adopt`")
    if not file.exists() and (settings.backup.folder / file.name).exists():
        file = settings.backup.folder / file.name
    if not file.exists():
        raise NotDone(f"there is no {file}", "`oo backup --list` names those there are; else give the path of one")
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("There is no terminal to ask at: say --yes.")
        terminal.note(f"This puts {file.name} in the place of {database}. What happened since then is missing afterwards.")
        click.confirm("Restore?", abort=True, err=True)
    with lock.held(database):
        keyring = asyncio.run(keys(settings, call.environ))
        bare, restored = (database.with_name(database.name + suffix) for suffix in (".decrypted", ".restoring"))
        with files.gone_afterwards(bare, restored):
            with terminal.progress("Decrypting", file.stat().st_size, quiet=quiet) as told:
                backup.decrypt(keyring, file, bare, told)
            with terminal.waiting("Checking", quiet=quiet):
                files.with_checksums(bare, restored)
                bare.unlink()
                content = files.content(restored)
                backup.check(keyring, content)
                files.adopt(restored)
            kept = files.put_in_place(restored, database)
    if not quiet:
        terminal.show(f"Restored: {content.rows} rows, and the outbox up to position {content.epoch}-{content.position}.")
        if kept is not None:
            terminal.show(f"What was there is kept as {kept}; erase it once it is not needed.")
        terminal.show("Start the daemon. Consumers ahead of the backup are told so and start again from its beginning or its end.")
