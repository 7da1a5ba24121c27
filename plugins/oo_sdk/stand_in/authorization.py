"""An authorization server as most are: consent, codes with PKCE, tokens that run out, refresh tokens that rotate, and revocation.

A provider that deviates from the RFCs has a server of its own; this one is for all others.
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html import escape
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web

from oo_sdk.stand_in.consent import back, is_loopback, proves
from oo_sdk.stand_in.pages import page

CODE_LIFE: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A checked request for consent."""

    scopes: tuple[str, ...]
    redirect_uri: str
    state: str
    challenge: str | None


@dataclass(slots=True, kw_only=True)
class Grant:
    """What a person allowed, from the code to its end."""

    user: str
    ask: Ask
    ends_at: datetime  #: of the code
    access: dict[str, datetime] = field(default_factory=dict)  #: tokens, and when they end
    refresh: str = ""
    spent: set[str] = field(default_factory=set)  #: refresh tokens that were exchanged
    redeemed: bool = False
    revoked: bool = False


@dataclass(slots=True, kw_only=True)
class Authorization:
    """The server of one stand-in. Its addresses are /oauth/authorize, /oauth/token and /oauth/revoke."""

    client_id: str
    client_secret: str = field(repr=False)
    people: Mapping[str, str]  #: ids and names
    scopes: Mapping[str, str]  #: what may be allowed, in words
    now: Callable[[], datetime]
    token: Callable[[], str]  #: gives what must not be guessed
    life: timedelta = timedelta(hours=1)
    rotates: bool = True
    grants: list[Grant] = field(default_factory=list)
    _asks: dict[str, Ask] = field(default_factory=dict)
    _codes: dict[str, Grant] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        """Give the routes."""
        return [
            web.get("/oauth/authorize", self.authorize),
            web.post("/oauth/authorize", self.decide),
            web.post("/oauth/token", self.exchange),
            web.post("/oauth/revoke", self.revoke),
        ]

    def who(self, authorization: str) -> Grant | None:
        """Give the grant whose access token this header carries, if it works."""
        text = authorization.removeprefix("Bearer ").strip()
        now = self.now()
        return next((each for each in self.grants if not each.revoked and each.access.get(text, now) > now), None)

    def expire(self, user: str | None = None) -> None:
        """Let access tokens end now."""
        for grant in self._of(user):
            grant.access.clear()

    def end(self, user: str | None = None) -> None:
        """Revoke grants, as a person does who removes the app."""
        for grant in self._of(user):
            grant.revoked = True

    async def authorize(self, request: web.Request) -> web.Response:
        """Show the consent page; a request that cannot be sent back anywhere is answered here."""
        asked = request.query
        redirect_uri, scopes = asked.get("redirect_uri", ""), tuple(asked.get("scope", "").split())
        if asked.get("client_id") != self.client_id or not is_loopback(redirect_uri):
            return page("This app is not known", "<p>Its id or its redirect address is another.</p>", status=400)
        state, challenge = asked.get("state", ""), asked.get("code_challenge")
        if asked.get("response_type") != "code" or (challenge is not None and asked.get("code_challenge_method") != "S256"):
            return back(redirect_uri, error="invalid_request", state=state)
        if not scopes or not self.scopes.keys() >= set(scopes):
            return back(redirect_uri, error="invalid_scope", state=state)
        waiting = self.token()
        self._asks[waiting] = Ask(scopes=scopes, redirect_uri=redirect_uri, state=state, challenge=challenge)
        wishes = "".join(f"<li>{escape(self.scopes[scope])}</li>" for scope in scopes)
        people = "".join(f'<option value="{escape(id_)}">{escape(name)}</option>' for id_, name in self.people.items())
        return page(
            "Allow oO?",
            f"""<ul>{wishes}</ul><form method="post" action="/oauth/authorize">
<input type="hidden" name="waiting" value="{escape(waiting)}">
<p><label>You are <select name="user">{people}</select></label></p>
<p><button name="decision" value="allow">Allow</button><button name="decision" value="deny">Deny</button></p></form>
<p><small>This is a sandbox: nobody's real account is touched.</small></p>""",
        )

    async def decide(self, request: web.Request) -> web.Response:
        """Take the person's decision; each form counts once."""
        form = await request.post()
        ask, user = self._asks.pop(str(form.get("waiting", "")), None), str(form.get("user", ""))
        if ask is None:
            return page("This page was answered before", "<p>Begin again.</p>", status=400)
        if form.get("decision") != "allow" or user not in self.people:
            return back(ask.redirect_uri, error="access_denied", state=ask.state)
        code = self.token()
        self._codes[code] = Grant(user=user, ask=ask, ends_at=self.now() + CODE_LIFE)
        return back(ask.redirect_uri, code=code, state=ask.state)

    async def exchange(self, request: web.Request) -> web.Response:
        """Turn a code or a refresh token into tokens."""
        form = {name: str(value) for name, value in (await request.post()).items()}
        if not self._is_client(request, form):
            return _refused("invalid_client", 401)
        match form.get("grant_type"):
            case "authorization_code":
                grant = self._codes.get(form.get("code", ""))
                if grant is not None and grant.redeemed:
                    grant.revoked = True  # a code that comes twice was stolen: what it gave ends (RFC 6749 section 4.1.2)
                if grant is None or grant.redeemed or self.now() >= grant.ends_at or form.get("redirect_uri") != grant.ask.redirect_uri:
                    return _refused("invalid_grant")
                if not proves(form.get("code_verifier"), grant.ask.challenge):
                    return _refused("invalid_grant")
                grant.redeemed = True
                self.grants.append(grant)
            case "refresh_token":
                given = form.get("refresh_token", "")
                for each in self.grants:
                    each.revoked = each.revoked or given in each.spent  # a spent one that comes again was stolen
                grant = next((each for each in self.grants if given and each.refresh == given and not each.revoked), None)
                if grant is None:
                    return _refused("invalid_grant")
            case _:
                return _refused("unsupported_grant_type")
        return web.json_response(self._tokens(grant), headers={"Cache-Control": "no-store"})

    async def revoke(self, request: web.Request) -> web.Response:
        """RFC 7009: whatever the token is, the answer is 200."""
        form = {name: str(value) for name, value in (await request.post()).items()}
        if not self._is_client(request, form):
            return _refused("invalid_client", 401)
        for grant in self.grants:
            grant.revoked = grant.revoked or form.get("token") in {grant.refresh, *grant.access}
        return web.Response()

    def _tokens(self, grant: Grant) -> dict[str, Any]:
        access, now = self.token(), self.now()
        grant.access = {text: end for text, end in grant.access.items() if end > now} | {access: now + self.life}
        if self.rotates or not grant.refresh:
            if grant.refresh:
                grant.spent.add(grant.refresh)
            grant.refresh = self.token()
        told = {"access_token": access, "refresh_token": grant.refresh, "token_type": "Bearer", "scope": " ".join(grant.ask.scopes)}
        return {**told, "expires_in": int(self.life.total_seconds())}

    def _is_client(self, request: web.Request, form: Mapping[str, str]) -> bool:
        """Check the client, by HTTP Basic or by the form."""
        id_, secret = form.get("client_id", ""), form.get("client_secret", "")
        kind, _, basic = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "basic":
            try:
                id_, _, secret = b64decode(basic).decode().partition(":")
            except ValueError:
                return False
            id_, secret = unquote(id_), unquote(secret)
        return hmac.compare_digest(f"{id_}\0{secret}".encode(), f"{self.client_id}\0{self.client_secret}".encode())

    def _of(self, user: str | None) -> list[Grant]:
        return [grant for grant in self.grants if user in {None, grant.user}]


def _refused(error: str, status: int = 400) -> web.Response:
    return web.json_response({"error": error}, status=status)
