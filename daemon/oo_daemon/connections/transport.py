"""The network, going out: one HTTP request, bounded in time and size. aiohttp's client lives here only."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from oo_daemon.patience import Patience
from oo_sdk import Response


@dataclass(slots=True, kw_only=True)
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
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout, connect=connect_timeout)
        self._patient = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout, connect=connect_timeout, sock_read=read_timeout)
        self._client = aiohttp.ClientSession(
            # A connection that the server is about to close makes it doubtful whether a POST arrived, and a refresh is one.
            connector=aiohttp.TCPConnector(keepalive_timeout=5, resolver=judged, use_dns_cache=judged is None),
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            # Ours to undo: aiohttp takes a gzip that is cut short for a whole one, and asks for more kinds than every host can read.
            auto_decompress=False,
            headers={"User-Agent": user_agent, "Accept-Encoding": "gzip"},
            skip_auto_headers=("Content-Type",),
        )

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()

    async def send(self, request: Request) -> Response:
        """Give the whole answer."""
        fault: NotSent | NoAnswer
        try:
            url = URL(request.url, encoded=True)
            self._judge(url.host or "")
            with self._whole:
                with self._part:
                    answer = await self._client.request(
                        request.method, url, headers=CIMultiDict(request.headers), data=request.body, allow_redirects=False
                    )
                async with answer:
                    return Response(status=answer.status, headers=_headers(answer.headers), body=await self._plain(answer))
        except _Forbidden:
            fault = NotAllowed("the address is one that may not be gone to")
        except _TooLarge:
            fault = NoAnswer(f"the provider's answer is larger than {self._limit} bytes")
        except aiohttp.ConnectionTimeoutError:
            fault = NotSent("no connection to the provider within the time allowed")
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL):
            fault = NotSent("no connection to the provider")
        except Exception as error:  # whatever it is, its text, context and frames may hold our headers: only its kind is told
            fault = NoAnswer(f"the provider's answer did not arrive whole ({type(error).__name__})")
        # Raised out here, or it would bring the library's error along as its context, with the whole request in it.
        raise fault

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

    async def _plain(self, answer: aiohttp.ClientResponse) -> bytes:
        """The body, decompressed as it comes, so that never more than the limit is held."""
        kind = answer.headers.get("Content-Encoding", "identity").strip().lower()
        if kind not in {"identity", "gzip"}:
            raise ValueError("compressed in a way that was not asked for")
        if kind == "identity" and answer.content.is_eof():  # most are small and here at once
            whole = answer.content.read_nowait()
            if len(whole) > self._limit:
                raise _TooLarge
            return whole
        gzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if kind == "gzip" else None
        body, chunk = bytearray(), b""
        while more := await self._more(answer):
            chunk = more
            body += chunk if gzip is None else gzip.decompress(chunk, self._limit + 1 - len(body))
            if len(body) > self._limit:
                raise _TooLarge
        if gzip is not None and chunk and (not gzip.eof or gzip.unused_data):
            raise ValueError("cut short, or with something behind it")
        return bytes(body)

    async def _more(self, answer: aiohttp.ClientResponse) -> bytes:
        with self._part:
            return await answer.content.read(65536)


def _headers(sent: CIMultiDictProxy[str]) -> dict[str, str]:
    """Names in small letters; equal ones are one list (RFC 9110 section 5.3)."""
    headers: dict[str, str] = {}
    for name, value in sent.items():
        name = name.lower()
        headers[name] = value if name not in headers else f"{headers[name]}, {value}"
    return headers


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
