"""`oo run`: the daemon itself, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import signal

import click

from oo_daemon.cli.call import Call


@click.command()
@click.pass_obj
def run(call: Call) -> None:
    """Run the daemon until Ctrl-C or SIGTERM."""
    from oo_daemon.ops import log

    settings = call.settings
    log.configure(level=settings.log.level, style=settings.log.format)

    async def live() -> None:
        from oo_daemon.app import build

        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with build(settings):
            await stop.wait()

    asyncio.run(live())
