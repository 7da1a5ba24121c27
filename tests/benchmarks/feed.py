"""The local server that every sync reads from: an append-only feed of tasks, about 650 bytes each, in pages."""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

PAGE = 200


def item(number: int) -> dict[str, object]:
    """A task as an API would tell it."""
    return {
        "id": f"task-{number:08}",
        "title": f"Task {number}: call the plumber about the kitchen",
        "description": f"{number} " + "What was said on the telephone, and what is to be brought along. " * 6,
        "labels": ["home", "calls"],
        "project": f"project-{number % 17}",
        "changed_at": "2026-11-22T09:00:00Z",
        "version": f"v{number}",
    }


def pages(objects: int) -> dict[str, bytes]:
    """Cursor → the page there, as bytes."""
    made = {}
    for start in range(0, objects, PAGE):
        end = min(start + PAGE, objects)
        page = {"changes": [item(number) for number in range(start, end)], "cursor": end, "more": end < objects}
        made[str(start)] = json.dumps(page, separators=(",", ":")).encode()
    return made


async def serve(objects: int) -> dict[str, float]:
    """Serve until standard input ends."""
    made = pages(objects)
    empty = json.dumps({"changes": [], "cursor": objects, "more": False}).encode()

    async def changes(request: web.BaseRequest) -> web.Response:
        return web.Response(body=made.get(request.query.get("cursor", "0"), empty), content_type="application/json")

    server = web.Server(changes)
    runner = web.ServerRunner(server, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(json.dumps({"address": f"http://127.0.0.1:{runner.addresses[0][1]}"}), flush=True)
    await stdin_ends()
    await runner.cleanup()
    return {}


async def stdin_ends() -> None:
    """Wait until our starter is done with us."""
    import sys

    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
