"""Reading requests and writing answers, the same for every endpoint."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from oo_todoist.sandbox.refusals import invalid

#: the largest body that Todoist takes
MOST_BYTES = 1024 * 1024


def dumps(value: object) -> bytes:
    """Write JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def loads(text: bytes | str) -> Any:
    """Read JSON; NaN and the infinities are none."""
    return json.loads(text, parse_constant=_no_constant)


def answer(value: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Answer with JSON."""
    return web.Response(status=status, body=dumps(value), headers=headers, content_type="application/json")


async def arguments(request: web.Request) -> dict[str, Any]:
    """Read the body's members, whether they came as a form or as JSON; a form's members are strings."""
    if request.content_type in {"application/x-www-form-urlencoded", "multipart/form-data"}:
        return {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
    body = await request.read()
    if not body:
        return {}
    try:
        members = loads(body) if request.content_type == "application/json" else None
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict):
        raise invalid("body", expected="Input should be a form or a JSON object")
    return members


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
