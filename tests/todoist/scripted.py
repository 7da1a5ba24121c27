"""A session that plays a script: it gives prepared answers in order, and keeps what was asked."""

from __future__ import annotations

import json as jsons
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from oo_sdk import (
    ConnectorBug,
    Context,
    OAuth2,
    Response,
    RetryLater,
    Sign,
    Signal,
    SignInAgain,
    StoredCredential,
    decode,
)
from oo_todoist import Todoist

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request, as the connector made it."""

    method: str
    url: str
    params: Mapping[str, Any]
    form: Mapping[str, Any]
    json: Any
    sign: Sign


def answer(body: Any, status: int = 200) -> Response:
    """Make an answer of JSON, or of bytes as they are."""
    return Response(status=status, headers={}, body=body if isinstance(body, bytes) else jsons.dumps(body).encode())


class Script:
    """Keeps the contract of `oo_sdk.Session` for prepared answers; asking for more of them than there are is a failure."""

    def __init__(self, *answers: Any) -> None:
        self.answers = [each if isinstance(each, Response) else answer(each) for each in answers]
        self.asked: list[Asked] = []

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
        """Give the next answer."""
        self.asked.append(Asked(method=method, url=url, params=params or {}, form=form or {}, json=json, sign=sign))
        given = self.answers.pop(0)
        if given.status >= 300 and given.status not in accept:
            explained = Todoist().explain(given)
            if explained is not None:
                raise explained
            if given.status in Todoist.errors:
                raise Todoist.errors[given.status](f"status {given.status}")
            if given.status == 401:
                raise SignInAgain("the sign-in is gone")
            if given.status == 429 or given.status >= 500:
                raise RetryLater
            raise ConnectorBug(f"status {given.status}")
        return given if into is None else decode(given.body, into)

    async def get(self, url: str, *, into: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        """Ask by GET."""
        return await self.request("GET", url, into=into, params=params)

    async def post(
        self, url: str, *, into: Any = None, form: Mapping[str, Any] | None = None, json: Any = None, sign: Sign = Sign.USER
    ) -> Any:
        """Ask by POST."""
        return await self.request("POST", url, into=into, form=form, json=json, sign=sign)


class StoppedClock:
    """A clock that stands at `NOW`."""

    def now(self) -> datetime:
        """Give `NOW`."""
        return NOW

    def monotonic(self) -> float:
        """Give zero."""
        return 0.0

    async def sleep(self, seconds: float) -> None:
        """Fail: nothing in this connector waits."""
        raise AssertionError("the connector waits")


class Silence:
    """A logger that keeps nothing."""

    def debug(self, event: str, **fields: Any) -> None:
        """Keep nothing."""

    info = debug
    warning = debug


def context(http: Script, *, scopes: Iterable[str] = ("data:read",), first_fetch_from: datetime | None = None) -> Context:
    """Make what a connector is given for one connection."""
    return Context(http=http, meta={}, scopes=frozenset(scopes), first_fetch_from=first_fetch_from, clock=StoppedClock(), log=Silence())


async def everything(signals: AsyncIterator[Signal]) -> list[Signal]:
    """Take all that is yielded."""
    return [signal async for signal in signals]


@dataclass(kw_only=True)
class SignIn:
    """One sign-in under way, whose exchange always succeeds."""

    auth: OAuth2
    http: Script
    client_id: str = "client"
    redirect_uri: str = "https://oo.example/oauth/r/callback"
    state: str = "a-state"
    challenge: str | None = None
    scopes: tuple[str, ...] = ("data:read", "data:read_write")
    codes: list[str] = field(default_factory=list)

    async def exchange(self, code: str) -> StoredCredential:
        """Note the code."""
        self.codes.append(code)
        return StoredCredential(scopes=frozenset(self.scopes), expires_in=3600, refreshable=True, claims={"token_type": "Bearer"})
