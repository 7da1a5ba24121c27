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
from collections.abc import Awaitable, Callable
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
from oo_daemon.store import connections, credentials, flows, inbox, jobs, schedule
from oo_daemon.store.accept import Batch, Draft
from oo_daemon.store.connections import Connection, SignedIn
from oo_daemon.store.database import Database
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.flows import SignIn, Status
from oo_daemon.store.storage import Lane, Storage
from oo_sdk import (
    Connector,
    ConnectorBug,
    ConnectorError,
    Flow,
    Log,
    OAuth2,
    QuotaSpent,
    RetryLater,
    Session,
    SignInAgain,
    StoredCredential,
)
from oo_vault import (
    CREDENTIAL,
    ClientRefused,
    Context,
    Grant,
    GrantDead,
    Keyring,
    NotSent,
    Renewed,
    SignInNeeded,
    Unclear,
    VaultError,
)

#: Words of RFC 6749 section 4.1.2.1 and its kin by which a provider says that the person did not agree.
_DENIED = {"access_denied", "consent_required", "user_cancelled_authorize"}
_ENDED: frozenset[Literal["connected", "denied", "failed"]] = frozenset({"connected", "denied", "failed"})
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
    reason: str = ""  #: a sentence of ours, never the provider's words
    label: str = ""


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
    log: Log | None = None  #: what the operator learns of a sign-in that failed
    _under_way: set[asyncio.Future[None]] = field(default_factory=set, init=False, repr=False)

    async def open(
        self, provider: str, user: str, account: str = "default", registration: str | None = None, *, write: bool = False
    ) -> ConnectSession:
        """Open a sign-in and give its one-use link; with `write` it asks to change things, too. Raises `Declined`."""
        connector = self.registry.connectors.get(provider)
        if connector is None:
            raise Declined("unknown_provider", f"There is no connector {provider}.", "See `oo plugins` for those there are.")
        if connector.auth is None:
            raise Declined("no_sign_in", f"{_title(connector)} has nothing to sign in to.")
        for word, text in (("user", user), ("account", account)):
            if not _NAME.fullmatch(text):
                raise Declined(word, f"{text!r} is no name for a {word}.", "Use up to 128 letters, digits and . _ @ + : = -")
        scopes = tuple(scope.id for scope in connector.scopes if scope.required or (write and scope.access == "write"))
        if write and not any(scope.access == "write" for scope in connector.scopes):
            raise Declined("no_write", f"There is nothing that oO could change at {_title(connector)}.", "Connect without --write.")
        known = await self.storage.read(connections.of, user, provider, account)
        if known is not None and known.state == "erasing":
            raise _being_erased()
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
            scopes=scopes,
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
            ended = sign_in is None or sign_in.status in _ENDED or sign_in.expires_at <= self.clock.now()
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
        exchange = _Exchange(self, auth, client, sign_in, verifier)
        address = (await self.guests.run(connector.begin_oauth(exchange.flow(connector, state)))).url
        # The page has told the person, and the browser's form policy, where the button leads.
        bounds.check(address, [bounds.declared(auth.authorize)])
        begun = await self.storage.write(
            flows.begin,
            link_hash,
            now,
            state_hash=_hash(state),
            browser_hash=_hash(browser),
            verifier=self.keyring.wrap(verifier_place(sign_in), verifier.encode()),
            expires_at=now + int(self.flow_life * SECOND),
        )
        if not begun:
            raise LinkGone
        return address

    async def finish(self, *, registration: str, state: str, browser: str, code: str | None, error: str | None, iss: str | None) -> str:
        """Take a callback; gives the id under which this browser sees the outcome. Raises `FlowRefused`."""
        sign_in = await self.storage.write(flows.use_state, _hash(state), self.clock.now())
        if sign_in is None:
            raise FlowRefused
        try:
            connector, auth = self._connector(sign_in)
        except LinkGone:
            await self._end(sign_in, "failed", "The connector for this sign-in is no longer there.")
            raise FlowRefused from None
        if sign_in.registration != registration or not _is_browser_of(sign_in, browser):
            await self._end(sign_in, "failed", "The sign-in came back in another browser, or to another address.")
            raise FlowRefused
        if iss is not None and auth.issuer is not None and iss != auth.issuer:
            await self._end(sign_in, "failed", "The answer came from another provider.")
            raise FlowRefused
        title = _title(connector)
        if error in _DENIED:
            await self._end(sign_in, "denied", "")
        elif error is not None or not code:
            await self._end(sign_in, "failed", f"{title} could not finish the sign-in. Nothing was stored; please start again.")
        else:
            # Shielded: the state is spent and the code can be exchanged only once, so a browser that goes away must not undo it.
            work = asyncio.ensure_future(self._exchange(sign_in, connector, auth, code))
            self._under_way.add(work)
            work.add_done_callback(self._under_way.discard)
            await asyncio.shield(work)
        return sign_in.id

    async def outcome(self, outcome_id: str, browser: str) -> Outcome:
        """How a sign-in ended, for the browser that began it. Raises `FlowRefused`."""
        sign_in = await self.storage.read(flows.by_id, outcome_id)
        if sign_in is None or sign_in.status not in _ENDED or not _is_browser_of(sign_in, browser):
            raise FlowRefused
        connector = self.registry.connectors.get(sign_in.provider)
        connection = await self.storage.read(connections.by_id, sign_in.connection) if sign_in.connection else None
        return Outcome(
            status=sign_in.status,
            provider_title=_title(connector) if connector else sign_in.provider,
            reason=sign_in.reason,
            label=connection.label if connection else "",
        )

    async def tidy(self) -> None:
        """Forget sign-ins of the day before yesterday."""
        await self.storage.write(flows.drop_older, self.clock.now() - _REMEMBERED)

    async def settle(self) -> None:
        """Wait for the exchanges under way; for a stop that loses no credential."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _exchange(self, sign_in: SignIn, connector: Connector, auth: OAuth2, code: str) -> None:
        try:
            await self._keep(sign_in, connector, auth, code)
        except Exception as error:  # also a guest's own: the state is spent, and the sign-in must come to an end
            if self.log is not None:
                told = str(error) if isinstance(error, ConnectorError | Declined | VaultError | CannotStore) else ""
                self.log.warning("sign_in_failed", provider=sign_in.provider, error=type(error).__name__, reason=told)
            await self._end(sign_in, "failed", _reason(error, _title(connector)))

    async def _keep(self, sign_in: SignIn, connector: Connector, auth: OAuth2, code: str) -> None:
        client = await self.registrations.client(sign_in.registration)
        if sign_in.verifier is None:
            raise ConnectorBug("the sign-in has lost its verifier")
        verifier = self.keyring.unwrap(verifier_place(sign_in), sign_in.verifier).decode()
        exchange = _Exchange(self, auth, client, sign_in, verifier)
        stored = await self.guests.run(connector.finish_oauth(exchange.flow(connector), code))
        grant, now = exchange.given, self.clock.now()
        if grant is None:
            raise ConnectorBug(f"{connector.id} finished the sign-in without exchanging the code")
        if withheld := [scope.sentence for scope in connector.scopes if scope.required and scope.id not in stored.scopes]:
            raise Declined(
                "scopes",
                f"{_title(connector)} did not allow oO to do all that it needs ({' '.join(withheld)}) Nothing was stored.",
                "Please start again and leave every box ticked.",
            )
        new_id = self.chance.token_bytes(16).hex()

        def prepare(database: Database) -> Batch:
            known = connections.of(database, sign_in.user, sign_in.provider, sign_in.account)
            if known is not None and known.state == "erasing":
                raise _being_erased()
            if known is not None and known.provider_account and stored.account_id and known.provider_account != stored.account_id:
                raise Declined(
                    "another_account",
                    f"This is another account at {_title(connector)} than the one that was connected before.",
                    "Connect it under a name of its own.",
                )
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
            # Who signs in again while the old grant is being given back keeps the connection, and its new credential.
            jobs.fail(database, "revoke", connection.number, "the connection was signed in again before it was revoked", now)
            schedule.create(database, connection.number, now if connection.state == "active" else None)
            inbox.call_up(database, connection.provider)
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


class _Exchange:
    """The exchange of one code, and the authority of the session that its connector then has."""

    def __init__(self, service: Connect, auth: OAuth2, client: Client, sign_in: SignIn, verifier: str) -> None:
        self.given: Grant | None = None
        self._begun = False
        self._service = service
        self._auth = auth
        self._client = client
        self._sign_in = sign_in
        self._verifier = verifier

    def flow(self, connector: Connector, state: str = "") -> Flow:
        """The sign-in as its connector sees it."""

        async def exchange(code: str) -> StoredCredential:
            return await self.exchange(code)

        return _Flow(
            auth=self._auth,
            client_id=self._client.id,
            redirect_uri=self._sign_in.redirect_uri,
            state=state,
            challenge=_challenge(self._verifier) if self._auth.pkce else None,
            scopes=self._sign_in.scopes,
            http=SignedSession(
                connector=connector,
                client=self._client,
                authority=self,
                transport=self._service.transport,
                clock=self._service.clock,
            ),
            _exchange=exchange,
        )

    async def grant(self, *, force_after: int | None = None) -> Grant:
        """The grant that was just exchanged; it is not refreshed before it is kept."""
        if self.given is None:
            raise ConnectorBug("there is no credential before the code is exchanged: use sign=Sign.NOBODY")
        if force_after is not None:
            raise SignInNeeded("the provider refuses the credential it has just given")
        return self.given

    async def exchange(self, code: str) -> StoredCredential:
        """Exchange the code; the second call is refused, whatever became of the first."""
        if self._begun:
            raise ConnectorBug("a code is exchanged once only")
        self._begun = True
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._sign_in.redirect_uri}
        if self._auth.pkce:
            form["code_verifier"] = self._verifier
        now = self._service.clock.now()
        answer = await token_endpoint.ask(self._service.transport, self._auth, self._client.id, self._client.secrets, form, now=now)
        match answer:
            case Renewed():
                scopes = answer.scopes if answer.scopes is not None else self._sign_in.scopes
                self.given = Grant(
                    access_token=answer.access_token,
                    refresh_token=answer.refresh_token,
                    token_type=answer.token_type,
                    scopes=scopes,
                    expires_at=None if answer.expires_in is None else now + answer.expires_in * SECOND,
                    obtained_at=now,
                    extra=answer.extra,
                )
                return StoredCredential(
                    scopes=frozenset(scopes),
                    expires_in=answer.expires_in,
                    refreshable=answer.refresh_token is not None,
                    claims=dict(answer.extra),
                )
            case GrantDead(reason=reason):
                raise SignInAgain(f"the provider does not take the code ({reason})")
            case ClientRefused(reason=reason):
                raise _RegistrationRefused(f"the provider refuses our registration ({reason}): check its client id and client secret")
            case NotSent(reason=reason) | Unclear(reason=reason):
                raise RetryLater(f"the code was not exchanged: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flow(Flow):
    """The SDK's `Flow`. Nothing secret hangs on it but the state, which the connector writes into the address."""

    auth: OAuth2
    client_id: str
    redirect_uri: str
    state: str = field(repr=False)
    challenge: str | None
    scopes: tuple[str, ...]
    http: Session
    _exchange: Callable[[str], Awaitable[StoredCredential]] = field(repr=False)

    async def exchange(self, code: str) -> StoredCredential:
        """Exchange the code, once."""
        return await self._exchange(code)


class _RegistrationRefused(ConnectorBug):
    """The provider does not know our client, or not this secret."""


def _reason(error: Exception, title: str) -> str:
    """What a person reads where a sign-in failed: nothing of the provider's, and nothing that only an operator could understand."""
    match error:
        case Declined():
            return str(error)
        case SignInAgain():
            return f"{title} did not accept this sign-in. Nothing was stored; please start again."
        case RetryLater() | QuotaSpent():
            return f"{title} did not answer as it should. Nothing was stored; please start again in a while."
        case _RegistrationRefused():
            return (
                f"{title} does not know this server, or no longer. Nothing was stored; whoever runs it must check its registration there."
            )
        case _:
            return (
                "Something went wrong on our side. Nothing was stored; please start again, and tell whoever runs this server if it stays."
            )


def _challenge(verifier: str) -> str:
    """PKCE's S256 (RFC 7636 section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _is_browser_of(sign_in: SignIn, browser: str) -> bool:
    return bool(browser) and hmac.compare_digest(sign_in.browser_hash or b"", _hash(browser))


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def verifier_place(sign_in: SignIn) -> Context:
    """Where a sign-in's PKCE verifier is sealed for."""
    return Context(purpose=f"pkce verifier of {sign_in.id}", user=sign_in.user, provider=sign_in.provider, account=sign_in.account)


def _being_erased() -> Declined:
    return Declined("erasing", "This connection is being erased.", "Connect again once that is done: see `oo erasures`.")


def _title(connector: Connector) -> str:
    return connector.title or connector.id
