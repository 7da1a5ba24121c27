"""Connecting: from a one-use link to a sealed credential (RFC 6749, RFC 7636, RFC 9700).

A link opens only our page. The button there uses the link up, binds the flow to that browser by a cookie and sends it to the provider with
a one-use state. The callback uses the state up before anything else, and the code is exchanged once, never again. Then the person is shown
whose account it is: only a yes makes the connection. A grant that was refused, or that took another's place, is given back (`give_back`).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from oo_daemon.connections import bounds, kept, token_endpoint
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
from oo_daemon.store.flows import Found, Left, SignIn, Status
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

#: Sign-ins that may be opened for one user in a minute.
PER_USER = 60


class LinkGone(Exception):
    """The link is unknown, used or too old: one answer for all."""


class FlowRefused(Exception):
    """The callback does not belong to a sign-in of this browser: one answer for all reasons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One thing that a person is asked to allow."""

    id: str
    sentence: str  #: such as "See your tasks."
    access: Access
    optional: bool = False
    ticked: bool = True  #: unless the person says otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a person is asked to agree to."""

    provider_title: str
    user_label: str
    account: str
    scopes: tuple[Asked, ...]
    kept: tuple[str, ...]  #: what is stored and what for, in sentences
    provider_origin: str  #: where the button leads
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a sign-in ended, or what is still to be answered."""

    status: Literal["pending", "connected", "denied", "failed"]
    provider_title: str
    reason: str = ""  #: a sentence of ours, never the provider's words
    label: str = ""  #: how the person knows the account
    user_label: str = ""
    replaces: str = ""  #: how the person knows the other account that the connection has now, which this one would replace
    withheld: tuple[str, ...] = ()  #: sentences of what was asked for and not allowed
    return_to: str = ""


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
    return_to: frozenset[str] = frozenset()  #: the only addresses that an outcome page may lead to
    pushes_kept: float = 7 * 86_400.0  #: seconds for which the body of a webhook is kept
    log: Log | None = None  #: what the operator learns of a sign-in that failed
    _under_way: set[asyncio.Future[None]] = field(default_factory=set, init=False, repr=False)

    async def open(
        self,
        provider: str,
        user: str,
        account: str = "default",
        registration: str | None = None,
        *,
        write: bool = False,
        also: Collection[str] = (),
        return_to: str = "",
    ) -> ConnectSession:
        """Open a sign-in and give its one-use link. Raises `Declined`.

        It asks for what the connector needs, for what the person has allowed before, and for the scopes that are named in `also`; with
        `write` for everything that may be changed.
        """
        connector = self.registry.connectors.get(provider)
        if connector is None:
            raise Declined("unknown_provider", f"There is no connector {provider}.", "See `oo plugins` for those there are.")
        if connector.auth is None:
            raise Declined("no_sign_in", f"{_title(connector)} has nothing to sign in to.")
        for word, text in (("user", user), ("account", account)):
            if not _NAME.fullmatch(text):
                raise Declined(word, f"{text!r} is no name for a {word}.", "Use up to 128 letters, digits and . _ @ + : = -")
        if unknown := sorted(set(also) - {scope.id for scope in connector.scopes}):
            raise Declined(
                "unknown_scope", f"{_title(connector)} has no scope {unknown[0]}.", "See `oo plugins --json` for those there are."
            )
        if write and not any(scope.access == "write" for scope in connector.scopes):
            raise Declined("no_write", f"There is nothing that oO could change at {_title(connector)}.", "Connect without --write.")
        known = await self.storage.read(connections.of, user, provider, account)
        if known is not None and known.state == "erasing":
            raise _being_erased()
        before = known.scopes if known is not None and known.state in {"active", "paused", "needs_sign_in"} else ()
        scopes = tuple(
            scope.id
            for scope in connector.scopes
            if scope.required or scope.id in also or scope.id in before or (write and scope.access == "write")
        )
        if return_to and return_to not in self.return_to:
            raise Declined("return_to", "That return address is not on the list.", "Add it to oauth.return_to, exactly as it is sent.")
        found = await self.registrations.find(provider, registration)
        link, now = self._token(), self.clock.now()
        if await self.storage.read(flows.opened_since, user, now - 60 * SECOND) >= PER_USER:
            raise Declined("too_many", "Too many links were made for this user.", "Wait a minute.")
        sign_in = SignIn(
            id=self.chance.token_bytes(16).hex(),
            registration=found.id,
            provider=provider,
            user=user,
            account=account,
            sealed=None,
            redirect_uri=self.registrations.redirect_uri(found.id),
            scopes=scopes,
            asked=(),
            return_to=return_to,
            found=None,
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
        return Offer(
            provider_title=_title(connector),
            user_label=sign_in.user,
            account=sign_in.account,
            scopes=_offered(connector, sign_in),
            kept=kept.sentences(connector, self.pushes_kept),
            provider_origin=bounds.origin(auth.authorize),
            expires_at=moment(sign_in.expires_at),
        )

    async def begin(self, link: str, browser: str, ticked: Collection[str] | None = None) -> str:
        """Use the link up, bind the flow to the browser, and give the provider's address. Raises `LinkGone`.

        `ticked` are the optional scopes that the person allows; None: those that the page has ticked by itself.
        """
        now, link_hash = self.clock.now(), _hash(link)
        sign_in = await self.storage.read(flows.by_link, link_hash, now)
        if sign_in is None:
            raise LinkGone
        connector, auth = self._connector(sign_in)
        client = await self.registrations.client(sign_in.registration)
        state, verifier = self._token(), self._token()
        offered = _offered(connector, sign_in)
        asked = tuple(each.id for each in offered if not each.optional or (each.ticked if ticked is None else each.id in ticked))
        sign_in = replace(sign_in, asked=asked)
        exchange = _Exchange(self, auth, client, sign_in, verifier)
        address = (await self.guests.run(connector.begin_oauth(exchange.flow(connector, state)), of=connector)).url
        # The page has told the person, and the browser's form policy, where the button leads.
        bounds.check(address, [bounds.declared(auth.authorize)])
        begun = await self.storage.write(
            flows.begin,
            link_hash,
            now,
            state_hash=_hash(state),
            browser_hash=_hash(browser),
            verifier=self.keyring.wrap(verifier_place(sign_in), verifier.encode()),
            asked=asked,
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
        if auth.issuer is not None and iss != auth.issuer and (iss is not None or auth.issuer_sent):
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
        sign_in = await self._of_browser(outcome_id, browser)
        connector = self.registry.connectors.get(sign_in.provider)
        title = _title(connector) if connector else sign_in.provider
        if sign_in.status == "pending":
            if sign_in.found is None or sign_in.expires_at <= self.clock.now():
                reason = "The account was not confirmed in time, so nothing was connected."
                return Outcome(status="failed", provider_title=title, reason=reason, return_to=sign_in.return_to)
            known = await self.storage.read(connections.of, sign_in.user, sign_in.provider, sign_in.account)
            other = known is not None and _differ(known, sign_in.found)
            return Outcome(
                status="pending",
                provider_title=title,
                label=sign_in.found.label or sign_in.found.account_id,
                user_label=sign_in.user,
                replaces=(known.label or known.provider_account) if known is not None and other else "",
                withheld=_withheld(connector, sign_in.asked, sign_in.found.scopes),
                return_to=sign_in.return_to,
            )
        if sign_in.status not in _ENDED:
            raise FlowRefused
        connection = await self.storage.read(connections.by_id, sign_in.connection) if sign_in.connection else None
        return Outcome(
            status=sign_in.status,
            provider_title=title,
            reason=sign_in.reason,
            label=connection.label if connection else "",
            user_label=sign_in.user,
            withheld=_withheld(connector, sign_in.asked, connection.scopes) if connection else (),
            return_to=sign_in.return_to,
        )

    async def confirm(self, outcome_id: str, browser: str) -> None:
        """Make the connection: it is the right account. Nothing where that was answered before. Raises `FlowRefused`."""
        sign_in = await self._of_browser(outcome_id, browser)
        if sign_in.status in _ENDED:
            return
        if sign_in.status != "pending" or sign_in.sealed is None or sign_in.found is None:
            raise FlowRefused
        grant = Grant.unpack(self.keyring.open(grant_place(sign_in), sign_in.sealed))
        new_id = self.chance.token_bytes(16).hex()
        prepare = self._made(sign_in, sign_in.found, grant, new_id, self.clock.now())
        try:
            await self.storage.accept(prepare, Lane.INGEST)
        except Declined as declined:
            await self.storage.write(flows.end, sign_in.id, "failed", str(declined), None, left=(sign_in.sealed, sign_in.found))

    async def decline(self, outcome_id: str, browser: str) -> None:
        """Make no connection: it is the wrong account. Nothing where that was answered before. Raises `FlowRefused`."""
        sign_in = await self._of_browser(outcome_id, browser)
        if sign_in.status in _ENDED:
            return
        if sign_in.status != "pending" or sign_in.sealed is None or sign_in.found is None:
            raise FlowRefused
        await self.storage.write(_declined, sign_in.id, (sign_in.sealed, sign_in.found), self.clock.now())

    async def _of_browser(self, id_: str, browser: str) -> SignIn:
        """The sign-in, for the browser that began it. Raises `FlowRefused`."""
        sign_in = await self.storage.read(flows.by_id, id_)
        if sign_in is None or not _is_browser_of(sign_in, browser):
            raise FlowRefused
        return sign_in

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
        if sign_in.sealed is None:
            raise ConnectorBug("the sign-in has lost its verifier")
        verifier = self.keyring.unwrap(verifier_place(sign_in), sign_in.sealed).decode()
        exchange = _Exchange(self, auth, client, sign_in, verifier)
        stored = await self.guests.run(connector.finish_oauth(exchange.flow(connector), code), of=connector)
        grant, now = exchange.given, self.clock.now()
        if grant is None:
            raise ConnectorBug(f"{connector.id} finished the sign-in without exchanging the code")
        found = Found(account_id=stored.account_id, label=stored.label, scopes=tuple(sorted(stored.scopes)), meta=dict(stored.meta))
        sealed = self.keyring.seal(grant_place(sign_in), grant.pack())
        if (more := set(grant.scopes) - set(sign_in.asked)) and self.log is not None:
            self.log.warning("more_scopes_than_asked", provider=sign_in.provider, more=len(more))
        if withheld := [scope.sentence for scope in connector.scopes if scope.required and scope.id not in stored.scopes]:
            reason = (
                f"{_title(connector)} did not allow oO to do all that it needs ({' '.join(withheld)}) Nothing was stored. "
                "Please start again and leave every box ticked."
            )
            await self.storage.write(flows.end, sign_in.id, "failed", reason, None, left=(sealed, found))
            return
        await self.storage.write(flows.hold, sign_in.id, sealed, found, now + int(self.flow_life * SECOND))

    def _made(self, sign_in: SignIn, found: Found, grant: Grant, new_id: str, now: int) -> Callable[[Database], Batch]:
        """The transaction that makes the connection, or gives the one there is its new credential."""

        def prepare(database: Database) -> Batch:
            if flows.answer(database, sign_in.id, now) is None:
                raise FlowRefused
            known = connections.of(database, sign_in.user, sign_in.provider, sign_in.account)
            if known is not None and known.state == "erasing":
                raise _being_erased()
            left = None
            if known is not None and _differ(known, found):
                left = self._left(database, known, sign_in)
                schedule.begin_anew(database, known.number)
            connection = connections.put(
                database,
                SignedIn(
                    id=new_id,
                    user=sign_in.user,
                    provider=sign_in.provider,
                    account=sign_in.account,
                    registration=sign_in.registration,
                    provider_account=found.account_id,
                    label=found.label,
                    scopes=found.scopes,
                    meta=found.meta,
                ),
                now,
            )
            self._put_credential(database, connection, grant)
            # Who signs in again while the old grant is being given back keeps the connection, and its new credential.
            jobs.fail(database, "revoke", connection.number, "the connection was signed in again before it was revoked", now)
            schedule.create(database, connection.number, now if connection.state == "active" else None)
            inbox.call_up(database, connection.provider)
            flows.end(database, sign_in.id, "connected", "", connection.id, left=left)
            what = "connected" if connection.version == 1 else "recovered"
            return Batch(connection=connection, observed_at=now, drafts=[self.connection_event(connection, what, now)])

        return prepare

    def _left(self, database: Database, known: Connection, sign_in: SignIn) -> Left | None:
        """The grant of another account, whose place is taken: it is to be given back."""
        try:
            old = credentials.read(database, known.id).open(self.keyring)
        except VaultError:
            return None  # there is none, or it cannot be read, and so not given back either
        found = Found(account_id=known.provider_account, label=known.label, scopes=known.scopes, meta=dict(known.meta))
        return self.keyring.seal(grant_place(sign_in), old.pack()), found

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
            scopes=self._sign_in.asked,
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
                scopes = answer.scopes if answer.scopes is not None else self._sign_in.asked
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


def grant_place(sign_in: SignIn) -> Context:
    """Where a grant that no connection has is sealed for."""
    return Context(purpose=f"grant of {sign_in.id}", user=sign_in.user, provider=sign_in.provider, account=sign_in.account)


def _declined(database: Database, id_: str, left: Left, now: int) -> None:
    if flows.answer(database, id_, now) is not None:
        flows.end(database, id_, "denied", "You said that it is not the right account.", left=left)


def _offered(connector: Connector, sign_in: SignIn) -> tuple[Asked, ...]:
    """What the page asks for: what the link was made for, and what may be read besides, if the person likes."""
    return tuple(
        Asked(
            id=scope.id,
            sentence=scope.sentence,
            access=scope.access,
            optional=not scope.required,
            ticked=scope.id in sign_in.scopes,
        )
        for scope in connector.scopes
        if scope.id in sign_in.scopes or (scope.access == "read" and not scope.required)
    )


def _withheld(connector: Connector | None, asked: Collection[str], given: Collection[str]) -> tuple[str, ...]:
    """Sentences of what was asked for and not allowed."""
    scopes = connector.scopes if connector else ()
    return tuple(scope.sentence for scope in scopes if scope.id in asked and scope.id not in given)


def _differ(known: Connection, found: Found) -> bool:
    """Whether the connection is to another account; where a connector cannot name accounts, nobody knows."""
    return bool(known.provider_account and found.account_id and known.provider_account != found.account_id)


def _title(connector: Connector) -> str:
    return connector.title or connector.id
