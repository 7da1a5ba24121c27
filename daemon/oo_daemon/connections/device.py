"""The device flow (RFC 8628): a code that the person enters at the provider, on whatever machine, while we ask whether they have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from oo_daemon.connections import bounds, token_endpoint
from oo_daemon.connections.session import Client
from oo_daemon.connections.transport import NoAnswer, NotSent, Transport
from oo_sdk import ConnectorBug, OAuth2, Response, RetryLater
from oo_vault import Answer, ClientRefused, GrantDead, Renewed, Secret, Unclear
from oo_vault import NotSent as Unsent

#: Seconds between two questions where the provider names none, and by how much `slow_down` has us wait longer (sections 3.2 and 3.5).
INTERVAL = 5.0
#: A code lives at most so long, whatever the provider says; nobody waits longer for the next question than `MOST`.
LIFE, MOST = 1800, 60.0
_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_CODE = re.compile(r"[!-~](?:[ -~]{0,30}[!-~])?")
_WORDS = {"authorization_pending", "slow_down", "access_denied", "expired_token"}


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider gave: what the person sees, and what we ask with. It lies sealed with the sign-in."""

    device_code: str
    user_code: str
    address: str  #: where the person enters it
    complete: str = ""  #: the same with the code in it
    interval: float = INTERVAL

    def __repr__(self) -> str:
        return "Code(…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """The person has not answered yet: ask again after this many seconds."""

    code: Code = field(repr=False)


class Ended(msgspec.Struct, frozen=True):
    """It came to nothing: the person said no, or let the code grow old."""

    denied: bool


class _Given(msgspec.Struct, kw_only=True):
    """Section 3.2. Some providers name the address as they did in a draft."""

    device_code: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    user_code: str
    verification_uri: str = ""
    verification_url: str = ""
    verification_uri_complete: str = ""
    expires_in: float = LIFE
    interval: float = INTERVAL


async def begin(transport: Transport, auth: OAuth2, client: Client, scopes: Sequence[str]) -> tuple[Code, float]:
    """Ask for a code; gives it with the seconds that it lives. Raises `RetryLater` and `ConnectorBug`."""
    if auth.device is None:
        raise ConnectorBug("the connector declares no device authorization endpoint")
    bounds.check(auth.device, [bounds.declared(auth.device)])
    form = {"scope": auth.scope_separator.join(scopes)}
    candidates: list[Secret | None] = [*client.secrets] or [None]
    for secret in candidates:
        try:
            response = await transport.send(token_endpoint.request(auth.device, auth, client.id, secret, form))
        except (NotSent, NoAnswer) as fault:
            raise RetryLater(str(fault)) from None
        if response.status != 401:
            break
    if response.status != 200:
        raise RetryLater(f"the provider answered {response.status} where a code was asked for")
    try:
        given = msgspec.json.decode(response.body, type=_Given)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        given = None
    address = (given.verification_uri or given.verification_url) if given else ""
    if given is None or not _CODE.fullmatch(given.user_code) or not _leads_to_people(address):
        raise ConnectorBug("the provider gave no code that a person could enter")
    code = Code(
        device_code=given.device_code,
        user_code=given.user_code,
        address=address,
        complete=given.verification_uri_complete if _leads_to_people(given.verification_uri_complete) else "",
        interval=min(max(given.interval, 1.0), MOST),
    )
    return code, min(max(given.expires_in, 1.0), LIFE)


async def ask(transport: Transport, auth: OAuth2, client: Client, code: Code, *, now: int) -> Renewed | Waits | Ended | Answer:
    """Ask once whether the person has answered."""
    heard: list[str] = []

    def read(auth: OAuth2, response: Response, *, now: int) -> Answer:
        word = _word(auth, response)
        if word in _WORDS:
            heard.append(word)
            return Unclear(reason=word)
        return token_endpoint.classify(auth, response, now=now)

    form = {"grant_type": _GRANT, "device_code": code.device_code}
    answer = await token_endpoint.ask(transport, auth, client.id, client.secrets, form, now=now, read=read)
    match answer, heard:
        case _, ["access_denied"]:
            return Ended(True)
        case (_, ["expired_token"]) | (GrantDead(), _):
            return Ended(False)
        case _, ["authorization_pending"]:
            return Waits(code=code)
        case _, ["slow_down"]:
            return Waits(code=msgspec.structs.replace(code, interval=min(code.interval + INTERVAL, MOST)))
        case ((Unclear() | Unsent()), _):
            # Section 3.5: after a time-out, ask less often.
            return Waits(code=msgspec.structs.replace(code, interval=min(code.interval * 2, MOST)))
        case ((Renewed() | ClientRefused()), _):
            return answer
    raise AssertionError("an answer of the token endpoint is one of five")


def _word(auth: OAuth2, response: Response) -> str:
    try:
        members: Any = msgspec.json.decode(response.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    word = members.get("error") if isinstance(members, dict) else None
    return auth.errors.get(word, word) if isinstance(word, str) else ""


def _leads_to_people(address: str) -> bool:
    """True for an address that may be shown: https, or this machine."""
    try:
        bounds.check(address, [bounds.declared(address)])
    except (ConnectorBug, ValueError):
        return False
    return True
