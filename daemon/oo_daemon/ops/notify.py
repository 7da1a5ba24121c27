"""What systemd and the daemon tell each other: sockets that it opened for us, and that we are ready, alive or stopping.

Sources: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3). Without a unit around us all of it does nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping

import msgspec

from oo_daemon.ports import Clock
from oo_sdk import Log

FIRST_DESCRIPTOR = 3  #: SD_LISTEN_FDS_START
#: Of the watchdog's time: one that is late is still in time, and so is the one after it.
SHARE = 3


def sockets(environ: MutableMapping[str, str]) -> dict[str, socket.socket]:
    """Take over the sockets that systemd opened, by their FileDescriptorName; the variables are removed, so that no child takes them."""
    pid, count, names = (environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or not count.isdigit():
        return {}
    given = dict(zip(names.split(":"), range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count)), strict=False))
    taken = {}
    for name, descriptor in given.items():
        os.set_inheritable(descriptor, False)
        taken[name] = socket.socket(fileno=descriptor)
        taken[name].setblocking(False)
    return taken


class Notify(msgspec.Struct, frozen=True, kw_only=True):
    """The way to systemd, or nowhere."""

    address: str = ""
    watchdog: float = 0.0  #: seconds within which we must say that we live; 0: nobody watches

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Notify:
        """As the unit says. The variables stay, as they are no secret and no child of ours speaks with systemd."""
        micros = environ.get("WATCHDOG_USEC", "")
        watched = micros.isdigit() and environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        return cls(address=environ.get("NOTIFY_SOCKET", ""), watchdog=int(micros) / 1e6 if watched else 0.0)

    def say(self, **assignments: str) -> None:
        """Tell systemd, as in `say(READY="1", STATUS="listening")`. A systemd that does not listen is its own trouble, not ours."""
        if not self.address:
            return
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        message = "\n".join(f"{name}={value}" for name, value in assignments.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as way:
            way.setblocking(False)
            try:
                way.sendto(message.encode(), address)
            except OSError:
                return

    async def watch(self, proof: Callable[[], Awaitable[bool]], clock: Clock, log: Log) -> None:
        """Say again and again that we live, each time after `proof` has shown it. Ends only where nobody watches.

        That this runs at all proves the loop; `proof` is asked about the rest. What fails it is not told, and systemd restarts us.
        """
        while self.watchdog:
            if await proof():
                self.say(WATCHDOG="1")
            else:
                log.warning("watchdog_not_fed")
            await clock.sleep(self.watchdog / SHARE)
