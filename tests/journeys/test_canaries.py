"""A whole life of somebody with a name, an address and words of her own: neither the log nor the numbers know any of them."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from urllib.parse import quote

import aiohttp
import pytest
from journeys.house import House
from journeys.test_actions import act
from journeys.test_webhooks import address, post, signed

from oo_client import Client
from oo_daemon.cli.stage import Browser

USER = "canary-user-4711"
TITLE = "canary title of ada"
KEY = "canary-key-of-an-action"


async def signed_in(house: House, client: Client) -> str:
    """Sign in with the right to change things, and sync."""
    await client.register(provider="todoist", client_id=house.sandbox.client_id, client_secrets=[house.sandbox.client_secret])
    session = await client.connect(provider="todoist", user=USER, account="canary-account", write=True)
    async with Browser() as browser:
        await browser.open(session.url)
        await browser.press()
        await browser.press("decision", "allow")
        await browser.press("answer", "yes")
    reached = await client.connect_progress(session.id)
    assert reached.connection is not None
    assert (await client.sync(reached.connection, wait=20)).outcome == "done"
    return reached.connection


@pytest.mark.rows("F15")
async def test_the_log_and_the_numbers_name_nobody(house: House) -> None:
    """At the log's finest level, through sign-in, syncs, pushes, actions, faults, hand-out and erasure."""
    account = house.sandbox.world.account("ada")
    assert account is not None
    house.change({"type": "item_add", "args": {"content": TITLE, "description": "canary description"}})
    async with house.client as client:
        connection = await signed_in(house, client)
        body = json.dumps({"event_name": "item:added", "user_id": account.id, "event_data": {"content": TITLE}, "version": "10"}).encode()
        url = await address(house)
        for sent in (body, b"canary nonsense", body.replace(account.id.encode(), b"canary-nobody")):
            assert await post(url, sent, signed(house, sent, f"canary-delivery-{len(sent)}")) == 200
        while any(each.state == "received" and each.tries == 0 and not each.reason for each in await client.deliveries()):
            pass
        found = await client.connection(connection)
        assert (await act(house, found, "add_task", {"title": TITLE}, key=KEY)).state == "done"
        assert (await act(house, found, "complete_task", {"id": "canary-of-no-task"})).state == "failed"
        for trouble in ("expire_tokens", "drop_connection", "null_fields", "truncated_json", "status_500", "kill_grant"):
            house.sandbox.misbehaviour.on(trouble)
            await client.sync(connection, wait=20)
            house.sandbox.misbehaviour.off(trouble)
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(house.folder / "oo.sock"))) as http:
            for strange in (f"/v1/users/{USER}/nothing", "/v1/connections/canary-id", f"/v1/events?user={USER}&after=canary"):
                async with http.get(f"http://oo{strange}") as answer:
                    assert answer.status >= 400
        await client.export(USER)
        begun = await client.erase_user(USER)
        async with asyncio.timeout(20):
            while (await client.erasure(begun.id, wait=20)).state != "done":
                pass
        numbers = await client.metrics()
    log = house.log.getvalue()
    assert log.count('"event"') > 20
    assert "oo_integrations_erasures_done_total" in numbers
    tokens = [token.text for token in house.sandbox.world.grants.tokens.values()]
    for canary in ("canary", USER, TITLE, account.id, account.user["email"], account.user["full_name"], connection, *tokens):
        for spelling in (canary, quote(canary), b64encode(canary.encode()).decode()):
            assert spelling not in log, next(line for line in log.splitlines() if spelling in line)
            assert spelling not in numbers
