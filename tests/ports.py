"""Ports for servers that have to be told theirs."""

from __future__ import annotations

import random
import socket
from pathlib import Path

#: Where Linux takes ports for outgoing connections from, by its own account: "32768 60999".
OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST, OUTGOING_FROM = 10_000, 32_768


def free_port() -> int:
    """A port of loopback that nobody listens on, and that nobody's outgoing connection gets.

    One of those would be taken now and then before the server is there, and whoever keeps knocking until it is could meet itself.
    """
    end = min(int(OUTGOING.read_text().split()[0]), OUTGOING_FROM) if OUTGOING.exists() else OUTGOING_FROM
    for port in random.SystemRandom().sample(range(min(LOWEST, end // 2), end), 100):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise AssertionError("no port is free")
