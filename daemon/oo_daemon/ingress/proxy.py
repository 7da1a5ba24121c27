"""The proxy: `/v1/connections/{id}/proxy/HOST/PATH` asks the provider as the user, and gives its answer as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import timedelta

import msgspec
from aiohttp import web

from oo_daemon.connections import bounds
from oo_daemon.connections.forward import METHODS, Forward, Forwarded
from oo_daemon.ingress.answers import Refused
from oo_daemon.ingress.connection import allow_body
from oo_daemon.ingress.tokens import insist_on_own, needs
from oo_daemon.ports import Guests
from oo_daemon.registry import Registry
from oo_daemon.store import connections
from oo_daemon.store.connections import Connection
from oo_daemon.store.storage import Storage
from oo_sdk import Connector, ConnectorBug, QuotaSpent, RetryLater, SignInAgain

#: Set on what the provider answered, so that it is not taken for our own word.
FROM_PROVIDER = "OO-Answer"
#: A body up to this size can be sent again.
_SMALL = 64 * 1024
#: Seconds for the whole of a body; its pace is held to, as everywhere.
_LONGEST = 3600.0


class ProxyRoutes(msgspec.Struct, frozen=True, kw_only=True):
    """One route, for each method that is listed."""

    storage: Storage
    registry: Registry
    guests: Guests
    forward: Forward

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The routes."""
        return [web.route(method, "/v1/connections/{id}/proxy/{path:.+}", self.pass_on) for method in METHODS]

    @needs("act", of_user="act")
    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on, and its answer back."""
        allow_body(request, within=_LONGEST)
        connection, connector = await self._known(request)
        first = await _first(request)
        more = None if request.content.at_eof() else _across(request, asyncio.get_running_loop())
        url = _address(request, connector)
        try:
            answer = await self.guests.run(
                self.forward(connector, connection, request.method, url, list(request.headers.items()), first, more)
            )
        except ConnectorBug as bug:
            raise Refused(403, "host", f"That address is out of bounds: {bug}.", "Ask for one of the connector's hosts.") from None
        except SignInAgain as gone:
            raise Refused(409, "needs_sign_in", f"The access is gone: {gone}.", "Let the person connect it again.") from None
        except RetryLater as later:
            wait = later.after if isinstance(later.after, timedelta) else timedelta(seconds=30)
            headers = {"Retry-After": str(max(1, round(wait.total_seconds())))}
            raise Refused(503, "provider", f"The provider cannot be asked now: {later}.", "Try again later.", headers=headers) from None
        except QuotaSpent as spent:
            raise Refused(503, "provider", f"The provider takes no more calls now: {spent}.", "Try again later.") from None
        try:
            return await self._answer(request, answer)
        finally:
            await asyncio.shield(self.guests.run(_closed(answer)))

    async def _answer(self, request: web.Request, answer: Forwarded) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status)
        for name, value in answer.headers:
            response.headers.add(name, value)
        response.headers[FROM_PROVIDER] = "provider"
        response.content_length = answer.length
        await response.prepare(request)
        while part := await self.guests.run(answer.chunk()):
            await response.write(part)
        await response.write_eof()
        return response

    async def _known(self, request: web.Request) -> tuple[Connection, Connector]:
        connection = await self.storage.read(connections.by_id, request.match_info["id"])
        missing = Refused(404, "not_found", "There is no such connection.", "See `oo connections`.")
        if connection is None:
            raise missing
        insist_on_own(request, connection.user, missing)
        connector = self.registry.connectors.get(connection.provider)
        if connector is None:
            raise Refused(409, "not_loaded", f"The connector {connection.provider} is not loaded.", "See `oo plugins`.")
        if connector.auth is None:
            raise Refused(409, "no_sign_in", "This connection has nothing to sign in with.")
        if connection.state != "active":
            reason = connection.reason or "Connect it again first."
            raise Refused(409, "not_active", f"The connection is {connection.state.replace('_', ' ')}.", reason)
        return connection, connector


def _address(request: web.Request, connector: Connector) -> str:
    """The provider's address, spelled as the caller did: nothing is decoded on the way."""
    _, _, path = request.rel_url.raw_path.partition("/proxy/")
    host, _, rest = path.partition("/")
    declared = {each.lower(): each for each in connector.hosts}.get(host.replace("%3A", ":").lower())
    if declared is None:
        known = ", ".join(connector.hosts)
        raise Refused(403, "host", "The path does not begin with one of the connector's hosts.", f"Begin it with one of: {known}.")
    scheme = "http" if ":" in declared and bounds.is_loopback(declared.rpartition(":")[0]) else "https"
    query = request.rel_url.raw_query_string
    return f"{scheme}://{declared}/{rest}{'?' if query else ''}{query}"


async def _first(request: web.Request) -> bytes:
    """The beginning of the body: all of it, if it is small."""
    first = b""
    while len(first) < _SMALL and not request.content.at_eof():
        first += await request.content.readany()
    return first


async def _across(request: web.Request, loop: asyncio.AbstractEventLoop) -> AsyncIterator[bytes]:
    """The rest of the body, for the guests' loop; it is read on the loop that it comes in on."""
    while part := await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_next(request), loop)):
        yield part


async def _next(request: web.Request) -> bytes:
    return await request.content.readany()


async def _closed(answer: Forwarded) -> None:
    with suppress(Exception):  # what is left of the answer is nobody's any more
        answer.close()
