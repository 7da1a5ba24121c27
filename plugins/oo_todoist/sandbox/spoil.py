"""Carrying out the switches that replace an answer or spoil it on its way."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from oo_todoist.sandbox.misbehaviour import Misbehaviour
from oo_todoist.sandbox.refusals import too_many, unauthorized
from oo_todoist.sandbox.wire import dumps, loads

Json = dict[str, Any]

#: members that may be null, by the documentation of the objects
NULLABLE = frozenset(
    {"section_id", "parent_id", "due", "deadline", "duration", "added_at", "updated_at", "created_at", "archived_at"}
    | {"completed_at", "added_by_uid", "assigned_by_uid", "responsible_uid", "file_attachment", "uids_to_notify"}
    | {"reactions", "image_id"}
)
_MICROSECONDS = re.compile(r"(T\d\d:\d\d:\d\d)\.\d{6}Z")
_PAGE = "<!doctype html><title>Todoist</title><h1>We'll be right back</h1><p>Todoist is down for maintenance.</p>"


def instead(misbehaviour: Misbehaviour, endpoint: str, now: datetime) -> web.Response | None:
    """Give the answer of the first switch that answers in the handler's place."""
    for name, args in misbehaviour.taken("before", endpoint)[:1]:
        if name == "html_answer":
            return web.Response(text=_PAGE, content_type="text/html")
        if name == "unauthorized":
            refusal = unauthorized()
            return web.Response(status=401, body=dumps(refusal.body()), headers=refusal.headers, content_type="application/json")
        if name.startswith("status_429"):
            return _too_many(name, args.get("seconds", 0), now)
        if name == "status_503":
            headers = {"Retry-After": str(args["seconds"])}
            return web.Response(status=503, text="Service Unavailable", headers=headers)
        return web.Response(status=500, text="Internal Server Error")
    return None


def _too_many(name: str, seconds: int, now: datetime) -> web.Response:
    refusal = too_many(seconds)
    if name == "status_429":
        headers, body = refusal.headers, refusal.body()
    elif name == "status_429_date":
        headers = {"Retry-After": format_datetime(now + timedelta(seconds=seconds), usegmt=True)}
        body = {**refusal.body(), "error_extra": {}}
    else:
        headers, body = {}, {**refusal.body(), "error_extra": {}}
    return web.Response(status=429, body=dumps(body), headers=headers, content_type="application/json")


async def spoiled(
    misbehaviour: Misbehaviour,
    endpoint: str,
    request: web.Request,
    response: web.Response,
    sleep: Callable[[float], Awaitable[None]],
) -> web.StreamResponse:
    """Let the switches that are on do their worst to an answer."""
    for name, args in misbehaviour.taken("after", endpoint):
        body = response.body if isinstance(response.body, bytes) else b""
        if name == "slow_answer":
            await sleep(args["seconds"])
        elif name == "never_ending_body":
            return await _blanks(request, sleep)
        elif name == "drop_connection":
            return await drop(request, response, keep=args["bytes"])
        elif name == "truncated_json":
            response.body = body[: max(1, len(body) // 2)]
        elif name == "wrong_content_type":
            response.content_type = "text/html"
        elif response.content_type == "application/json":
            response.body = dumps(_CHANGES[name](loads(body)))
    return response


async def drop(request: web.Request, response: web.Response, *, keep: int) -> web.StreamResponse:
    """Send the head and so many bytes of the body, then break the connection off; with 0 not even the head."""
    if request.transport is None:
        return response
    sent: web.StreamResponse = response
    if keep:
        body = response.body if isinstance(response.body, bytes) else b""
        sent = web.StreamResponse(status=response.status, headers={"Content-Type": response.content_type})
        sent.content_length = max(len(body), keep + 1)
        await sent.prepare(request)
        await sent.write(body[:keep])
    request.transport.abort()
    return sent


async def _blanks(request: web.Request, sleep: Callable[[float], Awaitable[None]]) -> web.StreamResponse:
    endless = web.StreamResponse(headers={"Content-Type": "application/json"})
    await endless.prepare(request)
    # A blank is valid before any JSON value, so a reader without a bound waits for ever.
    while request.transport is not None and not request.transport.is_closing():
        await endless.write(b" " * 1024)
        await sleep(0.05)
        await asyncio.sleep(0)  # an injected sleep may not yield
    return endless


def _objects(answer: Any) -> list[tuple[str, list[Any]]]:
    """Give the lists of objects in an answer, by member."""
    return [(name, value) for name, value in answer.items() if isinstance(value, list)] if isinstance(answer, dict) else []


def _unknown(answer: Any) -> Any:
    return {
        **_each(answer, lambda body: {**body, "sandbox_unknown": {"nested": [1, None]}}),
        "sandbox_unknown": ["a member of the future"],
    }


def _nulls(answer: Any) -> Any:
    return _each(answer, lambda body: {name: None if name in NULLABLE else value for name, value in body.items()})


def _twice(answer: Any) -> Any:
    return {**answer, **{name: [*value, *value] for name, value in _objects(answer)}}


def _whole_seconds(answer: Any) -> Any:
    return loads(_MICROSECONDS.sub(r"\1Z", dumps(answer).decode()).encode())


def _each(answer: Any, change: Callable[[Json], Json]) -> Any:
    lists = _objects(answer)
    if not lists and "id" in answer:
        return change(answer)
    return {
        **answer,
        **{name: [change(body) if isinstance(body, dict) else body for body in value] for name, value in lists},
    }


_CHANGES: dict[str, Callable[[Any], Any]] = {
    "unknown_fields": _unknown,
    "null_fields": _nulls,
    "duplicate_objects": _twice,
    "whole_seconds": _whole_seconds,
}
