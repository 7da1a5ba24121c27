"""Sinks over the private API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Protocol

import msgspec
from aiohttp import web

from oo_daemon.ingress.asking import answer, body_of
from oo_daemon.ingress.tokens import needs
from oo_daemon.ingress.view import time
from oo_daemon.store.consumers import Consumer
from oo_daemon.store.outbox import Position


class Replay(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a wish to have dead letters given again; without positions all of them."""

    positions: Annotated[list[Annotated[str, msgspec.Meta(max_length=40)]], msgspec.Meta(min_length=1, max_length=1000)] | None = None


class Shown(Protocol):
    """One sink."""

    @property
    def name(self) -> str:
        """That of its table."""

    @property
    def kind(self) -> str:
        """Which sink it is."""

    @property
    def state(self) -> str:
        """How it is."""

    @property
    def reason(self) -> str:
        """Why it is not well."""

    @property
    def consumer(self) -> Consumer | None:
        """How far it is."""


class Sinks(Protocol):
    """Shows and moves sinks. Everything raises `Declined`."""

    async def listed(self) -> tuple[Sequence[Shown], Position]:
        """All, by name."""

    async def pause(self, name: str, paused: bool) -> tuple[Shown, Position]:
        """Have one wait, or go on."""

    async def give_again(self, name: str, positions: Sequence[str] | None) -> int:
        """Have dead letters given again."""


class SinkRoutes(msgspec.Struct, frozen=True, kw_only=True):
    """Sinks."""

    sinks: Sinks

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes."""
        return [
            web.get("/v1/sinks", self.list_sinks),
            web.post("/v1/sinks/{name}/pause", self.pause),
            web.post("/v1/sinks/{name}/resume", self.resume),
            web.post("/v1/sinks/{name}/replay", self.replay),
        ]

    @needs("read")
    async def list_sinks(self, request: web.Request) -> web.Response:
        """By name."""
        found, end = await self.sinks.listed()
        return answer({"sinks": [_view(each, end) for each in found]})

    @needs("admin")
    async def pause(self, request: web.Request) -> web.Response:
        """Have one wait until it is resumed."""
        return answer(_view(*await self.sinks.pause(request.match_info["name"], True)))

    @needs("admin")
    async def resume(self, request: web.Request) -> web.Response:
        """Let one go on."""
        return answer(_view(*await self.sinks.pause(request.match_info["name"], False)))

    @needs("admin")
    async def replay(self, request: web.Request) -> web.Response:
        """Have dead letters given again."""
        asked = await body_of(request, Replay)
        return answer({"replayed": await self.sinks.give_again(request.match_info["name"], asked.positions)})


def _view(sink: Shown, end: Position) -> dict[str, Any]:
    known = sink.consumer
    at = min(known.position, end.number) if known else 0
    return {
        "name": sink.name,
        "kind": sink.kind,
        "state": sink.state,
        "reason": sink.reason,
        "position": str(Position(epoch=end.epoch, number=at)),
        "lag": end.number - at,
        "unread_since": time(known.unread_since if known else None),
        "dead_letters": known.dead_letters if known else 0,
    }
