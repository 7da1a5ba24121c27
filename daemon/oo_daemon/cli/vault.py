"""`oo vault`: the keys that seal credentials."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from oo_client import Client, Vault, VaultKey
from oo_client.client import LOOK
from oo_daemon.cli import terminal
from oo_daemon.cli.ask import ask
from oo_daemon.cli.call import Call, json_option, quiet_option
from oo_daemon.cli.keyring import keys
from oo_daemon.cli.terminal import Column, NotDone

if TYPE_CHECKING:
    from oo_config import Settings

COLUMNS = (Column(title="Key"), Column(title="It"), Column(title="Sealed", number=True), Column(title="Since (UTC)"))
STATES = {"seals": "seals", "opens": "opens what it sealed", "dropped": "is not needed any more"}


@click.group()
def vault() -> None:
    """Make, change and look at the keys that seal credentials."""


@vault.command()
@click.option("--add", is_flag=True, help="Put a new key above those in the key file, for `oo vault rotate`.")
@json_option
@click.pass_obj
def init(call: Call, add: bool, as_json: bool) -> None:
    """Make a root key, and show the recovery key this once."""
    from oo_vault import add_key, create_key_file  # here, since the other verbs only ask the daemon

    path = call.settings.vault.key_file
    match call.settings.vault.keys_from:
        case "file":
            recovery = add_key(path) if add else create_key_file(path)
        case "environment":
            raise NotDone("the keys come in the environment", 'make one with vault.keys_from = "file", and put its recovery key there')
        case id_:
            recovery = asyncio.run(_wrapped(call.settings, id_, path, add))
    if as_json:
        terminal.show_json({"key_file": str(path), "recovery_key": recovery})
        return
    terminal.show(f"The {'new' if add else 'root'} key is in {path}.")
    if add:
        terminal.show("`oo vault rotate` seals everything with it. Keep the older recovery keys as long as backups from before are kept.")
    terminal.show("Keep this recovery key elsewhere; it is not shown again, and without it backups are worthless:")
    terminal.show("")
    terminal.show_link(recovery)


async def _wrapped(settings: Settings, id_: str, path: Path, add: bool) -> str:
    """Make a key that is kept wrapped by a key source."""
    from oo_daemon import registry  # here, as above
    from oo_daemon.connections.key_keeping import wrapping
    from oo_daemon.host import SameLoop
    from oo_vault import create_wrapped_key

    found = registry.discover(enabled=settings.plugins.enabled, key_sources=settings.key_sources)
    return await create_wrapped_key(path, wrapping(id_, found.key_sources.get(id_), SameLoop()), add=add)


@vault.command()
@click.option("--to", type=click.Path(path_type=Path, dir_okay=False), help="Where to write it, in place of vault.bundle_file.")
@json_option
@quiet_option
@click.pass_obj
def bundle(call: Call, to: Path | None, as_json: bool, quiet: bool) -> None:
    """Write what an ingress process needs of the keys: it seals credentials, and opens none. Again after each new key.

    Whoever has the bundle could forge what an ingress process writes, and read webhook secrets and client secrets; no credential.
    """
    from oo_vault import write_bundle  # here, as above

    path = to or call.settings.vault.bundle_file
    keyring = asyncio.run(keys(call.settings, call.environ))
    write_bundle(path, keyring)
    if as_json:
        terminal.show_json({"bundle_file": str(path), "keys": list(keyring.ids)})
    elif not quiet:
        terminal.show(f"The bundle is in {path}: give it to the ingress processes, and send them SIGHUP.")


@vault.command()
@json_option
@click.pass_obj
def status(call: Call, as_json: bool) -> None:
    """Show the keys by their ids, and how much each has sealed."""
    _show(ask(call, lambda client: client.vault()), as_json)


@vault.command("reload")
@json_option
@click.pass_obj
def reload_(call: Call, as_json: bool) -> None:
    """Have the daemon load the keys again, as SIGHUP does. If they cannot be used, it goes on with those it has."""
    _show(ask(call, lambda client: client.reload_keys()), as_json)


@vault.command()
@json_option
@quiet_option
@click.pass_obj
def rotate(call: Call, as_json: bool, quiet: bool) -> None:
    """Seal everything with the newest key, while the daemon goes on working.

    The keys are loaded again first. It can be interrupted, and called again, at any time.
    """

    async def rotating(client: Client) -> Vault:
        found = await client.rotate_keys()
        with terminal.progress("Sealing", found.rotation.total, quiet=quiet) as advance:
            advance(found.rotation.done)
            while found.rotation.running:
                before, found = found, await client.vault(wait=LOOK)
                advance(found.rotation.done - before.rotation.done)
        return found

    found = ask(call, rotating)
    if as_json:
        terminal.show_json(found)
    left = found.rotation.total - found.rotation.done
    if left:
        why = f": {terminal.count(found.rotation.refused, 'value')} could not be opened" if found.rotation.refused else ""
        raise NotDone(f"{terminal.count(left, 'value')} could not be sealed anew{why}", "see the daemon's log, then run this again")
    if not (as_json or quiet):
        terminal.show(f"Everything ({terminal.count(found.rotation.total, 'value')}) is sealed with the newest key.")
        for key in _spare(found):
            terminal.show(f"`oo vault drop-key {key.id}` lets go of the key {key.id}.")


@vault.command("drop-key")
@click.argument("key")
@json_option
@quiet_option
@click.pass_obj
def drop_key(call: Call, key: str, as_json: bool, quiet: bool) -> None:
    """Let go of an older key; refused while anything is sealed with it."""
    found = ask(call, lambda client: client.drop_key(key))
    if as_json:
        terminal.show_json(found)
    elif not quiet:
        terminal.show(f"The key {key} is not needed any more: its line can go from {found.source}.")
        terminal.show("Keep its recovery key as long as backups from before are kept.")


def _show(found: Vault, as_json: bool) -> None:
    if as_json:
        terminal.show_json(found)
        return
    terminal.show_table(COLUMNS, map(_row, found.keys))
    terminal.show("")
    rotation = found.rotation
    share = f"{rotation.done:,} of {terminal.count(rotation.total, 'value')}".replace(",", "\u2009")
    cut_off = "" if rotation.running else ", cut off: it goes on by itself"
    running = f", {rotation.rate:.0f} a second" if rotation.running else ""
    terminal.show_fields(
        [
            ("Kept in", found.source),
            ("Sealed with the newest", f"{share}{running}"),
            ("Rotation", f"begun {terminal.moment(rotation.since)} UTC{cut_off}" if rotation.since else ""),
            ("Not opened", terminal.count(rotation.refused, "value") if rotation.refused else ""),
        ]
    )
    if rotation.done < rotation.total and rotation.since is None:
        terminal.note("`oo vault rotate` seals the rest with the newest key.")


def _row(key: VaultKey) -> tuple[str, ...]:
    return (key.id, STATES[key.state], f"{key.sealed:,}".replace(",", "\u2009"), terminal.moment(key.since))


def _spare(found: Vault) -> list[VaultKey]:
    return [key for key in found.keys if key.state == "opens" and key.sealed == 0]
