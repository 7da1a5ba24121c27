"""`oo run`: the daemon itself, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from oo_daemon.cli.call import Call

if TYPE_CHECKING:
    from oo_daemon.app.ground import Role
    from oo_daemon.connections.keys import Keys


#: Seconds that the daemon has to end in order where a plugin blocks.
FAREWELL = 15.0


@click.command()
@click.option(
    "--role",
    type=click.Choice(["all", "ingress", "worker"]),
    default="all",
    show_default=True,
    help="On PostgreSQL several daemons share the work: an ingress takes in what comes from outside, a worker does the rest.",
)
@click.pass_obj
def run(call: Call, role: Role) -> None:
    """Run the daemon until Ctrl-C or SIGTERM. SIGHUP has it load its keys again.

    An ingress process verifies webhooks, connects accounts and stores credentials, with the bundle that `oo vault bundle` writes, and can
    open none. A worker has no public listener.
    """
    gc.disable()  # what a start loads stays, and to look through all of it again and again takes a tenth of it: `settle` looks once
    from oo_daemon.ops import log, notify
    from oo_vault import VaultError

    inherited = notify.sockets(os.environ)
    settings = call.settings
    log.configure(level=settings.log.level, style=settings.log.format)
    systemd = notify.Notify.of(os.environ)

    async def live() -> None:
        from oo_daemon.app import build
        from oo_daemon.host import settle
        from oo_daemon.strikes import PluginBlocks

        stop = asyncio.Event()
        ended: BaseException | None = None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with build(settings, sockets=inherited, role=role) as app, asyncio.TaskGroup() as tasks:
            loop.add_signal_handler(signal.SIGHUP, lambda: tasks.create_task(reload(app.keys)))
            systemd.say(READY="1", STATUS=f"Listening at {(app.public or app.private).address}")
            settle()
            watching = tasks.create_task(systemd.watch(app.health.alive, app.clock, log.logger()))
            stopping, broken = tasks.create_task(stop.wait()), tasks.create_task(app.fatal.happened())
            await asyncio.wait({stopping, broken}, return_when=asyncio.FIRST_COMPLETED)
            systemd.say(STOPPING="1", STATUS="Finishing what is under way")
            for task in (watching, stopping):
                task.cancel()
            if broken.done():
                ended = broken.result()
                if isinstance(ended, PluginBlocks):
                    from oo_daemon.cli.terminal import Exit  # here, since a daemon need not carry what a terminal needs

                    # What waits for the plugin would wait for ever: whatever is not in order by then is put right at the next start.
                    _end_within(FAREWELL, Exit.PLUGIN_BLOCKS)
            broken.cancel()
        if ended is not None:
            raise ended

    async def reload(keys: Keys) -> None:
        with suppress(VaultError):  # the log has told of it, and the daemon goes on with the keys it has
            await keys.reload()

    try:
        asyncio.run(live())
    finally:
        gc.enable()


def _end_within(seconds: float, code: int) -> None:
    """End the process by then, whatever it waits for."""
    end = threading.Timer(seconds, os._exit, [code])
    end.daemon = True
    end.start()
