"""Erasing and handing out, over real HTTP and a real file."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile

import pytest
from journeys.house import House
from journeys.test_webhooks import address, post, push, signed

from oo_client import Connection, Refused


async def connected(house: House, user: str = "ada") -> Connection:
    connection = await house.connect(user=user)
    assert connection is not None
    async with house.client as client:
        assert (await client.sync(connection.id, wait=20)).outcome == "done"
    return connection


@pytest.mark.rows("F1", "F3", "F6", "F7", "F9")
async def test_a_user_is_forgotten(house: House) -> None:
    """The provider is told, nothing of hers is left in any file of ours, consumers are told, and she may begin anew."""
    connection = await connected(house)
    house.change({"type": "item_add", "args": {"content": "canary-of-ada"}})
    assert await post(await address(house), push(house), signed(house, push(house), "d-1")) == 200
    async with house.client as client:
        await client.sync(connection.id, wait=20)
        assert any("canary-of-ada" in str(event.payload) for event in await house.events())
        begun = await client.erase_user("ada")
        found = begun
        for _ in range(5):
            found = await client.erasure(begun.id, wait=20)
            if found.state == "done":
                break
        assert (found.state, found.physical, found.waits_for) == ("done", "done", "")
        (part,) = found.connections
        assert (part.state, part.revoked) == ("done", "partly")
        assert found.erased["outbox"] > 5
        assert found.erased["delivery"] == 1
        with pytest.raises(Refused):
            await client.connection(connection.id)
    (tombstone,) = await house.events()
    assert (tombstone.type, tombstone.subject) == ("user.erased", "ada")
    account = house.sandbox.world.account("ada")
    assert account is not None
    await house.stop()
    whole = b"".join(path.read_bytes() for path in sorted(house.folder.rglob("*")) if path.is_file() and path.name != "oo.toml")
    for canary in (b"canary-of-ada", account.id.encode(), b"ada@"):
        assert canary not in whole
    assert "canary-of-ada" not in house.log.getvalue()
    await house.start()
    again = await connected(house)
    assert again.id != connection.id
    assert {event.connection for event in await house.events() if event.type.startswith("todoist.")} == {again.id}


@pytest.mark.rows("F8")
async def test_a_provider_that_is_down(house: House) -> None:
    """What is here goes at once; the erasure waits for the provider, and says so, and she cannot connect before."""
    connection = await connected(house)
    house.sandbox.misbehaviour.on("status_503", endpoint="revoke", seconds=1)
    async with house.client as client:
        begun = await client.erase_connection(connection.id)
        while (found := await client.erasure(begun.id, wait=1)).state == "running":
            pass
        assert (found.state, "todoist to be told" in found.waits_for) == ("waiting", True)
        async with asyncio.timeout(20):
            while not (part := (await client.erasure(begun.id)).connections[0]).reason:
                pass
        assert (part.revoked, part.tried_at is not None) == ("pending", True)
        assert [event.type for event in await house.events()] == ["connection.erased"]
        with pytest.raises(Refused) as refused:
            await client.connect(provider="todoist", user="ada")
        assert refused.value.code == "erasing"
        house.sandbox.misbehaviour.off()
        while (await client.erasure(begun.id, wait=20)).state != "done":
            pass
    assert await house.connect() is not None


@pytest.mark.rows("F13")
async def test_everything_is_handed_out(house: House) -> None:
    """Connections, events, deliveries and runs, as files; and no credential."""
    connection = await connected(house)
    assert await post(await address(house), push(house), signed(house, push(house), "d-1")) == 200
    async with house.client as client:
        while not [each for each in await client.deliveries() if each.state == "done"]:
            pass
        (use,) = await client.uses(connection.id)
        assert (f"http://{use.host}", use.uses > 2) == (house.address, True)
        assert [each.host for each in await client.uses(connection.id, days=0)] == [use.host]
        whole = zipfile.ZipFile(io.BytesIO(await client.export("ada")))
        nobody = zipfile.ZipFile(io.BytesIO(await client.export("nobody")))
    lines = {f"{part}.jsonl" for part in ("deliveries", "runs", "actions", "uploads", "uses", "events")}
    assert set(whole.namelist()) == {"README.txt", "connections.json", *lines}
    (shown,) = json.loads(whole.read("connections.json"))
    assert (shown["connection"], shown["provider"]) == (connection.id, "todoist")
    events = [json.loads(line) for line in whole.read("events.jsonl").splitlines()]
    assert [event["id"] for event in events] == [event.id for event in await house.events() if event.user == "ada"]
    (delivery,) = [json.loads(line) for line in whole.read("deliveries.jsonl").splitlines()]
    assert (delivery["delivery_id"], "item:added" in delivery["body"]) == ("d-1", True)
    assert whole.read("runs.jsonl").count(b'"outcome":"done"') >= 1
    (shown,) = map(json.loads, whole.read("uses.jsonl").splitlines())
    assert (shown["connection"], shown["host"], shown["uses"] >= use.uses) == (connection.id, use.host, True)
    everything = b"".join(whole.read(name) for name in whole.namelist())
    assert not any(token.text.encode() in everything for token in house.sandbox.world.grants.tokens.values())
    assert nobody.read("events.jsonl") == b""
    assert not list(house.folder.glob(".export-*"))
