"""The doors: HTTP listeners with the limits that aiohttp does not set.

aiohttp 3.14.5 waits for ever for headers and bodies, keeps an idle connection for an hour and counts nobody. Both doors, public and
private, get their limits here, on the first byte and before any route is looked at. What goes wrong behind a door is told in that
door's own voice: pages to the public, JSON to those who call the API; never a traceback, and never what was sent to us.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import struct
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Literal, cast

import aiohttp
from aiohttp import StreamReader, http_parser, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import HttpVersion11, RawRequestMessage
from multidict import CIMultiDictProxy

from oo_daemon.ingress import pages
from oo_sdk import Log

Network = IPv4Network | IPv6Network
#: The header in which proxies name the client.
Forwarded = Literal["X-Forwarded-For", "Forwarded"]

MIB = 1024 * 1024

#: What every answer carries unless its route says otherwise.
GUARDS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one listener puts up with. Times in seconds, sizes in bytes."""

    headers_within: float = 5.0
    body_within: float = 10.0  #: the whole body; a route that takes uploads extends it with `allow_body`
    body_rate: int = 1000  #: bytes a second, averaged over each `rate_window`
    rate_window: float = 5.0
    body: int = MIB  #: what `request.read()` takes; above it 413
    idle: float = 75.0  #: a kept-alive connection without a request
    unread: float = 60.0  #: our answer waits because the other side does not read
    per_address: int = 100  #: open connections and requests at once; an IPv6 address counts as its /64
    connections: int = 1000
    farewell: float = 1.0  #: while closing, answers still say `Connection: close` this long; measured: 0.25 s cut requests, 1 s none
    drain: float = 20.0  #: how long requests in flight may still take when closing


DEFAULTS = Limits()


class CannotListen(Exception):
    """The operator must change something before this door can open."""


class DoorTaken(CannotListen):
    """Somebody else listens there: stop it, or choose another place."""


class BodyTooSlow(TimeoutError):
    """The sender is to send the whole request again, faster.

    A TimeoutError, because aiohttp lets that one pass when it reads what is left of a body after the answer.
    """


class Refused(Exception):
    """What the caller asked for is not done: it gets this answer instead.

    `message` and `remedy` are one sentence each and reach the caller of the private door; the public door has its own words for a
    status.
    """

    def __init__(
        self, status: int, code: str, message: str, remedy: str = "", *, connect_url: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.remedy = remedy
        self.connect_url = connect_url  #: where the person can allow what is missing
        self.headers = dict(headers or {})


Voice = Callable[[Refused], web.Response]

_WORDS: Mapping[int, tuple[str, str, str]] = {
    400: ("unreadable", "The request is not well-formed.", "Check how it is put together, then send it again."),
    401: ("token_needed", "This door needs a token.", "Send an Authorization header with a Bearer token."),
    403: ("not_allowed", "The caller may not do this.", "Use an account or a token that may."),
    404: ("not_found", "There is nothing at this address.", "Compare the address with openapi.yaml."),
    405: ("method_not_allowed", "This address does not take that method.", "Use one of the methods named in the Allow header."),
    408: ("too_slow", "The request came too slowly.", "Send the whole request again."),
    413: ("too_large", "The body is too large.", "Send less at a time."),
    415: ("media_type", "The body is packed in a way that is not taken.", "Pack it in one of the ways that Accept-Encoding names, or not."),
    429: ("too_many", "Too many requests at once come from this address.", "Send fewer at a time."),
    500: ("failed", "The request failed inside oO.", "Look for request_failed in the daemon's log."),
    503: ("unavailable", "oO cannot answer right now.", "Try again after the time in the Retry-After header."),
}
_RETRY_AFTER = {429: "5", 503: "30"}
_KEPT_HEADERS = ("Allow", "Retry-After", "WWW-Authenticate")


def refused(status: int, headers: Mapping[str, str] | None = None) -> Refused:
    """The usual words for a status."""
    code, message, remedy = _WORDS.get(status) or (f"http_{status}", f"The answer is {HTTPStatus(status).phrase}.", "")
    return Refused(status, code, message, remedy, headers=headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Manners:
    """How one application speaks, and where it writes down what happened."""

    voice: Voice
    log: Log


_MANNERS: web.AppKey[_Manners] = web.AppKey("manners")


@dataclass(slots=True, kw_only=True)  # not frozen, which sets each field through a function: one is made for each webhook
class Post:
    """A POST that has come whole, before anything was made of it."""

    path: str
    headers: CIMultiDictProxy[str]
    body: bytes


#: Called once with the answer; with what went wrong; or with None for 200 and nothing to say.
Answered = Callable[[web.Response | BaseException | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Straight:
    """A way past all requests, tasks and routes, for the posts that come by the thousand: those to `path` and one plain name.

    Most are small and have come whole with their headers. What aiohttp makes of each costs several times what is done with it, so these
    are handed over as they are. `take` returns at once and calls what it is given, now or later. What is waited for, packed or unusual
    in any other way comes by the route that leads to the same place.
    """

    path: str
    shown: str  #: in the log
    take: Callable[[Post, Answered], None]

    def leads(self, message: RawRequestMessage) -> bool:
        """Say whether what has come may take it."""
        path = message.path
        return (
            message.method == "POST"
            and path.startswith(self.path)
            and _PLAIN.fullmatch(path, len(self.path)) is not None
            and message.version == HttpVersion11
            and not (message.should_close or message.upgrade)
            and message.headers.keys().isdisjoint(_UNUSUAL)
        )


_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_UNUSUAL = ("Expect", "Content-Encoding")


def public_application(*, log: Log) -> web.Application:
    """An application that answers people and senders of webhooks: add routes to it."""
    return _application(_Manners(voice=_public_voice, log=log))


def private_application(*, log: Log) -> web.Application:
    """An application that answers callers of the API: add routes to it."""
    return _application(_Manners(voice=_private_voice, log=log))


def console_application(*, log: Log) -> web.Application:
    """An application that answers operators in their browsers; it goes into a private one."""
    return _application(_Manners(voice=_console_voice, log=log))


def allow_body(request: web.Request, *, within: float) -> None:
    """Give this request's body so many seconds in all. Call it before the first await; the rate stays as it is."""
    if isinstance(request.protocol, _Connection):
        request.protocol.allow_body(within)


class Listening:
    """An open door."""

    def __init__(
        self, *, address: str, port: int | None, server: asyncio.Server, runner: web.AppRunner, door: _Door, path: Path | None = None
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
) -> Listening:
    """Open a door on TCP; port 0 takes a free one. `sock` is a socket inherited from systemd, used in place of host and port.

    A connection from one of `trusted_proxies` stands for others: `request.remote` is the address that the proxy names in `forwarded_by`
    (the other header is the client's own, whom a proxy may let write it), and such
    connections count towards the total only.
    """
    require_aiohttp()
    runner, door = await _door(app, limits, straight=straight, trusted=tuple(trusted_proxies), forwarded=forwarded_by)
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


def peer_uid(sock: socket.socket) -> int:
    """Who is at the other end of a Unix socket (Linux, SO_PEERCRED: pid, uid, gid)."""
    _, uid, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII")))
    return int(uid)


#: Who a caller over TCP is, as the guard of that door found it.
CALLER = web.RequestKey("caller", str)


def caller(request: web.Request) -> str:
    """Who asks: "token NAME" or a person over TCP, else "uid N" from the other end of the Unix socket."""
    known: str | None = request.get(CALLER)
    if known is not None:
        return known
    sock = request.transport.get_extra_info("socket") if request.transport is not None else None
    return f"uid {peer_uid(sock)}" if sock is not None and sock.family == socket.AF_UNIX else "nobody known"


async def listen_unix(
    app: web.Application,
    *,
    path: Path,
    admins: frozenset[int] = frozenset(),
    limits: Limits = DEFAULTS,
    peer: Callable[[socket.socket], int] = peer_uid,
    sock: socket.socket | None = None,
) -> Listening:
    """Open a door on a Unix socket, mode 0660. Our own uid, root and `admins` are let in; everybody else is answered 403.

    `sock` is a socket inherited from systemd, which keeps it, and its file, when we stop.
    """
    require_aiohttp()
    inherited, sock = sock is not None, sock or _claim(path)
    try:
        runner, door = await _door(app, limits, admits=lambda sock: peer(sock) in admins | {0, os.getuid()})
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


def client_address(peer: str, hops: Sequence[str], trusted: Collection[Network]) -> str:
    """Whose request it is: the peer, or behind trusted proxies the rightmost of the addresses they name that is not one of theirs.

    What stands further left was written by the client himself and is not believed; nor is anything left of what is no address.
    """
    address = peer
    for hop in reversed([*hops, peer]):
        ip = _ip(hop)
        if ip is None:
            break
        address = str(ip)
        if not _within(ip, trusted):
            break
    return address


def hops(values: Iterable[str], *, standard: bool) -> list[str]:
    """The addresses that proxies name, as they stand: in X-Forwarded-For, or in `standard` Forwarded (RFC 7239) after `for=`."""
    elements = [element.strip() for value in values for element in value.split(",")]
    return [_for(element) for element in elements] if standard else elements


def _for(element: str) -> str:
    """Whom one element of Forwarded names, without a port; empty for whom it hides, and for what is not well-formed."""
    found = _FOR.fullmatch(element)
    return (found["six"] or found["plain"]) if found else ""


#: One element of Forwarded, of which only `for` is read: a name and a value each, the value quoted where it holds a colon.
_FOR = re.compile(
    r'(?:[a-z]+=[^;"]*;|[a-z]+="[^"]*";)*for="?(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<plain>[0-9.]+))(?::[0-9]{1,5})?"?'
    r'(?:;[a-z]+=[^;"]*|;[a-z]+="[^"]*")*',
    re.ASCII | re.IGNORECASE,
)


# --- what is told to whom ------------------------------------------------------------------------------------------------


def _application(manners: _Manners) -> web.Application:
    app = web.Application(middlewares=[_tell])
    app[_MANNERS] = manners
    app.on_response_prepare.append(_on_response_prepare)
    return app


@web.middleware
async def _tell(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Turn whatever went wrong in a route into an answer in the door's voice."""
    return await _told(request.config_dict[_MANNERS], request, handler)


async def _told(
    manners: _Manners, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except Exception as exc:
        gone = request.transport is None or request.transport.is_closing()
        if (isinstance(exc, web.HTTPException) and exc.status < 400) or (gone and isinstance(exc, ConnectionError)):
            raise  # no fault; or the client left before the end of its body: nobody's fault, and nobody is there to be told
        refusal = _refusal(manners, _shown_path(request), exc)
    if request.writer.output_size > 0:
        raise ConnectionResetError("the answer had begun: cut it off rather than end it as if it were whole")
    response = manners.voice(refusal)
    _dress(response)  # here, so that whatever way it came it looks alike to the last byte
    if not request.content.is_eof():
        response.force_close()  # what is left of the body is in the way of the next request
    return response


def _refusal(manners: _Manners, path: str, fault: BaseException) -> Refused:
    """What is answered for what went wrong; if that is our own fault, it is written down."""
    match fault:
        case Refused():
            return fault
        case web.HTTPException():
            return refused(fault.status, {name: fault.headers[name] for name in _KEPT_HEADERS if name in fault.headers})
        case BodyTooSlow():
            return refused(408)
        case web.RequestPayloadError():
            return refused(400)
    # The message of an exception may quote what was sent or asked for; its name and place cannot.
    where = ", ".join(
        f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in traceback.extract_tb(fault.__traceback__)[-1:]
    )
    manners.log.warning("request_failed", path=path, error=type(fault).__name__, where=where)
    return refused(500)


async def _on_response_prepare(request: web.Request, response: web.StreamResponse) -> None:
    _dress(response)


def _dress(response: web.StreamResponse) -> None:
    for name, value in GUARDS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "oO"  # no version for those who look for old ones


def _written(response: web.Response, *, stays: bool) -> bytes:
    """An answer as aiohttp would send it."""
    _dress(response)
    body = response.body if isinstance(response.body, bytes) else b""
    headers = {**response.headers, "Content-Length": str(len(body)), "Date": rfc822_formatted_time()}
    if not stays:
        headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {response.status} {response.reason}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body


@lru_cache(maxsize=4)
def _nothing_to_say(date: str) -> bytes:
    """200 without a body, the answer that is given by the thousand: as bytes that are ready for all of one second."""
    return _written(web.Response(content_type="text/plain"), stays=True)


def _public_voice(refusal: Refused) -> web.Response:
    # Our own faults are 503, so that senders come again. A wrong method looks like a wrong address: neither tells what is here.
    status = 503 if refusal.status >= 500 else 404 if refusal.status == 405 else refusal.status
    response = web.Response(status=status, text=pages.problem(status), content_type="text/html")
    if "Accept-Encoding" in refusal.headers:
        response.headers["Accept-Encoding"] = refusal.headers["Accept-Encoding"]
    return _with_retry(response, refusal)


def _console_voice(refusal: Refused) -> web.Response:
    text = pages.console("problem.html", message=refusal.message, remedy=refusal.remedy)
    return _with_retry(web.Response(status=refusal.status, text=text, content_type="text/html"), refusal)


def _private_voice(refusal: Refused) -> web.Response:
    error = {"code": refusal.code, "message": refusal.message, "remedy": refusal.remedy}
    if refusal.connect_url:
        error["connect_url"] = refusal.connect_url
    response = web.json_response({"error": error}, status=refusal.status)
    for name in _KEPT_HEADERS:
        if name in refusal.headers:
            response.headers[name] = refusal.headers[name]
    return _with_retry(response, refusal)


def _with_retry(response: web.Response, refusal: Refused) -> web.Response:
    retry = refusal.headers.get("Retry-After") or _RETRY_AFTER.get(response.status)
    if retry:
        response.headers["Retry-After"] = retry
    return response


def _shown_path(request: web.BaseRequest) -> str:
    """The route's pattern, such as `/connect/{link}`: what stands in its place may be a secret, and so may an unknown path."""
    # Not `request.match_info`: that asserts where the request never came to a route. Compared with None, as both are empty mappings.
    match = request._match_info if isinstance(request, web.Request) else None
    if match is None and isinstance(request.protocol, _Connection):
        return request.protocol.way(request)
    resource = match.route.resource if match is not None else None
    return resource.canonical if resource is not None else "(none)"


# --- the limits ------------------------------------------------------------------------------------------------------


class _Door:
    """What the connections of one listener share. Called for each new connection, as asyncio's protocol factory."""

    def __init__(
        self,
        server: web.Server,
        manners: _Manners,
        limits: Limits,
        *,
        straight: Straight | None = None,
        trusted: tuple[Network, ...] = (),
        forwarded: Forwarded = "X-Forwarded-For",
        admits: Callable[[socket.socket], bool] | None = None,
    ) -> None:
        self.server = server
        self.straight = straight
        self.manners = manners
        self.limits = limits
        self.closing = False
        self.connections = 0
        self._open: Counter[str] = Counter()
        self._in_flight: Counter[str] = Counter()
        self._trusted = trusted
        self._forwarded = forwarded.lower().encode()
        self._admits = admits
        self._counted: dict[str, str] = {}  #: what addresses are counted as, of those that came last
        # Both are aiohttp's own seams: each request is made by the one and answered by the other, routes come after.
        self._answer = server.request_handler
        server.request_factory = self._request
        server.request_handler = self._handle

    def __call__(self) -> _Connection:
        return _Connection(self)

    def enter(self, address: str) -> bool:
        """Count a new connection in, or say that there is no room for it."""
        counted = self._counted_as(address)
        if self.connections >= self.limits.connections or (counted and self._open[counted] >= self.limits.per_address):
            return False
        self.connections += 1
        if counted:
            self._open[counted] += 1
        return True

    def leave(self, address: str) -> None:
        """Count a connection out."""
        self.connections -= 1
        _subtract(self._open, self._counted_as(address))

    def _counted_as(self, address: str) -> str:
        """What one sender is counted as; empty for who stands for many, as a proxy does, or has no address, as on a Unix socket."""
        if (known := self._counted.get(address)) is None:
            if len(self._counted) >= self.limits.connections:
                self._counted.clear()
            known = self._counted[address] = self._works_out(address)
        return known

    def _works_out(self, address: str) -> str:
        ip = _ip(address)
        if ip is None or _within(ip, self._trusted):
            return ""
        # Whoever has one IPv6 address has 2⁶⁴ of them.
        return str(ip_network((ip, 64), strict=False)) if isinstance(ip, IPv6Address) else str(ip)

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        connection = cast(_Connection, protocol)
        connection.request_begins(payload)
        remote = self._remote(connection, message) if self._trusted else connection.address
        loop, limit = connection.loop, self.limits.body
        return web.Request(message, payload, protocol, writer, task, loop, client_max_size=limit, remote=remote)

    def _remote(self, connection: _Connection, message: RawRequestMessage) -> str:
        named = (value.decode("latin-1") for name, value in message.raw_headers if name.lower() == self._forwarded)
        return client_address(connection.address, hops(named, standard=self._forwarded == b"forwarded"), self._trusted)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        if self._admits and not (transport and self._admits(transport.get_extra_info("socket"))):
            return self.refuse(refused(403))
        # Behind a proxy the connections are the proxy's, so its clients are counted by their requests under way.
        counted = self._counted_as(request.remote or "")
        if not self.begin(counted):
            return self.refuse(refused(429))
        try:
            response = await self._answer(request)
        except web.HTTPException as exc:
            if exc.status < 400:
                raise
            return self.refuse(refused(exc.status))  # aiohttp's own word on an unknown Expect, which quotes it
        finally:
            self.end(counted)
        if self.closing:
            response.force_close()
        return response

    def counts(self, connection: _Connection, message: RawRequestMessage) -> str:
        """What the sender of a post is counted as."""
        return self._counted_as(self._remote(connection, message) if self._trusted else connection.address)

    def begin(self, counted: str) -> bool:
        """Count a request in, or say that its sender has too many under way."""
        under_way = self._in_flight.get(counted, 0)
        if counted and under_way >= self.limits.per_address:
            return False
        self._in_flight[counted] = under_way + 1
        return True

    def end(self, counted: str) -> None:
        """Count a request out."""
        _subtract(self._in_flight, counted)

    def written(self, what: web.Response | BaseException | None, *, stays: bool) -> tuple[int, bytes]:
        """What is answered to a post that was taken straight: the status, and all of it."""
        if what is None and stays:
            return 200, _nothing_to_say(rfc822_formatted_time())
        if isinstance(what, BaseException):
            what = self.manners.voice(_refusal(self.manners, self.straight.shown if self.straight else "", what))
        response = what or web.Response(content_type="text/plain")
        return response.status, _written(response, stays=stays)

    def refuse(self, refusal: Refused) -> web.Response:
        """An answer that no route gave, as if one had; the connection ends with it."""
        response = self.manners.voice(refusal)
        _dress(response)
        response.force_close()
        return response


class _Connection(web.RequestHandler):
    """One connection: aiohttp's, with clocks.

    The headers' clock runs from the first byte until aiohttp has parsed them, the body's from there until its last byte. While
    neither runs, aiohttp's own keep-alive clock does.

    A post that goes straight is taken out of aiohttp's queue as soon as it is parsed, while aiohttp's own loop sleeps; what comes before
    it is answered waits in that queue, and wakes that loop afterwards. For this some of aiohttp's private fields are read and set; the
    tests on real sockets notice if one changes its meaning.
    """

    def __init__(self, door: _Door) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            door.server,
            loop=loop,
            keepalive_timeout=door.limits.idle,
            lingering_time=door.limits.body_within,
            auto_decompress=False,  # signatures are over what was sent, and a bomb is the route's to defuse
        )
        self._door = door
        self.loop = loop
        self.address = ""  #: of the other end; of a proxy, if it is one
        self._entered = False
        self._clock: asyncio.TimerHandle | None = None  #: the headers' or the body's
        self._stall: asyncio.TimerHandle | None = None
        self._heard = False  #: part of a request's headers has come
        self._held = False  #: we stopped reading for a while, so the sender cannot be blamed for its rate
        self._reading: StreamReader | None = None  #: the body under way
        self._straight: str | None = None  #: a post is taken straight: what its sender is counted as
        self._started = 0.0
        self._body_until = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it in, or turn it away before aiohttp hears of it."""
        self.address = client_address(_peer_address(transport.get_extra_info("peername")), (), ())
        if not self._door.enter(self.address):
            self.transport = cast(asyncio.Transport, transport)
            self._hang_up(503, "too_many_connections")
            return
        self._entered = True
        super().connection_made(transport)
        self._start_headers()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop the clocks."""
        self._stop_clock()
        if self._stall:
            self._stall.cancel()
        if self._entered:
            self._entered = False
            self._door.leave(self.address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Let aiohttp parse it, then see whether that was the beginning of a request's headers."""
        parsed, waiter = self._request_count, self._waiter
        asleep = waiter is not None and not waiter.done() and not self._upgraded
        if asleep:
            self._waiter = None  # so that it is not woken yet
        super().data_received(data)
        if asleep and waiter is not None and self._task_handler is not None:
            self._waiter = waiter
            if self._straight is None and self._messages and not self._goes_straight():
                waiter.set_result(None)
        if not data or self._request_count != parsed:
            return
        if self._reading is None and self._straight is None and self._waiter is not None and not self._waiter.done():
            self._heard = True
            if self._clock is None:
                self._start_headers()

    def _goes_straight(self) -> bool:
        """Have the post that was just parsed taken straight, if it may be."""
        door, (message, payload) = self._door, self._messages[0]
        if (
            door.straight is None
            or self._close
            or self.writing_paused
            or not payload.is_eof()
            or not isinstance(message, RawRequestMessage)
            or not door.straight.leads(message)
            or not door.begin(counted := door.counts(self, message))
        ):
            return False
        self._messages.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        self.request_begins(payload)
        self._straight = counted
        self._request_in_progress = True
        door.server.requests_count += 1
        door.straight.take(Post(path=message.path, headers=message.headers, body=payload.read_nowait()), self._answered)
        return True

    def _answered(self, what: web.Response | BaseException | None) -> None:
        """Answer the post that was taken straight, and go on with what has come meanwhile."""
        counted, self._straight = self._straight, None
        door, stays = self._door, not (self._door.closing or self._close or self._force_close)
        door.end(counted or "")
        status, answer = door.written(what, stays=stays)
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(answer)
        self._log("POST", door.straight.shown if door.straight else "", status)
        self._request_in_progress = False
        if self._handler_waiter is not None:
            self._handler_waiter.set_result(None)
        if not stays:
            self.force_close()
        elif self._messages and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        else:
            self._rests()

    def _rests(self) -> None:
        """Begin the keep-alive clock anew, as aiohttp does after an answer of its own."""
        self._next_keepalive_close_time = close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(close_time, self._process_keepalive)

    def _process_keepalive(self) -> None:
        if self._straight is None:
            super()._process_keepalive()
        else:
            self._keepalive_handle = None  # it is not at rest: the clock begins anew with the answer

    def request_begins(self, payload: StreamReader) -> None:
        """Start the body's clock, unless the whole body is here."""
        self._started = self._loop.time()
        self._heard = False
        self._stop_clock()
        if payload.is_eof():
            return
        self._reading = payload
        self._held = False
        self._body_until = self._started + self._door.limits.body_within
        payload.on_eof(self._body_ends)
        self._watch_body(payload)

    def way(self, request: web.BaseRequest) -> str:
        """What is shown for a path that no route was looked up for."""
        straight = self._door.straight
        return straight.shown if straight is not None and request.raw_path.startswith(straight.path) else "(none)"

    def allow_body(self, within: float) -> None:
        """Another time for the body under way, from its beginning."""
        self._body_until = self._started + within

    def pause_reading(self) -> None:
        """Remember that it is us who are slow."""
        super().pause_reading()
        self._held = True

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on where reading was paused: aiohttp asks for it with each body, and would parse nothing once more."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def pause_writing(self) -> None:
        """Give the other side a while to read what it asked for."""
        super().pause_writing()
        if self.transport is not None:
            self._stall = self._loop.call_later(self._door.limits.unread, self.transport.abort)

    def resume_writing(self) -> None:
        """It does read."""
        super().resume_writing()
        if self._stall:
            self._stall.cancel()

    def log_access(self, request: web.BaseRequest, response: web.StreamResponse, time: float | None) -> None:
        """One line for each answer, without anything that the client chose; what went well is counted, and told only where all is told."""
        self._log(request.method, _shown_path(request), response.status)

    def _log(self, method: str, path: str, status: int) -> None:
        log = self._door.manners.log
        told = log.info if status >= HTTPStatus.BAD_REQUEST else log.debug
        told("request", method=method, path=path, status=status, ms=round((self._loop.time() - self._started) * 1000, 1))

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what aiohttp could not parse. Its own message would quote it."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun")
        return self._door.refuse(refused(status))

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Aiohttp's words for what broke outside every route: only the kind is kept, the rest may quote the request."""
        error = kw.get("exc_info")
        self._door.manners.log.warning("connection_failed", error=type(error).__name__)

    def _start_headers(self) -> None:
        self._clock = self._loop.call_later(self._door.limits.headers_within, self._headers_too_slow)

    def _headers_too_slow(self) -> None:
        if self._heard:
            self._hang_up(408, "headers_too_slow")
        else:
            self.force_close()  # a browser's spare connection: nothing was asked

    def _watch_body(self, payload: StreamReader) -> None:
        now = self._loop.time()
        wait = min(self._door.limits.rate_window, max(self._body_until - now, 0))
        self._clock = self._loop.call_later(wait, self._look_at_body, payload, payload.total_bytes)

    def _look_at_body(self, payload: StreamReader, had: int) -> None:
        limits = self._door.limits
        late = self._loop.time() >= self._body_until
        slow = payload.total_bytes - had < limits.body_rate * limits.rate_window and not self._held
        if not (late or slow):
            self._held = self._reading_paused
            self._watch_body(payload)
            return
        self._body_ends()
        self._door.manners.log.debug("turned_away", reason="body_too_slow")
        self.close()  # reads nothing more, and hangs up after the answer
        payload.set_exception(BodyTooSlow("The body came too slowly: send the whole request again."))

    def _body_ends(self) -> None:
        self._reading = None
        self._stop_clock()

    def _stop_clock(self) -> None:
        if self._clock:
            self._clock.cancel()
            self._clock = None

    def _hang_up(self, status: int, reason: str) -> None:
        """Say why in as few bytes as HTTP allows, then close. Nothing is kept waiting by somebody who does not read it."""
        self._door.manners.log.debug("turned_away", reason=reason)
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "Content-Length: 0", "Connection: close"]
        if status in _RETRY_AFTER:
            lines.append(f"Retry-After: {_RETRY_AFTER[status]}")
        if self.transport is not None:
            self.transport.write("\r\n".join([*lines, "", ""]).encode())
        self.force_close()


async def _door(
    app: web.Application,
    limits: Limits,
    *,
    straight: Straight | None = None,
    trusted: tuple[Network, ...] = (),
    forwarded: Forwarded = "X-Forwarded-For",
    admits: Callable[[socket.socket], bool] | None = None,
) -> tuple[web.AppRunner, _Door]:
    # aiohttp waits twice that long, for the answers and then for the handlers; and for ever, if it is told zero.
    runner = web.AppRunner(app, shutdown_timeout=max(limits.drain / 2, 0.001))
    await runner.setup()
    assert runner.server is not None
    return runner, _Door(runner.server, app[_MANNERS], limits, straight=straight, trusted=trusted, forwarded=forwarded, admits=admits)


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


def _subtract(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]  # else every address ever seen stays in memory


def _peer_address(peername: object) -> str:
    return str(peername[0]) if isinstance(peername, tuple) else ""


@lru_cache(maxsize=1024)
def _ip(text: str) -> IPv4Address | IPv6Address | None:
    try:
        ip = ip_address(text.strip())
    except ValueError:
        return None
    return ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip


def _within(ip: IPv4Address | IPv6Address, networks: Collection[Network]) -> bool:
    return any(ip in network for network in networks)
