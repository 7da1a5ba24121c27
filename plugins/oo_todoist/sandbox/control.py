"""The sandbox's own side, for people and tests: what is there, what changes, what goes wrong. Never a part of the provider."""

from __future__ import annotations

from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from oo_sdk import stand_in
from oo_todoist.sandbox.dates import stamp
from oo_todoist.sandbox.misbehaviour import Misbehaviour
from oo_todoist.sandbox.refusals import Refusal
from oo_todoist.sandbox.webhooks import EVENTS, Callback, Webhooks
from oo_todoist.sandbox.wire import answer
from oo_todoist.sandbox.world import World

Json = dict[str, Any]

PREFIX = stand_in.CONTROL


class Control(stand_in.Control):
    """The control endpoints, those of the switches among them."""

    def __init__(self, world: World, misbehaviour: Misbehaviour, requests: Counter[str], webhooks: Webhooks) -> None:
        self._world = world
        super().__init__(misbehaviour)
        self._misbehaviour = misbehaviour
        self._requests = requests
        self._webhooks = webhooks

    def routes(self) -> list[web.RouteDef]:
        """Give the routes."""
        return [
            *super().routes(),
            web.get(f"{PREFIX}state", self.state),
            web.post(f"{PREFIX}change", self.change),
            web.post(f"{PREFIX}webhook", self.webhook),
            web.get(f"{PREFIX}deliveries", self.deliveries),
            web.post(f"{PREFIX}redeliver", self.redeliver),
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
        asked = await stand_in.asked(request)
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

    async def webhook(self, request: web.Request) -> web.Response:
        """Set {url, events, retry_seconds, client_id}: where an app is called, about what, and how soon again.

        Without a url it is called no more; without a client_id it is the app that comes with the sandbox.
        """
        asked = await stand_in.asked(request)
        url, events, seconds = asked.get("url"), asked.get("events", sorted(EVENTS)), asked.get("retry_seconds", self._webhooks.retry_after)
        app = self._world.grants.apps.get(str(asked.get("client_id", next(iter(self._world.grants.apps)))))
        if app is None or app.client_secret is None:
            raise web.HTTPNotFound(text="There is no app of that client_id that has a secret to sign with.\n")
        if url is not None and (not isinstance(url, str) or urlsplit(url).scheme not in {"http", "https"}):
            raise web.HTTPBadRequest(text="The url begins with http:// or https://; the real Todoist takes https only.\n")
        if not isinstance(events, list) or not set(map(str, events)) <= EVENTS:
            raise web.HTTPBadRequest(text=f"The events are {', '.join(sorted(EVENTS))}.\n")
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < float("inf"):
            raise web.HTTPBadRequest(text="retry_seconds is a number of seconds.\n")
        self._webhooks.callbacks.pop(app.client_id, None)
        if url:
            self._webhooks.callbacks[app.client_id] = Callback(url=url, events=frozenset(events))
        self._webhooks.retry_after = seconds
        return answer({"client_id": app.client_id, "url": url, "events": events, "retry_seconds": seconds})

    async def deliveries(self, request: web.Request) -> web.Response:
        """List what was pushed, oldest first, with the status of each attempt."""
        return answer({"deliveries": [delivery.shown() for delivery in self._webhooks.deliveries]})

    async def redeliver(self, request: web.Request) -> web.Response:
        """Push the delivery {id} once more, now."""
        asked = await stand_in.asked(request)
        delivery = await self._webhooks.redeliver(str(asked.get("id")))
        if delivery is None:
            raise web.HTTPNotFound(text=f"There is no delivery {asked.get('id')!r}; GET {PREFIX}deliveries lists them.\n")
        return answer(delivery.shown())
