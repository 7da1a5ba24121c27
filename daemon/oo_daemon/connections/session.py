"""The signed-in session: what a connector is given instead of a token.

It adds the credential, refreshes it unseen, keeps it within the connector's hosts, and says what went wrong in the SDK's words, with
nothing of the request in them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import quote_plus, urlencode

import msgspec

from oo_daemon.connections import bounds
from oo_daemon.connections.signing import Signature, signature
from oo_daemon.connections.token_endpoint import basic
from oo_daemon.connections.transport import NoAnswer, NotSent, Request, Transport
from oo_daemon.ports import UNTRACED, Clock, Trace, moment
from oo_sdk import (
    Connector,
    ConnectorBug,
    OAuth2,
    Placeholder,
    Response,
    RetryLater,
    Sign,
    SignInAgain,
)
from oo_sdk.answers import WAITS, asked_wait, decoded, meaning
from oo_vault import ClientBroken, CredentialGone, Grant, Secret, SignInNeeded, TryLater

_RESERVED_HEADERS = {
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[ -~]*")
#: What goes with a request that says nothing else.
_PLAIN: Mapping[str, str] = MappingProxyType({"Accept": "application/json"})
_USUAL = frozenset({"DELETE", "GET", "PATCH", "POST", "PUT"})
#: How long to wait for an operator to put a registration right.
_CLIENT_BROKEN = timedelta(minutes=15)


class Authority(Protocol):
    """Where a session gets its credential from."""

    def held(self) -> Grant | None:
        """A grant that is at hand and can be used now; None: `grant` looks for one."""

    async def grant(self, *, force_after: int | None = None) -> Grant:
        """A grant that can be used now; `force_after` names the version that was refused with a 401."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Our registration, opened."""

    id: str
    secrets: Sequence[Secret] = field(repr=False)


class Gate(Protocol):
    """What each call of a session passes: the provider's limits, and whether it works at all."""

    def at_once(self) -> bool:
        """Take a turn that is there. False: `enter` waits for one."""

    async def enter(self) -> None:
        """Wait a little for a turn. Raises `QuotaSpent` or `RetryLater` where it would take longer."""

    def heard(self, status: int | None) -> None:
        """Note what came of the call; None: no answer."""

    async def asked(self, status: int, wait: timedelta | None) -> None:
        """Note how long the provider asks us to wait; with 429 it does, though it may not say how long."""


class OpenGate:
    """Lets everything through."""

    def at_once(self) -> bool:
        """Go on."""
        return True

    async def enter(self) -> None:
        """Go on."""

    def heard(self, status: int | None) -> None:
        """Forget it."""

    async def asked(self, status: int, wait: timedelta | None) -> None:
        """Forget it."""


@dataclass(slots=True, kw_only=True, eq=False)
class Calls:
    """Counts what is asked of a provider."""

    made: int = 0
    bytes: int = 0  #: of answers


class SignedSession:
    """The SDK's `Session` for one connection.

    `used` is told the host of each request that a credential goes with. The session holds one function, in whose closure the rest is: no
    attribute leads to a credential, and an error that leaves has neither a context nor frames in which one could be found.
    """

    __slots__ = ("_answer",)

    def __init__(
        self,
        *,
        connector: Connector,
        client: Client | None,
        authority: Authority,
        transport: Transport,
        clock: Clock,
        calls: Calls | None = None,
        gate: Gate | None = None,
        used: Callable[[str], None] = lambda _: None,
        trace: Trace = UNTRACED,
    ) -> None:
        revoke = connector.auth.revoke if isinstance(connector.auth, OAuth2) else None
        hosts, calls, gate = tuple(connector.hosts), calls or Calls(), gate or OpenGate()
        signer = _Signer(connector, hosts, revoke, client, authority, transport, clock, calls, gate, used, trace)

        def answer(asked: _Asked) -> Coroutine[Any, Any, Response]:
            return signer.answer(asked)

        self._answer = answer

    def get(self, url: str, *, into: type[Any] | None = None, params: Mapping[str, Any] | None = None) -> Coroutine[Any, Any, Any]:
        """GET."""
        return self.request("GET", url, into=into, params=params)

    def post(
        self, url: str, *, into: type[Any] | None = None, form: Mapping[str, Any] | None = None, json: Any = None, sign: Sign = Sign.USER
    ) -> Coroutine[Any, Any, Any]:
        """POST."""
        return self.request("POST", url, into=into, form=form, json=json, sign=sign)

    async def request(
        self,
        method: str,
        url: str,
        *,
        into: type[Any] | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, Any] | None = None,
        json: Any = None,
        sign: Sign = Sign.USER,
        accept: tuple[int, ...] = (),
    ) -> Any:
        """Send one request, and once more after a 401 with a refreshed credential."""
        asked = _Asked(
            method=_method(method),
            url=_with_params(url, params) if params else url,
            headers=_headers(headers) if headers else _PLAIN,
            form=form,
            json=json,
            sign=sign,
            accept=accept,
        )
        try:
            response = await self._answer(asked)
        except BaseException as error:  # a cancelled request too has frames of the library behind it that hold our headers
            fault = error
        else:
            return response if into is None else decoded(response, into)
        fault.__cause__ = fault.__context__ = None
        raise fault.with_traceback(None)


@dataclass(slots=True, kw_only=True)  # not frozen, which sets each field through a function: one is made for each request
class _Asked:
    """A request as its connector wrote it, with nothing secret in it yet."""

    method: str
    url: str
    headers: Mapping[str, str]
    form: Mapping[str, Any] | None
    json: Any
    sign: Sign
    accept: tuple[int, ...]


@dataclass(slots=True, repr=False, eq=False)
class _Signer:
    """Signs requests, sends them, and says what the answers mean."""

    connector: Connector
    hosts: tuple[str, ...]
    revoke: str | None
    client: Client | None
    authority: Authority
    transport: Transport
    clock: Clock
    calls: Calls
    gate: Gate
    used: Callable[[str], None]
    trace: Trace
    secret: int = 0  #: which of our client's secrets the provider takes
    spelled: tuple[Grant | None, _Secrets] | None = None

    async def answer(self, asked: _Asked) -> Response:
        host = bounds.check(asked.url, self._hosts(asked))
        version: int | None = None
        while True:
            grant = None
            if asked.sign is Sign.USER or _holds_token((asked.form, asked.json)):
                grant = self.authority.held() if version is None else None
                if grant is None:
                    grant = await self._grant(version)
            secrets = self._secrets(grant)
            response = _scrubbed(await self._send(_signed(asked, secrets)), secrets.spellings)
            if grant is not None:
                self.used(host)
            if response.status == 401 and asked.sign is Sign.CLIENT and self._next_secret():
                continue
            if response.status != 401 or asked.sign is not Sign.USER or grant is None or version is not None:
                break
            version = grant.token_version
        if 200 <= response.status < 300 or response.status in asked.accept:
            return response
        raise meaning(self.connector, response, asked.sign, moment(self.clock.now()))

    def _hosts(self, asked: _Asked) -> tuple[str, ...]:
        """Where this request may go: the declared hosts, and the one address at which the connector says that tokens are revoked."""
        if asked.sign is not Sign.CLIENT or self.revoke is None or (asked.method, asked.url) != ("POST", self.revoke):
            return self.hosts
        return (bounds.declared(self.revoke),)

    async def _grant(self, refused: int | None) -> Grant:
        try:
            return await self.authority.grant(force_after=refused)
        except (SignInNeeded, CredentialGone) as gone:
            why = self.connector.auth.ends if self.connector.auth else ""
            raise SignInAgain(f"{gone} {why}".strip()) from None
        except TryLater as later:
            raise RetryLater(str(later), after=timedelta(seconds=later.after)) from None
        except ClientBroken as broken:
            raise RetryLater(str(broken), after=_CLIENT_BROKEN) from None

    def _next_secret(self) -> bool:
        """Go on with the next of our client's secrets: newest first, and the provider may not know that one yet. False after the last."""
        known = len(self.client.secrets) if self.client else 0
        self.secret = self.secret + 1 if self.secret + 1 < known else 0
        self.spelled = None
        return self.secret > 0

    def _secrets(self, grant: Grant | None) -> _Secrets:
        """What is filled in with this grant; spelled out once for each."""
        if self.spelled is None or self.spelled[0] is not grant:
            signed = None if grant is None else signature(self.connector.auth, grant)
            values = self._values(grant, signed)
            names = frozenset(name.lower() for name in signed.headers) if signed else frozenset()
            spellings = tuple(dict.fromkeys(_spellings(values, signed)))
            self.spelled = grant, _Secrets(values, signed, spellings, names, _plain(signed))
        return self.spelled[1]

    def _values(self, grant: Grant | None, signed: Signature | None) -> dict[Placeholder, Secret]:
        values = {}
        if self.client is not None:
            values[Placeholder.CLIENT_ID] = Secret(self.client.id)
            values[Placeholder.CLIENT_SECRET] = self.client.secrets[self.secret] if self.client.secrets else Secret("")
        if grant is not None and signed is not None:
            values[Placeholder.ACCESS_TOKEN] = signed.secrets[0]
            values[Placeholder.REFRESH_TOKEN] = grant.refresh_token or Secret("")
        return values

    async def _send(self, request: Request) -> Response:
        if not self.gate.at_once():
            await self.gate.enter()
        self.calls.made += 1
        try:
            with self.trace.span("call", provider=self.connector.id, method=request.method):
                response = await self.transport.send(request)
                self.trace.note(status=response.status)
        except (NotSent, NoAnswer) as error:
            self.gate.heard(None)
            raise RetryLater(str(error)) from None
        self.calls.bytes += len(response.body)
        self.gate.heard(response.status)
        if response.status == 429 or not WAITS.isdisjoint(response.headers):
            await self.gate.asked(response.status, asked_wait(response.headers, moment(self.clock.now())))
        return response


def _plain(signed: Signature | None) -> Mapping[str, str] | None:
    if signed is None or signed.parameters or not signed.headers.keys().isdisjoint(_PLAIN):
        return None
    return MappingProxyType({**_PLAIN, **signed.headers})


def _signed(asked: _Asked, secrets: _Secrets) -> Request:
    if asked.headers is _PLAIN and asked.sign is Sign.USER and asked.form is asked.json is None and secrets.plain is not None:
        return Request(method=asked.method, url=asked.url, headers=secrets.plain)
    headers, body, values, url = {**asked.headers}, None, secrets.values, asked.url
    if asked.form is not None:
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        body = _encoded(lambda form: urlencode(form, doseq=True).encode(), _filled(asked.form, values))
    elif asked.json is not None:
        headers.setdefault("Content-Type", "application/json")
        body = _encoded(msgspec.json.encode, _filled(asked.json, values))
    if asked.sign is Sign.USER and secrets.signed is not None:
        ours = secrets.names
        headers = {name: value for name, value in headers.items() if name.lower() not in ours} | dict(secrets.signed.headers)
        if secrets.signed.parameters:
            url = secrets.signed.address(url)
    elif asked.sign is Sign.CLIENT:
        headers["Authorization"] = basic(_filled(Placeholder.CLIENT_ID, values), _filled(Placeholder.CLIENT_SECRET, values))
    return Request(method=asked.method, url=url, headers=headers, body=body)


def _encoded(encode: Callable[[Any], bytes], filled: Any) -> bytes:
    try:
        return encode(filled)
    except (TypeError, ValueError, RecursionError):
        pass
    raise ConnectorBug("a form or JSON body cannot be encoded")  # out here: the encoder's error and its frames hold what was filled in


def _with_params(url: str, params: Mapping[str, Any]) -> str:
    query = {name: value for name, value in params.items() if value is not None}
    if any(_placeholders(query)):
        raise ConnectorBug("a placeholder belongs into a form or a JSON body: addresses end up in logs")
    if not query:
        return url
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query, doseq=True)}"


def _method(method: str) -> str:
    # CONNECT opens a tunnel, and TRACE sends the headers back.
    if method in _USUAL:
        return method
    if not re.fullmatch("[A-Z]+", method) or method in {"CONNECT", "TRACE"}:
        raise ConnectorBug("a request's method is a word in capitals, such as GET")
    return method


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    plain = {**_PLAIN}
    for name, value in headers.items():
        sendable = _HEADER_NAME.fullmatch(name) and isinstance(value, str) and _HEADER_VALUE.fullmatch(value)
        if not sendable or name.lower() in _RESERVED_HEADERS:
            raise ConnectorBug("a header is the session's own or cannot be sent")
        plain[name.title()] = value  # one spelling, so that a connector's own replaces ours
    return plain


def _holds_token(value: Any) -> bool:
    return any(held in {Placeholder.ACCESS_TOKEN, Placeholder.REFRESH_TOKEN} for held in _placeholders(value))


def _placeholders(value: Any) -> Iterator[Placeholder]:
    match value:
        case Placeholder():
            yield value
        case Mapping():
            for item in value.values():
                yield from _placeholders(item)
        case list() | tuple():
            for item in value:
                yield from _placeholders(item)


def _filled(value: Any, values: Mapping[Placeholder, Secret]) -> Any:
    match value:
        case Placeholder():
            if value not in values:
                raise ConnectorBug(f"there is no {value.value} to fill in")
            return values[value].reveal()
        case Mapping():
            return {name: _filled(item, values) for name, item in value.items()}
        case list() | tuple():
            return [_filled(item, values) for item in value]
        case _:
            return value


@dataclass(frozen=True, slots=True)
class _Secrets:
    """What is secret of ours in a request, and every spelling of it that an echo could have."""

    values: Mapping[Placeholder, Secret]
    signed: Signature | None = field(repr=False)
    spellings: Sequence[tuple[str, bytes]] = field(repr=False)
    names: frozenset[str]  #: of the headers that sign, in small letters
    plain: Mapping[str, str] | None = field(repr=False)  #: headers of a request that says nothing else, where nothing but they sign it


def _scrubbed(response: Response, spellings: Sequence[tuple[str, bytes]]) -> Response:
    """The answer without what is secret of ours, should a provider echo it: as it is, or as it was sent."""
    body, headers = response.body, response.headers
    all_headers = "\n".join(headers.values())
    for text, encoded in spellings:
        if encoded in body or text in all_headers:
            break
    else:  # as nearly always
        return response
    for text, encoded in spellings:
        if encoded in body:
            body = body.replace(encoded, b"...")
        if text in all_headers:
            headers = {name: value.replace(text, "...") for name, value in headers.items()}
    return Response(status=response.status, headers=headers, body=body)


def _spellings(values: Mapping[Placeholder, Secret], signed: Signature | None) -> Iterator[tuple[str, bytes]]:
    plain = {placeholder: secret.reveal() for placeholder, secret in values.items()}
    if plain.get(Placeholder.CLIENT_SECRET):
        text = basic(plain[Placeholder.CLIENT_ID], plain[Placeholder.CLIENT_SECRET]).removeprefix("Basic ")
        yield text, text.encode()
    ours = [text for placeholder, text in plain.items() if placeholder is not Placeholder.CLIENT_ID]
    for text in [*ours, *(secret.reveal() for secret in (signed.secrets if signed else ()))]:
        if text:
            for spelled in dict.fromkeys((text, quote_plus(text), msgspec.json.encode(text).decode()[1:-1])):
                yield spelled, spelled.encode()
