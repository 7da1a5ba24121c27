"""The token endpoint: exchanging a code and refreshing, and what each answer means (RFC 6749 sections 5.1 and 5.2).

Classified by the `error` member and not by the status, since proxies change the latter.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote_plus, urlencode

import msgspec

from oo_daemon.connections import bounds
from oo_daemon.connections.transport import NoAnswer, Request, Transport
from oo_daemon.connections.transport import NotSent as NeverLeft
from oo_daemon.ports import moment
from oo_sdk import ClientAuth, ConnectorBug, OAuth2, Response
from oo_sdk.answers import retry_after
from oo_vault import Answer, ClientRefused, GrantDead, NotSent, Renewed, Secret, Unclear

_GRANT_DEAD = {"invalid_grant"}
_CLIENT_REFUSED = {"invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_request"}
#: What is not told to connectors: members that RFC 6749 defines, and those whose names sound like something secret.
_WITHHELD = re.compile(r"expires_in|scope|error.*|.*(token|secret|key|password|assertion|code).*", re.IGNORECASE)
#: A token is what a header can carry: visible ASCII (RFC 6749 appendix A.12).
_TOKEN = re.compile(r"[\x20-\x7e]+")


#: Seconds for one exchange, well within the lease under which a credential is refreshed (40 s).
LONGEST = 30.0


class Reads(Protocol):
    """Says what an answer means."""

    def __call__(self, auth: OAuth2, response: Response, *, now: int) -> Answer:
        """As `classify` does."""


async def ask(
    transport: Transport,
    auth: OAuth2,
    client_id: str,
    secrets: Sequence[Secret],
    form: Mapping[str, str],
    *,
    now: int,
    read: Reads | None = None,
) -> Answer:
    """Post one form to the token endpoint. With several client secrets, a refused one is followed by the next.

    `now` is for a Retry-After that names a date; `read` says what an answer means, in place of `classify`. Never raises.
    """
    try:
        bounds.check(auth.token, [bounds.declared(auth.token)])
    except (ConnectorBug, ValueError):
        return NotSent(reason="the connector's token address is not one that a secret may be sent to")
    candidates: list[Secret | None] = [*secrets] or [None]
    first, *others = candidates
    try:
        async with asyncio.timeout(LONGEST):
            answer = await _post(transport, auth, client_id, first, form, now, read or classify)
            for secret in others:
                if answer != ClientRefused(reason="invalid_client"):
                    break
                answer = await _post(transport, auth, client_id, secret, form, now, read or classify)
    except TimeoutError:
        return Unclear(reason="the token endpoint did not answer in time")
    return answer


def basic(client_id: str, secret: str) -> str:
    """The value of an Authorization header for our client (RFC 6749 section 2.3.1)."""
    return "Basic " + base64.b64encode(f"{_quoted(client_id)}:{_quoted(secret)}".encode()).decode()


def _quoted(text: str) -> str:
    # "replace": the error that a broken code or secret would raise carries the whole of it.
    return quote_plus(text, errors="replace")


async def _post(
    transport: Transport, auth: OAuth2, client_id: str, secret: Secret | None, form: Mapping[str, str], now: int, read: Reads
) -> Answer:
    try:
        response = await transport.send(request(auth.token, auth, client_id, secret, form))
    except NeverLeft as error:
        return NotSent(reason=str(error))
    except NoAnswer as error:
        return Unclear(reason=str(error))
    return read(auth, response, now=now)


def request(url: str, auth: OAuth2, client_id: str, secret: Secret | None, form: Mapping[str, str]) -> Request:
    """A form for one of the provider's endpoints, with the proof that it comes from our client."""
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    fields = dict(form)
    if auth.client_auth is ClientAuth.BASIC and secret is not None:
        headers["Authorization"] = basic(client_id, secret.reveal())
    else:
        fields["client_id"] = client_id
        if auth.client_auth is ClientAuth.POST and secret is not None:
            fields["client_secret"] = secret.reveal()
    return Request(method="POST", url=url, headers=headers, body=urlencode(fields, errors="replace").encode())


def classify(auth: OAuth2, response: Response, *, now: int) -> Answer:
    """What an answer of the token endpoint means."""
    wait = retry_after(response.headers.get("retry-after"), moment(now))
    after = None if wait is None else wait.total_seconds()
    try:
        members: Any = msgspec.json.decode(response.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        members = None
    if not isinstance(members, dict):
        return Unclear(reason=f"the token endpoint answered {response.status} and no JSON object", after=after)
    word = members.get("error")
    if isinstance(word, str) and word:
        word = auth.errors.get(word, word)
        if word in _GRANT_DEAD:
            return GrantDead(reason=word)
        if word in _CLIENT_REFUSED:
            return ClientRefused(reason=word)
        return Unclear(reason=f"the token endpoint answered {response.status}", after=after)
    access = _token(members.get("access_token"))
    if not 200 <= response.status < 300 or access is None:
        return Unclear(reason=f"the token endpoint answered {response.status} without a token", after=after)
    scope, kind = members.get("scope"), members.get("token_type")
    return Renewed(
        access_token=access,
        refresh_token=_token(members.get("refresh_token")),
        expires_in=_seconds(members.get("expires_in")),
        scopes=tuple(scope.replace(",", " ").split()) if isinstance(scope, str) and scope else None,
        token_type=kind if isinstance(kind, str) and kind else "Bearer",
        extra={name: value for name, value in members.items() if isinstance(value, str) and not _WITHHELD.fullmatch(name)},
    )


def _token(value: object) -> Secret | None:
    return Secret(value) if isinstance(value, str) and _TOKEN.fullmatch(value) else None


def _seconds(value: object) -> int | None:
    """Lifetime in seconds; strings occur; None for nothing sensible."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = int(float(value))
    except (ValueError, OverflowError):
        return None
    return seconds if 0 < seconds < 10**10 else None
