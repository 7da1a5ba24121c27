"""Changing the key of a daemon that works."""

from __future__ import annotations

import aiohttp
import pytest
from journeys.house import House

from oo_client import Refused
from oo_daemon.host import Background
from oo_vault import add_key


@pytest.mark.rows("C3")
async def test_a_new_key_without_a_stop(house: House) -> None:
    """Add a key, rotate, drop the old one and its line, restart: syncing goes on throughout, and the old key opens nothing any more."""
    connection = await house.connect()
    assert connection is not None
    file = house.folder / "root.key"
    add_key(file)
    async with house.client as client:
        old = (await client.vault()).keys[0].id
        found = await client.rotate_keys(wait=20)
        assert (found.rotation.running, found.rotation.done) == (False, found.rotation.total)
        assert found.rotation.total >= 3
        assert found.keys[1].id == old
        assert (await client.sync_and_wait(connection.id)).outcome == "done"
        with pytest.raises(Refused) as newest:
            await client.drop_key(found.keys[0].id)
        assert newest.value.code == "key_newest"
        assert [key.id for key in (await client.drop_key(old)).keys] == [found.keys[0].id]
        file.chmod(0o600)
        file.write_text(file.read_text().splitlines()[0])
        assert len((await client.reload_keys()).keys) == 1
        file.chmod(0o644)
        with pytest.raises(Refused) as exposed:
            await client.reload_keys()
        assert exposed.value.code == "key_file_refused"
        file.chmod(0o400)
    await house.stop()
    await house.start()
    async with house.client as client:
        assert (await client.sync_and_wait(connection.id)).outcome == "done"


@pytest.mark.rows("C3")
async def test_a_rotation_hears_who_asks(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What seals stands aside for whoever asks at either door."""
    heard: list[Background] = []
    monkeypatch.setattr(Background, "asked", lambda self: heard.append(self))
    await house.stop()
    await house.start()
    async with house.client as client:
        await client.vault()
    assert len(heard) == 1
    assert house.app is not None
    address = f"{house.app.public_url}/webhooks/none"
    async with aiohttp.ClientSession() as sender, sender.get(address), sender.post(address, data=b"{}") as answer:
        assert answer.status == 404
    assert len(heard) == 3
    assert house.app.keys._beside == heard[0].each
