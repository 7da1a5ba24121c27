"""Webhooks: what happened is pushed to the apps of the person it happened to: signed, in order, and again where it was not taken.

Anything but 200 is a failure; it is repeated under the same delivery id every fifteen minutes, at most three times. Only people who
completed an app's OAuth flow have their changes pushed to it.
"""

from __future__ import annotations

import asyncio
import hmac
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, web

from oo_todoist.sandbox.commands import Change
from oo_todoist.sandbox.dates import stamp
from oo_todoist.sandbox.misbehaviour import Misbehaviour
from oo_todoist.sandbox.wire import dumps
from oo_todoist.sandbox.world import World

Json = dict[str, Any]

RETRY_AFTER = 15 * 60
RETRIES = 3
#: seconds that an app has to answer
PATIENCE = 15
#: how many deliveries are remembered
REMEMBERED = 1000

_ADDED_UPDATED_DELETED = ("added", "updated", "deleted")
_ARCHIVED = ("archived", "unarchived")
EVENTS = frozenset(
    f"{noun}:{verb}"
    for noun, verbs in {
        "item": (*_ADDED_UPDATED_DELETED, "completed", "uncompleted"),
        "note": _ADDED_UPDATED_DELETED,
        "project": (*_ADDED_UPDATED_DELETED, *_ARCHIVED),
        "section": (*_ADDED_UPDATED_DELETED, *_ARCHIVED),
        "label": _ADDED_UPDATED_DELETED,
        "filter": _ADDED_UPDATED_DELETED,
        "reminder": ("fired",),
    }.items()
    for verb in verbs
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """Where an app wants to be called, and about what."""

    url: str
    events: frozenset[str] = EVENTS


@dataclass(slots=True, kw_only=True)
class Delivery:
    """One body for one app, and what became of it."""

    id: str
    client_id: str
    url: str
    user_id: str
    event_name: str
    body: bytes = field(repr=False)
    state: str = "waiting"  #: or delivered, failed, dropped
    attempts: list[Json] = field(default_factory=list)  #: {"at", "status", "error"}; status is None where nobody answered

    def shown(self) -> Json:
        """Give what a person may see of it."""
        names = ("id", "event_name", "user_id", "client_id", "url", "state", "attempts")
        return {name: getattr(self, name) for name in names}


class Webhooks:
    """The webhooks of every app of one world. Whoever serves the world enters `running`."""

    def __init__(
        self,
        world: World,
        misbehaviour: Misbehaviour,
        *,
        sleep: Callable[[float], Awaitable[None]],
        retry_after: float = RETRY_AFTER,
    ) -> None:
        self._world = world
        self._misbehaviour = misbehaviour
        self._sleep = sleep
        self.retry_after = retry_after
        self.callbacks: dict[str, Callback] = {}  #: by client id
        self.deliveries: deque[Delivery] = deque(maxlen=REMEMBERED)
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue()
        self._held: list[Delivery] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._http: ClientSession | None = None
        world.subscribe(self._hear)

    async def running(self, app: web.Application) -> AsyncIterator[None]:
        """Push while the application runs (an aiohttp cleanup context)."""
        async with ClientSession(timeout=ClientTimeout(total=PATIENCE)) as self._http:
            pushing = asyncio.create_task(self._push())
            yield
            ending = [pushing, *self._tasks]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    async def settled(self) -> None:
        """Wait until every delivery so far was taken, given up or dropped."""
        await self._queue.join()
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def redeliver(self, id_: str) -> Delivery | None:
        """Send a delivery once more, the same in everything; None where there is none of that id."""
        delivery = next((each for each in self.deliveries if each.id == id_), None)
        if delivery is not None:
            await self._attempt(delivery)
        return delivery

    def _hear(self, change: Change) -> None:
        user_id = change.user["id"]
        for client_id, callback in self.callbacks.items():
            if change.name in callback.events and self._world.grants.granted(client_id, user_id):
                delivery = Delivery(
                    id=self._world.token()[:32],  # never one that an earlier sandbox gave
                    client_id=client_id,
                    url=callback.url,
                    user_id=user_id,
                    event_name=change.name,
                    body=dumps(self._told(change)),
                )
                self.deliveries.append(delivery)
                self._queue.put_nowait(delivery)

    def _told(self, change: Change) -> Json:
        """Write the body as version 1 has it."""
        user = change.user
        told: Json = {
            "version": "1",
            "user_id": user["id"],
            "initiator": {name: user[name] for name in ("id", "full_name", "email", "image_id", "is_premium")},
            "event_name": change.name,
            "event_data": self._shown(change.body),
            "triggered_at": stamp(change.at),
        }
        if change.name == "item:updated" and change.before is not None:
            extra = {"old_item": _with_url(change.before), "update_intent": change.intent or "item_updated"}
            told["event_data_extra"] = extra
        return told

    def _shown(self, body: Json) -> Json:
        """Show an object as webhooks do: tasks have their address, comments on tasks the whole task."""
        if "checked" in body:
            return _with_url(body)
        item = self._world.accounts[body["posted_uid"]].find("items", body["item_id"]) if "item_id" in body else None
        return body if item is None else {**body, "url": _with_url(item)["url"], "item": _with_url(item)}

    async def _push(self) -> None:
        """Send what is waiting, one after the other, as far as misbehaviour lets it."""
        while True:
            delivery = await self._queue.get()
            try:
                if self._took("drop_webhooks") is not None:
                    delivery.state = "dropped"
                elif (late := self._took("late_webhooks")) is not None:
                    self._spawn(self._later(delivery, late["seconds"]))
                elif self._took("reorder_webhooks") is not None:
                    self._held.append(delivery)
                else:
                    for each in (delivery, *self._held):
                        await self._send(each)
                    self._held.clear()
            finally:
                self._queue.task_done()

    async def _later(self, delivery: Delivery, seconds: float) -> None:
        await self._sleep(seconds)
        await self._send(delivery)

    async def _send(self, delivery: Delivery) -> None:
        taken = await self._attempt(delivery)
        if self._took("duplicate_webhooks") is not None:
            await self._attempt(delivery)
        if not taken:
            self._spawn(self._insist(delivery))

    async def _insist(self, delivery: Delivery) -> None:
        for _ in range(RETRIES):
            await self._sleep(self.retry_after)
            if await self._attempt(delivery):
                return
        delivery.state = "failed"

    async def _attempt(self, delivery: Delivery) -> bool:
        """Post it once; a redirect is not followed, and counts as a failure like anything else but 200."""
        assert self._http is not None, "serve the sandbox's app first"
        forged = self._took("forge_webhooks") is not None
        secret = self._world.token() if forged else self._world.grants.apps[delivery.client_id].client_secret or ""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Todoist-Webhooks",
            "X-Todoist-Hmac-SHA256": b64encode(hmac.digest(secret.encode(), delivery.body, sha256)).decode(),
            "X-Todoist-Delivery-ID": delivery.id,
        }
        status, error = None, ""
        try:
            async with self._http.post(delivery.url, data=delivery.body, headers=headers, allow_redirects=False) as answer:
                status = answer.status
        except (ClientError, TimeoutError, ValueError) as wrong:
            error = type(wrong).__name__
        delivery.attempts.append({"at": stamp(self._world.now()), "status": status, "error": error})
        if status == 200:
            delivery.state = "delivered"
        return status == 200

    def _took(self, name: str) -> Json | None:
        return self._misbehaviour.take(name, "webhook")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _with_url(item: Json) -> Json:
    return {**item, "url": f"https://app.todoist.com/app/task/{item['id']}"}
