"""The doors: listeners on TCP and on a Unix socket, or on what systemd opened for us."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

import aiohttp
from aiohttp import http_parser, web

from oo_daemon.ingress.answers import MANNERS
from oo_daemon.ingress.connection import DEFAULTS, Door, Limits, Straight
from oo_daemon.ingress.peers import Forwarded, Network, peer_uid


class CannotListen(Exception):
    """The operator must change something before this door can open."""


class DoorTaken(CannotListen):
    """Somebody else listens there: stop it, or choose another place."""


class Listening:
    """An open door."""

    def __init__(
        self, *, address: str, port: int | None, server: asyncio.Server, runner: web.AppRunner, door: Door, path: Path | None = None
    ) -> None:
        self.address = address  #: `http://127.0.0.1:8710` or `unix:/run/…`
        self.port = port  #: the actual one; None on a Unix socket
        self._server = server
        self._runner = runner
        self._door = door
        self._path = path
        self._inode = path.stat().st_ino if path else None

    async def close(self) -> None:
        """Stop accepting, let requests in flight finish, close. Safe to call twice."""
        loop = asyncio.get_running_loop()
        for each in self._server.sockets:
            loop.remove_reader(each.fileno())
        # Who was let in just now is taken up in the next turn, and counted in the one after: else asyncio drops it.
        for _ in range(2):
            await asyncio.sleep(0)
        self._server.close()
        self._door.closing = True
        if self._door.connections:
            # A kept-alive connection may have a request on its way just now: answer it, and only then hang up.
            await asyncio.sleep(self._door.limits.farewell)
        await self._runner.cleanup()
        if self._path:
            _remove(self._path, self._inode)


async def listen_tcp(
    app: web.Application,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    limits: Limits = DEFAULTS,
    trusted_proxies: Collection[Network] = (),
    forwarded_by: Forwarded = "X-Forwarded-For",
    straight: Straight | None = None,
    sock: socket.socket | None = None,
    asked: Callable[[], None] = lambda: None,
) -> Listening:
    """Open a door on TCP; port 0 takes a free one. `sock` is a socket inherited from systemd, used in place of host and port.

    A connection from one of `trusted_proxies` stands for others: `request.remote` is the address that the proxy names in `forwarded_by`
    (the other header is the client's own, whom a proxy may let write it), and such
    connections count towards the total only.
    """
    require_aiohttp()
    runner, door = await _door(app, limits, asked, straight=straight, trusted=tuple(trusted_proxies), forwarded=forwarded_by)
    loop = asyncio.get_running_loop()
    try:
        if sock is None:
            server = await loop.create_server(door, host, port, backlog=limits.connections)
        else:
            server = await loop.create_server(door, sock=sock, backlog=limits.connections)
    except OSError as exc:
        await runner.cleanup()
        if exc.errno == errno.EADDRINUSE:
            raise DoorTaken(f"Another program listens on {host}:{port}: stop it, or set another port.") from exc
        raise CannotListen(f"oO cannot listen on {host}:{port} ({exc.strerror}): set another host or port.") from exc
    host, port = server.sockets[0].getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return Listening(address=address, port=port, server=server, runner=runner, door=door)


async def listen_unix(
    app: web.Application,
    *,
    path: Path,
    admins: frozenset[int] = frozenset(),
    limits: Limits = DEFAULTS,
    peer: Callable[[socket.socket], int] = peer_uid,
    sock: socket.socket | None = None,
    asked: Callable[[], None] = lambda: None,
) -> Listening:
    """Open a door on a Unix socket, mode 0660. Our own uid, root and `admins` are let in; everybody else is answered 403.

    `sock` is a socket inherited from systemd, which keeps it, and its file, when we stop.
    """
    require_aiohttp()
    inherited, sock = sock is not None, sock or _claim(path)
    try:
        runner, door = await _door(app, limits, asked, admits=lambda sock: peer(sock) in admins | {0, os.getuid()})
        server = await asyncio.get_running_loop().create_unix_server(door, sock=sock, backlog=limits.connections)
    except BaseException:
        sock.close()
        raise
    kept = None if inherited else path
    return Listening(address=f"unix:{path}", port=None, server=server, runner=runner, door=door, path=kept)


def require_aiohttp(version: str = aiohttp.__version__, parser: type = http_parser.HttpRequestParser) -> None:
    """Refuse to open a door on an aiohttp that is too old or parses in pure Python: both have known request smuggling holes."""
    if tuple(int(part) for part in re.findall(r"\d+", version)[:3]) < (3, 14, 5):
        raise CannotListen(f"aiohttp {version} is older than 3.14.5: install a newer one.")
    if parser.__module__ != "aiohttp._http_parser":
        raise CannotListen("aiohttp runs without its C parser: install a wheel of it, and unset AIOHTTP_NO_EXTENSIONS.")


async def _door(
    app: web.Application,
    limits: Limits,
    asked: Callable[[], None],
    *,
    straight: Straight | None = None,
    trusted: tuple[Network, ...] = (),
    forwarded: Forwarded = "X-Forwarded-For",
    admits: Callable[[socket.socket], bool] | None = None,
) -> tuple[web.AppRunner, Door]:
    # aiohttp waits twice that long, for the answers and then for the handlers; and for ever, if it is told zero.
    runner = web.AppRunner(app, shutdown_timeout=max(limits.drain / 2, 0.001))
    await runner.setup()
    assert runner.server is not None
    door = Door(
        runner.server,
        app[MANNERS],
        limits,
        straight=straight,
        trusted=trusted,
        forwarded=forwarded,
        admits=admits,
        asked=asked,
    )
    return runner, door


def _claim(path: Path) -> socket.socket:
    """Bind to the path, over a socket file that nobody answers on any more.

    asyncio would remove any socket file, also one in use. Nobody can connect before `listen`, so the mode is set in time.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if path.is_socket():
            # A full queue of waiting connections (EAGAIN) means that somebody is there, too.
            if sock.connect_ex(str(path)) in (0, errno.EAGAIN):
                raise DoorTaken(f"Another program answers on {path}: stop it, or set another path.")
            path.unlink(missing_ok=True)
        sock.bind(str(path))
        path.chmod(0o660)
    except OSError as exc:
        sock.close()
        raise CannotListen(f"oO cannot make the socket {path} ({exc.strerror or exc}): free that path, or set another one.") from exc
    except DoorTaken:
        sock.close()
        raise
    return sock


def _remove(path: Path, inode: int | None) -> None:
    """Take our socket file away, unless the path is somebody else's by now."""
    with suppress(FileNotFoundError):
        if path.lstat().st_ino == inode:
            path.unlink()
