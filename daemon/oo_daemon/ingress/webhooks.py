"""Webhooks: bodies that providers push to us, verified, kept, and only then answered.

What is refused is refused in one way, whether the address, the signature or the method is wrong: the same steps, the same answer. A
sender that does nothing wrong and cannot be served now is asked to come again: 429 where it sends too much, 503 where it is us.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from aiohttp import web
from multidict import CIMultiDictProxy

from oo_daemon.connections import handshake, verify
from oo_daemon.connections.sources import OpenSource, Sources, sent_id
from oo_daemon.connections.verify import Verdict
from oo_daemon.ingress.answers import Refused, refused
from oo_daemon.ingress.connection import Answered, Post, Straight
from oo_daemon.patience import Patience
from oo_daemon.ports import UNTRACED, Chance, Clock, Metrics, Trace
from oo_daemon.store.errors import CannotStore, Erased
from oo_daemon.store.inbox import Arrival
from oo_sdk import FirstSecret, Log
from oo_vault import Secret

#: The path of all sources; behind it stands an address's secret part.
PATH = "/webhooks/"
#: Deliveries that wait for their commit at once; a commit takes 128.
WAITING = 512
#: Bytes of bodies in memory at once, over all senders.
HELD = 128 * 1024 * 1024
#: Seconds that a sender waits for a commit: half of what the most impatient gives us (GitHub, 10 s).
PATIENCE = 5.0
#: When senders are asked to come again, in seconds: spread, so that they do not come all at once.
AGAIN = (5.0, 60.0)
#: Seconds between two warnings about times of one source.
QUIET = 60.0
#: zlib's word for "gzip or deflate, see for yourself".
_EITHER = zlib.MAX_WBITS | 32
#: What is unpacked, and what is said to whoever sends something else. No sender is known to send Brotli or zstd, and each would be a
#: library in C that reads what strangers send.
_PACKED, _UNPACKED, _TAKEN = {"gzip", "x-gzip", "deflate"}, {"", "identity"}, "gzip, deflate"


class _Body(NamedTuple):
    sent: bytes
    plain: bytes | None  #: unpacked; None where it could not be

    def forms(self) -> Collection[bytes]:
        """What a signature may be over."""
        return [self.sent] if self.plain is None or self.plain is self.sent else {self.sent, self.plain}


class _Hold:
    """The bytes of one delivery, counted while it is in memory."""

    __slots__ = ("_door", "_mine")

    def __init__(self, door: Webhooks) -> None:
        self._door = door
        self._mine = 0

    def __call__(self, more: int) -> None:
        """Count what has come."""
        self._mine += more
        self._door._hold(more)

    def end(self) -> None:
        """It is in memory no more."""
        self._door._held -= self._mine


@dataclass(slots=True, eq=False)
class _Bucket:
    """How much a source may still send now."""

    left: float
    at: float


@dataclass(kw_only=True, eq=False)
class Webhooks:
    """What the webhooks' door needs of the hub. `arrived` is called after each commit of something new."""

    keep: Callable[[Arrival], asyncio.Future[bool]]  #: for good; False: it was here before
    sources: Sources
    clock: Clock
    chance: Chance
    metrics: Metrics
    log: Log
    arrived: Callable[[], None]
    short: Callable[[], bool]  #: the host is short of disk or memory, and nothing new is taken
    limit: int  #: largest body in bytes, as sent and unpacked
    rate: int  #: deliveries a second that one source may send on and on; twice as many at once
    trace: Trace = UNTRACED
    patience: Patience = field(default_factory=lambda: Patience(PATIENCE))
    _waiting: int = field(default=0, init=False)
    _held: int = field(default=0, init=False)
    _buckets: dict[str, _Bucket] = field(default_factory=dict, init=False)
    _warned: dict[str, float] = field(default_factory=dict, init=False)

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes on the public listener: every method, and all that lies below, since a refusal looks the same everywhere."""
        return [web.route("*", PATH + "{token:.*}", self.timed, expect_handler=_expected)]

    def straight(self) -> Straight | None:
        """The straight way of the listener with these routes; None where stretches of work are traced, as those are coroutines'."""
        return Straight(path=PATH, shown=PATH + "{token}", take=self.take) if self.trace is UNTRACED else None

    def take(self, post: Post, answered: Answered) -> None:
        """Take one delivery that has come whole, as `timed` does, without a coroutine."""
        taking = _Taking(self, answered)
        try:
            taking.begin(post)
        except BaseException as fault:
            taking.end(fault)

    async def timed(self, request: web.Request) -> web.Response:
        """Take one delivery, and measure how long that takes."""
        began = self.clock.monotonic()
        try:
            with self.trace.span("webhook", ""):
                return await self.hear(request)
        finally:
            self.metrics.observe("webhook_seconds", self.clock.monotonic() - began)

    async def hear(self, request: web.Request) -> web.Response:
        """Take one delivery. 200: it is kept for good, or was before; 404: refused; 429, 503: not now, to be sent again."""
        self._look_for_room()
        token = request.path.removeprefix(PATH)
        if request.method == "GET" and (answer := self._greeted(request, token)) is not None:
            return _said(answer)
        source = self.sources.at(token if request.method == "POST" else "")
        hold = _Hold(self)
        try:
            body = await _read(request, max(source.scheme.limit, self.limit), hold)
            answer = await self._heard(source, request.headers, body)
        finally:
            hold.end()
        return web.Response(content_type="text/plain") if answer is None else _said(answer)

    def _look_for_room(self) -> None:
        if self._waiting >= WAITING or self._held >= HELD:
            raise self._not_now(503, self.sources.nobody, "overloaded")
        if self.short():
            raise self._not_now(503, self.sources.nobody, "short")

    async def _heard(self, source: OpenSource, sent: CIMultiDictProxy[str], body: _Body) -> handshake.Answer | None:
        """Verify it and keep it; gives what a handshake is answered with."""
        if source.awaits_secret and await self._takes_first(source, sent, body):
            return None
        given = self._judged(source, sent, body)
        if isinstance(given, handshake.Answer):
            return given
        kept = self._begin_to_keep(source, given)
        try:
            await asyncio.wait([kept])
        finally:
            self._end_of(kept)
        self._kept(source, kept)
        return None

    def _judged(self, source: OpenSource, sent: CIMultiDictProxy[str], body: _Body) -> Arrival | handshake.Answer:
        """Verify it, and say what is to be kept. Raises `Refused`."""
        now = self.clock.now()
        held = source.held(now)
        verdict = verify.judge(source.scheme, held, _values(sent), body.forms(), now)
        if verdict is Verdict.OUT_OF_TIME:
            self._warn_of_time(source)
        if source.absent:
            raise self._not_now(503, source, "not_loaded")
        if source.closed or verdict is not Verdict.GOOD or body.plain is None:
            raise self._refused(source, verdict.value if verdict is Verdict.OUT_OF_TIME else "refused")
        if held and (answer := handshake.to_body(source.scheme, held[0], body.plain)) is not None:
            self._count(source, "handshake")
            return answer
        self._spend(source)
        return _arrival(source, sent, body.plain, now, self.trace.here())

    def _greeted(self, request: web.Request, token: str) -> handshake.Answer | None:
        source = self.sources.at(token)
        answer = None if source.closed else handshake.to_query(source.scheme, request.query, token)
        if answer is not None:
            self._count(source, "handshake")
        return answer

    async def _takes_first(self, source: OpenSource, sent: CIMultiDictProxy[str], body: _Body) -> bool:
        """Take the secret that a sender's first body brings, if the body is signed with it."""
        text = handshake.first_secret(source.scheme, body.plain or b"") if isinstance(source.scheme.handshake, FirstSecret) else None
        if text is None:
            return False
        now, keys = self.clock.now(), verify.keys(source.scheme, Secret(text))
        if verify.judge(source.scheme, keys, _values(sent), body.forms(), now) is not Verdict.GOOD:
            return False
        try:
            with self.patience:
                await self.sources.take_first(source, text)
        except Erased:
            raise self._refused(source) from None
        except (CannotStore, TimeoutError):
            raise self._not_now(503, source, "not_stored") from None
        self._count(source, "handshake")
        return True

    def _begin_to_keep(self, source: OpenSource, arrival: Arrival) -> asyncio.Future[bool]:
        if self._waiting >= WAITING:
            raise self._not_now(503, source, "overloaded")
        kept = self.keep(arrival)
        self._waiting += 1
        self.patience.begin(kept)
        return kept

    def _end_of(self, kept: asyncio.Future[bool]) -> None:
        self._waiting -= 1
        self.patience.end(kept)

    def _kept(self, source: OpenSource, kept: asyncio.Future[bool]) -> None:
        """Look what became of it. Raises `Refused` where it is not known to be stored."""
        try:
            new = kept.result()
        except Erased:  # by another daemon, just now: from here on it is an address that there never was
            raise self._refused(source) from None
        except (CannotStore, asyncio.CancelledError):  # the sender comes again; if it was stored after all, that is known by its id
            raise self._not_now(503, source, "not_stored") from None
        self._count(source, "stored" if new else "repeated")
        if new:
            self.arrived()

    def _hold(self, more: int) -> None:
        self._held += more
        if self._held > HELD:
            raise self._not_now(503, self.sources.nobody, "overloaded")

    def _spend(self, source: OpenSource) -> None:
        """Count a delivery against its source's share. Only what was verified counts, or strangers could use it up."""
        now, most = self.clock.monotonic(), 2.0 * self.rate
        if (bucket := self._buckets.get(source.id)) is None:
            bucket = self._buckets[source.id] = _Bucket(most, now)
        bucket.left, bucket.at = min(most, bucket.left + (now - bucket.at) * self.rate), now
        if bucket.left < 1:
            raise self._not_now(429, source, "too_many")
        bucket.left -= 1

    def _refused(self, source: OpenSource, outcome: str = "refused") -> Refused:
        self._count(source, outcome)
        return refused(404)

    def _not_now(self, status: int, source: OpenSource, outcome: str) -> Refused:
        self._count(source, outcome)
        return refused(status, {"Retry-After": str(round(self.chance.uniform(*AGAIN)))})

    def _warn_of_time(self, source: OpenSource) -> None:
        """A body that its sender did sign, at another time than ours: a replay, or one of the two clocks is wrong."""
        now = self.clock.monotonic()
        if now - self._warned.get(source.id, now - QUIET) >= QUIET:
            self._warned[source.id] = now
            self.log.warning(
                "webhook_out_of_time", source=source.id, reason="signed, but not at this time: compare this host's clock with the sender's"
            )

    def _count(self, source: OpenSource, outcome: str) -> None:
        self.metrics.count("webhooks", provider=source.provider, outcome=outcome)
        self.trace.note(provider=source.provider, outcome=outcome)


class _Taking:
    """One delivery that has come whole, until it is answered."""

    __slots__ = ("_answered", "_began", "_held", "_hooks", "_source")

    def __init__(self, hooks: Webhooks, answered: Answered) -> None:
        self._hooks = hooks
        self._answered = answered
        self._held = 0
        self._began = hooks.clock.monotonic()

    def begin(self, post: Post) -> None:
        """Verify it, and begin to keep it."""
        hooks, body = self._hooks, _Body(post.body, post.body)
        hooks._look_for_room()
        self._source = source = hooks.sources.at(post.path.removeprefix(PATH))
        self._held = len(post.body)
        hooks._hold(self._held)
        if self._held > hooks.limit and self._held > source.scheme.limit:
            raise refused(413)
        if source.awaits_secret:
            asyncio.ensure_future(hooks._heard(source, post.headers, body)).add_done_callback(self._heard)
            return
        given = hooks._judged(source, post.headers, body)
        if isinstance(given, handshake.Answer):
            self.end(given)
        else:
            hooks._begin_to_keep(source, given).add_done_callback(self._kept)

    def _heard(self, heard: asyncio.Future[handshake.Answer | None]) -> None:
        what: handshake.Answer | BaseException | None
        try:
            what = heard.result()
        except BaseException as fault:
            what = fault
        self.end(what)

    def _kept(self, kept: asyncio.Future[bool]) -> None:
        what = None
        try:
            self._hooks._end_of(kept)
            self._hooks._kept(self._source, kept)
        except BaseException as fault:
            what = fault
        self.end(what)

    def end(self, what: handshake.Answer | BaseException | None) -> None:
        """Answer it. None: it is kept."""
        self._hooks._held -= self._held
        self._answered(_said(what) if isinstance(what, handshake.Answer) else what)
        self._hooks.metrics.observe("webhook_seconds", self._hooks.clock.monotonic() - self._began)


def _values(sent: CIMultiDictProxy[str]) -> verify.Headers:
    """What gives the values that a header was sent with."""
    return lambda name: sent.getall(name, ())


def _said(answer: handshake.Answer) -> web.Response:
    return web.Response(body=answer.body, content_type=answer.content_type)


async def _expected(request: web.Request) -> None:
    """Send the word that a sender waits for before its body; what else it may expect is not asked for."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer has not begun with that


async def _read(request: web.Request, limit: int, hold: Callable[[int], None]) -> _Body:
    """Read the body, and unpack it on the way.

    Both ways of counting it end at the limit, with 413; what is packed as we do not unpack it is not read.
    """
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in _PACKED | _UNPACKED:
        raise refused(415, {"Accept-Encoding": _TAKEN})  # RFC 9110 section 15.5.16; whatever the address, before it is looked at
    if (request.content_length or 0) > limit:
        raise refused(413)
    if encoding in _UNPACKED and request.content.is_eof():  # most are small and here at once
        whole = request.content.read_nowait()
        hold(len(whole))
        if len(whole) > limit:
            raise refused(413)
        return _Body(sent=whole, plain=whole)
    unpacking = zlib.decompressobj(_EITHER) if encoding in _PACKED else None
    sent, plain, readable = bytearray(), bytearray(), True
    async for chunk in request.content.iter_any():
        sent += chunk
        hold(len(chunk))
        if unpacking is not None and readable:
            try:
                unpacked = unpacking.decompress(chunk, limit + 1 - len(plain))
                plain += unpacked
                hold(len(unpacked))
            except zlib.error:
                readable = False
        if max(len(sent), len(plain)) > limit:
            raise refused(413)
    kept = bytes(sent)
    if unpacking is None:
        return _Body(sent=kept, plain=kept)
    return _Body(sent=kept, plain=bytes(plain) if readable and unpacking.eof and not unpacking.unused_data else None)


def _arrival(source: OpenSource, sent: CIMultiDictProxy[str], body: bytes, now: int, traceparent: str) -> Arrival:
    scheme = source.scheme
    headers = {name: _text(value) for name in source.kept_headers if (value := sent.get(name)) is not None}
    given = sent_id(scheme, headers, body)
    return Arrival(
        source=source.id,
        delivery_id=given or _weak_id(headers, body, now if scheme.repeats else 0),
        weak=not given,
        headers=headers,
        body=body,
        received_at=now,
        traceparent=traceparent,
    )


def _weak_id(headers: Mapping[str, str], body: bytes, received_at: int) -> str:
    """What stands in for a sender's id: a hash of the body and of the headers that are kept, among them the sender's time if it has one.

    Two deliveries that are the same in all that is kept are taken for one; unless the sender may say the same twice and mean two
    things, since then a redelivery that gives two events is the lesser fault.
    """
    hasher = blake2b(received_at.to_bytes(8, signed=True), digest_size=16)
    for part in (*(text.encode() for item in sorted(headers.items()) for text in item), body):
        hasher.update(len(part).to_bytes(8) + part)
    return hasher.hexdigest()


def _text(value: str) -> str:
    """A header's value as text that can be stored; bytes that are no UTF-8 are marked as such."""
    if value.isascii() and value.isprintable():
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
