"""Ports for servers that have to be told theirs."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

#: Where Linux takes ports for outgoing connections from, by its own account: "32768 60999".
OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST, OUTGOING_FROM = 10_000, 32_768
#: Which of the processes that run tests beside each other this is, and how many there are.
MINE, ALL = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def _ports() -> Iterator[int]:
    end = min(int(OUTGOING.read_text().split()[0]), OUTGOING_FROM) if OUTGOING.exists() else OUTGOING_FROM
    mine = range(min(LOWEST, end // 2) + MINE, end, ALL)
    yield from random.SystemRandom().sample(mine, len(mine))


_left = _ports()


def free_port() -> int:
    """A port of loopback that nobody listens on, that is given once, and that nobody's outgoing connection gets.

    One of those would be taken now and then before the server is there, and whoever keeps knocking until it is could meet itself.
    """
    for port in _left:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise AssertionError("no port is left")
