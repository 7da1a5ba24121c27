"""The exchange of a code for a grant, as a connector sees it: the SDK's flows, and the authority of the session that it then has."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from oo_daemon.connections import token_endpoint
from oo_daemon.connections.session import Client, SignedSession
from oo_daemon.connections.transport import Transport
from oo_daemon.ports import SECOND, Clock
from oo_daemon.store.flows import SignIn
from oo_sdk import ApiKey, Connector, ConnectorBug, Flow, KeyFlow, OAuth2, RetryLater, Session, SignInAgain, StoredCredential
from oo_vault import Answer, ClientRefused, Grant, GrantDead, NotSent, Renewed, SignInNeeded, Unclear


class Exchange:
    """The exchange of one code, and the authority of the session that its connector then has."""

    def __init__(
        self,
        transport: Transport,
        clock: Clock,
        auth: OAuth2,
        client: Client,
        sign_in: SignIn,
        verifier: str,
        answered: Renewed | None = None,
    ) -> None:
        self.given: Grant | None = None
        self._begun = False
        self._transport = transport
        self._clock = clock
        self._auth = auth
        self._client = client
        self._sign_in = sign_in
        self._verifier = verifier
        self._answered = answered  # by the device flow, whose code is the grant itself

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
                transport=self._transport,
                clock=self._clock,
            ),
            _exchange=exchange,
        )

    def held(self) -> Grant | None:
        """The grant that was just exchanged."""
        return self.given

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
        now = self._clock.now()
        answer: Answer = self._answered or await token_endpoint.ask(
            self._transport, self._auth, self._client.id, self._client.secrets, form, now=now
        )
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
                raise RegistrationRefused(f"the provider refuses our registration ({reason}): check its client id and client secret")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered(KeyFlow):
    """The SDK's `KeyFlow`."""

    auth: ApiKey
    told: Mapping[str, str]
    scopes: tuple[str, ...]
    http: Session

    def stored(self) -> StoredCredential:
        """The key, which the vault is about to keep."""
        return StoredCredential(scopes=frozenset(self.scopes), expires_in=None, refreshable=False)


class Held:
    """The authority of a session with a grant that no row has: nobody renews it."""

    __slots__ = ("_grant",)

    def __init__(self, grant: Grant) -> None:
        self._grant = grant

    def held(self) -> Grant | None:
        """The grant."""
        return self._grant

    async def grant(self, *, force_after: int | None = None) -> Grant:
        """The grant."""
        if force_after is not None:
            raise SignInNeeded("the provider refuses the credential")
        return self._grant


class RegistrationRefused(ConnectorBug):
    """The provider does not know our client, or not this secret."""


def _challenge(verifier: str) -> str:
    """PKCE's S256 (RFC 7636 section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
