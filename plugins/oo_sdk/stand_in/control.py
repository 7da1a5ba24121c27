"""A stand-in's own side, for people and tests: what goes wrong. Never a part of the provider.

It takes JSON only, so that no web page elsewhere can post a form to it.
"""

from __future__ import annotations

import json
from typing import Any, Final

from aiohttp import web

from oo_sdk.stand_in.switches import NoSuchSwitch, Switches

CONTROL: Final = "/sandbox/"


class Control:
    """The endpoints of the switches; those of a provider's own come beside them."""

    def __init__(self, switches: Switches) -> None:
        self._switches = switches

    def routes(self) -> list[web.RouteDef]:
        """Give the routes."""
        path = f"{CONTROL}misbehave"
        return [web.get(path, self.switches), web.post(path, self.misbehave), web.delete(path, self.behave)]

    async def switches(self, request: web.Request) -> web.Response:
        """List what can go wrong and what does."""
        table = {name: {"what": switch.what, "args": dict(switch.args)} for name, switch in self._switches.table.items()}
        return web.json_response({"switches": table, "misbehaving": self._switches.active()})

    async def misbehave(self, request: web.Request) -> web.Response:
        """Switch {name, times, args} on."""
        wanted = await asked(request)
        args = wanted.get("args", {})
        if not isinstance(args, dict) or wanted.keys() - {"name", "times", "args"}:
            raise web.HTTPBadRequest(text='Send {"name": …, "times": … or null, "args": {…}}.\n')
        try:
            # A member of args called "times" would be the wrong place for it.
            self._switches.on(str(wanted.get("name")), **{**args, "times": wanted.get("times")})
        except NoSuchSwitch as no:
            raise web.HTTPBadRequest(text=f"{no}\n") from None
        return web.json_response({"misbehaving": self._switches.active()})

    async def behave(self, request: web.Request) -> web.Response:
        """Switch everything off, or only ?name=…"""
        self._switches.off(request.query.get("name"))
        return web.json_response({"misbehaving": self._switches.active()})


async def asked(request: web.Request) -> dict[str, Any]:
    """Read a body that is a JSON object."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="Send JSON, with Content-Type: application/json.\n")
    try:
        wanted = json.loads(await request.read())
    except (ValueError, RecursionError):
        wanted = None
    if not isinstance(wanted, dict):
        raise web.HTTPBadRequest(text="The body is no JSON object; see GET / for examples.\n")
    return wanted
