"""Credentials in use: a connection's grant, renewed when it must be, and the session that carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from oo_daemon.connections import token_endpoint
from oo_daemon.connections.errors import Declined
from oo_daemon.connections.registration import Registrations
from oo_daemon.connections.session import Authority, Calls, Client, SignedSession
from oo_daemon.connections.transport import Transport
from oo_daemon.ports import Clock, Metrics
from oo_daemon.store.connections import Connection
from oo_sdk import Connector, ConnectorBug, OAuth2, Session, SignInAgain
from oo_vault import Answer, ClientRefused, Grant, GrantDead, NotSent, Refresher, Renewed, Rotation, Secret, Unclear

_OUTCOMES: Mapping[type[Answer], str] = {
    Renewed: "renewed",
    GrantDead: "grant_dead",
    ClientRefused: "client_refused",
    NotSent: "not_sent",
    Unclear: "unclear",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Gives signed-in sessions. Used on the guests' loop only: a refresh has one flight per loop."""

    refresher: Refresher
    registrations: Registrations
    transport: Transport
    clock: Clock
    metrics: Metrics

    async def session(self, connector: Connector, connection: Connection, *, calls: Calls | None = None) -> Session:
        """A session that acts as this connection; what it sends is counted in `calls`."""
        if connector.auth is None:
            return self._session(connector, None, NoCredential(), calls)
        if connection.registration is None:
            raise ConnectorBug("the connection has no registration to sign with")
        try:
            client = await self.registrations.client(connection.registration)
        except Declined as gone:
            raise SignInAgain(gone.message) from None
        authority = _Kept(self, connector.auth, client, connection)
        return self._session(connector, client, authority, calls)

    def _session(self, connector: Connector, client: Client | None, authority: Authority, calls: Calls | None) -> Session:
        return SignedSession(
            connector=connector, client=client, authority=authority, transport=self.transport, clock=self.clock, calls=calls
        )


class NoCredential:
    """Where there is nothing to sign in to."""

    async def grant(self, *, force_after: int | None = None) -> Grant:
        """There is none."""
        raise ConnectorBug("there is no credential to sign with: use sign=Sign.NOBODY")


@dataclass(frozen=True, slots=True, repr=False)
class _Kept:
    """The credential that the vault keeps for a connection."""

    credentials: Credentials
    auth: OAuth2
    client: Client
    connection: Connection

    async def grant(self, *, force_after: int | None = None) -> Grant:
        """A grant that can be used now."""
        rotation = self.auth.rotation
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
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token.reveal()}
        answer = await token_endpoint.ask(
            self.credentials.transport, self.auth, self.client.id, self.client.secrets, form, now=self.credentials.clock.now()
        )
        self.credentials.metrics.count("refreshes", provider=self.connection.provider, outcome=_OUTCOMES[type(answer)])
        return answer
