"""Signing in: from a one-use link to a sealed credential (RFC 6749, RFC 7636, RFC 9700).

A link opens only our page. The button there uses the link up, binds the flow to that browser by a cookie and sends it to the provider with
a one-use state. The callback uses the state up before anything else, and the code is exchanged once, never again.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from oo_daemon.connections import bounds, token_endpoint
from oo_daemon.connections.errors import Declined
from oo_daemon.connections.registration import Registrations
from oo_daemon.connections.session import Client, SignedSession
from oo_daemon.connections.transport import Transport
from oo_daemon.ports import SECOND, Chance, Clock, Guests, moment
from oo_daemon.registry import Registry
from oo_daemon.store import connections, credentials, flows, schedule
from oo_daemon.store.accept import Batch, Draft
from oo_daemon.store.connections import Connection, SignedIn
from oo_daemon.store.database import Database
from oo_daemon.store.flows import SignIn, Status
from oo_daemon.store.storage import Lane, Storage
from oo_sdk import Connector, ConnectorBug, ConnectorError, Flow, OAuth2, RetryLater, Session, SignInAgain, StoredCredential
from oo_vault import CREDENTIAL, ClientRefused, Context, Grant, GrantDead, Keyring, Renewed, SignInNeeded

_NAME = re.compile(r"[\w.@+:=-]{1,128}")
#: How long a sign-in's result can still be looked at.
_REMEMBERED = 24 * 3600 * SECOND

#: (connection, what, at, fields) → an event of ours about a connection.
ConnectionEvent = Callable[..., Draft]


Access = Literal["read", "write"]


class LinkGone(Exception):
    """The link is unknown, used or too old: one answer for all."""


class FlowRefused(Exception):
    """The callback does not belong to a sign-in of this browser: one answer for all reasons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a person is asked to agree to."""

    provider_title: str
    user_label: str
    account: str
    scopes: tuple[tuple[str, Access], ...]  #: sentences such as "See your tasks."
    provider_origin: str  #: where the button leads
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a sign-in ended."""

    status: Literal["connected", "denied", "failed"]
    provider_title: str
    reason: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectSession:
    """A sign-in that was just opened; the link is told once."""

    id: str
    link: str = field(repr=False)
    url: str = field(repr=False)
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """What signing in needs."""

    storage: Storage
    keyring: Keyring
    registry: Registry
    registrations: Registrations
    guests: Guests
    transport: Transport
    clock: Clock
    chance: Chance
    public_url: str
    link_life: float  #: seconds
    flow_life: float  #: seconds
    connection_event: ConnectionEvent

    async def open(self, provider: str, user: str, account: str = "default", registration: str | None = None) -> ConnectSession:
        """Open a sign-in and give its one-use link. Raises `Declined`."""
        connector = self.registry.connectors.get(provider)
        if connector is None:
            raise Declined("unknown_provider", f"There is no connector {provider}.", "See `oo plugins` for those there are.")
        if connector.auth is None:
            raise Declined("no_sign_in", f"{_title(connector)} has nothing to sign in to.")
        for word, text in (("user", user), ("account", account)):
            if not _NAME.fullmatch(text):
                raise Declined(word, f"{text!r} is no name for a {word}.", "Use up to 128 letters, digits and . _ @ + : = -")
        found = await self.registrations.find(provider, registration)
        link, now = self._token(), self.clock.now()
        sign_in = SignIn(
            id=self.chance.token_bytes(16).hex(),
            registration=found.id,
            provider=provider,
            user=user,
            account=account,
            verifier=None,
            redirect_uri=self.registrations.redirect_uri(found.id),
            scopes=tuple(scope.id for scope in connector.scopes if scope.required),
            status="open",
            reason="",
            connection=None,
            browser_hash=None,
            created_at=now,
            expires_at=now + int(self.link_life * SECOND),
        )
        await self.storage.write(flows.open_, sign_in, _hash(link))
        return ConnectSession(id=sign_in.id, link=link, url=f"{self.public_url}/connect/{link}", expires_at=sign_in.expires_at)

    async def status(self, id_: str, wait: float) -> SignIn | None:
        """How a sign-in stands; waits up to `wait` seconds for its end. None: unknown."""
        deadline = self.clock.monotonic() + wait
        while True:
            sign_in = await self.storage.read(flows.by_id, id_)
            ended = sign_in is None or sign_in.status in {"connected", "denied", "failed"} or sign_in.expires_at <= self.clock.now()
            left = deadline - self.clock.monotonic()
            if ended or left <= 0:
                return sign_in
            await self.clock.sleep(min(0.2, left))

    async def offer(self, link: str) -> Offer:
        """What the page behind a link shows. Using the link up takes the button. Raises `LinkGone`."""
        sign_in = await self.storage.read(flows.by_link, _hash(link), self.clock.now())
        if sign_in is None:
            raise LinkGone
        connector, auth = self._connector(sign_in)
        scopes = tuple((scope.sentence, scope.access) for scope in connector.scopes if scope.id in sign_in.scopes)
        return Offer(
            provider_title=_title(connector),
            user_label=sign_in.user,
            account=sign_in.account,
            scopes=scopes,
            provider_origin=bounds.origin(auth.authorize),
            expires_at=moment(sign_in.expires_at),
        )

    async def begin(self, link: str, browser: str) -> str:
        """Use the link up, bind the flow to the browser, and give the provider's address. Raises `LinkGone`."""
        now, link_hash = self.clock.now(), _hash(link)
        sign_in = await self.storage.read(flows.by_link, link_hash, now)
        if sign_in is None:
            raise LinkGone
        connector, auth = self._connector(sign_in)
        client = await self.registrations.client(sign_in.registration)
        state, verifier = self._token(), self._token()
        begun = await self.storage.write(
            flows.begin,
            link_hash,
            now,
            state_hash=_hash(state),
            browser_hash=_hash(browser),
            verifier=self.keyring.wrap(_verifier_context(sign_in), verifier.encode()),
            expires_at=now + int(self.flow_life * SECOND),
        )
        if not begun:
            raise LinkGone
        flow = _Flow(self, connector, auth, client, sign_in, state=state, verifier=verifier)
        return (await self.guests.run(connector.begin_oauth(flow))).url

    async def finish(self, *, registration: str, state: str, browser: str, code: str | None, error: str | None, iss: str | None) -> str:
        """Take a callback; gives the id under which this browser sees the outcome. Raises `FlowRefused`."""
        sign_in = await self.storage.write(flows.use_state, _hash(state), self.clock.now())
        if sign_in is None:
            raise FlowRefused
        if sign_in.registration != registration or not hmac.compare_digest(sign_in.browser_hash or b"", _hash(browser)):
            await self._end(sign_in, "failed", "The sign-in came back in another browser, or to another address.")
            raise FlowRefused
        connector, auth = self._connector(sign_in)
        if iss is not None and auth.issuer is not None and iss != auth.issuer:
            await self._end(sign_in, "failed", "The answer came from another provider.")
            raise FlowRefused
        if error is not None or code is None:
            if error in {"access_denied", "user_cancelled_authorize", "consent_required"}:
                await self._end(sign_in, "denied", f"{_title(connector)} was not allowed to share anything. Nothing was stored.")
            else:
                await self._end(
                    sign_in, "failed", f"{_title(connector)} could not finish the sign-in. Nothing was stored; please try again."
                )
            return sign_in.id
        try:
            await self._exchange(sign_in, connector, auth, code)
        except asyncio.CancelledError:
            raise
        except (ConnectorError, Declined) as refused:
            await self._end(sign_in, "failed", str(refused))
        return sign_in.id

    async def outcome(self, outcome_id: str, browser: str) -> Outcome:
        """How a sign-in ended, for the browser that began it. Raises `FlowRefused`."""
        sign_in = await self.storage.read(flows.by_id, outcome_id)
        if sign_in is None or not hmac.compare_digest(sign_in.browser_hash or b"", _hash(browser)):
            raise FlowRefused
        connector, _ = self._connector(sign_in)
        connection = await self.storage.read(connections.by_id, sign_in.connection) if sign_in.connection else None
        label = connection.label if connection else ""
        if sign_in.status not in {"connected", "denied", "failed"}:
            raise FlowRefused
        return Outcome(
            status=sign_in.status,
            provider_title=_title(connector),
            reason=sign_in.reason,
            label=label,
        )

    async def tidy(self) -> None:
        """Forget sign-ins of the day before yesterday."""
        await self.storage.write(flows.drop_older, self.clock.now() - _REMEMBERED)

    async def _exchange(self, sign_in: SignIn, connector: Connector, auth: OAuth2, code: str) -> None:
        client = await self.registrations.client(sign_in.registration)
        if sign_in.verifier is None:
            raise ConnectorBug("the sign-in has lost its verifier")
        verifier = self.keyring.unwrap(_verifier_context(sign_in), sign_in.verifier).decode()
        flow = _Flow(self, connector, auth, client, sign_in, state="", verifier=verifier)
        # Shielded: the state is spent and the code can be exchanged only once, so a browser that goes away must not undo it.
        await asyncio.shield(asyncio.ensure_future(self._keep(sign_in, connector, flow, code)))

    async def _keep(self, sign_in: SignIn, connector: Connector, flow: _Flow, code: str) -> None:
        stored = await self.guests.run(connector.finish_oauth(flow, code))
        grant, now = flow.exchanged, self.clock.now()
        if grant is None:
            raise ConnectorBug(f"{connector.id} finished the sign-in without exchanging the code")
        known = await self.storage.read(connections.of, sign_in.user, sign_in.provider, sign_in.account)
        if known is not None and known.provider_account and stored.account_id and known.provider_account != stored.account_id:
            raise Declined(
                "another_account",
                f"This is another account at {_title(connector)} than the one that was connected before.",
                "Connect it under a name of its own, or disconnect the other one first.",
            )
        new_id = self.chance.token_bytes(16).hex()

        def prepare(database: Database) -> Batch:
            connection = connections.put(
                database,
                SignedIn(
                    id=new_id,
                    user=sign_in.user,
                    provider=sign_in.provider,
                    account=sign_in.account,
                    registration=sign_in.registration,
                    provider_account=stored.account_id,
                    label=stored.label,
                    scopes=tuple(sorted(stored.scopes)),
                    meta=stored.meta,
                ),
                now,
            )
            self._put_credential(database, connection, grant)
            schedule.create(database, connection.number, now)
            flows.end(database, sign_in.id, "connected", "", connection.id)
            what = "connected" if connection.version == 1 else "recovered"
            return Batch(connection=connection, observed_at=now, drafts=[self.connection_event(connection, what, now)])

        await self.storage.accept(prepare, Lane.INGEST)

    def _put_credential(self, database: Database, connection: Connection, grant: Grant) -> None:
        version = credentials.token_version(database, connection.number) + 1
        place = Context(
            purpose=CREDENTIAL,
            connection=connection.id,
            user=connection.user,
            provider=connection.provider,
            account=connection.account,
            token_version=version,
        )
        credentials.put(database, connection.number, version, self.keyring.seal(place, grant.pack()), grant.expires_at)

    def _connector(self, sign_in: SignIn) -> tuple[Connector, OAuth2]:
        connector = self.registry.connectors.get(sign_in.provider)
        if connector is None or connector.auth is None:
            raise LinkGone
        return connector, connector.auth

    async def _end(self, sign_in: SignIn, status: Status, reason: str) -> None:
        await self.storage.write(flows.end, sign_in.id, status, reason)

    def _token(self) -> str:
        return base64.urlsafe_b64encode(self.chance.token_bytes(32)).rstrip(b"=").decode()


class _Flow(Flow):
    """The SDK's `Flow`: one sign-in, as its connector sees it."""

    def __init__(
        self, service: Connect, connector: Connector, auth: OAuth2, client: Client, sign_in: SignIn, *, state: str, verifier: str
    ) -> None:
        self.exchanged: Grant | None = None
        self._service = service
        self._connector = connector
        self._auth = auth
        self._client = client
        self._sign_in = sign_in
        self._state = state
        self._verifier = verifier

    @property
    def auth(self) -> OAuth2:
        return self._auth

    @property
    def client_id(self) -> str:
        return self._client.id

    @property
    def redirect_uri(self) -> str:
        return self._sign_in.redirect_uri

    @property
    def state(self) -> str:
        return self._state

    @property
    def challenge(self) -> str | None:
        if not self._auth.pkce:
            return None
        return base64.urlsafe_b64encode(hashlib.sha256(self._verifier.encode()).digest()).rstrip(b"=").decode()

    @property
    def scopes(self) -> tuple[str, ...]:
        return self._sign_in.scopes

    @property
    def http(self) -> Session:
        return SignedSession(
            connector=self._connector,
            client=self._client,
            authority=self,
            transport=self._service.transport,
            clock=self._service.clock,
        )

    async def grant(self, *, force_after: int | None = None) -> Grant:
        """The grant that was just exchanged; it is not refreshed before it is kept."""
        if self.exchanged is None or force_after is not None:
            raise SignInNeeded("the provider refuses the credential it has just given")
        return self.exchanged

    async def exchange(self, code: str) -> StoredCredential:
        if self.exchanged is not None:
            raise ConnectorBug("a code is exchanged once only")
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self.redirect_uri}
        if self._auth.pkce:
            form["code_verifier"] = self._verifier
        now = self._service.clock.now()
        answer = await token_endpoint.ask(self._service.transport, self._auth, self._client.id, self._client.secrets, form, now=now)
        match answer:
            case Renewed():
                scopes = answer.scopes if answer.scopes is not None else self.scopes
                self.exchanged = Grant(
                    access_token=answer.access_token,
                    refresh_token=answer.refresh_token,
                    token_type=answer.token_type,
                    scopes=scopes,
                    expires_at=None if answer.expires_in is None else now + answer.expires_in * SECOND,
                    obtained_at=now,
                )
                return StoredCredential(
                    scopes=frozenset(scopes), expires_in=answer.expires_in, refreshable=answer.refresh_token is not None
                )
            case GrantDead():
                raise SignInAgain("The provider no longer accepts this sign-in. Please start again.")
            case ClientRefused(reason=reason):
                raise ConnectorBug(f"The provider refuses our registration ({reason}). The operator must check its client id and secret.")
            case _:
                raise RetryLater("The provider did not answer in time. Please start again in a while.")


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _verifier_context(sign_in: SignIn) -> Context:
    return Context(purpose=f"pkce verifier of {sign_in.id}", user=sign_in.user, provider=sign_in.provider, account=sign_in.account)


def _title(connector: Connector) -> str:
    return connector.title or connector.id
