"""The sandbox's own side, for people and tests: what is there, what changes, what goes wrong. Never a part of the provider."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from oo_google_calendar.sandbox.channels import Channels
from oo_google_calendar.sandbox.grants import PREFIX, Token
from oo_google_calendar.sandbox.misbehaviour import Misbehaviour
from oo_google_calendar.sandbox.provider import Provider
from oo_google_calendar.sandbox.wire import Answer, Asked
from oo_google_calendar.sandbox.world import World
from oo_sdk import stand_in

Json = dict[str, Any]

CONTROL = stand_in.CONTROL


class Control(stand_in.Control):
    """The control endpoints, those of the switches among them."""

    def __init__(self, world: World, misbehaviour: Misbehaviour, provider: Provider, channels: Channels) -> None:
        self._world = world
        super().__init__(misbehaviour)
        self._misbehaviour = misbehaviour
        self._provider = provider
        self._channels = channels

    def routes(self) -> list[web.RouteDef]:
        """Give the routes."""
        return [
            *super().routes(),
            web.get(f"{CONTROL}state", self.state),
            web.post(f"{CONTROL}change", self.change),
            web.get(f"{CONTROL}pushes", self.pushes),
        ]

    async def state(self, request: web.Request) -> web.Response:
        """Say what is there. Tokens appear by their last four characters."""
        now = self._world.now()
        calendars = [
            {
                "id": calendar.id,
                "summary": calendar.summary,
                "roles": calendar.roles,
                "entries": [
                    {"id": body["id"], "summary": body.get("summary"), "status": body["status"]}
                    for body in calendar.entries.bodies.values()
                    if not calendar.is_gone(body)
                ],
            }
            for calendar in self._world.calendars.values()
            if not calendar.deleted
        ]
        tokens = [
            {"kind": token.kind, "ends_with": token.text[-4:], "user": token.email, "scopes": token.scopes, "works": token.works(now)}
            for token in self._world.grants.tokens.values()
        ]
        people = [{"email": person.email, "name": person.name} for person in self._world.people.values()]
        channels = [{"id": channel.id, "resource": channel.resource} for channel in self._channels.open_ones()]
        there = {"users": people, "calendars": calendars, "tokens": tokens, "channels": channels}
        return web.json_response({**there, "requests": self._provider.requests, "misbehaving": self._misbehaviour.active()})

    async def change(self, request: web.Request) -> web.Response:
        """Carry out one request of the API as a person: {user, method, path, body}; the path begins after /calendar/v3/."""
        asked = await stand_in.asked(request)
        person = self._world.person(str(asked.get("user")))
        if person is None:
            raise web.HTTPNotFound(text=f"There is no user {asked.get('user')!r}; GET {CONTROL}state lists them.\n")
        path, _, query = str(asked.get("path", "")).partition("?")
        body = json.dumps(asked["body"]).encode() if "body" in asked else b""
        answer = self.as_person(person.email, str(asked.get("method", "GET")), path, dict(parse_qsl(query)), body)
        return web.json_response(answer.body, status=200 if answer.status == 204 else answer.status)

    def as_person(self, email: str, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
        """Carry out one request with a token that is gone afterwards."""
        now = self._world.now()
        token = Token(text=self._world.token(), kind="access", client="", email=email, scopes=(f"{PREFIX}calendar",), issued_at=now)
        token.ends_at = now + timedelta(minutes=1)
        self._world.grants.tokens[token.text] = token
        parts = tuple(unquote(part) for part in path.strip("/").split("/"))
        headers = {"authorization": f"Bearer {token.text}"}
        try:
            return self._provider.api.answer(Asked(method=method, path=parts, query=query, headers=headers, body=body))
        finally:
            del self._world.grants.tokens[token.text]

    async def pushes(self, request: web.Request) -> web.Response:
        """List what was pushed, oldest first, with the status of each attempt."""
        shown = [
            {
                "channel": push.channel,
                "state": push.state,
                "attempts": push.attempts,
                "resource_state": push.headers["X-Goog-Resource-State"],
            }
            for push in self._channels.pushed
        ]
        return web.json_response({"pushes": shown})
