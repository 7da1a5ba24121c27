"""Webhooks: what changes at the provider arrives without being asked for, once, and from nobody else."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from journeys.house import House

from oo_client import Delivery, Event

PATIENCE = 10.0


def signed(house: House, body: bytes, delivery: str) -> dict[str, str]:
    """What Todoist sends beside a body."""
    signature = base64.b64encode(hmac.digest(house.sandbox.client_secret.encode(), body, hashlib.sha256)).decode()
    return {"X-Todoist-Hmac-SHA256": signature, "X-Todoist-Delivery-ID": delivery, "Content-Type": "application/json"}


def push(house: House, user: str = "ada") -> bytes:
    """The body of a push about one user."""
    account = house.sandbox.world.account(user)
    assert account is not None
    return json.dumps({"event_name": "item:added", "user_id": account.id, "event_data": {}, "version": "10"}).encode()


async def address(house: House) -> str:
    """Where Todoist's webhooks are to be posted to."""
    async with house.client as client:
        (registration,) = await client.registrations()
    assert registration.webhook_url is not None
    assert registration.webhook_reason == ""
    return registration.webhook_url


@asynccontextmanager
async def sender() -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody who posts webhooks."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session:
        yield session


async def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    async with sender() as session, session.post(url, data=body, headers=headers) as response:
        return response.status


async def connected(house: House) -> str:
    connection = await house.connect()
    assert connection is not None
    async with house.client as client:
        assert (await client.sync(connection.id, wait=20)).outcome == "done"
    return connection.id


async def deliveries(house: House, state: str | None = None) -> tuple[Delivery, ...]:
    async with house.client as client:
        return await client.deliveries(state=state)


async def next_task(house: House, after: str) -> Event:
    """The next task event after a position."""
    async with asyncio.timeout(PATIENCE), house.client as client:
        async for event in client.events(after=after, type="todoist.task"):
            return event
    raise AssertionError("the outbox ended")


async def test_a_change_arrives_by_itself(house: House) -> None:
    """A signed push leads to a sync, although the next one was planned for an hour later, and to the event of the change."""
    await connected(house)
    before = (await house.events())[-1].position
    house.change({"type": "item_add", "args": {"content": "Pushed"}})
    assert await post(await address(house), push(house), signed(house, push(house), "d-1")) == 200
    assert ((await next_task(house, before)).payload or {})["title"] == "Pushed"
    (delivery,) = await deliveries(house)
    assert (delivery.delivery_id, delivery.state, delivery.weak) == ("d-1", "done", False)


async def test_the_same_push_twice(house: House) -> None:
    """A redelivery is answered 200 like the first, and is one delivery and no second event."""
    await connected(house)
    before = (await house.events())[-1].position
    url = await address(house)
    house.change({"type": "item_add", "args": {"content": "Once"}})
    async with sender() as session:
        body, headers = push(house), signed(house, push(house), "d-1")
        answers = await asyncio.gather(*(_status(session, url, body, headers) for _ in range(20)))
    assert answers == [200] * 20
    await next_task(house, before)
    assert len(await deliveries(house)) == 1
    assert len([event for event in await house.events(after=before) if event.type == "todoist.task"]) == 1


async def _status(session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str]) -> int:
    async with session.post(url, data=body, headers=headers) as response:
        return response.status


async def test_what_is_forged_leaves_no_trace(house: House) -> None:
    """A wrong signature, none, another body and another address are one and the same 404, and nothing is kept."""
    await connected(house)
    url = await address(house)
    good = signed(house, push(house), "d-1")
    forged = {**good, "X-Todoist-Hmac-SHA256": base64.b64encode(bytes(32)).decode()}
    assert await post(url, push(house), forged) == 404
    assert await post(url, push(house), {"X-Todoist-Delivery-ID": "d-1"}) == 404
    assert await post(url, push(house) + b" ", good) == 404
    assert await post(url[:-1] + ("A" if url[-1] != "A" else "B"), push(house), good) == 404
    assert await deliveries(house) == ()


async def test_signed_nonsense_is_dead_with_its_reason(house: House) -> None:
    """A body that is signed and makes no sense is answered 200 and set aside; what comes after it goes on."""
    await connected(house)
    url = await address(house)
    assert await post(url, b"\xff\x00", signed(house, b"\xff\x00", "bad")) == 200
    assert await post(url, push(house), signed(house, push(house), "good")) == 200
    async with asyncio.timeout(PATIENCE):
        while await deliveries(house, "received"):
            continue
    (dead,) = await deliveries(house, "dead")
    assert (dead.delivery_id, bool(dead.reason)) == ("bad", True)
    assert [each.delivery_id for each in await deliveries(house, "done")] == ["good"]


async def test_a_compressed_push(house: House) -> None:
    """A compressed body is taken, whether its sender signed it before or after; a bomb is not."""
    await connected(house)
    url, body = await address(house), push(house)
    packed = gzip.compress(body)
    coding = {"Content-Encoding": "gzip"}
    assert await post(url, packed, {**signed(house, body, "d-1"), **coding}) == 200
    assert await post(url, packed, {**signed(house, packed, "d-2"), **coding}) == 200
    bomb = gzip.compress(bytes(2 * 1024 * 1024))
    assert await post(url, bomb, {**signed(house, bomb, "d-3"), **coding}) == 413
    assert len(await deliveries(house)) == 2


async def test_what_comes_before_its_connection(house: House) -> None:
    """A push for somebody who is not connected yet waits, and goes through with the sign-in."""
    async with house.client as client:
        await client.register(provider="todoist", client_id=house.sandbox.client_id, client_secrets=[house.sandbox.client_secret])
    assert await post(await address(house), push(house), signed(house, push(house), "early")) == 200
    async with asyncio.timeout(PATIENCE):
        while (await deliveries(house))[0].reason == "":
            continue
    (waiting,) = await deliveries(house, "received")
    assert waiting.reason == "no connection"
    await house.connect()
    async with asyncio.timeout(PATIENCE):
        while await deliveries(house, "received"):
            continue
    assert [each.state for each in await deliveries(house)] == ["done"]


async def test_the_address_stays(house: House) -> None:
    """A restart and a new client secret leave the address as it is; the old secret is refused from then on."""
    await connected(house)
    url = (await address(house)).rpartition("/")[2]
    await house.stop()
    await house.start()
    assert (await address(house)).rpartition("/")[2] == url
    async with house.client as client:
        renewed = await client.register(provider="todoist", client_id=house.sandbox.client_id, client_secrets=["another"])
    assert renewed.webhook_url == await address(house)
    assert renewed.webhook_url.endswith(url)
    assert await post(renewed.webhook_url, push(house), signed(house, push(house), "d-1")) == 404


async def test_a_source_without_a_secret_refuses_everything(house: House) -> None:
    """Where there is nothing to verify with, nothing is taken, and the listing says why."""
    async with house.client as client:
        added = await client.register(provider="todoist", client_id="public", client_secrets=[])
    assert added.webhook_url is not None
    assert "no client secret" in added.webhook_reason
    body = push(house)
    unsigned = base64.b64encode(hmac.digest(b"", body, hashlib.sha256)).decode()
    assert await post(added.webhook_url, body, {"X-Todoist-Hmac-SHA256": unsigned}) == 404
    assert await deliveries(house) == ()
