"""A small world for signing in and for signed requests: a clock, a scripted network, a raw server, a search for what must not be found."""

from __future__ import annotations

import asyncio
import random
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec

from oo_daemon.connections.transport import Request
from oo_daemon.ports import SECOND
from oo_sdk import Connector, OAuth2, Response, Scope
from oo_vault import Grant, Secret

NOW = 1_795_000_000 * SECOND
#: No test waits longer for anything.
PATIENCE = 5.0
SECRET = "canary/secret+0123456789"
TOKEN = "canary-token-0123456789"
REFRESH = "canary-refresh-0123456789"
CANARIES = (SECRET, TOKEN, REFRESH)


@dataclass
class Clock:
    """Time that passes only where somebody waits."""

    time: int = NOW

    def now(self) -> int:
        return self.time

    def monotonic(self) -> float:
        return self.time / SECOND

    async def sleep(self, seconds: float) -> None:
        self.time += int(seconds * SECOND)
        await asyncio.sleep(0)


class Chance:
    """The same chance each time."""

    def __init__(self) -> None:
        self._random = random.Random(7)

    def token_bytes(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


Say = Response | Exception | Callable[[Request], "Response | Exception"]


def says(status: int = 200, /, _headers: Mapping[str, str] | None = None, **members: Any) -> Response:
    """An answer in JSON."""
    return Response(status=status, headers={"content-type": "application/json", **(_headers or {})}, body=msgspec.json.encode(members))


@dataclass
class Script:
    """A network that says what it was told to, in order; the last for ever. It keeps what was sent."""

    answers: list[Say] = field(default_factory=lambda: [says()])
    sent: list[Request] = field(default_factory=list)
    gate: asyncio.Event | None = None  #: answers wait for it
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, request: Request) -> Response:
        self.sent.append(request)
        self.arrived.set()
        if self.gate is not None:
            async with asyncio.timeout(PATIENCE):
                await self.gate.wait()
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        await asyncio.sleep(0)
        return answer


def form_of(request: Request) -> dict[str, str]:
    """The form that was sent."""
    return {name: value for name, (value,) in parse_qs((request.body or b"").decode(), keep_blank_values=True).items()}


@dataclass
class Always:
    """An authority with one grant, newer after each refusal."""

    token: str = TOKEN
    refresh: str | None = REFRESH
    forced: list[int | None] = field(default_factory=list)
    fault: Exception | None = None

    def held(self) -> Grant | None:
        return None

    async def grant(self, *, force_after: int | None = None) -> Grant:
        self.forced.append(force_after)
        if self.fault is not None:
            raise self.fault
        version = 1 if force_after is None else force_after + 1
        return Grant(
            access_token=Secret(self.token),
            refresh_token=None if self.refresh is None else Secret(self.refresh),
            obtained_at=NOW,
            token_version=version,
        )


class Acme(Connector):
    """An imagined provider."""

    id = "acme"
    title = "Acme Notes"
    scopes = (
        Scope("notes.read", "See your notes."),
        Scope("notes.write", "Change your notes.", "write", required=False),
    )
    hosts: Sequence[str] = ("api.acme.example",)
    auth = OAuth2(
        authorize="https://acme.example/oauth/authorize",
        token="https://acme.example/oauth/token",
        revoke="https://acme.example/oauth/revoke",
    )


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """A server on a free port of 127.0.0.1 that does with each connection what it was told to."""

    serve: Serve
    connections: int = 0
    port: int = 0
    under_way: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task: asyncio.Task[None] | None = asyncio.current_task()
        assert task is not None
        self.under_way.add(task)
        try:
            await self.serve(reader, writer)
            if writer.can_write_eof():
                writer.write_eof()
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            pass
        finally:
            self.under_way.discard(task)
            writer.close()


async def hear(reader: asyncio.StreamReader) -> bytes:
    """One request, with its body."""
    async with asyncio.timeout(PATIENCE):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        return head + await reader.readexactly(length)


def answering(*answers: bytes) -> Serve:
    """Answers one request with each of these, and hangs up after the last."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await hear(reader)
            writer.write(answer)
            await writer.drain()

    return serve


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[Server]:
    """A server while the block runs."""
    server = Server(serve)
    real = await asyncio.start_server(server, "127.0.0.1", 0)
    server.port = real.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        real.close()
        for task in [*server.under_way]:
            task.cancel()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*server.under_way, return_exceptions=True)
            await real.wait_closed()


def seen(thing: object) -> str:
    """All that can be read off a thing without forcing it: what it prints, its attributes, items, causes, and the frames it carries.

    Closures are not looked into, and frames of tests neither: those hold what they look for.
    """
    return "\n".join(_texts(thing, set(), 6))


def _texts(thing: object, met: set[int], depth: int) -> Iterator[str]:
    if id(thing) in met or depth == 0 or isinstance(thing, type | types.ModuleType | types.FunctionType | types.BuiltinFunctionType):
        return
    met.add(id(thing))
    yield from (repr(thing), str(thing), f"{thing}")
    for part in _parts(thing):
        yield from _texts(part, met, depth - 1)


def _parts(thing: object) -> Iterator[object]:
    match thing:
        case str() | bytes() | int() | float():
            return
        case Mapping():
            yield from thing.keys()
            yield from thing.values()
        case list() | tuple() | set() | frozenset():
            yield from thing
        case types.TracebackType():
            step: types.TracebackType | None = thing
            while step is not None:
                if Path(step.tb_frame.f_code.co_filename).parent != Path(__file__).parent:
                    yield from step.tb_frame.f_locals.values()
                step = step.tb_next
        case _:
            for name in dir(thing):
                if not name.startswith("__") or name in {"__cause__", "__context__", "__dict__", "__traceback__", "__notes__"}:
                    try:
                        yield getattr(thing, name)
                    except Exception:  # what cannot be read does not tell
                        continue
