"""The two listeners: which rooms are behind which door, and who is let in."""

from __future__ import annotations

import grp
import pwd
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Middleware

from oo_config import Settings
from oo_daemon import ports
from oo_daemon.ingress import answers, server
from oo_daemon.ingress.api import in_its_words
from oo_daemon.ingress.audit import Notes, audited
from oo_daemon.ingress.connection import Limits, Straight
from oo_daemon.ingress.console.rooms import Console
from oo_daemon.ingress.server import Listening
from oo_daemon.ingress.tokens import Tokens, Vouching, guard
from oo_daemon.ingress.traced import traced
from oo_sdk import Log


class Room(Protocol):
    """Whoever has routes behind the private doors."""

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """They."""


async def listen(
    settings: Settings,
    stack: AsyncExitStack,
    *,
    door: socket.socket | None,
    private_door: socket.socket | None,
    to_the_public: Sequence[web.AbstractRouteDef] | None,
    straight: Straight | None,
    private_rooms: Sequence[Room],
    console: Console | None,
    notes: Notes,
    tokens: Tokens,
    vouching: Vouching | None,
    asked: Callable[[], None],
    trace: ports.Trace,
    out: Log,
) -> tuple[Listening | None, Listening]:
    """Open both, the public one unless there is nothing for it, and close them with the stack."""
    public = None if to_the_public is None else await _to_the_public(settings, door, to_the_public, straight, asked, out)
    if public is not None:
        stack.push_async_callback(public.close)

    def behind(*manners: Middleware, trusts: bool) -> web.Application:
        app = answers.private_application(log=out)
        app.middlewares.extend([*manners, traced(trace), audited(notes), in_its_words])
        if console is not None:
            console.add_to(app, trusts=trusts)
        app.add_routes([route for room in private_rooms for route in room.routes()])
        return app

    private = await server.listen_unix(
        behind(trusts=True), path=settings.places.socket, admins=_admins(settings), sock=private_door, asked=asked
    )
    stack.push_async_callback(private.close)
    if settings.private.port:
        guarded = await server.listen_tcp(
            behind(in_its_words, guard(tokens, vouching), trusts=False), port=settings.private.port, asked=asked
        )
        stack.push_async_callback(guarded.close)
        out.info("listening_with_tokens", address=guarded.address)
    return public, private


async def _to_the_public(
    settings: Settings,
    door: socket.socket | None,
    routes: Sequence[web.AbstractRouteDef],
    straight: Straight | None,
    asked: Callable[[], None],
    out: Log,
) -> Listening:
    app = answers.public_application(log=out)
    app.middlewares.append(in_its_words)
    app.add_routes(routes)
    limits = Limits(
        headers_within=settings.public.header_timeout,
        body_within=settings.public.body_timeout,
        body_rate=settings.public.min_rate,
        idle=settings.public.keepalive,
        connections=settings.public.max_connections,
        per_address=settings.public.max_connections_per_address,
        body=settings.public.body_limit,
    )
    return await server.listen_tcp(
        app,
        host=settings.public.host,
        port=settings.public.port,
        limits=limits,
        trusted_proxies=settings.public.trusted_proxies,
        forwarded_by=settings.public.forwarded_by,
        straight=straight,
        sock=door,
        asked=asked,
    )


def claim_public(settings: Settings) -> tuple[socket.socket | None, str]:
    """With port 0, take a free port now, since the address that people reach us at must name it."""
    if settings.public.port != 0 or settings.origin("public", "url").kind != "default":
        return None, settings.public.url
    door = socket.create_server((settings.public.host, 0))
    host = settings.public.host
    return door, f"http://{f'[{host}]' if ':' in host else host}:{door.getsockname()[1]}"


def _admins(settings: Settings) -> frozenset[int]:
    members = {name for group in settings.private.admin_groups for name in grp.getgrnam(group).gr_mem}
    return frozenset(settings.private.admin_uids) | {pwd.getpwnam(name).pw_uid for name in members}
