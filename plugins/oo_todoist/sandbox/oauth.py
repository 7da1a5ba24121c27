"""Todoist's OAuth: the consent page, the token endpoint, both ways to revoke, registration and metadata.

Errors of the token endpoint use Todoist's own words where it has them, and carry no more than `error`.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from aiohttp import web

from oo_sdk.stand_in import back
from oo_todoist.sandbox.grants import SCOPES, TEN_YEARS, App, Ask, NotGranted
from oo_todoist.sandbox.misbehaviour import Misbehaviour
from oo_todoist.sandbox.pages import consent
from oo_todoist.sandbox.refusals import Refusal, missing
from oo_todoist.sandbox.spoil import drop
from oo_todoist.sandbox.wire import answer, arguments
from oo_todoist.sandbox.world import World

Json = dict[str, Any]

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_NEVER_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_METHODS = ("client_secret_post", "client_secret_basic", "none")


class OAuth:
    """The OAuth endpoints of one world."""

    def __init__(self, world: World, misbehaviour: Misbehaviour, address: str) -> None:
        self._world = world
        self._grants = world.grants
        self._misbehaviour = misbehaviour
        self._address = address

    def routes(self) -> list[web.RouteDef]:
        """Give the routes."""
        return [
            web.get("/oauth/authorize", self.authorize, name="authorize"),
            web.post("/oauth/authorize", self.decide),
            web.post("/oauth/access_token", self.token, name="token"),
            web.post("/oauth/register", self.register, name="register"),
            web.post("/api/v1/revoke", self.revoke, name="revoke"),
            web.delete("/api/v1/access_tokens", self.revoke_in_url, name="revoke_in_url"),
            web.get("/.well-known/oauth-authorization-server", self.metadata, name="metadata"),
        ]

    # --- consent -------------------------------------------------------------------------------------------------------

    async def authorize(self, request: web.Request) -> web.Response:
        """Show the consent page; a request that names no address of the app's is answered here, with JSON."""
        asked = request.query
        app = self._grants.apps.get(asked.get("client_id", ""))
        if app is None:
            return answer({"error": "invalid_client"}, status=400)
        redirect_uri = app.redirect(asked.get("redirect_uri"))
        if redirect_uri is None or any(len(asked.getall(name)) > 1 for name in asked):
            return answer({"error": "invalid_request"}, status=400)
        state, challenge = asked.get("state", ""), asked.get("code_challenge")
        if (
            not state
            or asked.get("response_type", "code") != "code"
            or (challenge is None and (app.client_secret is None or "code_challenge_method" in asked))
            or (challenge is not None and asked.get("code_challenge_method") != "S256")
            or (challenge is not None and not _CHALLENGE.fullmatch(challenge))
        ):
            return back(redirect_uri, status=303, error="invalid_request", state=state)
        scopes = tuple(dict.fromkeys(asked.get("scope", "").split(",")))
        if not SCOPES.keys() >= set(scopes):
            return back(redirect_uri, status=303, error="invalid_scope", state=state)
        ask = Ask(app=app, scopes=scopes, state=state, redirect_uri=redirect_uri, challenge=challenge)
        return consent(
            app=app.name,
            wishes=[SCOPES[scope] for scope in scopes],
            people={account.id: account.user["full_name"] for account in self._world.accounts.values()},
            waiting=self._grants.wait(ask),
        )

    async def decide(self, request: web.Request) -> web.Response:
        """Take the person's decision and send the browser back to the app."""
        form = await arguments(request)
        ask = self._grants.answered(str(form.get("waiting", "")))
        if ask is None:
            return answer({"error": "invalid_request"}, status=400)
        account = self._world.accounts.get(str(form.get("user", "")))
        if form.get("decision") != "allow" or account is None:
            return back(ask.redirect_uri, status=303, error="access_denied", state=ask.state)
        return back(ask.redirect_uri, status=303, code=self._grants.code(ask, account.id), state=ask.state)

    # --- tokens --------------------------------------------------------------------------------------------------------

    async def token(self, request: web.Request) -> web.StreamResponse:
        """Exchange a code, or rotate a refresh token."""
        try:
            args = await arguments(request)
            app = self._grants.app(*_credentials(request, args))
            grant = args.get("grant_type", "authorization_code")
            if grant == "authorization_code":
                given = self._exchange(app, args)
            elif grant == "refresh_token":
                given = self._grants.refresh(app, args.get("refresh_token"))
            else:
                raise NotGranted("unsupported_grant_type")
        except NotGranted as no:
            return answer({"error": no.error}, status=400, headers=_NEVER_STORE)
        except Refusal:
            return answer({"error": "invalid_request"}, status=400, headers=_NEVER_STORE)
        response = answer(given, headers=_NEVER_STORE)
        if self._misbehaviour.take("lost_token_answer", "token") is not None:
            return await drop(request, response, keep=0)
        if self._misbehaviour.take("token_500_after_rotating", "token") is not None:
            return web.Response(status=500, text="Internal Server Error")
        return response

    def _exchange(self, app: App, args: Mapping[str, Any]) -> Json:
        life: int | None = self._grants.expires_in
        refreshable = True
        if self._misbehaviour.take("legacy_ten_years", "token") is not None:
            life, refreshable = TEN_YEARS, False
        elif self._misbehaviour.take("legacy_no_expiry", "token") is not None:
            life, refreshable = None, False
        given = self._grants.exchange(
            app,
            args.get("code"),
            redirect_uri=args.get("redirect_uri"),
            verifier=args.get("code_verifier"),
            life=life,
            refreshable=refreshable,
        )
        # Undocumented, but Doist's Python client does not read an answer without it.
        return {**given, "state": None}

    async def revoke(self, request: web.Request) -> web.Response:
        """Revoke an access token (RFC 7009); the client authenticates with HTTP Basic and nothing else."""
        try:
            app = self._grants.app(*(_basic(request) or (None, None)))
        except NotGranted as no:
            return answer({"error": no.error}, status=401, headers={"WWW-Authenticate": "Basic"})
        args = await arguments(request)
        if not isinstance(args.get("token"), str):
            raise missing("token")
        return self._revoke(app, args["token"])

    async def revoke_in_url(self, request: web.Request) -> web.Response:
        """Revoke an access token the older way, with everything in the address."""
        for name in ("client_id", "client_secret", "access_token"):
            if name not in request.query:
                raise missing(name)
        try:
            app = self._grants.app(request.query["client_id"], request.query["client_secret"])
        except NotGranted as no:
            return answer({"error": no.error}, status=400)
        return self._revoke(app, request.query["access_token"])

    def _revoke(self, app: App, text: str) -> web.Response:
        token = self._grants.tokens.get(text)
        if token is not None:
            if token.kind != "access" or token.client_id != app.client_id:
                raise Refusal(403, 403, "FORBIDDEN", "Only this app's access tokens can be revoked", argument="token")
            token.revoked = True
        return answer(None)

    # --- for programs --------------------------------------------------------------------------------------------------

    async def register(self, request: web.Request) -> web.Response:
        """Register a client dynamically (RFC 7591)."""
        try:
            args = await arguments(request)
        except Refusal:
            return answer({"error": "invalid_client_metadata"}, status=400)
        uris, method = args.get("redirect_uris"), args.get("token_endpoint_auth_method", "client_secret_post")
        if not isinstance(uris, list) or not uris or not all(isinstance(uri, str) and urlsplit(uri).scheme for uri in uris):
            return answer({"error": "invalid_redirect_uri"}, status=400)
        scope = str(args.get("scope", "data:read"))
        if method not in _METHODS or not SCOPES.keys() >= set(scope.split()):
            return answer({"error": "invalid_client_metadata"}, status=400)
        name = str(args.get("client_name", "Unnamed app"))
        app = self._world.add_app(name, redirect_uris=uris, public=method == "none", dynamic=True)
        secret = {} if app.client_secret is None else {"client_secret": app.client_secret, "client_secret_expires_at": 0}
        made = {
            "client_id": app.client_id,
            "client_id_issued_at": int(self._world.now().timestamp()),
            "client_name": app.name,
            "redirect_uris": uris,
            "scope": scope,
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": method,
        }
        return answer({**made, **secret}, status=201, headers=_NEVER_STORE)

    async def metadata(self, request: web.Request) -> web.Response:
        """Describe the endpoints (RFC 8414)."""
        return answer(
            {
                "issuer": self._address,
                "authorization_endpoint": f"{self._address}/oauth/authorize",
                "token_endpoint": f"{self._address}/oauth/access_token",
                "revocation_endpoint": f"{self._address}/api/v1/revoke",
                "registration_endpoint": f"{self._address}/oauth/register",
                "scopes_supported": list(SCOPES),
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": list(_METHODS),
            }
        )


def _credentials(request: web.Request, args: Mapping[str, Any]) -> tuple[object, object]:
    """Read the client's id and secret, from HTTP Basic or from the body."""
    return _basic(request) or (args.get("client_id"), args.get("client_secret"))


def _basic(request: web.Request) -> tuple[str, str] | None:
    """Read HTTP Basic. RFC 6749 encodes id and secret before base64, Doist's client does not; hex is the same in both."""
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, _, secret = b64decode(text.strip(), validate=True).decode().partition(":")
    except ValueError:
        return None
    return unquote(client_id), unquote(secret)
