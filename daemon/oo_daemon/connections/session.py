"""The signed-in session: what a connector is given instead of a token.

It adds the credential, refreshes it unseen, keeps it within the connector's hosts, and says what went wrong in the SDK's words, with
nothing of the request in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec

from oo_daemon.connections import bounds
from oo_daemon.connections.retry_after import retry_after
from oo_daemon.connections.token_endpoint import basic
from oo_daemon.connections.transport import NoAnswer, NotSent, Request, Transport
from oo_daemon.ports import Clock
from oo_sdk import (
    ApiRetired,
    Connector,
    ConnectorBug,
    ConnectorError,
    Placeholder,
    QuotaSpent,
    Response,
    RetryLater,
    Sign,
    SignInAgain,
    Unreadable,
    decode,
)
from oo_vault import ClientBroken, CredentialGone, Grant, Secret, SignInNeeded, TryLater

_RESERVED_HEADERS = {"authorization", "host", "content-length", "transfer-encoding", "connection", "proxy-authorization", "cookie"}


class Authority(Protocol):
    """Where a session gets its credential from."""

    async def grant(self, *, force_after: int | None = None) -> Grant:
        """A grant that can be used now; `force_after` names the version that was refused with a 401."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Our registration, opened."""

    id: str
    secrets: Sequence[Secret] = field(repr=False)


class SignedSession:
    """The SDK's `Session` for one connection."""

    def __init__(self, *, connector: Connector, client: Client | None, authority: Authority, transport: Transport, clock: Clock) -> None:
        self.__connector = connector
        self.__client = client
        self.__authority = authority
        self.__transport = transport
        self.__clock = clock

    async def get(self, url: str, *, into: type[Any] | None = None, params: Mapping[str, Any] | None = None) -> Any:
        """GET."""
        return await self.request("GET", url, into=into, params=params)

    async def post(
        self, url: str, *, into: type[Any] | None = None, form: Mapping[str, Any] | None = None, json: Any = None, sign: Sign = Sign.USER
    ) -> Any:
        """POST."""
        return await self.request("POST", url, into=into, form=form, json=json, sign=sign)

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
        url = _with_params(url, params)
        bounds.check(url, self.__connector.hosts)
        plain = _headers(method, headers)
        version: int | None = None
        for attempt in (1, 2):
            grant = await self._grant(version) if sign is Sign.USER or _holds_token((form, json)) else None
            request = self._signed(method, url, plain, form, json, sign, grant)
            response = _scrubbed(await self._send(request), grant)
            if response.status != 401 or sign is not Sign.USER or grant is None or attempt == 2:
                break
            version = grant.token_version
        if 200 <= response.status < 300 or response.status in accept:
            return response if into is None else self._decoded(response, into)
        raise self._explained(response)

    async def _grant(self, refused: int | None) -> Grant:
        try:
            return await self.__authority.grant(force_after=refused)
        except (SignInNeeded, CredentialGone) as gone:
            raise SignInAgain(str(gone)) from None
        except TryLater as later:
            raise RetryLater(str(later), after=timedelta(seconds=later.after)) from None
        except ClientBroken as broken:
            raise RetryLater(str(broken), after=timedelta(minutes=15)) from None

    def _signed(
        self, method: str, url: str, headers: dict[str, str], form: Mapping[str, Any] | None, json: Any, sign: Sign, grant: Grant | None
    ) -> Request:
        values = self._values(grant)
        headers = dict(headers)
        body: bytes | None = None
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(_filled(form, values), doseq=True).encode()
        elif json is not None:
            headers["Content-Type"] = "application/json"
            body = msgspec.json.encode(_filled(json, values))
        if sign is Sign.USER and grant is not None:
            headers["Authorization"] = f"Bearer {grant.access_token.reveal()}"
        elif sign is Sign.CLIENT:
            headers["Authorization"] = basic(values[Placeholder.CLIENT_ID], values[Placeholder.CLIENT_SECRET])
        return Request(method=method, url=url, headers=headers, body=body)

    def _values(self, grant: Grant | None) -> dict[Placeholder, str]:
        values = {}
        if self.__client is not None:
            values[Placeholder.CLIENT_ID] = self.__client.id
            values[Placeholder.CLIENT_SECRET] = self.__client.secrets[0].reveal() if self.__client.secrets else ""
        if grant is not None:
            values[Placeholder.ACCESS_TOKEN] = grant.access_token.reveal()
            values[Placeholder.REFRESH_TOKEN] = grant.refresh_token.reveal() if grant.refresh_token else ""
        return values

    async def _send(self, request: Request) -> Response:
        try:
            return await self.__transport.send(request)
        except (NotSent, NoAnswer) as error:
            raise RetryLater(str(error)) from None

    def _decoded(self, response: Response, into: type[Any]) -> Any:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in {"text/html", "application/xhtml+xml"}:
            raise RetryLater(f"the provider answered {response.status} with a web page where JSON was asked for")
        try:
            msgspec.json.decode(response.body, type=msgspec.Raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise RetryLater(f"the provider answered {response.status} with JSON that is cut short or broken") from None
        return decode(response.body, into)

    def _explained(self, response: Response) -> ConnectorError:
        explained = self.__connector.explain(response)
        if explained is not None:
            return explained
        message = f"the provider answered {response.status}"
        meant = self.__connector.errors.get(response.status)
        after = retry_after(response.headers.get("retry-after"), self.__clock.now())
        wait = None if after is None else timedelta(seconds=after)
        if meant is RetryLater:
            return RetryLater(message, after=wait)
        if meant is not None and not issubclass(meant, QuotaSpent | Unreadable):
            return meant(message)
        match response.status:
            case 401:
                return SignInAgain("the provider refuses the credential, also after it was renewed")
            case 410:
                return ApiRetired("the provider says that this address is gone for good")
            case 408 | 425 | 429:
                return RetryLater(message, after=wait)
            case status if status >= 500:
                return RetryLater(message, after=wait)
            case _:
                return ConnectorBug(message)


def _with_params(url: str, params: Mapping[str, Any] | None) -> str:
    if not params:
        return url
    parts = urlsplit(url)
    query = urlencode([(name, value) for name, value in params.items() if value is not None], doseq=True)
    return urlunsplit(parts._replace(query="&".join(filter(None, [parts.query, query]))))


def _headers(method: str, headers: Mapping[str, str] | None) -> dict[str, str]:
    if not (method.isascii() and method.isalpha() and method.isupper()):
        raise ConnectorBug("a request's method is a word in capitals")
    plain = {"Accept": "application/json"}
    for name, value in (headers or {}).items():
        if name.lower() in _RESERVED_HEADERS or any(character < " " for character in name + value):
            raise ConnectorBug(f"the header {name!r} is the session's own or cannot be sent")
        plain[name] = value
    return plain


def _holds_token(value: Any) -> bool:
    match value:
        case Placeholder():
            return value in {Placeholder.ACCESS_TOKEN, Placeholder.REFRESH_TOKEN}
        case Mapping():
            return any(_holds_token(item) for item in value.values())
        case list() | tuple():
            return any(_holds_token(item) for item in value)
        case _:
            return False


def _filled(value: Any, values: Mapping[Placeholder, str]) -> Any:
    match value:
        case Placeholder():
            if value not in values:
                raise ConnectorBug(f"there is no {value.value} to fill in")
            return values[value]
        case Mapping():
            return {name: _filled(item, values) for name, item in value.items()}
        case list() | tuple():
            return [_filled(item, values) for item in value]
        case _:
            return value


def _scrubbed(response: Response, grant: Grant | None) -> Response:
    """The answer without our tokens, should a provider echo them."""
    if grant is None:
        return response
    body, headers = response.body, dict(response.headers)
    for secret in filter(None, (grant.access_token, grant.refresh_token)):
        token = secret.reveal()
        if token.encode() in body:
            body = body.replace(token.encode(), b"...")
        headers = {name: value.replace(token, "...") for name, value in headers.items()}
    return Response(status=response.status, headers=headers, body=body)
