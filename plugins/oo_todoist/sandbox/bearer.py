"""Who is asking: the access token of a request."""

from __future__ import annotations

from aiohttp import web

from oo_todoist.sandbox.account import Account
from oo_todoist.sandbox.grants import Token
from oo_todoist.sandbox.refusals import outside_scope, unauthorized
from oo_todoist.sandbox.world import World


def bearer(world: World, request: web.Request, *needed: str) -> tuple[Account, Token]:
    """Give the user and the token of a request; where scopes are needed, the token must hold one of them."""
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    token = world.grants.access(text.strip()) if scheme.lower() == "bearer" else None
    if token is None:
        raise unauthorized()
    if needed and not token.allows(*needed):
        raise outside_scope()
    return world.accounts[token.user_id], token
