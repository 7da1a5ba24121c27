"""Webhooks: bodies that providers push to us, verified, kept, and only then answered.

What is refused is refused in one way, whether the address, the signature or the method is wrong: the same steps, the same answer.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from aiohttp import web

from oo_daemon.connections import verify
from oo_daemon.connections.sources import OpenSource, Sources
from oo_daemon.ingress.server import refused
from oo_daemon.ports import Clock, Metrics
from oo_daemon.store import inbox
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.inbox import Arrival
from oo_daemon.store.storage import Storage

#: Deliveries that wait for their commit at once; a commit takes 128.
WAITING = 512
#: Seconds that a sender waits for a commit: half of what the most impatient gives us (GitHub, 10 s).
PATIENCE = 5.0
#: Longest id of a sender's that is taken as it is.
LONGEST_ID = 200
#: zlib's word for "gzip or deflate, see for yourself".
_EITHER = zlib.MAX_WBITS | 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Body:
    sent: bytes
    plain: bytes | None  #: unpacked; None where it could not be


@dataclass(kw_only=True)
class Webhooks:
    """What the webhooks' door needs of the hub. `arrived` is called after each commit of something new."""

    storage: Storage
    sources: Sources
    clock: Clock
    metrics: Metrics
    arrived: Callable[[], None]
    limit: int  #: largest body in bytes, as sent and unpacked
    _waiting: int = field(default=0, init=False)

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes on the public listener: every method, and all that lies below, since a refusal looks the same everywhere."""
        return [web.route("*", "/webhooks/{token:.*}", self.hear, expect_handler=_expected)]

    async def hear(self, request: web.Request) -> web.Response:
        """Take one delivery. 200: it is kept for good, or was before; 404: refused; 503: our own fault, to be sent again."""
        body = await _read(request, self.limit)
        source = self.sources.at(request.match_info["token"] if request.method == "POST" else "")
        bodies = [body.sent] if body.plain is None else {body.sent, body.plain}
        signed = verify.fits(source.scheme, source.secrets, request.headers.getall(source.scheme.header, ()), bodies)
        if source.closed or not signed or body.plain is None:
            self._count(source, "refused")
            raise refused(404)
        new = await self._keep(source, _arrival(source, request, body.plain, self.clock.now()))
        self._count(source, "stored" if new else "repeated")
        if new:
            self.arrived()
        return web.Response()

    async def _keep(self, source: OpenSource, arrival: Arrival) -> bool:
        if self._waiting >= WAITING:
            self._count(source, "overloaded")
            raise refused(503)
        self._waiting += 1
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.storage.write(inbox.put, arrival)
        except (CannotStore, TimeoutError):  # the sender comes again; if it was stored after all, that is known by its id
            self._count(source, "not_stored")
            raise refused(503) from None
        finally:
            self._waiting -= 1

    def _count(self, source: OpenSource, outcome: str) -> None:
        self.metrics.count("webhooks", provider=source.provider, outcome=outcome)


async def _expected(request: web.Request) -> None:
    """Send the word that a sender waits for before its body; what else it may expect is not asked for."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer has not begun with that


async def _read(request: web.Request, limit: int) -> _Body:
    """Read the body, and unpack it on the way. Both ways of counting it end at the limit, with 413."""
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    unpacking = zlib.decompressobj(_EITHER) if encoding in {"gzip", "x-gzip", "deflate"} else None
    sent, plain, readable = bytearray(), bytearray(), unpacking is not None or encoding in {"", "identity"}
    if (request.content_length or 0) > limit:
        raise refused(413)
    async for chunk in request.content.iter_any():
        sent += chunk
        if unpacking is not None and readable:
            try:
                plain += unpacking.decompress(chunk, limit + 1 - len(plain))
            except zlib.error:
                readable = False
        if max(len(sent), len(plain)) > limit:
            raise refused(413)
    if unpacking is None:
        return _Body(sent=bytes(sent), plain=bytes(sent) if readable else None)
    whole = readable and unpacking.eof and not unpacking.unused_data
    return _Body(sent=bytes(sent), plain=bytes(plain) if whole else None)


def _arrival(source: OpenSource, request: web.Request, body: bytes, now: int) -> Arrival:
    scheme = source.scheme
    names = dict.fromkeys(name.lower() for name in ("content-type", scheme.id_header, *scheme.keep) if name)
    names.pop(scheme.header.lower(), None)  # a signature is as good as the body it is for: never kept
    headers = {name: _text(request.headers[name]) for name in names if name in request.headers}
    given = headers.get(scheme.id_header.lower(), "")
    usable = 0 < len(given) <= LONGEST_ID and given.isascii() and given.isprintable()
    return Arrival(
        source=source.id,
        delivery_id=given if usable else _weak_id(headers, body),
        weak=not usable,
        headers=headers,
        body=body,
        received_at=now,
    )


def _weak_id(headers: Mapping[str, str], body: bytes) -> str:
    """What stands in for a sender's id: a hash of the body and of the headers that are kept, among them the sender's time if it has one.

    Two deliveries that are the same in all that is kept are taken for one.
    """
    hasher = blake2b(digest_size=16)
    for part in (*(text.encode() for item in sorted(headers.items()) for text in item), body):
        hasher.update(len(part).to_bytes(8) + part)
    return hasher.hexdigest()


def _text(value: str) -> str:
    """A header's value as text that can be stored; bytes that are no UTF-8 are marked as such."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
