"""The session of the tests: it means the same by every answer as the daemon's, and goes to a provider in memory."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec

from oo_sdk.answers import decoded, meaning
from oo_sdk.auth import ApiKey, OAuth2
from oo_sdk.connector import Connector
from oo_sdk.errors import ConnectorBug, ConnectorError, RetryLater
from oo_sdk.session import Placeholder, Response, Sign
from oo_sdk.testing.provider import Provider, Request

#: What is secret in these tests: none of it may come to light.
CANARIES: Final[Mapping[Placeholder, str]] = {
    Placeholder.ACCESS_TOKEN: "canary-access-token-4711",
    Placeholder.REFRESH_TOKEN: "canary-refresh-token-4711",
    Placeholder.CLIENT_ID: "client-of-the-tests",
    Placeholder.CLIENT_SECRET: "canary-client-secret-4711",
}
CODE: Final = "canary-code-4711"
#: What a person enters where nothing is secret.
TOLD: Final = "ada"


class Dropped(Exception):
    """A provider raises it in place of an answer: the connection broke."""


@dataclass(kw_only=True)
class Played:
    """Keeps the contract of `oo_sdk.Session` over a provider in memory, and notes what the connector did with it."""

    connector: Connector
    provider: Provider
    now: Callable[[], datetime]
    asked: list[Request] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)  #: hosts that are not declared
    raised: list[ConnectorError] = field(default_factory=list)
    renewals: int = 0  #: a renewal gives new tokens of both kinds, and spends those before

    async def request(
        self,
        method: str,
        url: str,
        *,
        into: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, Any] | None = None,
        json: Any = None,
        sign: Sign = Sign.USER,
        accept: tuple[int, ...] = (),
    ) -> Any:
        """Send one request."""
        try:
            response = await self._answer(method, url, params, headers, form, json, sign, accept)
            return response if into is None else decoded(response, into)
        except ConnectorError as error:
            self.raised.append(error)
            raise

    async def get(self, url: str, *, into: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        """GET."""
        return await self.request("GET", url, into=into, params=params)

    async def post(
        self, url: str, *, into: Any = None, form: Mapping[str, Any] | None = None, json: Any = None, sign: Sign = Sign.USER
    ) -> Any:
        """POST."""
        return await self.request("POST", url, into=into, form=form, json=json, sign=sign)

    async def _answer(
        self,
        method: str,
        url: str,
        params: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        form: Mapping[str, Any] | None,
        json: Any,
        sign: Sign,
        accept: tuple[int, ...],
    ) -> Response:
        self._check_host(method, url, sign)
        query = {name: value for name, value in (params or {}).items() if value is not None}
        if query:
            url = f"{url}{'&' if '?' in url else '?'}{urlencode(query, doseq=True)}"
        sent = {"accept": "application/json"} | {name.lower(): value for name, value in (headers or {}).items()}
        body = self._body(form, json)
        if form is not None or json is not None:
            sent.setdefault("content-type", "application/json" if form is None else "application/x-www-form-urlencoded")
        response = await self._sent(self._request(method, url, sent, body, sign))
        if response.status == 401 and sign is Sign.USER and not self.renewals and not isinstance(self.connector.auth, ApiKey):
            self.renewals += 1
            response = await self._sent(self._request(method, url, sent, self._body(form, json), sign))
        if 200 <= response.status < 300 or response.status in accept:
            return _scrubbed(response)
        raise meaning(self.connector, _scrubbed(response), sign, self.now())

    def _request(self, method: str, url: str, headers: Mapping[str, str], body: bytes, sign: Sign) -> Request:
        """The request, signed."""
        signature, parameters = self._signature(sign)
        signed = dict(headers) | {name.lower(): value for name, value in signature.items()}
        if parameters:
            url = f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}"
        return Request(method=method, url=url, headers=signed, body=body)

    async def _sent(self, request: Request) -> Response:
        self.asked.append(request)
        try:
            return await self.provider.answer(request)
        except Dropped:
            raise RetryLater("the connection to the provider broke") from None

    def _body(self, form: Mapping[str, Any] | None, json: Any) -> bytes:
        if form is not None:
            return urlencode(self._filled(form), doseq=True).encode()
        return b"" if json is None else msgspec.json.encode(self._filled(json))

    def _signature(self, sign: Sign) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Headers, and parameters of the address."""
        auth = self.connector.auth
        if sign is Sign.NOBODY:
            return {}, {}
        if sign is Sign.CLIENT:
            pair = f"{CANARIES[Placeholder.CLIENT_ID]}:{CANARIES[Placeholder.CLIENT_SECRET]}"
            return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}, {}
        token = self._secret(Placeholder.ACCESS_TOKEN)
        if isinstance(auth, ApiKey):
            return auth.signature({each.id: token if each.secret else TOLD for each in auth.fields})
        return {"authorization": f"Bearer {token}"}, {}

    def _secret(self, placeholder: Placeholder) -> str:
        token = placeholder in {Placeholder.ACCESS_TOKEN, Placeholder.REFRESH_TOKEN}
        return CANARIES[placeholder] + ("-renewed" if token and self.renewals else "")

    def _filled(self, value: Any) -> Any:
        match value:
            case Placeholder():
                return self._secret(value)
            case Mapping():
                return {name: self._filled(item) for name, item in value.items()}
            case list() | tuple():
                return [self._filled(item) for item in value]
        return value

    def _check_host(self, method: str, url: str, sign: Sign) -> None:
        revoke = self.connector.auth.revoke if isinstance(self.connector.auth, OAuth2) else None
        if revoke is not None and (method, url, sign) == ("POST", revoke, Sign.CLIENT):
            return
        host = urlsplit(url).netloc
        if host.lower() not in {each.lower() for each in self.connector.hosts}:
            self.strange.append(host)
            raise ConnectorBug(f"{host} is none of the declared hosts")


def _scrubbed(response: Response) -> Response:
    body = response.body
    for placeholder, secret in CANARIES.items():
        if placeholder is not Placeholder.CLIENT_ID:
            body = body.replace(secret.encode(), b"...")
    return Response(status=response.status, headers=response.headers, body=body)
