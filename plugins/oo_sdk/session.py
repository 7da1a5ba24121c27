"""The signed-in HTTP session that a connector is given instead of a token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeVar, overload

T = TypeVar("T")


class Sign(Enum):
    """Who a request is signed as."""

    USER = "user"  #: the connection's credential, as a bearer token
    CLIENT = "client"  #: our registration, by HTTP Basic
    NOBODY = "nobody"


class Placeholder(Enum):
    """Stands in a form or JSON body for something the connector never sees; the session fills it in."""

    ACCESS_TOKEN = "access_token"  # noqa: S105 - the name of a thing, not the thing
    REFRESH_TOKEN = "refresh_token"  # noqa: S105 - likewise
    CLIENT_ID = "client_id"
    CLIENT_SECRET = "client_secret"  # noqa: S105 - likewise


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What a provider answered; `body` whole, after decompression. Credentials of ours are never in it."""

    status: int
    headers: Mapping[str, str]  #: names in lower case
    body: bytes = field(repr=False)


class Session(Protocol):
    """Requests to the connector's `hosts`, signed, bounded and timed.

    The session adds the credential and refreshes it, follows no redirect, caps the answer's size, takes no proxy from the
    environment, and turns faults into the errors of `oo_sdk.errors`: a 401 that stays after one refresh is `SignInAgain`; 429, 5xx,
    time-outs, broken connections, HTML or cut JSON where JSON was asked for are `RetryLater`; what the connector's `errors` names is that;
    any other status of 300 and more is `ConnectorBug`. 403 and 429 are `QuotaSpent` where the provider says that nothing is left and when
    there is more (`RateLimit-Remaining` and `RateLimit-Reset`, with or without `X-`), and a 403 with `Retry-After` is `RetryLater`. With
    `into` the JSON body is decoded and checked (`oo_sdk.decode`).

    `form` and `json` values may be `Placeholder`s, at any depth. `accept` lists statuses of 300 and more to be returned, not raised.
    """

    @overload
    async def request(
        self,
        method: str,
        url: str,
        *,
        into: type[T],
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, Any] | None = None,
        json: Any = None,
        sign: Sign = Sign.USER,
        accept: tuple[int, ...] = (),
    ) -> T: ...
    @overload
    async def request(
        self,
        method: str,
        url: str,
        *,
        into: None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, Any] | None = None,
        json: Any = None,
        sign: Sign = Sign.USER,
        accept: tuple[int, ...] = (),
    ) -> Response: ...

    @overload
    async def get(self, url: str, *, into: type[T], params: Mapping[str, Any] | None = None) -> T: ...
    @overload
    async def get(self, url: str, *, into: None = None, params: Mapping[str, Any] | None = None) -> Response: ...

    @overload
    async def post(
        self, url: str, *, into: type[T], form: Mapping[str, Any] | None = None, json: Any = None, sign: Sign = Sign.USER
    ) -> T: ...
    @overload
    async def post(
        self, url: str, *, into: None = None, form: Mapping[str, Any] | None = None, json: Any = None, sign: Sign = Sign.USER
    ) -> Response: ...
