"""What a question says, decoded, and an answer as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_request import FileField
from multidict import MultiDictProxy

from oo_daemon.ingress.answers import Refused, refused

T = TypeVar("T")

#: Seconds that a question may ask to be kept waiting.
LONGEST_WAIT: Final = 30.0


def answer(value: Any, *, status: int = 200) -> web.Response:
    """Give a value as JSON."""
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


async def body_of(request: web.Request, shape: type[T]) -> T:
    """What a request says. Raises `Refused`."""
    try:
        return msgspec.json.decode(await request.read(), type=shape)
    except msgspec.ValidationError as wrong:
        raise Refused(400, "body", f"The body does not fit: {wrong}.", "Compare it with openapi.yaml.") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused(400, "body", "The body is not JSON.", "Send a JSON object.") from None


async def form_of(request: web.Request) -> MultiDictProxy[str | bytes | bytearray | FileField]:
    """What a form says. Raises `Refused`."""
    with well_formed():
        return await request.post()


@contextmanager
def well_formed() -> Iterator[None]:
    """Around reading a form: what aiohttp finds wrong with it is the sender's fault. Raises `Refused`."""
    try:
        yield
    except (ValueError, LookupError, RuntimeError, AssertionError, HttpProcessingError):  # as many as it has ways to say so
        raise refused(400) from None


def wait_of(request: web.Request) -> float:
    """How long a question may be kept waiting, in seconds. Raises `Refused`."""
    return number_of(request, "wait", default=0, lowest=0, highest=LONGEST_WAIT)


def number_of(request: web.Request, name: str, *, default: float, lowest: float, highest: float) -> float:
    """A number in the query. Raises `Refused`."""
    text = request.query.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not lowest <= value <= highest:
        raise Refused(400, name, f"{name} must be a number from {lowest:g} to {highest:g}.", "Correct it, or leave it out.")
    return value
