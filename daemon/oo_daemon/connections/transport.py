"""The network, going out: one HTTP request, bounded in time and size. aiohttp's client lives here only."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from oo_daemon.patience import Patience
from oo_sdk import Response

#: Places that are known at the same time.
PLACES = 256
#: Connections that are tried where one after the other says something before it is asked.
CONNECTIONS = 8
_ADDRESS = re.compile(r"(?P<origin>https?://[^/?#@\s]+)(?P<target>(?:[/?][!-\"$-~]*)?)(?:#.*)?")
#: What may be sent once more where it may have arrived (RFC 9110 section 9.2.2), and what has no body unless it is given one.
_REPEATABLE = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"})
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
#: Headers that say where a request ends, or what becomes of its connection.
_OURS = frozenset({"connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"})


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """What is sent. Address, headers and body may hold secrets or personal data: none of it is ever printed."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


class NotSent(Exception):
    """The request surely never reached the provider."""


class NotAllowed(NotSent):
    """The address is one that may not be gone to."""


class NoAnswer(Exception):
    """The request may have reached the provider, and no whole answer came back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """An answer whose body is still on its way. `chunk` gives the next part, empty at the end; `close` must be called in any case."""

    status: int
    headers: Sequence[tuple[str, str]] = field(repr=False)
    chunk: Callable[[], Awaitable[bytes]] = field(repr=False)
    close: Callable[[], None] = field(repr=False)


class Streams(Protocol):
    """Sends one request whose body comes in parts, and gives the answer before its body is here."""

    async def open(self, request: Request, body: AsyncIterator[bytes] | None) -> Incoming:
        """Raises `NotSent` or `NoAnswer`, as does reading on; neither holds anything of the request."""


class Transport(Protocol):
    """Sends one request: no redirects, no cookies, no proxies, and no repeats of what cannot be repeated safely."""

    async def send(self, request: Request) -> Response:
        """Give the whole answer. Raises `NotSent` or `NoAnswer`; neither holds anything of the request."""


class AiohttpTransport:
    """The real network. Create and close it on the loop that uses it. Times in seconds, the limit in bytes after decompression.

    With `allowed` it goes only to hosts of which every address is allowed, to one of those that it asked about.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        read_timeout: float,
        response_limit: int,
        user_agent: str,
        allowed: Callable[[str], bool] | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._limit = response_limit
        self._allowed = allowed
        judged = None if allowed is None else _Judged(resolver or aiohttp.ThreadedResolver(), allowed)
        # An answer that trickles for ever stays within the time for each part, so the whole is bounded too. Both times are ours and not
        # aiohttp's, which makes timers for each request.
        self._stall = connect_timeout + read_timeout
        self._part, self._whole = Patience(self._stall), Patience(read_timeout * 4)
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout, connect=connect_timeout)
        self._patient = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout, connect=connect_timeout, sock_read=read_timeout)
        # A connection that the server is about to close makes it doubtful whether a POST arrived, and a refresh is one.
        self._connector = aiohttp.TCPConnector(keepalive_timeout=5, resolver=judged, use_dns_cache=judged is None)
        self._client = aiohttp.ClientSession(
            connector=self._connector,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            # Ours to undo: aiohttp takes a gzip that is cut short for a whole one, and asks for more kinds than every host can read.
            auto_decompress=False,
            headers={"User-Agent": user_agent, "Accept-Encoding": "gzip"},
            skip_auto_headers=("Content-Type",),
        )
        self._usual = {"User-Agent": user_agent, "Accept": "*/*", "Accept-Encoding": "gzip"}
        self._places: dict[str, _Place] = {}

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()

    async def send(self, request: Request) -> Response:
        """Give the whole answer.

        Connections, TLS and the parser are aiohttp's. Its requests and answers are not made: they are for redirects, cookies, proxies and
        streams, of which there are none here, and cost as much as all else.
        """
        fault: NotSent | NoAnswer
        try:
            place, target = self._place(request.url)
            head = _head(request, target, place.usual)
            with self._whole:
                return await self._exchange(place, request.method, head, request.body)
        except _Forbidden:
            fault = NotAllowed("the address is one that may not be gone to")
        except _TooLarge:
            fault = NoAnswer(f"the provider's answer is larger than {self._limit} bytes")
        except _Unsendable:
            fault = NotSent("the request cannot be sent: its address is none, or a header cannot be")
        except _Unasked:
            fault = NotSent("the provider speaks before it is asked")
        except aiohttp.ConnectionTimeoutError:
            fault = NotSent("no connection to the provider within the time allowed")
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL):
            fault = NotSent("no connection to the provider")
        except Exception as error:  # whatever it is, its text, context and frames may hold our headers: only its kind is told
            fault = NoAnswer(f"the provider's answer did not arrive whole ({type(error).__name__})")
        # Raised out here, or it would bring the library's error along as its context, with the whole request in it.
        raise fault

    def _place(self, address: str) -> tuple[_Place, str]:
        """Where an address leads, which is looked at once, and what it asks for there."""
        parts = _ADDRESS.fullmatch(address)
        if parts is None:
            raise _Unsendable
        origin, target = parts["origin"], parts["target"]
        place = self._places.get(origin)
        if place is None:
            url = URL(origin, encoded=True)
            if not url.raw_host or url.raw_user is not None or url.raw_password is not None:
                raise _Unsendable
            self._judge(url.host or "")
            known = aiohttp.ClientRequest("GET", url, loop=asyncio.get_running_loop())
            place = _Place(known, {"Host": known.headers["Host"], **self._usual})
            if len(self._places) == PLACES:
                self._places.clear()
            self._places[origin] = place
        return place, target if target.startswith("/") else f"/{target}"

    async def _exchange(self, place: _Place, method: str, head: bytes, body: bytes | None) -> Response:
        """Send it over a connection that is there, or a new one. What can be repeated safely is, once, where the connection was dead."""
        again = method in _REPEATABLE
        while True:
            connection = await self._connected(place)
            try:
                response = await self._answer(connection, method, head, body)
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
                connection.close()
                if not again:
                    raise
                again = False
            except BaseException:
                connection.close()
                raise
            else:
                if body is not None and _unsent(connection):  # it has answered before it has heard everything
                    connection.close()
                connection.release()
                return response

    async def _connected(self, place: _Place) -> aiohttp.connector.Connection:
        for _ in range(CONNECTIONS):
            try:
                connection = await self._connector.connect(place.known, [], self._timeout)
            except TimeoutError:
                raise aiohttp.ConnectionTimeoutError from None
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()  # it says something that nobody has asked for
        raise _Unasked

    async def _answer(self, connection: aiohttp.connector.Connection, method: str, head: bytes, body: bytes | None) -> Response:
        protocol, transport = connection.protocol, connection.transport
        assert protocol is not None
        if transport is None:
            raise aiohttp.ServerDisconnectedError
        with self._part:
            protocol.set_response_params(skip_payload=method == "HEAD", read_until_eof=True, auto_decompress=False)
            transport.write(head + body if body else head)
            message, content = await protocol.read()
            while 100 <= message.code < 200 and message.code != 101:  # information; the answer comes after it
                message, content = await protocol.read()
        return Response(status=message.code, headers=_headers(message.headers), body=await self._plain(message.headers, content))

    async def open(self, request: Request, body: AsyncIterator[bytes] | None) -> Incoming:
        """Give the answer as soon as its headers are here. What is large may take as long as it keeps coming."""
        fault: NotSent | NoAnswer
        try:
            async with asyncio.timeout(self._stall) as patience:  # aiohttp's own begins when the request is out
                answer = await self._client.request(
                    request.method,
                    URL(request.url, encoded=True),
                    headers=CIMultiDict(request.headers),
                    data=request.body if body is None else self._kept_going(body, patience),
                    allow_redirects=False,
                    timeout=self._patient,
                )
        except aiohttp.ConnectionTimeoutError:
            fault = NotSent("no connection to the provider within the time allowed")
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL):
            fault = NotSent("no connection to the provider")
        except Exception as error:  # as in `send`
            fault = NoAnswer(f"the provider's answer did not arrive ({type(error).__name__})")
        else:

            async def chunk() -> bytes:
                try:
                    return await answer.content.readany()
                except Exception as error:
                    kind = type(error).__name__
                raise NoAnswer(f"the provider's answer did not arrive whole ({kind})")

            return Incoming(status=answer.status, headers=list(answer.headers.items()), chunk=chunk, close=answer.close)
        raise fault

    async def _kept_going(self, body: AsyncIterator[bytes], patience: asyncio.Timeout) -> AsyncIterator[bytes]:
        """The parts of a body: with each that is taken, patience begins anew."""
        async for part in body:
            with suppress(RuntimeError):  # the answer has come before the end of the body
                patience.reschedule(asyncio.get_running_loop().time() + self._stall)
            yield part

    def _judge(self, host: str) -> None:
        """An address that is written out is not looked up, so it is judged here; so is what only looks like one."""
        if self._allowed is not None and (":" in host or host.replace(".", "").isdigit()) and not self._allowed(host):
            raise _Forbidden

    async def _plain(self, headers: CIMultiDictProxy[str], content: aiohttp.StreamReader) -> bytes:
        """The body, decompressed as it comes, so that never more than the limit is held."""
        kind = headers.get("Content-Encoding", "identity").strip().lower()
        if kind not in {"identity", "gzip"}:
            raise ValueError("compressed in a way that was not asked for")
        if kind == "identity" and content.is_eof():  # most are small and here at once
            whole = content.read_nowait()
            if len(whole) > self._limit:
                raise _TooLarge
            return whole
        gzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if kind == "gzip" else None
        body, chunk = bytearray(), b""
        while more := await self._more(content):
            chunk = more
            body += chunk if gzip is None else gzip.decompress(chunk, self._limit + 1 - len(body))
            if len(body) > self._limit:
                raise _TooLarge
        if gzip is not None and chunk and (not gzip.eof or gzip.unused_data):
            raise ValueError("cut short, or with something behind it")
        return bytes(body)

    async def _more(self, content: aiohttp.StreamReader) -> bytes:
        with self._part:
            return await content.read(65536)


class _Place(msgspec.Struct, frozen=True):
    """Scheme, host and port."""

    known: aiohttp.ClientRequest  #: by which aiohttp knows its connections there; it is never sent
    usual: Mapping[str, str]  #: headers that go with a request that does not name them


def _head(request: Request, target: str, usual: Mapping[str, str]) -> bytes:
    """A request's first line and headers. Nothing in them can begin another line."""
    names = {name.lower() for name in request.headers}
    headers = [f"{name}: {value}" for name, value in usual.items() if name.lower() not in names]
    headers += [f"{name}: {value}" for name, value in request.headers.items()]
    if request.body is not None or request.method not in _BODILESS:
        headers.append(f"Content-Length: {len(request.body or b'')}")
    lines = f"{request.method} {target} HTTP/1.1\r\n" + "\r\n".join(headers)
    if lines.count("\r") != len(headers) or lines.count("\n") != len(headers) or "\0" in lines:
        raise _Unsendable
    if not (request.method.isalpha() and request.method.isascii() and names.isdisjoint(_OURS)):
        raise _Unsendable
    return f"{lines}\r\n\r\n".encode()


def _unsent(connection: aiohttp.connector.Connection) -> bool:
    return connection.transport is not None and connection.transport.get_write_buffer_size() > 0


def _headers(sent: CIMultiDictProxy[str]) -> dict[str, str]:
    """Names in small letters; equal ones are one list (RFC 9110 section 5.3)."""
    headers: dict[str, str] = {}
    for name, value in sent.items():
        name = name.lower()
        headers[name] = value if name not in headers else f"{headers[name]}, {value}"
    return headers


class _Unsendable(Exception):
    """An address or a header is none."""


class _Unasked(Exception):
    """There are words before there was a question."""


class _TooLarge(Exception):
    """The answer has reached the limit."""


class _Forbidden(Exception):
    """An address may not be gone to."""


class _Judged(AbstractResolver):
    """Looks names up, and gives their addresses only where all of them may be gone to."""

    def __init__(self, resolver: AbstractResolver, allowed: Callable[[str], bool]) -> None:
        self._resolver = resolver
        self._allowed = allowed

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        """Look one up."""
        found = await self._resolver.resolve(host, port, family)
        if not all(self._allowed(each["host"]) for each in found):
            raise _Forbidden
        return found

    async def close(self) -> None:
        """Let go of it."""
        await self._resolver.close()
