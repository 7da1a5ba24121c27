"""What systemd and the daemon tell each other."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon.ingress.wire import Notebook

from oo_daemon.ops.notify import Notify, sockets

CHILD = """
import os, sys
from oo_daemon.ops.notify import sockets
taken = sockets(os.environ)
print({name: (it.getsockname()[1], os.get_inheritable(it.fileno())) for name, it in taken.items()})
print([it for it in os.environ if "LISTEN" in it])
"""


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    """A systemd that listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.settimeout(5)
        yield ear


def test_it_says_what_systemd_reads(heard: socket.socket) -> None:
    """Assignments, one a line, in one datagram."""
    Notify.of({"NOTIFY_SOCKET": heard.getsockname()}).say(READY="1", STATUS="Listening")
    assert heard.recv(1000) == b"READY=1\nSTATUS=Listening"


def test_an_abstract_socket(tmp_path: Path) -> None:
    """A name that begins with @ is one without a file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(f"\0oo-notify-{os.getpid()}")
        ear.settimeout(5)
        Notify.of({"NOTIFY_SOCKET": f"@oo-notify-{os.getpid()}"}).say(STOPPING="1")
        assert ear.recv(1000) == b"STOPPING=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_nobody_listens(environ: dict[str, str]) -> None:
    """Without a unit around us, or with one that is gone, nothing happens."""
    Notify.of(environ).say(READY="1")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({}, 0.0),
    ],
)
def test_who_is_watched(environ: dict[str, str], seconds: float) -> None:
    """Only the process that is meant, and only where somebody watches."""
    assert Notify.of(environ).watchdog == seconds


class Enough(Exception):
    """The test has seen enough."""


async def test_the_watchdog_is_fed_by_proof(heard: socket.socket) -> None:
    """While the proof holds it is fed three times in its span; once it fails, no more."""
    proofs, naps, notebook = iter([True, True, False]), list[float](), Notebook()

    class Clock:
        def now(self) -> int:
            return 0

        def monotonic(self) -> float:
            return 0.0

        async def sleep(self, seconds: float) -> None:
            naps.append(seconds)
            if len(naps) == 3:
                raise Enough

    async def proof() -> bool:
        return next(proofs)

    with pytest.raises(Enough):
        await Notify(address=heard.getsockname(), watchdog=30.0).watch(proof, Clock(), notebook)
    assert [heard.recv(100), heard.recv(100)] == [b"WATCHDOG=1", b"WATCHDOG=1"]
    heard.setblocking(False)
    with pytest.raises(BlockingIOError):
        heard.recv(100)
    assert naps == [10.0, 10.0, 10.0]


def test_sockets_that_systemd_opened() -> None:
    """They are taken by their names, no child inherits them, and the variables are gone."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        ports = first.getsockname()[1], second.getsockname()[1]

        def hand_over() -> None:
            os.dup2(first.fileno(), 53)
            os.dup2(second.fileno(), 54)
            os.dup2(53, 3)
            os.dup2(54, 4)

        code = "import os; os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES='public:private')" + CHILD
        done = subprocess.run(
            [sys.executable, "-c", code], preexec_fn=hand_over, close_fds=False, capture_output=True, text=True, timeout=30, check=False
        )
    assert done.stdout.strip() == f"{ {'public': (ports[0], False), 'private': (ports[1], False)} }\n[]", done.stderr


def test_sockets_of_somebody_else() -> None:
    """Variables that were meant for another process open nothing."""
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "public"}
    assert (sockets(environ), environ) == ({}, {})
