"""`oo sandbox`: a stand-in for a provider, so that one can try oO without an account."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Final

import aiohttp
import click
import msgspec
from aiohttp import web

from oo_daemon import registry
from oo_daemon.cli import terminal
from oo_daemon.cli.call import Call, json_option
from oo_sdk import Sandbox

#: The same each time, so that the settings one pasted stay right.
PORT: Final = 8800


@click.command()
@click.argument("id_", metavar="ID")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="TCP port on loopback; 0 takes any free one.")
@click.option("--misbehave", metavar="NAME", multiple=True, help="Do this wrong; an unknown name lists what there is.")
@json_option
@click.pass_obj
def sandbox(call: Call, id_: str, port: int, misbehave: tuple[str, ...], as_json: bool) -> None:
    """Serve a stand-in for a provider until Ctrl-C."""
    settings = call.settings
    sandboxes = registry.discover(enabled=settings.plugins.enabled, settings=settings.connectors).sandboxes
    # Packages are mostly named with a hyphen; ids never are.
    if (stand_in := sandboxes.get(id_.replace("-", "_"))) is None:
        there = f"choose one of {', '.join(sorted(sandboxes))}" if sandboxes else "see `oo plugins`"
        raise terminal.NotDone(f"no plugin brings a sandbox for {id_}", there)
    if unknown := [name for name in misbehave if name not in stand_in.switches]:
        names = "\n".join(f"  {name}: {sentence}" for name, sentence in stand_in.switches.items())
        raise click.UsageError(f"The sandbox of {stand_in.title} has no switch {unknown[0]}; it has these:\n{names}")
    try:
        door = socket.create_server(("127.0.0.1", port))
    except OSError as taken:
        raise terminal.NotDone(
            f"port {port} cannot be had ({os.strerror(taken.errno or 0)})", "name another with --port, or 0 for any"
        ) from None
    with door:
        asyncio.run(_serve(stand_in, door, misbehave, as_json=as_json))


async def _serve(stand_in: Sandbox, door: socket.socket, misbehave: tuple[str, ...], *, as_json: bool) -> None:
    address = f"http://127.0.0.1:{door.getsockname()[1]}"
    # Short, since an answer that is made never to end would hold up Ctrl-C.
    runner = web.AppRunner(stand_in.app(address), shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.SockSite(runner, door).start()
        await _misbehave(address, misbehave)
        _tell(stand_in, address, as_json=as_json)
        await asyncio.get_running_loop().create_future()  # until Ctrl-C cancels it
    finally:
        await runner.cleanup()


async def _misbehave(address: str, names: tuple[str, ...]) -> None:
    """Switch on what is to go wrong, at the address where people and tests do it too."""
    if not names:
        return
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        for name in names:
            async with session.post(f"{address}/sandbox/misbehave", json={"name": name}) as answer:
                if answer.status >= 400:
                    raise terminal.NotDone(f"the sandbox did not take the switch {name} (status {answer.status})", "leave it out")


def _tell(stand_in: Sandbox, address: str, *, as_json: bool) -> None:
    settings = stand_in.settings(address)
    if as_json:
        credentials = {"client_id": stand_in.client_id, "client_secret": stand_in.client_secret}
        terminal.show_json_lines([{"id": stand_in.id, "address": address, **credentials, "settings": settings}])
        return
    terminal.show(f"A stand-in for {stand_in.title} answers at this address until Ctrl-C:")
    terminal.show("")
    terminal.show_link(address)
    terminal.show("")
    terminal.show_fields(
        [("Client id", stand_in.client_id), ("Client secret", f"{stand_in.client_secret} (good for nothing but this sandbox)")]
    )
    terminal.show("")
    terminal.show("Put this into the settings, and the connector goes there instead of to the provider:")
    terminal.show("")
    terminal.show(f"[connectors.{stand_in.id}]")
    for name, value in settings.items():
        terminal.show(f"{name} = {msgspec.json.encode(value).decode()}")  # a JSON string is a TOML string
