"""Providers in memory: what answers a connector's requests in its tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from oo_sdk.session import Response


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it would have gone out, with its credential."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)  #: names in lower case
    body: bytes = field(default=b"", repr=False)

    @property
    def path(self) -> str:
        """The path of its address."""
        return urlsplit(self.url).path

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters of its address."""
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))

    @property
    def form(self) -> Mapping[str, str]:
        """Its body, read as a form."""
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))

    @property
    def json(self) -> Any:
        """Its body, read as JSON."""
        return msgspec.json.decode(self.body)


class Provider(Protocol):
    """Answers requests as a provider does."""

    async def answer(self, request: Request) -> Response:
        """Answer one request."""


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    kind = {"content-type": "application/json"}
    return Response(status=status, headers=kind | dict(headers or {}), body=msgspec.json.encode(body))


Route: TypeAlias = Callable[[Request], Response]


class Routes:
    """A provider made of functions: `Routes({"GET /v1/notes": notes})`. What has no route is answered with 404."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self.routes: dict[str, Route] = dict(routes)

    async def answer(self, request: Request) -> Response:
        """Ask the function of this method and path."""
        route = self.routes.get(f"{request.method} {request.path}")
        return json_answer({"error": "not found"}, status=404) if route is None else route(request)


class Turn(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A line of a tape: one request, and what was answered."""

    method: str
    url: str
    body: str = ""
    status: int = 200
    headers: dict[str, str] = {}
    answer: str = ""


class Tape:
    """A provider that gives recorded answers: a file with one JSON object a line.

    A request is known by method, address and body. Where the same one was recorded more than once, its answers come in their order,
    and the last of them again and again.
    """

    def __init__(self, path: Path | str) -> None:
        self.turns: dict[tuple[str, str, str], list[Turn]] = {}
        self.played: Counter[tuple[str, str, str]] = Counter()
        for line in Path(path).read_bytes().splitlines():
            turn = msgspec.json.decode(line, type=Turn)
            self.turns.setdefault(known_by(turn.method, turn.url, turn.body), []).append(turn)

    async def answer(self, request: Request) -> Response:
        """Give the next answer that was recorded for it."""
        key = known_by(request.method, request.url, request.body.decode())
        turns = self.turns.get(key)
        if turns is None:
            return json_answer({"error": "this is not on the tape: record it again"}, status=404)
        turn = turns[min(self.played[key], len(turns) - 1)]
        self.played[key] += 1
        return Response(status=turn.status, headers=turn.headers, body=turn.answer.encode())


def known_by(method: str, url: str, body: str) -> tuple[str, str, str]:
    """What a request on a tape is found by: the order of its parameters does not matter."""
    parts = urlsplit(url)
    query = urlencode(sorted(parse_qsl(parts.query, keep_blank_values=True)))
    return method, f"{parts.scheme}://{parts.netloc}{parts.path}?{query}", body
