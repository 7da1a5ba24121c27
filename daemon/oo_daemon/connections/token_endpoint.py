"""The token endpoint: exchanging a code and refreshing, and what each answer means (RFC 6749 sections 5.1 and 5.2).

Classified by the `error` member and not by the status, since proxies change the latter.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote_plus, urlencode

import msgspec

from oo_daemon.connections import bounds
from oo_daemon.connections.retry_after import retry_after
from oo_daemon.connections.transport import NoAnswer, Request, Transport
from oo_daemon.connections.transport import NotSent as NeverLeft
from oo_sdk import ClientAuth, OAuth2, Response
from oo_vault import Answer, ClientRefused, GrantDead, NotSent, Renewed, Secret, Unclear

_GRANT_DEAD = {"invalid_grant"}
_CLIENT_REFUSED = {"invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_request"}
_KNOWN_MEMBERS = {"access_token", "refresh_token", "id_token", "token_type", "expires_in", "scope"}


async def ask(
    transport: Transport, auth: OAuth2, client_id: str, secrets: Sequence[Secret], form: Mapping[str, str], *, now: int
) -> Answer:
    """Post one form to the token endpoint. With several client secrets, a refused one is followed by the next.

    `now` is for a Retry-After that names a date. Never raises.
    """
    bounds.check(auth.token, [bounds.declared(auth.token)])
    answer: Answer = ClientRefused(reason="no client secret is registered")
    for secret in secrets or (None,):
        try:
            response = await transport.send(_request(auth, client_id, secret, form))
        except NeverLeft as error:
            return NotSent(reason=str(error))
        except NoAnswer as error:
            return Unclear(reason=str(error))
        answer = classify(auth, response, now=now)
        if not (isinstance(answer, ClientRefused) and answer.reason.startswith("invalid_client")):
            break
    return answer


def basic(client_id: str, secret: str) -> str:
    """The value of an Authorization header for our client (RFC 6749 section 2.3.1)."""
    return "Basic " + base64.b64encode(f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()).decode()


def _request(auth: OAuth2, client_id: str, secret: Secret | None, form: Mapping[str, str]) -> Request:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    fields = dict(form)
    if auth.client_auth is ClientAuth.BASIC and secret is not None:
        headers["Authorization"] = basic(client_id, secret.reveal())
    else:
        fields["client_id"] = client_id
        if auth.client_auth is ClientAuth.POST and secret is not None:
            fields["client_secret"] = secret.reveal()
    return Request(method="POST", url=auth.token, headers=headers, body=urlencode(fields).encode())


def classify(auth: OAuth2, response: Response, *, now: int) -> Answer:
    """What an answer of the token endpoint means."""
    after = retry_after(response.headers.get("retry-after"), now)
    try:
        members: Any = msgspec.json.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        members = None
    if not isinstance(members, dict):
        return Unclear(reason=f"the token endpoint answered {response.status} and no JSON object", after=after)
    word = members.get("error")
    if isinstance(word, str):
        word = auth.errors.get(word, word)
        if word in _GRANT_DEAD:
            return GrantDead(reason=word)
        if word in _CLIENT_REFUSED:
            return ClientRefused(reason=word)
        return Unclear(reason=f"the token endpoint answered {response.status}", after=after)
    access = members.get("access_token")
    if not (200 <= response.status < 300 and isinstance(access, str) and access):
        return Unclear(reason=f"the token endpoint answered {response.status} without a token", after=after)
    refresh = members.get("refresh_token")
    scope = members.get("scope")
    expires_in = _seconds(members.get("expires_in"))
    return Renewed(
        access_token=Secret(access),
        refresh_token=Secret(refresh) if isinstance(refresh, str) and refresh else None,
        expires_in=expires_in,
        scopes=tuple(scope.replace(",", " ").split()) if isinstance(scope, str) and scope else None,
        token_type=str(members.get("token_type") or "Bearer"),
    )


def claims(response_members: Mapping[str, Any]) -> dict[str, str]:
    """What else the endpoint said: strings, nothing that is a token."""
    return {name: value for name, value in response_members.items() if name not in _KNOWN_MEMBERS and isinstance(value, str)}


def _seconds(value: object) -> int | None:
    """Lifetime in seconds; strings occur; None for nothing sensible."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = int(float(value))
    except (ValueError, OverflowError):
        return None
    return seconds if 0 < seconds < 10**10 else None
