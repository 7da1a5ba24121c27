"""Slow senders, by the hundred: `python -m faults.slow PORT FIRST MANY` keeps so many connections open that trickle headers.

They come from addresses of loopback from 127.0.0.FIRST on, 50 from each. Whoever is cut off comes again. It says "all" once all are open,
ends with its input, and then says how many were cut off. A loop of its own in a process of its own, so that it costs little of what is
measured beside it.
"""

from __future__ import annotations

import random
import selectors
import socket
import sys
import time

OF_ADDRESS = 50
#: Seconds between two rounds; in each, every connection gets one more byte.
ROUND = 1.0


def main() -> None:
    """Do it."""
    port, first, many = map(int, sys.argv[1:])
    looking, chance = selectors.DefaultSelector(), random.Random(first)
    looking.register(sys.stdin, selectors.EVENT_READ)
    began = time.monotonic()
    waiting = [(began + number * ROUND / many, f"127.0.0.{first + number // OF_ADDRESS}") for number in range(many)]
    cut, said, next_round = 0, False, 0.0
    while True:
        now = time.monotonic()
        for due, address in [each for each in waiting if each[0] <= now]:
            waiting.remove((due, address))
            looking.register(_open(port, address), selectors.EVENT_READ, address)
        if not said and not waiting:
            said = True
            print("all", flush=True)
        if now >= next_round:
            next_round = now + ROUND
            for key in [*looking.get_map().values()]:
                if isinstance(key.fileobj, socket.socket):
                    _send(key.fileobj, b"a")
        for key, _ in looking.select(0.1):
            if not isinstance(key.fileobj, socket.socket):
                print(cut, flush=True)
                return
            cut += 1
            looking.unregister(key.fileobj)
            key.fileobj.close()
            waiting.append((now + chance.uniform(0, ROUND), key.data))


def _open(port: int, address: str) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", port), source_address=(address, 0))
    opened.setblocking(False)
    _send(opened, b"POST /webhooks/x HTTP/1.1\r\nHost: oo\r\nX-Slow: ")
    return opened


def _send(to: socket.socket, data: bytes) -> None:
    try:
        to.send(data)
    except OSError:
        return  # it is read of in a moment


if __name__ == "__main__":
    main()
