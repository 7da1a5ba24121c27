"""The sandbox's own side, for people and tests: what is there, what changes, what goes wrong. Never a part of the provider."""

from __future__ import annotations

from collections import Counter
from typing import Any

from aiohttp import web

from oo_todoist.sandbox.dates import stamp
from oo_todoist.sandbox.misbehaviour import SWITCHES, Misbehaviour, NoSuchSwitch
from oo_todoist.sandbox.refusals import Refusal
from oo_todoist.sandbox.wire import answer, arguments
from oo_todoist.sandbox.world import World

Json = dict[str, Any]

PREFIX = "/sandbox/"


class Control:
    """The control endpoints. They take JSON only, so that no web page elsewhere can post a form to them."""

    def __init__(self, world: World, misbehaviour: Misbehaviour, requests: Counter[str]) -> None:
        self._world = world
        self._misbehaviour = misbehaviour
        self._requests = requests

    def routes(self) -> list[web.RouteDef]:
        """Give the routes."""
        return [
            web.get(f"{PREFIX}state", self.state),
            web.post(f"{PREFIX}change", self.change),
            web.get(f"{PREFIX}misbehave", self.switches),
            web.post(f"{PREFIX}misbehave", self.misbehave),
            web.delete(f"{PREFIX}misbehave", self.behave),
        ]

    async def state(self, request: web.Request) -> web.Response:
        """Say what is there. Tokens appear by their last four characters."""
        now = self._world.now()
        tokens = [
            {
                "kind": token.kind,
                "ends_with": token.text[-4:],
                "state": token.state(now),
                "user": token.user_id,
                "client_id": token.client_id,
                "scopes": token.scopes,
                "issued_at": stamp(token.issued_at),
                "expires_at": token.ends_at and stamp(token.ends_at),
            }
            for token in self._world.grants.tokens.values()
        ]
        users = [
            {
                "id": account.id,
                "name": account.user["email"].split("@")[0],
                "changes": account.position,
                "tasks": [
                    {name: item[name] for name in ("id", "content", "project_id", "due", "checked")} for item in account.every("items")
                ],
            }
            for account in self._world.accounts.values()
        ]
        switched_on = self._misbehaviour.active()
        return answer({"users": users, "tokens": tokens, "requests": dict(self._requests), "misbehaving": switched_on})

    async def change(self, request: web.Request) -> web.Response:
        """Execute {user, commands} as that person would in the app; a command may leave its uuid out."""
        asked = await _asked(request)
        account = self._world.account(str(asked.get("user")))
        if account is None:
            raise web.HTTPNotFound(text=f"There is no user {asked.get('user')!r}; GET {PREFIX}state lists them.\n")
        commands = asked.get("commands")
        if isinstance(commands, list):
            commands = [{"uuid": self._world.token(), **each} if isinstance(each, dict) else each for each in commands]
        try:
            executed = self._world.execute(account, commands)
        except Refusal as refusal:
            return answer(refusal.body(), status=refusal.status)
        return answer({"sync_status": executed.sync_status, "temp_id_mapping": executed.temp_id_mapping})

    async def switches(self, request: web.Request) -> web.Response:
        """List what can go wrong and what does."""
        table = {name: {"what": switch.what, "args": dict(switch.args)} for name, switch in SWITCHES.items()}
        return answer({"switches": table, "misbehaving": self._misbehaviour.active()})

    async def misbehave(self, request: web.Request) -> web.Response:
        """Switch {name, times, args} on."""
        asked = await _asked(request)
        args = asked.get("args", {})
        if not isinstance(args, dict) or asked.keys() - {"name", "times", "args"}:
            raise web.HTTPBadRequest(text='Send {"name": …, "times": … or null, "args": {…}}.\n')
        try:
            # A member of args called "times" would be the wrong place for it.
            self._misbehaviour.on(str(asked.get("name")), **{**args, "times": asked.get("times")})
        except NoSuchSwitch as no:
            raise web.HTTPBadRequest(text=f"{no}\n") from None
        return answer({"misbehaving": self._misbehaviour.active()})

    async def behave(self, request: web.Request) -> web.Response:
        """Switch everything off, or only ?name=…"""
        self._misbehaviour.off(request.query.get("name"))
        return answer({"misbehaving": self._misbehaviour.active()})


async def _asked(request: web.Request) -> Json:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="Send JSON, with Content-Type: application/json.\n")
    try:
        return await arguments(request)
    except Refusal:
        raise web.HTTPBadRequest(text="The body is no JSON object; see GET / for examples.\n") from None
