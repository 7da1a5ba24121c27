"""Credentials in use: a connection's grant, renewed when it must be, and the session that carries it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec

from oo_daemon.connections import token_endpoint
from oo_daemon.connections.breaker import Breakers
from oo_daemon.connections.budgets import Budgets
from oo_daemon.connections.errors import Declined
from oo_daemon.connections.registration import Registrations
from oo_daemon.connections.session import Authority, Calls, Client, Gate, SignedSession
from oo_daemon.connections.transport import Transport
from oo_daemon.ports import SECOND, UNTRACED, Clock, Metrics, Trace
from oo_daemon.store.connections import Connection
from oo_sdk import ApiKey, Connector, ConnectorBug, OAuth2, RetryLater, Session, SignInAgain
from oo_sdk import Rotation as Declared
from oo_vault import Answer, ClientRefused, Grant, GrantDead, NotSent, Refresher, Renewed, Rotation, Secret, Unclear

_OUTCOMES: Mapping[type[Answer], str] = {
    Renewed: "renewed",
    GrantDead: "grant_dead",
    ClientRefused: "client_refused",
    NotSent: "not_sent",
    Unclear: "unclear",
}


#: Seconds for which a session uses a grant without looking at its row again, and the life that it must have left for that.
_HELD, _LONG = 1.0, 60 * SECOND


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Gives signed-in sessions. Used on the guests' loop only: a refresh has one flight per loop."""

    refresher: Refresher
    registrations: Registrations
    transport: Transport
    clock: Clock
    metrics: Metrics
    used: Callable[[int, str], None] = lambda _, __: None  #: told of each request that a credential goes with: connection and host
    budgets: Budgets | None = None
    breakers: Breakers | None = None
    trace: Trace = UNTRACED

    async def session(
        self, connector: Connector, connection: Connection, *, calls: Calls | None = None, waited_for: bool = False
    ) -> Session:
        """A session that acts as this connection; what it sends is counted in `calls`. Somebody may be waiting for what it does."""
        gate = _Gate(self.budgets, self.breakers, connector, connection, waited_for)
        if connector.auth is None:
            return self._session(connector, None, NoCredential(), calls, gate)
        kept = await self._kept(connector.auth, connection)
        return self._session(connector, kept.client, kept, calls, gate, partial(self.used, connection.number))

    def unopened(self, connector: Connector, connection: Connection, calls: Calls) -> Session:
        """Likewise, opened with its first request, which raises what `session` would."""
        return _Unopened(lambda: self.session(connector, connection, calls=calls))

    async def signing(self, connector: Connector, connection: Connection) -> tuple[Authority, Gate, Callable[[str], None]]:
        """What a request for this connection is signed with, what it passes, and who is told of it. Raises as `session` does."""
        if connector.auth is None:
            raise ConnectorBug(f"{connector.id} has no credential to sign with")
        gate = _Gate(self.budgets, self.breakers, connector, connection, True)
        return await self._kept(connector.auth, connection), gate, partial(self.used, connection.number)

    def _session(
        self,
        connector: Connector,
        client: Client | None,
        authority: Authority,
        calls: Calls | None,
        gate: Gate,
        used: Callable[[str], None] = lambda _: None,
    ) -> Session:
        return SignedSession(
            connector=connector,
            client=client,
            authority=authority,
            transport=self.transport,
            clock=self.clock,
            calls=calls,
            gate=gate,
            used=used,
            trace=self.trace,
        )

    async def renew(self, connector: Connector, connection: Connection) -> None:
        """Renew a grant whose access token has run out, whether or not anybody needs it now. Raises as a session's use does."""
        if connector.auth is not None:
            await (await self._kept(connector.auth, connection)).grant()

    async def _kept(self, auth: OAuth2 | ApiKey, connection: Connection) -> _Kept:
        if isinstance(auth, ApiKey):
            return _Kept(self, auth, None, connection)
        if connection.registration is None:
            raise ConnectorBug("the connection has no registration to sign with")
        try:
            client = await self.registrations.client(connection.registration)
        except Declined as gone:
            raise SignInAgain(gone.message) from None
        return _Kept(self, auth, client, connection)


class _Gate(msgspec.Struct):
    """What the calls of one connection pass."""

    budgets: Budgets | None
    breakers: Breakers | None
    connector: Connector
    connection: Connection
    waited_for: bool
    _drawn: Sequence[str] | None = None  #: the buckets that its calls draw from, once it is known which

    def at_once(self) -> bool:
        """Take a turn that is there."""
        if self.breakers is not None and self.breakers.is_open(self.connector.id):
            return False
        if self.budgets is None:
            return True
        if self._drawn is None:
            self._drawn = self.budgets.of(self.connector, self.connection)
        return self.budgets.at_once(self._drawn)

    async def enter(self) -> None:
        """Wait for a turn."""
        if self.breakers is not None and (wait := self.breakers.wait(self.connector.id)):
            raise RetryLater("most calls to the provider fail just now", after=timedelta(seconds=wait))
        if self.budgets is not None:
            await self.budgets.take(self.connector, self.connection, waited_for=self.waited_for)

    def heard(self, status: int | None) -> None:
        """Note what came of it."""
        if self.breakers is not None:
            self.breakers.heard(self.connector.id, status)

    async def asked(self, status: int, wait: timedelta | None) -> None:
        """Note how long to wait. A provider that is out of order says nothing of its limits."""
        if self.budgets is not None and (status == 429 or (wait is not None and status < 500)):
            await self.budgets.refused(self.connector, self.connection, wait)


class _Unopened:
    """A session that nothing has been asked of. As with `SignedSession`, no attribute leads to a credential."""

    __slots__ = ("_opened",)

    def __init__(self, session: Callable[[], Awaitable[Session]]) -> None:
        known: Session | None = None

        async def opened() -> Session:
            nonlocal known
            if known is None:
                known = await session()
            return known

        self._opened = opened

    async def get(self, url: str, **asked: Any) -> Any:
        """GET."""
        return await (await self._opened()).get(url, **asked)

    async def post(self, url: str, **asked: Any) -> Any:
        """POST."""
        return await (await self._opened()).post(url, **asked)

    async def request(self, method: str, url: str, **asked: Any) -> Any:
        """Send one request."""
        return await (await self._opened()).request(method, url, **asked)


class NoCredential:
    """Where there is nothing to sign in to."""

    def held(self) -> Grant | None:
        """There is none."""
        return None

    async def grant(self, *, force_after: int | None = None) -> Grant:
        """There is none."""
        raise ConnectorBug("there is no credential to sign with: use sign=Sign.NOBODY")


class _Kept:
    """The credential that the vault keeps for a connection.

    A grant that lives is used for a second without a look at its row: a sync makes many calls in one, and each look costs more than the
    call itself needs of the processor. What that can miss is a new sign-in or a disconnect, for as long.
    """

    __slots__ = ("_held", "_until", "auth", "client", "connection", "credentials")

    def __init__(self, credentials: Credentials, auth: OAuth2 | ApiKey, client: Client | None, connection: Connection) -> None:
        self.credentials = credentials
        self.auth = auth
        self.client = client
        self.connection = connection
        self._held: Grant | None = None
        self._until = -math.inf

    def held(self) -> Grant | None:
        """The grant that was looked up within the last second."""
        return self._held if self.credentials.clock.monotonic() < self._until else None

    async def grant(self, *, force_after: int | None = None) -> Grant:
        """A grant that can be used now."""
        if force_after is None and (held := self.held()) is not None:
            return held
        clock = self.credentials.clock
        self._held = grant = await self._looked_up(force_after)
        lives = grant.expires_at is None or grant.expires_at - clock.now() > _LONG
        self._until = clock.monotonic() + _HELD if lives else -math.inf
        return grant

    async def _looked_up(self, force_after: int | None) -> Grant:
        rotation = self.auth.rotation if isinstance(self.auth, OAuth2) else Declared()
        return await self.credentials.refresher.grant(
            self.connection.id,
            self._exchange,
            Rotation(
                rotates=rotation.rotates,
                grace=rotation.grace.total_seconds() if rotation.grace else None,
                reuse_kills=rotation.reuse_kills,
            ),
            force_after=force_after,
        )

    async def _exchange(self, refresh_token: Secret) -> Answer:
        if self.client is None or not isinstance(self.auth, OAuth2):
            raise ConnectorBug("a key is not renewed")
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token.reveal()}
        provider, trace = self.connection.provider, self.credentials.trace
        with trace.span("refresh", provider=provider):
            answer = await token_endpoint.ask(
                self.credentials.transport, self.auth, self.client.id, self.client.secrets, form, now=self.credentials.clock.now()
            )
            trace.note(outcome=_OUTCOMES[type(answer)])
        self.credentials.metrics.count("refreshes", provider=provider, outcome=_OUTCOMES[type(answer)])
        return answer
