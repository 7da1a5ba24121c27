"""Connecting: from a one-use link to a sealed credential (RFC 6749, RFC 7636, RFC 9700), or to a sealed key.

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
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, TypeVar

import msgspec

from oo_daemon.connections import bounds, device, kept, metadata, signing
from oo_daemon.connections.errors import Declined
from oo_daemon.connections.exchange import Entered, Exchange, Held, RegistrationRefused
from oo_daemon.connections.metadata import Published
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
from oo_daemon.store.storage import Lane, P, Query, Storage
from oo_sdk import (
    ApiKey,
    Connector,
    ConnectorBug,
    ConnectorError,
    KeyField,
    Log,
    OAuth2,
    QuotaSpent,
    RetryLater,
    SignInAgain,
)
from oo_vault import (
    CREDENTIAL,
    ClientRefused,
    Context,
    Grant,
    Keyring,
    Renewed,
    VaultError,
)

T = TypeVar("T")

#: Words of RFC 6749 section 4.1.2.1 and its kin by which a provider says that the person did not agree.
_DENIED = {"access_denied", "consent_required", "user_cancelled_authorize"}
_ENDED: frozenset[Literal["connected", "denied", "failed"]] = frozenset({"connected", "denied", "failed"})
#: A name of a user or of an account.
NAME = re.compile(r"[\w.@+:=-]{1,128}")
#: Seconds for what a connector does in a sign-in, or when a grant is given back: mostly a person waits.
WITHIN = 60.0
#: How long a question of the device flow may take before another process asks.
_POLL_LEASE = 60 * SECOND
#: Seconds between the tries to keep a grant that was just given.
_AGAIN = (1.0, 2.0, 4.0)
#: Seconds for which a person waits for another process to finish a sign-in, and after which it is looked again.
_HANDED, _LOOK = 20.0, 0.1
_UNFIT = "This does not look whole. Copy it again, without anything before or after it."
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


class ProofNeeded(Exception):
    """The person must prove first who they are."""


class NotTheirs(Exception):
    """Who has proved who they are is not the one that the link was made for."""


class NotNow(Exception):
    """The sign-in cannot be begun just now; the link stays good. A sentence for the person."""


class KeyNotTaken(Exception):
    """What was entered is not accepted; the person may correct it. `told` are sentences, by the fields' ids; "" is about the whole."""

    def __init__(self, told: Mapping[str, str]) -> None:
        super().__init__("the key is not accepted")
        self.told = told


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a person is asked to allow."""

    id: str
    sentence: str  #: such as "See your tasks."
    access: Access
    optional: bool = False
    ticked: bool = True  #: unless the person says otherwise


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What a person is asked to agree to."""

    provider_title: str
    user_label: str
    account: str
    scopes: tuple[Asked, ...]
    kept: tuple[str, ...]  #: what is stored and what for, in sentences
    provider_origin: str  #: where the button leads; empty where a key is entered on our page
    expires_at: datetime
    fields: tuple[KeyField, ...] = ()  #: of the key
    by_code: bool = False  #: the button gives a code that the person enters at the provider
    proof_needed: bool = False  #: before anything, the person must prove who they are
    manual_revocation: str = ""  #: where the person deletes it


class CodeToEnter(msgspec.Struct, frozen=True, kw_only=True):
    """What the person enters at the provider, and where."""

    user_code: str
    address: str
    complete: str  #: the address with the code in it; may be empty
    expires_at: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a sign-in ended, or what is still to be answered."""

    status: Literal["waiting", "pending", "connected", "denied", "failed"]
    provider_title: str
    reason: str = ""  #: a sentence of ours, never the provider's words
    label: str = ""  #: how the person knows the account
    user_label: str = ""
    replaces: str = ""  #: how the person knows the other account that the connection has now, which this one would replace
    withheld: tuple[str, ...] = ()  #: sentences of what was asked for and not allowed
    return_to: str = ""
    by_key: bool = False  #: no sign-in at the provider, but a key
    code: CodeToEnter | None = None  #: while it is waited for


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
    proofs: frozenset[str] = frozenset()  #: the ways in which a person may prove who they are; none: nobody has to
    published: Published | None = None  #: what providers say of themselves
    return_to: frozenset[str] = frozenset()  #: the only addresses that an outcome page may lead to
    pushes_kept: float = 7 * 86_400.0  #: seconds for which the body of a webhook is kept
    log: Log | None = None  #: what the operator learns of a sign-in that failed
    #: For an ingress process, which cannot open a grant that it holds: tells those who can that somebody has confirmed an account.
    handed: Callable[[], None] | None = None
    _under_way: set[asyncio.Future[None]] = field(default_factory=set, init=False, repr=False)
    _unpolled: set[int] = field(default_factory=set, init=False, repr=False)  #: until when polls were claimed of which nothing is stored

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
        by_code: bool = False,
    ) -> ConnectSession:
        """Open a sign-in and give its one-use link. Raises `Declined`.

        It asks for what the connector needs, for what the person has allowed before, and for the scopes that are named in `also`; with
        `write` for everything that may be changed. With `by_code` the person enters a code at the provider.
        """
        connector = self.registry.connectors.get(provider)
        if connector is None:
            raise Declined("unknown_provider", f"There is no connector {provider}.", "See `oo plugins` for those there are.")
        if connector.auth is None:
            raise Declined("no_sign_in", f"{_title(connector)} has nothing to sign in to.")
        if by_code and not (isinstance(connector.auth, OAuth2) and connector.auth.device):
            raise Declined("no_device", f"{_title(connector)} gives no codes to enter elsewhere.", "Connect by the link alone.")
        for word, text in (("user", user), ("account", account)):
            if not NAME.fullmatch(text):
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
        found = None if isinstance(connector.auth, ApiKey) else await self.registrations.find(provider, registration)
        link, now = self._token(), self.clock.now()
        if await self.storage.read(flows.opened_since, user, now - 60 * SECOND) >= PER_USER:
            raise Declined("too_many", "Too many links were made for this user.", "Wait a minute.")
        sign_in = SignIn(
            id=self.chance.token_bytes(16).hex(),
            registration=found.id if found else None,
            provider=provider,
            user=user,
            account=account,
            sealed=None,
            redirect_uri=self.registrations.redirect_uri(found.id) if found else "",
            scopes=scopes,
            asked=(),
            return_to=return_to,
            found=None,
            status="open",
            reason="",
            connection=None,
            browser_hash=None,
            device=by_code,
            created_at=now,
            expires_at=now + int(self.link_life * SECOND),
        )
        await self.storage.write(flows.open_, sign_in, _hash(link))
        return ConnectSession(id=sign_in.id, link=link, url=f"{self.public_url}/connect/{link}", expires_at=sign_in.expires_at)

    async def status(self, id_: str, wait: float) -> SignIn | None:
        """How a sign-in stands; waits up to `wait` seconds for its end, or until the caller is to answer. None: unknown."""
        deadline = self.clock.monotonic() + wait
        while True:
            sign_in = await self.storage.read(flows.by_id, id_)
            ended = sign_in is None or sign_in.status in _ENDED or sign_in.expires_at <= self.clock.now()
            to_answer = sign_in is not None and sign_in.status == "pending" and sign_in.device and sign_in.browser_hash is None
            left = deadline - self.clock.monotonic()
            if ended or to_answer or left <= 0:
                return sign_in
            await self.clock.sleep(min(0.2, left))

    async def offer(self, link: str, browser: str = "") -> Offer:
        """What the page behind a link shows. Using the link up takes the button. Raises `LinkGone`."""
        sign_in = await self.storage.read(flows.by_link, _hash(link), self.clock.now())
        if sign_in is None or (sign_in.proved and not _is_browser_of(sign_in, browser)):
            raise LinkGone
        connector = self._known(sign_in)
        by_key = isinstance(connector.auth, ApiKey)
        return Offer(
            provider_title=_title(connector),
            user_label=sign_in.user,
            account=sign_in.account,
            scopes=_offered(connector, sign_in),
            kept=kept.sentences(connector, self.pushes_kept),
            provider_origin=bounds.origin(connector.auth.authorize) if isinstance(connector.auth, OAuth2) else "",
            expires_at=moment(sign_in.expires_at),
            fields=tuple(connector.auth.fields) if isinstance(connector.auth, ApiKey) else (),
            manual_revocation=connector.manual_revocation if by_key else "",
            by_code=sign_in.device,
            proof_needed=self._lacks_proof(sign_in, browser),
        )

    async def prove(self, link: str, browser: str, how: str, user: str, session: str | None = None) -> None:
        """The person in this browser is this user: somebody vouches for that. Raises `LinkGone` and `NotTheirs`."""
        sign_in = await self.storage.read(flows.by_link, _hash(link), self.clock.now())
        if sign_in is None or how not in self.proofs:
            raise LinkGone
        if not hmac.compare_digest(sign_in.user.encode(), user.encode()) or session not in (None, sign_in.id):
            raise NotTheirs
        if not await self.storage.write(flows.prove, _hash(link), self.clock.now(), browser_hash=_hash(browser), how=how):
            raise LinkGone

    def _lacks_proof(self, sign_in: SignIn, browser: str) -> bool:
        return bool(self.proofs) and not (sign_in.proved and _is_browser_of(sign_in, browser))

    async def begin(self, link: str, browser: str, ticked: Collection[str] | None = None) -> str:
        """Use the link up, bind the flow to the browser, and give the provider's address. Raises `LinkGone`, `ProofNeeded`, `NotNow`.

        `ticked` are the optional scopes that the person allows; None: those that the page has ticked by itself.
        """
        now, link_hash = self.clock.now(), _hash(link)
        sign_in = await self.storage.read(flows.by_link, link_hash, now)
        if sign_in is None:
            raise LinkGone
        if self._lacks_proof(sign_in, browser):
            raise ProofNeeded
        connector, auth = self._connector(sign_in)
        if sign_in.device:
            raise LinkGone
        await self._hold_against_metadata(connector, auth)
        client = await self._client(sign_in)
        state, verifier = self._token(), self._token()
        asked = _allowed(connector, sign_in, ticked)
        sign_in = replace(sign_in, asked=asked)
        exchange = Exchange(self.transport, self.clock, auth, client, sign_in, verifier)
        try:
            address = (await self._ask(connector, connector.begin_oauth(exchange.flow(connector, state)))).url
        except RetryLater:
            raise NotNow(f"{_title(connector)} did not answer as it should. Try again in a while.") from None
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

    async def begin_device(self, link: str, browser: str, ticked: Collection[str] | None = None) -> str:
        """Use the link up and get a code for the person; gives the id under which this browser sees it. Raises `LinkGone`, `ProofNeeded`.

        Raises `NotNow` where the provider gives none: the link stays good.
        """
        sign_in = await self.storage.read(flows.by_link, _hash(link), self.clock.now())
        if sign_in is None or not sign_in.device:
            raise LinkGone
        if self._lacks_proof(sign_in, browser):
            raise ProofNeeded
        await self._get_code(sign_in, _hash(browser), ticked)
        return sign_in.id

    async def code(self, id_: str) -> CodeToEnter:
        """Get a code for whoever opened the sign-in, who shows it and later answers for the account. Raises `Declined`."""
        sign_in = await self.storage.read(flows.by_id, id_)
        if sign_in is None or not sign_in.device:
            raise Declined("not_found", "There is no such connect session that goes by a code.", "Open one with device: true.")
        try:
            return await self._get_code(sign_in, None, None)
        except LinkGone:
            raise Declined("not_awaited", "That connect session was begun before, or is too old.", "Open a new one.") from None
        except NotNow as none:
            raise Declined("provider", str(none)) from None

    async def _get_code(self, sign_in: SignIn, browser_hash: bytes | None, ticked: Collection[str] | None) -> CodeToEnter:
        connector, auth = self._connector(sign_in)
        asked = _allowed(connector, sign_in, ticked)
        await self._hold_against_metadata(connector, auth)
        client = await self._client(sign_in)
        try:
            code, life = await self.guests.run(device.begin(self.transport, auth, client, asked))
        except ConnectorError as error:
            if self.log is not None:
                self.log.warning("sign_in_failed", provider=sign_in.provider, error=type(error).__name__, reason=str(error))
            raise NotNow(f"{_title(connector)} did not answer as it should. Try again in a while.") from None
        now = self.clock.now()
        expires_at = now + int(life * SECOND)
        begun = await self.storage.write(
            flows.begin_device,
            sign_in.id,
            now,
            browser_hash=browser_hash,
            code=self.keyring.wrap(verifier_place(sign_in), msgspec.json.encode(code)),
            asked=asked,
            poll_at=now + int(code.interval * SECOND),
            expires_at=expires_at,
        )
        if not begun:
            raise LinkGone
        return CodeToEnter(user_code=code.user_code, address=code.address, complete=code.complete, expires_at=expires_at)

    async def poll(self) -> None:
        """Ask the providers of those who have a code whether they have entered it, each as often as it may be asked."""
        now = self.clock.now()
        for until in [*self._unpolled]:
            await self.storage.write(flows.poll_sooner, until, now + int(device.INTERVAL * SECOND))
            self._unpolled.discard(until)
        until = now + _POLL_LEASE
        try:
            claimed = await self.storage.write(flows.to_poll, now, until)
            polled = await asyncio.gather(*(self._poll(sign_in) for sign_in in claimed), return_exceptions=True)
            if faults := [*filter(None, polled)]:
                raise min(faults, key=lambda fault: not isinstance(fault, CannotStore))  # one of the storage's before any other
        except CannotStore:
            self._unpolled.add(until)
            raise

    async def _poll(self, sign_in: SignIn) -> None:
        try:
            connector, auth = self._connector(sign_in)
            client, code = await self._client(sign_in), self._code(sign_in)
            now = self.clock.now()
            answer = await self.guests.run(device.ask(self.transport, auth, client, code, now=now))
        except (LinkGone, Declined, VaultError):
            await self._end(sign_in, "failed", "The connector for this sign-in is no longer there.")
            return
        match answer:
            case device.Waits(code=again):
                sealed = self.keyring.wrap(verifier_place(sign_in), msgspec.json.encode(again))
                await self.storage.write(flows.poll_again, sign_in.id, sealed, self.clock.now() + int(again.interval * SECOND))
            case device.Ended(denied=True):
                await self._end(sign_in, "denied", "")
            case Renewed():
                await self._exchange(sign_in, connector, auth, "", answered=answer)
            case ClientRefused():
                await self._end(sign_in, "failed", _reason(RegistrationRefused(), _title(connector)))
            case _:
                await self._end(sign_in, "failed", "The code was not entered in time. Nothing was stored.")

    def _code(self, sign_in: SignIn) -> device.Code:
        """Raises `LinkGone`."""
        if sign_in.sealed is None:
            raise LinkGone
        try:
            return msgspec.json.decode(self.keyring.unwrap(verifier_place(sign_in), sign_in.sealed), type=device.Code)
        except msgspec.MsgspecError:
            raise LinkGone from None

    async def enter(self, link: str, browser: str, values: Mapping[str, str], ticked: Collection[str] | None = None) -> str:
        """Take a key, once the provider has accepted it; gives the id under which this browser sees the outcome.

        Raises `LinkGone` and `ProofNeeded`, and `KeyNotTaken` for what can be corrected: the link stays this browser's then.
        """
        now, link_hash = self.clock.now(), _hash(link)
        sign_in = await self.storage.read(flows.by_link, link_hash, now)
        if sign_in is None:
            raise LinkGone
        if self._lacks_proof(sign_in, browser):
            raise ProofNeeded
        connector = self._known(sign_in)
        if not isinstance(connector.auth, ApiKey):
            raise LinkGone
        asked = _allowed(connector, sign_in, ticked)
        expires_at = now + int(self.flow_life * SECOND)
        if not await self.storage.write(flows.enter, link_hash, now, browser_hash=_hash(browser), asked=asked, expires_at=expires_at):
            raise LinkGone
        values = {each.id: values.get(each.id, "").strip() for each in connector.auth.fields}
        if told := {each.id: _UNFIT for each in connector.auth.fields if signing.unfit(each, connector.auth, values[each.id])}:
            raise KeyNotTaken(told)
        grant = signing.key_grant(values, asked, now)
        entered = Entered(
            auth=connector.auth,
            told={each.id: values[each.id] for each in connector.auth.fields if not each.secret},
            scopes=asked,
            http=SignedSession(connector=connector, client=None, authority=Held(grant), transport=self.transport, clock=self.clock),
        )
        try:
            stored = await self._ask(connector, connector.accept_key(entered))
        except Exception as error:
            raise KeyNotTaken({"": self._why_not(error, connector)}) from None
        used = await self.storage.write(flows.use_link, link_hash, self.clock.now())
        if used is not None:
            found = Found(account_id=stored.account_id, label=stored.label, scopes=tuple(sorted(stored.scopes)), meta=dict(stored.meta))
            sealed = self.keyring.seal(grant_place(used), grant.pack())
            await self.storage.write(flows.hold, used.id, sealed, found, self.clock.now() + int(self.flow_life * SECOND))
        return sign_in.id

    def _why_not(self, error: Exception, connector: Connector) -> str:
        """What a person reads of a key that was not accepted."""
        title = _title(connector)
        match error:
            case SignInAgain():
                return f"{title} does not accept this key. Compare it with the one there, or make a new one."
            case RetryLater() | QuotaSpent():
                return f"{title} did not answer as it should, so the key could not be checked. Try again in a while."
        if self.log is not None:
            told = str(error) if isinstance(error, ConnectorError) else ""
            self.log.warning("sign_in_failed", provider=connector.id, error=type(error).__name__, reason=told)
        return "The key could not be checked, by a fault on our side. Nothing was stored; tell whoever runs this server if it stays."

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
        if auth.issuer is not None and iss != auth.issuer and (iss is not None or await self._sends_issuer(auth)):
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
        by_key = connector is not None and isinstance(connector.auth, ApiKey)
        if sign_in.status in {"pending", "confirmed"}:
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
                by_key=by_key,
            )
        if sign_in.device and sign_in.status in {"begun", "exchanging"}:
            if sign_in.expires_at <= self.clock.now():
                return Outcome(
                    status="failed", provider_title=title, reason="The code was not entered in time.", return_to=sign_in.return_to
                )
            code = self._code(sign_in)
            shown = CodeToEnter(user_code=code.user_code, address=code.address, complete=code.complete, expires_at=sign_in.expires_at)
            return Outcome(status="waiting", provider_title=title, user_label=sign_in.user, code=shown, return_to=sign_in.return_to)
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
            by_key=by_key,
        )

    async def confirm(self, outcome_id: str, browser: str) -> None:
        """Make the connection: it is the right account. Nothing where that was answered before. Raises `FlowRefused`."""
        sign_in = await self._of_browser(outcome_id, browser)
        if sign_in.status not in _ENDED:
            await self._confirmed(sign_in)

    async def _confirmed(self, sign_in: SignIn) -> None:
        if sign_in.status not in {"pending", "confirmed"} or sign_in.sealed is None or sign_in.found is None:
            raise FlowRefused
        if self.handed is not None:
            await self._hand_over(sign_in, self.handed)
            return
        grant = Grant.unpack(self.keyring.open(grant_place(sign_in), sign_in.sealed))
        new_id = self.chance.token_bytes(16).hex()
        prepare = self._made(sign_in, sign_in.found, grant, new_id, self.clock.now())
        try:
            await self.storage.accept(prepare, Lane.INGEST)
        except Declined as declined:
            await self.storage.write(flows.end, sign_in.id, "failed", str(declined), None, left=(sign_in.sealed, sign_in.found))

    async def _hand_over(self, sign_in: SignIn, handed: Callable[[], None]) -> None:
        """Have a daemon finish it that can open the grant, and wait for that a while. Raises `FlowRefused`."""
        if not await self.storage.write(flows.confirm, sign_in.id, self.clock.now()) and sign_in.status != "confirmed":
            raise FlowRefused
        handed()
        deadline = self.clock.monotonic() + _HANDED
        while self.clock.monotonic() < deadline:
            now = await self.storage.read(flows.by_id, sign_in.id)
            if now is None or now.status in _ENDED:
                return
            await self.clock.sleep(_LOOK)

    async def finish_confirmed(self) -> None:
        """Finish what people have confirmed where the grant could not be opened."""
        for sign_in in await self.storage.read(flows.confirmed, self.clock.now()):
            with suppress(FlowRefused):  # another daemon has just done so
                await self._confirmed(sign_in)

    async def decline(self, outcome_id: str, browser: str) -> None:
        """Make no connection: it is the wrong account. Nothing where that was answered before. Raises `FlowRefused`."""
        sign_in = await self._of_browser(outcome_id, browser)
        if sign_in.status not in _ENDED:
            await self._declined(sign_in)

    async def _declined(self, sign_in: SignIn) -> None:
        if sign_in.status != "pending" or sign_in.sealed is None or sign_in.found is None:
            raise FlowRefused
        await self.storage.write(_declined, sign_in.id, (sign_in.sealed, sign_in.found), self.clock.now())

    async def answer(self, id_: str, right: bool) -> None:
        """Say whether it is the right account, for a sign-in that no browser has begun. Raises `Declined`."""
        sign_in = await self.storage.read(flows.by_id, id_)
        if sign_in is None or not sign_in.device or sign_in.browser_hash is not None:
            raise Declined("not_found", "There is no such connect session that you could answer for.", "The person answers on the page.")
        if sign_in.status in _ENDED:
            return
        if sign_in.status != "pending":
            raise Declined("not_awaited", "There is nothing to be answered yet.", "Wait until its status is pending.")
        try:
            await (self._confirmed(sign_in) if right else self._declined(sign_in))
        except FlowRefused:
            raise Declined("not_awaited", "It was answered before, or too late.", "Look at how it stands.") from None

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

    async def _ask(self, connector: Connector, work: Coroutine[Any, Any, T]) -> T:
        """What a connector does in a sign-in, in its time. Raises `RetryLater` when that is over."""
        try:
            async with asyncio.timeout(WITHIN):
                return await self.guests.run(work, of=connector)
        except TimeoutError:
            raise RetryLater(f"it took longer than {WITHIN:.0f} s") from None

    async def _exchange(self, sign_in: SignIn, connector: Connector, auth: OAuth2, code: str, *, answered: Renewed | None = None) -> None:
        try:
            await self._keep(sign_in, connector, auth, code, answered)
        except Exception as error:  # also a guest's own: the state is spent, and the sign-in must come to an end
            if self.log is not None:
                told = str(error) if isinstance(error, ConnectorError | Declined | VaultError | CannotStore) else ""
                self.log.warning("sign_in_failed", provider=sign_in.provider, error=type(error).__name__, reason=told)
            await self._end(sign_in, "failed", _reason(error, _title(connector)))

    async def _keep(self, sign_in: SignIn, connector: Connector, auth: OAuth2, code: str, answered: Renewed | None) -> None:
        client = await self._client(sign_in)
        if sign_in.sealed is None:
            raise ConnectorBug("the sign-in has lost its verifier")
        verifier = "" if answered else self.keyring.unwrap(verifier_place(sign_in), sign_in.sealed).decode()
        exchange = Exchange(self.transport, self.clock, auth, client, sign_in, verifier, answered)
        stored = await self._ask(connector, connector.finish_oauth(exchange.flow(connector), code))
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
            await self._surely(flows.end, sign_in.id, "failed", reason, None, left=(sealed, found))
            return
        await self._surely(flows.hold, sign_in.id, sealed, found, now + int(self.flow_life * SECOND))

    async def _surely(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Write a grant that exists only here, as a refresh does: storage that refuses is asked again before it is given up."""
        for wait in _AGAIN:
            try:
                return await self.storage.write(query, *args, **kwargs)
            except CannotStore:
                await self.clock.sleep(wait)
        return await self.storage.write(query, *args, **kwargs)

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
                schedule.begin_anew(database, known.number, now)
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

    async def _hold_against_metadata(self, connector: Connector, auth: OAuth2) -> None:
        """Send nobody anywhere that the provider does not name itself. Raises `NotNow`."""
        if auth.metadata is None or auth.issuer is None or self.published is None:
            return
        try:
            wrong = metadata.differs(auth, await self.published.of(auth.issuer, auth.metadata))
        except metadata.OutOfReach:
            raise NotNow(f"{_title(connector)} does not answer as it should. Try again in a while.") from None
        except metadata.Wrong as fault:
            wrong = str(fault)
        if wrong:
            if self.log is not None:
                self.log.warning("metadata_differs", provider=connector.id, what=wrong)
            raise NotNow(f"{_title(connector)} is not where it was. Nothing was sent there; tell whoever runs this server.")

    async def _sends_issuer(self, auth: OAuth2) -> bool:
        """Whether a callback without `iss` is none of the provider's. Where that cannot be told, it is."""
        if auth.issuer_sent or auth.metadata is None or auth.issuer is None or self.published is None:
            return auth.issuer_sent
        try:
            return (await self.published.of(auth.issuer, auth.metadata)).authorization_response_iss_parameter_supported
        except (metadata.OutOfReach, metadata.Wrong):
            return True

    def _known(self, sign_in: SignIn) -> Connector:
        connector = self.registry.connectors.get(sign_in.provider)
        if connector is None or connector.auth is None:
            raise LinkGone
        return connector

    def _connector(self, sign_in: SignIn) -> tuple[Connector, OAuth2]:
        connector = self._known(sign_in)
        if not isinstance(connector.auth, OAuth2):
            raise LinkGone
        return connector, connector.auth

    async def _client(self, sign_in: SignIn) -> Client:
        if sign_in.registration is None:
            raise LinkGone
        return await self.registrations.client(sign_in.registration)

    async def _end(self, sign_in: SignIn, status: Status, reason: str) -> None:
        await self.storage.write(flows.end, sign_in.id, status, reason)

    def _token(self) -> str:
        return base64.urlsafe_b64encode(self.chance.token_bytes(32)).rstrip(b"=").decode()


def _reason(error: Exception, title: str) -> str:
    """What a person reads where a sign-in failed: nothing of the provider's, and nothing that only an operator could understand."""
    match error:
        case Declined():
            return str(error)
        case SignInAgain():
            return f"{title} did not accept this sign-in. Nothing was stored; please start again."
        case RetryLater() | QuotaSpent():
            return f"{title} did not answer as it should. Nothing was stored; please start again in a while."
        case RegistrationRefused():
            return (
                f"{title} does not know this server, or no longer. Nothing was stored; whoever runs it must check its registration there."
            )
        case _:
            return (
                "Something went wrong on our side. Nothing was stored; please start again, and tell whoever runs this server if it stays."
            )


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


def _allowed(connector: Connector, sign_in: SignIn, ticked: Collection[str] | None) -> tuple[str, ...]:
    """What the person allows: what must be, and of the rest what is ticked."""
    offered = _offered(connector, sign_in)
    return tuple(each.id for each in offered if not each.optional or (each.ticked if ticked is None else each.id in ticked))


def _withheld(connector: Connector | None, asked: Collection[str], given: Collection[str]) -> tuple[str, ...]:
    """Sentences of what was asked for and not allowed."""
    scopes = connector.scopes if connector else ()
    return tuple(scope.sentence for scope in scopes if scope.id in asked and scope.id not in given)


def _differ(known: Connection, found: Found) -> bool:
    """Whether the connection is to another account; where a connector cannot name accounts, nobody knows."""
    return bool(known.provider_account and found.account_id and known.provider_account != found.account_id)


def _title(connector: Connector) -> str:
    return connector.title or connector.id
