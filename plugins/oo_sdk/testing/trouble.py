"""Providers on which something goes wrong, and those that note what a connector asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any, Final, NoReturn

import msgspec

from oo_sdk.session import Placeholder, Response
from oo_sdk.testing.provider import Provider, Request, json_answer
from oo_sdk.testing.session import CANARIES, Dropped

OLD_TOKEN: Final = CANARIES[Placeholder.ACCESS_TOKEN]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One wrong answer; `make` may raise `Dropped`."""

    name: str
    make: Callable[[Response], Response]
    wait: timedelta | None = None  #: how long `RetryLater` must ask for


def _dropped(_: Response) -> NoReturn:
    raise Dropped


def answered(status: int, _: Response) -> Response:
    """An answer of this status and no more."""
    return json_answer({}, status=status)


def faults(now: datetime) -> Sequence[Fault]:
    """What providers do, sooner or later."""
    wait = timedelta(minutes=7)

    def limited(said: str) -> Callable[[Response], Response]:
        return lambda _: json_answer({"error": "slow down"}, status=429, headers={"retry-after": said})

    return (
        Fault(name="429 with seconds", make=limited("420"), wait=wait),
        Fault(name="429 with a date", make=limited(format_datetime(now + wait, usegmt=True)), wait=wait),
        Fault(name="500", make=lambda _: json_answer({"error": "oops"}, status=500)),
        Fault(name="a web page", make=lambda _: Response(status=200, headers={"content-type": "text/html"}, body=b"<h1>Sorry</h1>")),
        Fault(name="JSON that is cut", make=lambda good: replace(good, body=(good.body or b"[]")[:-1])),
        Fault(name="a broken connection", make=_dropped),
    )


@dataclass(kw_only=True)
class Spoilt:
    """A provider whose answers go wrong from one request on, for a number of requests."""

    provider: Provider
    at: int
    make: Callable[[Response], Response]
    times: int = 1
    asked: int = 0

    async def answer(self, request: Request) -> Response:
        """Answer, well or not."""
        number = self.asked
        self.asked += 1
        if not self.at <= number < self.at + self.times:
            return await self.provider.answer(request)
        return self.make(json_answer({}) if self.times > 1 else await self.provider.answer(request))


@dataclass(kw_only=True)
class Expiring:
    """A provider that takes no token of the first pair any more, from one request on."""

    provider: Provider
    at: int
    asked: int = 0

    async def answer(self, request: Request) -> Response:
        """Answer, or refuse a token that has run out."""
        self.asked += 1
        sent = f"{request.headers.get('authorization', '')} {request.url} {request.body!r}"
        if self.asked > self.at and OLD_TOKEN in sent and f"{OLD_TOKEN}-renewed" not in sent:
            return json_answer({"error": "the token has expired"}, status=401)
        return await self.provider.answer(request)


@dataclass(kw_only=True)
class Emptied:
    """A provider that puts a page with nothing on it before one of its pages. `token` leads to the page's name of the next one."""

    provider: Provider
    at: int
    token: tuple[str, ...]
    asked: int = 0
    kept: Response | None = None
    marker: str | int = 0

    async def answer(self, request: Request) -> Response:
        """Answer with the page, with an empty one that names the page as the next, or with the page that was named."""
        self.asked += 1
        if self.kept is not None and str(self.marker) in _values(request):
            return self.kept
        answer = await self.provider.answer(request)
        if self.asked - 1 != self.at:
            return answer
        page = msgspec.json.decode(answer.body)
        self.kept, self.marker = answer, 987_654_321 if isinstance(_at(page, self.token), int) else "the-page-behind-an-empty-one"
        return replace(answer, body=msgspec.json.encode(_emptied(page, self.token, self.marker)))


@dataclass(kw_only=True)
class Paged:
    """A provider whose requests and answers are kept, so as to see how one names the next."""

    provider: Provider
    turns: list[tuple[Request, Response]] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        """Answer, and keep both."""
        answer = await self.provider.answer(request)
        self.turns.append((request, answer))
        return answer

    def pages(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Pages with something on them that name the next one: their places, and where on the page that name stands."""
        for place, ((before, answer), (after, _)) in enumerate(pairwise(self.turns)):
            try:
                page = msgspec.json.decode(answer.body)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if before.path == after.path and isinstance(page, dict) and _lists(page):
                new = _values(after) - _values(before)
                token = next((path for path, value in _scalars(page) if str(value) in new), None)
                if token is not None:
                    yield place, token


@dataclass(kw_only=True)
class Lossy:
    """A provider that does what it is asked, while one of its answers is lost."""

    provider: Provider
    at: int
    asked: int = 0

    async def answer(self, request: Request) -> Response:
        """Answer, or lose the answer."""
        answer = await self.provider.answer(request)
        self.asked += 1
        if self.asked - 1 == self.at:
            raise Dropped
        return answer


@dataclass(kw_only=True)
class Revoking:
    """A provider that takes every token back, whatever else it knows."""

    provider: Provider

    async def answer(self, request: Request) -> Response:
        """Answer; what it has no answer for went well."""
        answer = await self.provider.answer(request)
        return json_answer({}) if answer.status == 404 else answer


def _values(request: Request) -> set[str]:
    """What stands in a request's parameters, form and JSON."""
    values = {*request.query.values(), *request.form.values()}
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        values |= {str(value) for _, value in _scalars(request.json)}
    return values


def _scalars(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Texts and numbers outside lists, and where they stand."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _scalars(inner, (*path, name))
    elif isinstance(value, str | int) and not isinstance(value, bool) and value != "":
        yield path, value


def _lists(page: Any) -> bool:
    """Say whether there is a list with something in it, outside of other lists."""
    inner = page.values() if isinstance(page, dict) else ()
    return any(bool(each) if isinstance(each, list) else _lists(each) for each in inner)


def _at(page: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        page = page[name]
    return page


def _emptied(page: Any, token: tuple[str, ...], marker: str | int) -> Any:
    """A page without what is on it, which names another as the next."""
    if not token:
        return marker
    if isinstance(page, dict):
        return {name: _emptied(value, token[1:] if token[0] == name else ("",), marker) for name, value in page.items()}
    return [] if isinstance(page, list) else page
