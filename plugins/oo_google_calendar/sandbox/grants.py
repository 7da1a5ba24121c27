"""Who may do what: clients of one Cloud project, codes, and tokens that last as Google's do.

Refresh tokens do not rotate. One comes with a person's first consent for a client, and later only where consent was asked for again. It
ends after six months without use, after seven days while the project is in testing, and silently when the hundredth newer one of the same
person and client is given. Revoking any token ends all that the person allowed to any client of the project.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from oo_sdk.stand_in import is_loopback, proves

Json = dict[str, Any]

PREFIX = "https://www.googleapis.com/auth/"
#: What a person is asked to allow, in words, by the scope's last part.
SCOPES = {
    "calendar": "See, edit, share, and permanently delete all the calendars you can access.",
    "calendar.readonly": "See and download any calendar you can access.",
    "calendar.events": "View and edit events on all your calendars.",
    "calendar.events.readonly": "View events on all your calendars.",
    "calendar.calendarlist": "See, add, and remove calendars you're subscribed to.",
    "calendar.calendarlist.readonly": "See the list of calendars you're subscribed to.",
}
CODE_LIFE = timedelta(minutes=10)
UNUSED = timedelta(days=180)
TESTING = timedelta(days=7)
MOST = 100


class NotGranted(Exception):
    """The token endpoint refuses."""

    def __init__(self, error: str, words: str = "", status: int = 400) -> None:
        super().__init__(error)
        self.error = error
        self.words = words
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A Web client of the project."""

    id: str
    secret: str = field(repr=False)
    name: str
    redirect_uris: tuple[str, ...] = ()

    def takes(self, address: str) -> bool:
        """Say whether the browser may be sent back there; any http address on the loopback may."""
        return address in self.redirect_uris or is_loopback(address)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A checked request for consent, waiting for a person's decision."""

    client: Client
    scopes: tuple[str, ...]
    redirect_uri: str
    state: str
    challenge: str | None
    offline: bool
    again: bool  #: consent is asked for also where it was given
    incremental: bool


@dataclass(slots=True, kw_only=True)
class Code:
    """An authorization code."""

    ask: Ask
    email: str
    scopes: tuple[str, ...]
    ends_at: datetime
    spent: bool = False


@dataclass(slots=True, kw_only=True)
class Token:
    """An access or refresh token."""

    text: str = field(repr=False)
    kind: str
    client: str
    email: str
    scopes: tuple[str, ...]
    issued_at: datetime
    ends_at: datetime | None = None
    used_at: datetime | None = None
    revoked: bool = False

    def works(self, now: datetime) -> bool:
        """Say whether it still does."""
        if self.revoked or (self.ends_at is not None and now >= self.ends_at):
            return False
        return self.kind == "access" or now - (self.used_at or self.issued_at) < UNUSED


class Grants:
    """Every code and token of one project."""

    def __init__(self, *, now: Callable[[], datetime], token: Callable[[], str], expires_in: int, testing: bool) -> None:
        self._now = now
        self._token = token
        self.expires_in = expires_in
        self.testing = testing
        self.clients: dict[str, Client] = {}
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

    def code(self, ask: Ask, email: str, scopes: tuple[str, ...]) -> str:
        """Give a code, since the person allowed these scopes."""
        text = f"4/{self._token()}"
        self._codes[text] = Code(ask=ask, email=email, scopes=scopes, ends_at=self._now() + CODE_LIFE)
        return text

    def exchange(self, form: Json) -> Json:
        """Turn a code into tokens."""
        client = self._client(form)
        code = self._codes.get(form.get("code", ""))
        if code is None or code.ask.client is not client or self._now() >= code.ends_at:
            raise NotGranted("invalid_grant", "Malformed auth code.")
        if code.spent:
            raise NotGranted("invalid_grant", "Code was already redeemed.")
        if form.get("redirect_uri") != code.ask.redirect_uri:
            raise NotGranted("redirect_uri_mismatch", "Bad Request")
        if not proves(form.get("code_verifier"), code.ask.challenge):
            raise NotGranted("invalid_grant", "Invalid code verifier.")
        code.spent = True
        before = self._held(code.email, client.id)
        scopes = code.scopes
        if code.ask.incremental:
            scopes = tuple(dict.fromkeys([*scopes, *(scope for token in before for scope in token.scopes)]))
        answer = self._access(client.id, code.email, scopes)
        if code.ask.offline and (code.ask.again or not any(token.kind == "refresh" for token in before)):
            answer["refresh_token"] = self._refresh_token(client.id, code.email, scopes).text
        return answer

    def refresh(self, form: Json) -> Json:
        """Give another access token; the refresh token stays as it is."""
        client, now = self._client(form), self._now()
        token = self.tokens.get(form.get("refresh_token", ""))
        if token is None or token.kind != "refresh" or token.client != client.id or not token.works(now):
            raise NotGranted("invalid_grant", "Token has been expired or revoked.")
        token.used_at = now
        return self._access(client.id, token.email, token.scopes)

    def revoke(self, text: str) -> None:
        """End everything that the token's person allowed to any client of the project."""
        token = self.tokens.get(text)
        if token is None or not token.works(self._now()):
            raise NotGranted("invalid_token", "Token expired or revoked")
        self.end(token.email)

    def end(self, email: str | None = None) -> None:
        """Revoke every token of a person, or of all."""
        for token in self.tokens.values():
            token.revoked = token.revoked or email in {None, token.email}

    def expire(self, email: str | None = None) -> None:
        """Let every access token end now."""
        for token in self.tokens.values():
            if token.kind == "access" and email in {None, token.email}:
                token.ends_at = self._now()

    def access(self, text: str) -> Token | None:
        """Give the access token that works under this text."""
        token = self.tokens.get(text)
        return token if token is not None and token.kind == "access" and token.works(self._now()) else None

    def _held(self, email: str, client: str) -> list[Token]:
        now = self._now()
        return [token for token in self.tokens.values() if (token.email, token.client) == (email, client) and token.works(now)]

    def _access(self, client: str, email: str, scopes: tuple[str, ...]) -> Json:
        now = self._now()
        ended = [text for text, token in self.tokens.items() if token.kind == "access" and not token.works(now)]
        for text in ended:
            del self.tokens[text]
        token = Token(text=f"ya29.{self._token()}", kind="access", client=client, email=email, scopes=scopes, issued_at=now)
        token.ends_at = now + timedelta(seconds=self.expires_in)
        self.tokens[token.text] = token
        return {"access_token": token.text, "expires_in": self.expires_in - 1, "scope": " ".join(scopes), "token_type": "Bearer"}

    def _refresh_token(self, client: str, email: str, scopes: tuple[str, ...]) -> Token:
        now = self._now()
        token = Token(text=f"1//{self._token()}", kind="refresh", client=client, email=email, scopes=scopes, issued_at=now)
        token.ends_at = now + TESTING if self.testing else None
        self.tokens[token.text] = token
        alive = [each for each in self._held(email, client) if each.kind == "refresh"]
        for oldest in alive[:-MOST]:
            oldest.revoked = True
        return token

    def _client(self, form: Json) -> Client:
        client = self.clients.get(form.get("client_id", ""))
        if client is None:
            raise NotGranted("invalid_client", "The OAuth client was not found.", 401)
        if not hmac.compare_digest(form.get("client_secret", "").encode(), client.secret.encode()):
            raise NotGranted("invalid_client", "Unauthorized", 401)
        return client
