"""Reading the outbox over the private API: pages, streams, and consumers that are given batches."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Annotated, Any, Final, Protocol

import msgspec
from aiohttp import web

from oo_daemon.ingress.asking import answer, body_of, number_of, wait_of
from oo_daemon.ingress.tokens import held_to, holds_still, needs
from oo_daemon.ingress.view import time
from oo_daemon.ports import Clock
from oo_daemon.store import outbox
from oo_daemon.store.consumers import MOST_TRIES, Consumer, DeadLetter
from oo_daemon.store.outbox import Filter, Page, Position, Stored
from oo_daemon.store.storage import Storage

LINES: Final = "application/jsonl"
PROTOBUF: Final = "application/x-protobuf"
#: Events that a stream writes at once.
STRETCH: Final = 500
#: Seconds after which a stream without events says where it is, so that both sides know that the other is there.
BEAT: Final = 15.0
#: Longest lease of a batch and longest delay of an event, in seconds.
LONGEST: Final = 3600

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Token = Annotated[str, msgspec.Meta(max_length=64)]
Place = Annotated[str, msgspec.Meta(max_length=40)]


class NewConsumer(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a new consumer."""

    name: Name
    start: Place = "beginning"
    user: str | None = None
    provider: str | None = None
    type: str | None = None
    most_tries: Annotated[int, msgspec.Meta(ge=1, le=1000)] = MOST_TRIES


class Moved(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a reset."""

    to: Place


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a question for a batch."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    lease: Annotated[float, msgspec.Meta(ge=1, le=LONGEST)] = 60  #: seconds


class Done(msgspec.Struct, forbid_unknown_fields=True):
    """Body of an acknowledgement."""

    token: Token
    position: Place


class NotTaken(msgspec.Struct, forbid_unknown_fields=True):
    """Body of its contrary."""

    token: Token
    position: Place
    delay: Annotated[float, msgspec.Meta(ge=0, le=LONGEST)] = 0  #: seconds
    reason: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Reader(Protocol):
    """Reads pages of the outbox, and waits for what comes next."""

    @property
    def closed(self) -> bool:
        """The daemon stops: nobody is kept waiting."""

    async def page(self, after: int, limit: int, wanted: Filter, wait: float) -> Page:
        """A page of events after a position; an empty one only after `wait` seconds."""

    def onward(self, after: int, limit: int, wanted: Filter, wait: float) -> AsyncGenerator[Page, None]:
        """The pages after a position, one after the other, without end; likewise."""


class Batch(Protocol):
    """What a consumer is given."""

    @property
    def events(self) -> Sequence[Stored]:
        """In order."""

    @property
    def position(self) -> Position:
        """Where the consumer is once all are done."""

    @property
    def token(self) -> str | None:
        """By which it is answered for."""

    @property
    def until(self) -> int | None:
        """The end of the lease."""

    @property
    def tries(self) -> int:
        """How often its first event was given by now."""

    @property
    def missing(self) -> int:
        """Events of this stretch that were erased or have expired."""


class Gives(Protocol):
    """Registers consumers and gives them batches. Everything raises `Declined`."""

    async def listed(self) -> tuple[list[Consumer], Position]:
        """All, by name, and where the log ends."""

    async def known(self, name: str) -> tuple[Consumer, Position]:
        """One, and where the log ends."""

    async def add(self, name: str, start: str, wanted: Filter, most_tries: int) -> None:
        """Register one."""

    async def remove(self, name: str) -> tuple[Consumer, Position]:
        """Forget one."""

    async def reset(self, name: str, start: str) -> None:
        """Put one somewhere else."""

    async def take(self, name: str, limit: int, lease: float, wait: float) -> Batch:
        """The next batch."""

    async def ack(self, name: str, token: str, to: str) -> tuple[Consumer, Position]:
        """Everything up to a position is done."""

    async def nack(self, name: str, token: str, at: str, delay: float, reason: str) -> tuple[Consumer, Position]:
        """The event at a position could not be taken."""

    async def dead_letters(self, name: str, limit: int) -> tuple[list[DeadLetter], Position]:
        """What one was given too often, newest first."""

    async def drop_dead_letters(self, name: str) -> int:
        """Forget them."""


class EventRoutes(msgspec.Struct, frozen=True, kw_only=True):
    """Events and their readers."""

    storage: Storage
    reader: Reader
    consumers: Gives
    parsed: Callable[[str | None, Position], int]  #: a position as it was said, held against the log
    as_json: Callable[[bytes], dict[str, Any]]
    entry: Callable[[str, bytes | None], bytes]  #: a position and an event, length-delimited
    stretch: Callable[[int, Sequence[tuple[int, bytes]]], list[bytes]]  #: likewise many of one epoch
    views: Mapping[str, Callable[[Sequence[tuple[str, bytes]]], bytes]]  #: by content type: a page in another form, whole
    clock: Clock

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes."""
        return [
            web.get("/v1/events", self.read_events),
            web.get("/v1/consumers", self.list_consumers),
            web.post("/v1/consumers", self.add_consumer),
            web.get("/v1/consumers/{name}", self.show_consumer),
            web.delete("/v1/consumers/{name}", self.remove_consumer),
            web.post("/v1/consumers/{name}/reset", self.reset_consumer),
            web.post("/v1/consumers/{name}/batches", self.take_batch),
            web.post("/v1/consumers/{name}/ack", self.ack),
            web.post("/v1/consumers/{name}/nack", self.nack),
            web.get("/v1/consumers/{name}/dead-letters", self.list_dead_letters),
            web.delete("/v1/consumers/{name}/dead-letters", self.drop_dead_letters),
        ]

    @needs("read", of_user="read")
    async def read_events(self, request: web.Request) -> web.StreamResponse:
        """A page of the outbox, or a stream without end, as Accept says."""
        query = request.query
        limit = number_of(request, "limit", default=100, lowest=1, highest=1000)
        patience = wait_of(request)
        wanted = Filter(user=held_to(request) or query.get("user"), provider=query.get("provider"), type=query.get("type"))
        end = await self.storage.read(outbox.end)
        after = self.parsed(query.get("after"), end)
        accepted = request.headers.get("Accept", "")
        for kind in (LINES, PROTOBUF):
            if kind in accepted:
                return await self._stream(request, kind, after, wanted, end.epoch)
        page = await self.reader.page(after, int(limit), wanted, patience)
        for kind, view in self.views.items():
            if kind in accepted:
                body = view([(_text(end.epoch, position), stored) for position, stored in page.events])
                return self._viewed(request, kind, body, page, end.epoch)
        return answer(
            {
                "events": self._shown(page.events, end.epoch),
                "position": _text(end.epoch, page.reached),
                "more": page.more,
                "missing": page.missing,
            }
        )

    @staticmethod
    def _viewed(request: web.Request, kind: str, body: bytes, page: Page, epoch: int) -> web.Response:
        """A page in a form that has no room for where to go on: that stands in headers."""
        following = request.rel_url.update_query(after=_text(epoch, page.reached))
        headers = {"Content-Type": kind, "Link": f'<{following}>; rel="next"', "OO-Missing": str(page.missing)}
        return web.Response(body=body, headers=headers)

    async def _stream(self, request: web.Request, kind: str, after: int, wanted: Filter, epoch: int) -> web.StreamResponse:
        """Write events as they come, until the reader leaves, its token no longer holds, or the daemon stops."""
        response, asked = web.StreamResponse(headers={"Content-Type": kind}), self.clock.monotonic()
        with suppress(ConnectionError):  # the reader left
            await response.prepare(request)
            async with aclosing(self.reader.onward(after, STRETCH, wanted, BEAT)) as pages:
                async for page in pages:
                    # What was passed over is said at the end, so that the reader goes on from there, and knows that we are there.
                    rest = page.reached if not page.events or page.events[-1][0] < page.reached else None
                    await response.write(b"".join(self._written(kind, page, rest, epoch)))
                    if self.reader.closed or request.transport is None or request.transport.is_closing():
                        break
                    if self.clock.monotonic() - asked >= BEAT:
                        asked = self.clock.monotonic()
                        if not await holds_still(request):
                            break
        return response

    def _written(self, kind: str, page: Page, rest: int | None, epoch: int) -> list[bytes]:
        if kind == LINES:
            lines = [msgspec.json.encode(event) + b"\n" for event in self._shown(page.events, epoch)]
            return lines if rest is None else [*lines, msgspec.json.encode({"position": _text(epoch, rest)}) + b"\n"]
        entries = self.stretch(epoch, page.events)
        return entries if rest is None else [*entries, self.entry(_text(epoch, rest), None)]

    @needs("read")
    async def list_consumers(self, request: web.Request) -> web.Response:
        """By name."""
        found, end = await self.consumers.listed()
        return answer({"consumers": [self._consumer(each, end) for each in found]})

    @needs("read")
    async def show_consumer(self, request: web.Request) -> web.Response:
        """One."""
        return answer(self._consumer(*await self.consumers.known(_name(request))))

    @needs("admin")
    async def add_consumer(self, request: web.Request) -> web.Response:
        """Register one."""
        asked = await body_of(request, NewConsumer)
        wanted = Filter(user=asked.user, provider=asked.provider, type=asked.type)
        await self.consumers.add(asked.name, asked.start, wanted, asked.most_tries)
        return answer(self._consumer(*await self.consumers.known(asked.name)), status=201)

    @needs("admin")
    async def remove_consumer(self, request: web.Request) -> web.Response:
        """Forget one, and say what it was."""
        return answer(self._consumer(*await self.consumers.remove(_name(request))))

    @needs("admin")
    async def reset_consumer(self, request: web.Request) -> web.Response:
        """Put one somewhere else in the log."""
        asked = await body_of(request, Moved)
        await self.consumers.reset(_name(request), asked.to)
        return answer(self._consumer(*await self.consumers.known(_name(request))))

    @needs("read")
    async def take_batch(self, request: web.Request) -> web.Response:
        """The next events, leased; with `wait`, an empty batch comes only when the time is up."""
        asked, patience = await body_of(request, Asked), wait_of(request)
        given = await self.consumers.take(_name(request), asked.limit, asked.lease, patience)
        return answer(
            {
                "events": self._shown(given.events, given.position.epoch),
                "position": str(given.position),
                "token": given.token,
                "until": time(given.until),
                "tries": given.tries,
                "missing": given.missing,
            }
        )

    @needs("read")
    async def ack(self, request: web.Request) -> web.Response:
        """Everything up to a position is done."""
        said = await body_of(request, Done)
        return answer(self._consumer(*await self.consumers.ack(_name(request), said.token, said.position)))

    @needs("read")
    async def nack(self, request: web.Request) -> web.Response:
        """The event at a position could not be taken."""
        said = await body_of(request, NotTaken)
        return answer(self._consumer(*await self.consumers.nack(_name(request), said.token, said.position, said.delay, said.reason)))

    @needs("read")
    async def list_dead_letters(self, request: web.Request) -> web.Response:
        """What a consumer was given too often, newest first."""
        limit = number_of(request, "limit", default=100, lowest=1, highest=1000)
        found, end = await self.consumers.dead_letters(_name(request), int(limit))
        return answer({"dead_letters": [self._dead(each, end.epoch) for each in found]})

    @needs("admin")
    async def drop_dead_letters(self, request: web.Request) -> web.Response:
        """Forget them."""
        return answer({"dropped": await self.consumers.drop_dead_letters(_name(request))})

    def _shown(self, events: Sequence[Stored], epoch: int) -> list[dict[str, Any]]:
        return [{"position": _text(epoch, position), **self.as_json(body)} for position, body in events]

    def _dead(self, letter: DeadLetter, epoch: int) -> dict[str, Any]:
        place = _text(epoch, letter.position)
        event = None if letter.body is None else {"position": place, **self.as_json(letter.body)}
        return {"position": place, "tries": letter.tries, "reason": letter.reason, "at": time(letter.at), "event": event}

    def _consumer(self, known: Consumer, end: Position) -> dict[str, Any]:
        now = self.clock.now()
        at = min(known.position, end.number) if known.epoch != end.epoch else known.position
        leased = known.token is not None and known.leased_until is not None and known.leased_until > now
        state = "restored" if known.epoch != end.epoch else "reads" if leased else "held" if known.free_at(now) > now else "free"
        return {
            "name": known.name,
            "state": state,
            "position": _text(end.epoch, at),
            "lag": end.number - at,
            "unread_since": time(known.unread_since),
            "present_until": _text(end.epoch, known.present_until) if known.present_until > known.position else None,
            "user": known.wanted.user,
            "provider": known.wanted.provider,
            "type": known.wanted.type,
            "tries": known.tries,
            "most_tries": known.most_tries,
            "reason": known.reason,
            "dead_letters": known.dead_letters,
        }


def _name(request: web.Request) -> str:
    return request.match_info["name"]


def _text(epoch: int, position: int) -> str:
    return str(Position(epoch=epoch, number=position))
