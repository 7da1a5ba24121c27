"""`oo import`: a file that a person has becomes events."""  # noqa: N999 - the verb's name

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from oo_client import Client, Upload
from oo_client.client import WAIT
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option, quiet_option
from oo_daemon.cli.terminal import Column, NotDone

#: Bytes that are sent at once.
PART = 4 * 1024 * 1024
#: Seconds between two looks at an import under way.
LOOK = 0.5

KINDS = (Column(title="Type"), Column(title="Records", number=True), Column(title="New", number=True))
UPLOADS = (
    Column(title="Upload"),
    Column(title="User", gives=True),
    Column(title="Provider"),
    Column(title="State"),
    Column(title="Records", number=True),
    Column(title="New", number=True),
    Column(title="File", gives=True),
)


@click.command("import")
@click.argument("provider", required=False)
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--user", help="Whose file it is.")
@click.option("--account", default="default", show_default=True, help="A name, where a user has several.")
@click.option("--list", "listing", is_flag=True, help="List the latest imports.")
@click.option("--cancel", metavar="UPLOAD", help="Cancel an upload or its import.")
@json_option
@quiet_option
@click.pass_obj
def bring(
    call: Call,
    provider: str | None,
    file: Path | None,
    user: str | None,
    account: str,
    listing: bool,
    cancel: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Import FILE, such as `oo import apple-health export.zip --user ada`.

    Without FILE, make a link at which the person can hand it in.
    """
    if listing or cancel is not None:
        _show(call, user=user, cancel=cancel, as_json=as_json, quiet=quiet)
        return
    if provider is None or user is None:
        raise click.UsageError("Name a provider and a --user, as in `oo import apple-health export.zip --user ada`; or say --list.")
    provider = provider.replace("-", "_")
    if file is None:
        made = ask(call, lambda client: client.await_upload(provider=provider, user=user, account=account))
        if as_json:
            terminal.show_json(made)
            return
        terminal.show("The person can hand the file in here:")
        terminal.show_link(made.url)
        terminal.note(f"The link is for one file, and waits for it until {terminal.moment(made.expires_at)} UTC.")
        return
    size = file.stat().st_size
    ended = ask(call, lambda client: _import(client, provider, file, size, user, account, quiet=quiet or as_json))
    if as_json:
        terminal.show_json(ended)
    elif not quiet and ended.records:
        _show_summary(ended)
    if ended.state != "done":
        raise NotDone(f"the import {ended.state}", ended.reason or "what came in before stays")


globals()["import"] = bring


async def _import(client: Client, provider: str, file: Path, size: int, user: str, account: str, *, quiet: bool) -> Upload:
    upload = (await client.await_upload(provider=provider, user=user, account=account, name=file.name, size=size)).upload
    try:
        with file.open("rb") as stream, terminal.progress("Sending", size, of_bytes=True, quiet=quiet) as advance:
            offset = 0
            while part := stream.read(PART):
                upload = await client.send_upload(upload.id, part, offset=offset)
                offset += len(part)
                advance(len(part))
        with terminal.progress("Importing", size, of_bytes=True, quiet=quiet) as advance:
            seen = 0
            while upload.state in {"awaited", "queued", "running"}:
                upload = await client.upload(upload.id, wait=WAIT if quiet else LOOK)
                advance(upload.done - seen)
                seen = upload.done
    except (KeyboardInterrupt, asyncio.CancelledError):
        await asyncio.shield(client.cancel_upload(upload.id))
        raise
    return upload


def _show_summary(upload: Upload) -> None:
    kinds = sorted(upload.kinds.items(), key=lambda item: -item[1].records)
    terminal.show_table(KINDS, ((type_, _number(kind.records), _number(kind.events)) for type_, kind in kinds))
    terminal.show(f"{terminal.count(upload.records, 'record')}, {_number(upload.events)} of them new.")


def _show(call: Call, *, user: str | None, cancel: str | None, as_json: bool, quiet: bool) -> None:
    if cancel is not None:
        cancelled = ask(call, lambda client: client.cancel_upload(cancel))
        if as_json:
            terminal.show_json(cancelled)
        elif not quiet:
            terminal.show(f"The import is {cancelled.state}; what came in before stays.")
        return
    found = ask(call, lambda client: client.uploads(user=user))
    if as_json:
        terminal.show_json({"uploads": found})
    elif found:
        terminal.show_table(UPLOADS, map(_row, found))
    else:
        terminal.show("Nothing was imported yet. `oo import apple-health FILE --user USER` does.")


def _row(upload: Upload) -> tuple[str, ...]:
    return upload.id, upload.user, upload.provider, upload.state, _number(upload.records), _number(upload.events), upload.name


def _number(number: int) -> str:
    return f"{number:,}".replace(",", "\u2009")
