"""Connections with the limits that aiohttp does not set, and a straight way for posts that come by the thousand.

aiohttp 3.14.5 waits for ever for headers and bodies, keeps an idle connection for an hour and counts nobody. Both doors, public and
private, get their limits here, on the first byte and before any route is looked at.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv6Address, ip_network
from typing import Any, cast

import msgspec
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import HttpVersion11, RawRequestMessage
from multidict import CIMultiDictProxy

from oo_daemon.ingress.answers import (
    RETRY_AFTER,
    BodyTooSlow,
    Manners,
    Refused,
    as_bytes,
    dress,
    nothing_to_say,
    refusal_of,
    refused,
    shown_path,
)
from oo_daemon.ingress.peers import Forwarded, Network, client_address, hops, ip_of, is_within, peer_address

MIB = 1024 * 1024


class Limits(msgspec.Struct, frozen=True, kw_only=True):
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


@dataclass(slots=True, kw_only=True)  # not frozen, which sets each field through a function: one is made for each webhook
class Post:
    """A POST that has come whole, before anything was made of it."""

    path: str
    headers: CIMultiDictProxy[str]
    body: bytes


#: Called once with the answer; with what went wrong; or with None for 200 and nothing to say.
Answered = Callable[[web.Response | BaseException | None], None]


class Straight(msgspec.Struct, frozen=True, kw_only=True):
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


def allow_body(request: web.Request, *, within: float) -> None:
    """Give this request's body so many seconds in all. Call it before the first await; the rate stays as it is."""
    if isinstance(request.protocol, Connection):
        request.protocol.allow_body(within)


class Door:
    """What the connections of one listener share. Called for each new connection, as asyncio's protocol factory."""

    def __init__(
        self,
        server: web.Server,
        manners: Manners,
        limits: Limits,
        *,
        straight: Straight | None = None,
        trusted: tuple[Network, ...] = (),
        forwarded: Forwarded = "X-Forwarded-For",
        admits: Callable[[socket.socket], bool] | None = None,
        asked: Callable[[], None] = lambda: None,
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
        self._asked = asked
        self._counted: dict[str, str] = {}  #: what addresses are counted as, of those that came last
        # Both are aiohttp's own seams: each request is made by the one and answered by the other, routes come after.
        self._answer = server.request_handler
        server.request_factory = self._request
        server.request_handler = self._handle

    def __call__(self) -> Connection:
        """A new one has come."""
        return Connection(self)

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
        ip = ip_of(address)
        if ip is None or is_within(ip, self._trusted):
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
        connection = cast(Connection, protocol)
        connection.request_begins(payload)
        remote = self._remote(connection, message) if self._trusted else connection.address
        loop, limit = connection.loop, self.limits.body
        return web.Request(message, payload, protocol, writer, task, loop, client_max_size=limit, remote=remote)

    def _remote(self, connection: Connection, message: RawRequestMessage) -> str:
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

    def counts(self, connection: Connection, message: RawRequestMessage) -> str:
        """What the sender of a post is counted as."""
        return self._counted_as(self._remote(connection, message) if self._trusted else connection.address)

    def begin(self, counted: str) -> bool:
        """Count a request in, or say that its sender has too many under way."""
        under_way = self._in_flight.get(counted, 0)
        if counted and under_way >= self.limits.per_address:
            return False
        self._in_flight[counted] = under_way + 1
        self._asked()
        return True

    def end(self, counted: str) -> None:
        """Count a request out."""
        _subtract(self._in_flight, counted)

    def written(self, what: web.Response | BaseException | None, *, stays: bool) -> tuple[int, bytes]:
        """What is answered to a post that was taken straight: the status, and all of it."""
        if what is None and stays:
            return 200, nothing_to_say(rfc822_formatted_time())
        if isinstance(what, BaseException):
            what = self.manners.voice(refusal_of(self.manners, self.straight.shown if self.straight else "", what))
        response = what or web.Response(content_type="text/plain")
        return response.status, as_bytes(response, stays=stays)

    def refuse(self, refusal: Refused) -> web.Response:
        """An answer that no route gave, as if one had; the connection ends with it."""
        response = self.manners.voice(refusal)
        dress(response)
        response.force_close()
        return response


class Connection(web.RequestHandler):
    """One connection: aiohttp's, with clocks.

    The headers' clock runs from the first byte until aiohttp has parsed them, the body's from there until its last byte. While
    neither runs, aiohttp's own keep-alive clock does.

    A post that goes straight is taken out of aiohttp's queue as soon as it is parsed, while aiohttp's own loop sleeps; what comes before
    it is answered waits in that queue, and wakes that loop afterwards. For this some of aiohttp's private fields are read and set; the
    tests on real sockets notice if one changes its meaning.
    """

    def __init__(self, door: Door) -> None:
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
        self.address = client_address(peer_address(transport.get_extra_info("peername")), (), ())
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
        self._log(request.method, shown_path(request), response.status)

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
        if status in RETRY_AFTER:
            lines.append(f"Retry-After: {RETRY_AFTER[status]}")
        if self.transport is not None:
            self.transport.write("\r\n".join([*lines, "", ""]).encode())
        self.force_close()


def _subtract(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]  # else every address ever seen stays in memory
