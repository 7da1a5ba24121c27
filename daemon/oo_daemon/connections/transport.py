"""The network, going out: one HTTP request, bounded in time and size. aiohttp's client lives here only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from oo_sdk import Response


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent. Headers and body may hold secrets: none of it is ever printed."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


class NotSent(Exception):
    """The request surely never reached the provider."""


class NoAnswer(Exception):
    """The request may have reached the provider, and no whole answer came back."""


class Transport(Protocol):
    """Sends one request: no redirects, no cookies, no proxies, no retries."""

    async def send(self, request: Request) -> Response:
        """Give the whole answer. Raises `NotSent` or `NoAnswer`; neither holds anything of the request."""


class AiohttpTransport:
    """The real network. Create and close it on the loop that uses it."""

    def __init__(self, *, connect_timeout: float, read_timeout: float, response_limit: int, user_agent: str) -> None:
        self._limit = response_limit
        # An answer that trickles for ever stays within the read time-out of each byte, so the whole is bounded too.
        timeout = aiohttp.ClientTimeout(
            total=read_timeout * 4, sock_connect=connect_timeout, connect=connect_timeout, sock_read=read_timeout
        )
        self._client = aiohttp.ClientSession(
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=True,
            headers={"User-Agent": user_agent},
            skip_auto_headers=("Content-Type",),
        )

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()

    async def send(self, request: Request) -> Response:
        """Give the whole answer."""
        try:
            async with self._client.request(
                request.method,
                URL(request.url, encoded=True),
                headers=CIMultiDict(request.headers),
                data=request.body,
                allow_redirects=False,
            ) as answer:
                body = bytearray()
                async for chunk in answer.content.iter_chunked(65536):
                    body += chunk
                    if len(body) > self._limit:
                        raise NoAnswer(f"the answer is larger than {self._limit} bytes")
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return Response(status=answer.status, headers=headers, body=bytes(body))
        except aiohttp.ConnectionTimeoutError:
            raise NotSent("no connection within the time allowed") from None
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL):
            raise NotSent("no connection to the provider") from None
        except (aiohttp.ClientError, TimeoutError, ConnectionError, OSError, ValueError) as error:
            # The error's own text may hold headers: only its kind is told.
            raise NoAnswer(f"the provider's answer did not arrive whole ({type(error).__name__})") from None
