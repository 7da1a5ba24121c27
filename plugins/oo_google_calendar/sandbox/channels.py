"""Push channels: opened for a resource, told when it changes, and ended by themselves.

A push has no body and no signature; it is worth what its channel's token is. Whether it arrives is not sure, and their numbers grow with
gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import blake2b
from typing import Any
from urllib.parse import urlsplit

from oo_google_calendar.sandbox.misbehaviour import Misbehaviour
from oo_google_calendar.sandbox.refusals import Refusal, invalid, not_found, required
from oo_google_calendar.sandbox.world import World

Json = dict[str, Any]

LIFE = timedelta(days=7)
#: How the ids of calendars end that Google makes itself, of public holidays and the like; nothing is pushed of those.
VIRTUAL = "@group.v.calendar.google.com"
#: How many pushes are remembered.
REMEMBERED = 1000


@dataclass(slots=True, kw_only=True)
class Channel:
    """Where changes of one resource are told."""

    id: str
    token: str
    address: str
    email: str
    client: str
    resource: str
    resource_id: str
    resource_uri: str
    ends_at: datetime
    number: int = 1
    stopped: bool = False


@dataclass(slots=True, kw_only=True)
class Push:
    """One message, and what became of it."""

    channel: str
    address: str
    headers: Mapping[str, str]
    attempts: list[int | str] = field(default_factory=list)  #: statuses, or the names of errors
    state: str = "waiting"


class Channels:
    """Every channel of one world. What is to be pushed waits in `waiting` for whoever sends it."""

    def __init__(self, world: World, misbehaviour: Misbehaviour) -> None:
        self._world = world
        self._misbehaviour = misbehaviour
        self.channels: dict[str, Channel] = {}
        self.waiting: list[Push] = []
        self.pushed: list[Push] = []
        self.call: Callable[[], None] = lambda: None  #: says that something waits
        world.listeners.append(self._hear)

    def open(self, asked: Json, email: str, client: str, resource: str, uri: str) -> Json:
        """Open a channel; its first message says so."""
        for name in ("id", "type", "address"):
            if not isinstance(asked.get(name), str) or not asked[name]:
                raise required(f"resource.{name}")
        if asked["type"] not in {"web_hook", "webhook"} or len(asked["id"]) > 64 or len(str(asked.get("token", ""))) > 256:
            raise invalid("resource.type" if asked["type"] != "web_hook" else "resource.id")
        parts = urlsplit(asked["address"])
        if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
            raise Refusal(400, "push.webhookUrlNotHttps", f"WebHook callback must be HTTPS: {asked['address']}")
        if self._misbehaviour.take("refuse_channels") is not None:
            raise Refusal(401, "push.webhookUrlUnauthorized", f"Unauthorized WebHook callback channel: {asked['address']}")
        if resource.partition("/")[0].endswith(VIRTUAL):
            raise Refusal(400, "pushNotSupportedForRequestedResource", "Push notifications are not supported by this resource.")
        if asked["id"] in self.channels:
            raise Refusal(400, "channelIdNotUnique", f"Channel id {asked['id']} not unique")
        now = self._world.now()
        channel = self.channels[asked["id"]] = Channel(
            id=asked["id"],
            token=asked.get("token", ""),
            address=asked["address"],
            email=email,
            client=client,
            resource=resource,
            resource_id=blake2b(resource.encode(), digest_size=16).hexdigest(),
            resource_uri=uri,
            ends_at=_end(asked, now),
        )
        self._push(channel, "sync")
        told = {"kind": "api#channel", "id": channel.id, "resourceId": channel.resource_id, "resourceUri": uri}
        ends = str(int(channel.ends_at.timestamp() * 1000))
        return {**told, **({"token": channel.token} if channel.token else {}), "expiration": ends}

    def close(self, id_: object, resource_id: object, email: str, client: str) -> None:
        """Stop a channel; only who opened it may."""
        channel = self.channels.get(str(id_))
        if channel is None or not self._is_open(channel) or channel.resource_id != resource_id:
            raise Refusal(404, "notFound", f"Channel '{id_}' not found for project")
        if (channel.email, channel.client) != (email, client):
            raise not_found()
        channel.stopped = True

    def open_ones(self, email: str | None = None) -> list[Channel]:
        """Give the channels that would tell of a change."""
        return [channel for channel in self.channels.values() if self._is_open(channel) and email in {None, channel.email}]

    def take(self) -> list[Push]:
        """Take what waits to be sent, as far as misbehaviour lets it."""
        waiting, self.waiting = self.waiting, []
        taken = []
        for push in waiting:
            if self._misbehaviour.take("drop_pushes") is not None:
                push.state = "dropped"
                continue
            taken += [push] * (2 if self._misbehaviour.take("duplicate_pushes") is not None else 1)
        return taken

    def _is_open(self, channel: Channel) -> bool:
        return not channel.stopped and self._world.now() < channel.ends_at

    def _hear(self, resource: str) -> None:
        for channel in self.channels.values():
            if channel.resource == resource and self._is_open(channel):
                channel.number += 1 + self._world.position % 3  # they grow, but not by one
                self._push(channel, "exists")

    def _push(self, channel: Channel, state: str) -> None:
        forged = self._misbehaviour.take("forge_pushes") is not None
        headers = {
            "X-Goog-Channel-ID": channel.id,
            "X-Goog-Channel-Expiration": format_datetime(channel.ends_at.astimezone(UTC), usegmt=True),
            "X-Goog-Resource-ID": channel.resource_id,
            "X-Goog-Resource-URI": channel.resource_uri,
            "X-Goog-Resource-State": state,
            "X-Goog-Message-Number": str(channel.number),
            "User-Agent": "APIs-Google; (+https://developers.google.com/webmasters/APIs-Google.html)",
        }
        if channel.token or forged:
            headers["X-Goog-Channel-Token"] = self._world.token() if forged else channel.token
        push = Push(channel=channel.id, address=channel.address, headers=headers)
        self.waiting.append(push)
        self.pushed.append(push)
        del self.pushed[:-REMEMBERED]
        self.call()


def _end(asked: Json, now: datetime) -> datetime:
    """Say when a channel ends: in a week, or as asked where that is sooner."""
    try:
        if "expiration" in asked:
            end = datetime.fromtimestamp(int(asked["expiration"]) / 1000, UTC)
        else:
            end = now + timedelta(seconds=int(asked.get("params", {}).get("ttl", LIFE.total_seconds())))
    except (ValueError, OverflowError, AttributeError, TypeError):
        raise invalid("resource.expiration") from None
    if end <= now:
        raise invalid("resource.expiration")
    return min(end, now + LIFE)
