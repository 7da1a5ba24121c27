"""Push channels: where Google says that something changed, and nothing of what.

One channel is opened for the list of calendars and one for each calendar in it. None can be made to last longer: another is opened, and
the one before is stopped while the new one already pushes. To stop one takes the id of what it watches, which only the answer to opening
it has; where that answer was lost, another channel is opened to learn it, since it stays the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from oo_google_calendar.refusals import Forbidden, Invalid, NotThere
from oo_google_calendar.shapes import Channel
from oo_sdk import Address, ConnectorBug, Context, Delivery, News, Nudge, RetryLater, Scheme, Subscription, Unreadable
from oo_sdk.schemes import SCHEMES

#: The topic of the list itself; a calendar's is its id, which has an @.
LIST: Final = "calendars"
#: Each channel has a token of its own, so that one that got known forges pushes of no other.
SCHEME: Final[Scheme] = replace(SCHEMES["google-channel"], hash_of="X-Goog-Channel-ID")  # type: ignore[call-arg]  # it is a TokenScheme
#: What a push may say of what it is about: the first says that the channel is open.
SYNC, CHANGED = "sync", {"exists", "not_exists"}
#: Seconds for which a channel lives that is only opened to learn what it watches.
BRIEFLY: Final = 60


def read(delivery: Delivery) -> Sequence[News]:
    """Say what a push says; it has no body."""
    state = delivery.headers.get("x-goog-resource-state", "")
    if state not in {SYNC, *CHANGED}:
        raise Unreadable("a push of Google Calendar's says nothing that is known")
    return [] if state == SYNC else [Nudge()]


def named(delivery: Delivery) -> str:
    """Say which channel a push came by."""
    id_ = delivery.headers.get("x-goog-channel-id", "")
    if not id_:
        raise Unreadable("a push of Google Calendar's names no channel")
    return id_


async def opened(api: str, ctx: Context, topic: str, address: Address) -> Subscription | None:
    """Open a channel; None where Google pushes nothing of this calendar, such as of public holidays, or it is none of ours any more."""
    try:
        channel = await _watch(api, ctx, topic, address)
    except (Invalid, Forbidden, NotThere) as refusal:
        ctx.log.info("nothing_pushed", reason=refusal.reason)
        return None
    return Subscription(id=address.id, topic=topic, handle=channel.resource_id, expires_at=_end(channel))


async def stopped(api: str, ctx: Context, standing: Subscription, address: Address) -> None:
    """Stop a channel, if there is one."""
    if standing.handle:
        await _stop(api, ctx, standing.id, standing.handle)
        return
    if not address.url:
        raise RetryLater("a channel that may be open cannot be found, since our address takes nothing now")
    # Ids are never used twice, and this may be the second try.
    brief = replace(address, id=f"{standing.id}-{ctx.clock.now():%Y%m%d%H%M%S%f}")
    try:
        watched = (await _watch(api, ctx, standing.topic, brief, ttl=BRIEFLY)).resource_id
    except (Invalid, Forbidden, NotThere):
        return  # then neither was there one before
    await _stop(api, ctx, standing.id, watched)
    await _stop(api, ctx, brief.id, watched)


async def _watch(api: str, ctx: Context, topic: str, address: Address, ttl: int | None = None) -> Channel:
    path = "users/me/calendarList" if topic == LIST else f"calendars/{quote(topic, safe='')}/events"
    body = {"id": address.id, "type": "web_hook", "address": address.url, "token": address.secret}
    more = {} if ttl is None else {"params": {"ttl": str(ttl)}}
    return await ctx.http.post(f"{api}/{path}/watch", json=body | more, into=Channel)


async def _stop(api: str, ctx: Context, id_: str, watched: str) -> None:
    await ctx.http.request("POST", f"{api}/channels/stop", json={"id": id_, "resourceId": watched}, accept=(404,))


def _end(channel: Channel) -> datetime | None:
    if channel.expiration is None:
        return None
    try:
        return datetime.fromtimestamp(int(channel.expiration) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        raise ConnectorBug("Google Calendar says of a channel that it ends at a time that is none") from None
