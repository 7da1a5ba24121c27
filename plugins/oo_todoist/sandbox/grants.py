"""Who may do what: apps, authorization codes, access tokens, and refresh tokens that rotate.

Times and rules are Todoist's: codes live ten minutes and work once; a spent refresh token gives, for sixty seconds, the access token
that replaced it; after that its use is taken for theft and ends every token of that user for that app.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from oo_sdk.stand_in import is_loopback, proves

Json = dict[str, Any]

#: what a person is asked to allow, in words
SCOPES = {
    "task:add": "Add new tasks, without reading anything.",
    "data:read": "See your tasks, projects, labels and filters.",
    "data:read_write": "See and change your tasks, projects, labels and filters.",
    "data:delete": "Delete your tasks, labels and filters.",
    "project:delete": "Delete your projects.",
    "backups:read": "List your backups.",
}
#: scopes that contain others
_INCLUDES = {"data:read_write": {"data:read", "task:add"}}

CODE_LIFE = timedelta(minutes=10)
GRACE = timedelta(seconds=60)
TEN_YEARS = 315_360_000


class NotGranted(Exception):
    """The token endpoint refuses; `error` is the word it answers with."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """An OAuth client that is registered at Todoist."""

    client_id: str
    client_secret: str | None = field(repr=False)  #: None for a public client, which must use PKCE
    name: str
    redirect_uris: tuple[str, ...] = ()

    def redirect(self, asked: str | None) -> str | None:
        """Give the address to send the browser back to, or None when the request names none that is ours.

        Any http address on the loopback counts as registered; whether the real one allows that is not documented.
        """
        if asked is None:
            return self.redirect_uris[0] if len(self.redirect_uris) == 1 else None
        if asked in self.redirect_uris:
            return asked
        return asked if is_loopback(asked) and self.client_secret is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A checked authorization request, waiting for a person's decision."""

    app: App
    scopes: tuple[str, ...]
    state: str
    redirect_uri: str
    challenge: str | None  #: PKCE S256


@dataclass(slots=True, kw_only=True)
class Code:
    """An authorization code."""

    ask: Ask
    user_id: str
    ends_at: datetime
    spent: bool = False
    gave: list[Token] = field(default_factory=list)  #: what to revoke when it is used twice


@dataclass(slots=True, kw_only=True)
class Token:
    """An access or refresh token."""

    text: str = field(repr=False)
    kind: str  #: "access" or "refresh"
    client_id: str
    user_id: str
    scopes: tuple[str, ...]
    issued_at: datetime
    ends_at: datetime | None = None
    revoked: bool = False
    spent_at: datetime | None = None  #: refresh tokens: when first used
    gave: Token | None = None  #: refresh tokens: the access token that this one was exchanged for
    origin: Code | None = field(default=None, repr=False)

    def state(self, now: datetime) -> str:
        """Say whether it still works: alive, spent, expired or revoked."""
        if self.revoked:
            return "revoked"
        if self.ends_at is not None and now >= self.ends_at:
            return "expired"
        return "spent" if self.spent_at is not None else "alive"

    def allows(self, *needed: str) -> bool:
        """Say whether its scopes contain one of those needed."""
        held = set(self.scopes).union(*(_INCLUDES.get(scope, set()) for scope in self.scopes))
        return not held.isdisjoint(needed)


class Grants:
    """Every code and token, and the rules by which they come and go."""

    def __init__(self, *, now: Callable[[], datetime], token: Callable[[], str], expires_in: int) -> None:
        self._now = now
        self._token = token
        self.expires_in = expires_in
        self.apps: dict[str, App] = {}
        self.tokens: dict[str, Token] = {}
        self._asks: dict[str, Ask] = {}
        self._codes: dict[str, Code] = {}

    def wait(self, ask: Ask) -> str:
        """Keep a request until its page is answered; gives the name the page's form carries."""
        name = self._token()
        self._asks[name] = ask
        return name

    def answered(self, name: str) -> Ask | None:
        """Take a waiting request; each form counts once."""
        return self._asks.pop(name, None)

    def code(self, ask: Ask, user_id: str) -> str:
        """Give a code, since the user allowed it."""
        text = self._token()
        self._codes[text] = Code(ask=ask, user_id=user_id, ends_at=self._now() + CODE_LIFE)
        return text

    def app(self, client_id: object, client_secret: object) -> App:
        """Give the app that has these credentials; a public one has no secret and may send none."""
        found = self.apps.get(client_id) if isinstance(client_id, str) else None
        sent = client_secret if isinstance(client_secret, str) else ""
        if found is None or not hmac.compare_digest(sent.encode(), (found.client_secret or "").encode()):
            raise NotGranted("incorrect_application_credentials")
        return found

    def exchange(self, app: App, code: object, *, redirect_uri: object, verifier: object, life: int | None, refreshable: bool) -> Json:
        """Turn a code into tokens. `life` is in seconds, None for an access token without an end."""
        known = self._codes.get(code) if isinstance(code, str) else None
        if known is None or known.ask.app.client_id != app.client_id:
            raise NotGranted("bad_authorization_code")
        if known.spent:
            for token in known.gave:
                token.revoked = True
            raise NotGranted("bad_authorization_code")
        if self._now() >= known.ends_at or redirect_uri not in {None, known.ask.redirect_uri}:
            raise NotGranted("bad_authorization_code")
        if not proves(verifier, known.ask.challenge):
            raise NotGranted("bad_authorization_code")
        known.spent = True
        return self._issue(app, known.user_id, known.ask.scopes, life=life, refreshable=refreshable, origin=known)

    def refresh(self, app: App, refresh_token: object) -> Json:
        """Rotate: give a new pair for a refresh token, and tell a retry from a theft."""
        known = self.tokens.get(refresh_token) if isinstance(refresh_token, str) else None
        if known is None or known.kind != "refresh" or known.client_id != app.client_id or known.revoked:
            raise NotGranted("invalid_grant")
        now = self._now()
        if known.spent_at is None:
            known.spent_at = now
            answer = self._issue(app, known.user_id, known.scopes, life=self.expires_in, refreshable=True, origin=known.origin)
            known.gave = self.tokens[answer["access_token"]]
            return answer
        if now - known.spent_at > GRACE:
            self.end(user_id=known.user_id, client_id=app.client_id)
            raise NotGranted("invalid_grant")
        assert known.gave is not None
        if known.gave.state(now) != "alive":
            raise NotGranted("invalid_grant")
        return _answer(known.gave, now)

    def granted(self, client_id: str, user_id: str) -> bool:
        """Say whether a user completed an app's sign-in and has not taken it back."""
        return any(not token.revoked for token in self._held(user_id, client_id))

    def end(self, *, user_id: str | None = None, client_id: str | None = None) -> None:
        """Revoke every token of a user for an app; None stands for all of them."""
        for token in self._held(user_id, client_id):
            token.revoked = True

    def expire(self, *, user_id: str | None = None) -> None:
        """Let every access token end now."""
        for token in self._held(user_id, None):
            if token.kind == "access":
                token.ends_at = self._now()

    def access(self, text: str) -> Token | None:
        """Give the access token that works under this text, if there is one."""
        known = self.tokens.get(text)
        return known if known is not None and known.kind == "access" and known.state(self._now()) == "alive" else None

    def _held(self, user_id: str | None, client_id: str | None) -> Iterable[Token]:
        return (token for token in self.tokens.values() if user_id in {None, token.user_id} and client_id in {None, token.client_id})

    def _issue(self, app: App, user_id: str, scopes: tuple[str, ...], *, life: int | None, refreshable: bool, origin: Code | None) -> Json:
        now = self._now()

        def make(kind: str, ends_at: datetime | None = None) -> Token:
            token = Token(
                text=self._token(),
                kind=kind,
                client_id=app.client_id,
                user_id=user_id,
                scopes=scopes,
                issued_at=now,
                ends_at=ends_at,
                origin=origin,
            )
            self.tokens[token.text] = token
            if origin is not None:
                origin.gave.append(token)
            return token

        answer = _answer(make("access", None if life is None else now + timedelta(seconds=life)), now)
        return {**answer, "refresh_token": make("refresh").text} if refreshable else answer


def _answer(access: Token, now: datetime) -> Json:
    answer: Json = {"access_token": access.text, "token_type": "Bearer"}
    return answer if access.ends_at is None else {**answer, "expires_in": int((access.ends_at - now).total_seconds())}
