"""What is answered where a request cannot be done, and what every answer carries.

What goes wrong behind a door is told in that door's own voice: pages to the public, JSON to those who call the API; never a traceback, and
never what was sent to us.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec
from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time

from oo_daemon.ingress import pages
from oo_sdk import Log

#: What every answer carries unless its route says otherwise.
GUARDS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class BodyTooSlow(TimeoutError):
    """The sender is to send the whole request again, faster.

    A TimeoutError, because aiohttp lets that one pass when it reads what is left of a body after the answer.
    """


class Refused(Exception):
    """What the caller asked for is not done: it gets this answer instead.

    `message` and `remedy` are one sentence each and reach the caller of the private door; the public door has its own words for a
    status.
    """

    def __init__(
        self, status: int, code: str, message: str, remedy: str = "", *, connect_url: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.remedy = remedy
        self.connect_url = connect_url  #: where the person can allow what is missing
        self.headers = dict(headers or {})


Voice = Callable[[Refused], web.Response]


_WORDS: Mapping[int, tuple[str, str, str]] = {
    400: ("unreadable", "The request is not well-formed.", "Check how it is put together, then send it again."),
    401: ("token_needed", "This door needs a token.", "Send an Authorization header with a Bearer token."),
    403: ("not_allowed", "The caller may not do this.", "Use an account or a token that may."),
    404: ("not_found", "There is nothing at this address.", "Compare the address with openapi.yaml."),
    405: ("method_not_allowed", "This address does not take that method.", "Use one of the methods named in the Allow header."),
    408: ("too_slow", "The request came too slowly.", "Send the whole request again."),
    413: ("too_large", "The body is too large.", "Send less at a time."),
    415: ("media_type", "The body is packed in a way that is not taken.", "Pack it in one of the ways that Accept-Encoding names, or not."),
    429: ("too_many", "Too many requests at once come from this address.", "Send fewer at a time."),
    500: ("failed", "The request failed inside oO.", "Look for request_failed in the daemon's log."),
    503: ("unavailable", "oO cannot answer right now.", "Try again after the time in the Retry-After header."),
}


RETRY_AFTER = {429: "5", 503: "30"}


_KEPT_HEADERS = ("Allow", "Retry-After", "WWW-Authenticate")


def refused(status: int, headers: Mapping[str, str] | None = None) -> Refused:
    """The usual words for a status."""
    code, message, remedy = _WORDS.get(status) or (f"http_{status}", f"The answer is {HTTPStatus(status).phrase}.", "")
    return Refused(status, code, message, remedy, headers=headers)


class Manners(msgspec.Struct, frozen=True, kw_only=True):
    """How one application speaks, and where it writes down what happened."""

    voice: Voice
    log: Log


MANNERS: web.AppKey[Manners] = web.AppKey("manners")


def public_application(*, log: Log) -> web.Application:
    """An application that answers people and senders of webhooks: add routes to it."""
    return _application(Manners(voice=_public_voice, log=log))


def private_application(*, log: Log) -> web.Application:
    """An application that answers callers of the API: add routes to it."""
    return _application(Manners(voice=_private_voice, log=log))


def console_application(*, log: Log) -> web.Application:
    """An application that answers operators in their browsers; it goes into a private one."""
    return _application(Manners(voice=_console_voice, log=log))


def _application(manners: Manners) -> web.Application:
    app = web.Application(middlewares=[_tell])
    app[MANNERS] = manners
    app.on_response_prepare.append(_on_response_prepare)
    return app


@web.middleware
async def _tell(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Turn whatever went wrong in a route into an answer in the door's voice."""
    return await _told(request.config_dict[MANNERS], request, handler)


async def _told(
    manners: Manners, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except Exception as exc:
        gone = request.transport is None or request.transport.is_closing()
        if (isinstance(exc, web.HTTPException) and exc.status < 400) or (gone and isinstance(exc, ConnectionError)):
            raise  # no fault; or the client left before the end of its body: nobody's fault, and nobody is there to be told
        refusal = refusal_of(manners, shown_path(request), exc)
    if request.writer.output_size > 0:
        raise ConnectionResetError("the answer had begun: cut it off rather than end it as if it were whole")
    response = manners.voice(refusal)
    dress(response)  # here, so that whatever way it came it looks alike to the last byte
    if not request.content.is_eof():
        response.force_close()  # what is left of the body is in the way of the next request
    return response


def refusal_of(manners: Manners, path: str, fault: BaseException) -> Refused:
    """What is answered for what went wrong; if that is our own fault, it is written down."""
    match fault:
        case Refused():
            return fault
        case web.HTTPException():
            return refused(fault.status, {name: fault.headers[name] for name in _KEPT_HEADERS if name in fault.headers})
        case BodyTooSlow():
            return refused(408)
        case web.RequestPayloadError():
            return refused(400)
    # The message of an exception may quote what was sent or asked for; its name and place cannot.
    where = ", ".join(
        f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in traceback.extract_tb(fault.__traceback__)[-1:]
    )
    manners.log.warning("request_failed", path=path, error=type(fault).__name__, where=where)
    return refused(500)


async def _on_response_prepare(request: web.Request, response: web.StreamResponse) -> None:
    dress(response)


def dress(response: web.StreamResponse) -> None:
    """Give an answer what every answer carries."""
    for name, value in GUARDS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "oO"  # no version for those who look for old ones


def as_bytes(response: web.Response, *, stays: bool) -> bytes:
    """An answer as aiohttp would send it."""
    dress(response)
    body = response.body if isinstance(response.body, bytes) else b""
    headers = {**response.headers, "Content-Length": str(len(body)), "Date": rfc822_formatted_time()}
    if not stays:
        headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {response.status} {response.reason}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body


@lru_cache(maxsize=4)
def nothing_to_say(date: str) -> bytes:
    """200 without a body, the answer that is given by the thousand: as bytes that are ready for all of one second."""
    return as_bytes(web.Response(content_type="text/plain"), stays=True)


def _public_voice(refusal: Refused) -> web.Response:
    # Our own faults are 503, so that senders come again. A wrong method looks like a wrong address: neither tells what is here.
    status = 503 if refusal.status >= 500 else 404 if refusal.status == 405 else refusal.status
    response = web.Response(status=status, text=pages.problem(status), content_type="text/html")
    if "Accept-Encoding" in refusal.headers:
        response.headers["Accept-Encoding"] = refusal.headers["Accept-Encoding"]
    return _with_retry(response, refusal)


def _console_voice(refusal: Refused) -> web.Response:
    text = pages.console("problem.html", message=refusal.message, remedy=refusal.remedy)
    return _with_retry(web.Response(status=refusal.status, text=text, content_type="text/html"), refusal)


def _private_voice(refusal: Refused) -> web.Response:
    error = {"code": refusal.code, "message": refusal.message, "remedy": refusal.remedy}
    if refusal.connect_url:
        error["connect_url"] = refusal.connect_url
    response = web.json_response({"error": error}, status=refusal.status)
    for name in _KEPT_HEADERS:
        if name in refusal.headers:
            response.headers[name] = refusal.headers[name]
    return _with_retry(response, refusal)


def _with_retry(response: web.Response, refusal: Refused) -> web.Response:
    retry = refusal.headers.get("Retry-After") or RETRY_AFTER.get(response.status)
    if retry:
        response.headers["Retry-After"] = retry
    return response


@runtime_checkable
class _KnowsWays(Protocol):
    """A connection on which posts come that no route is looked up for."""

    def way(self, request: web.BaseRequest) -> str: ...


def shown_path(request: web.BaseRequest) -> str:
    """The route's pattern, such as `/connect/{link}`: what stands in its place may be a secret, and so may an unknown path."""
    # Not `request.match_info`: that asserts where the request never came to a route. Compared with None, as both are empty mappings.
    match = request._match_info if isinstance(request, web.Request) else None
    if match is None and isinstance(request.protocol, _KnowsWays):
        return request.protocol.way(request)
    resource = match.route.resource if match is not None else None
    return resource.canonical if resource is not None else "(none)"
