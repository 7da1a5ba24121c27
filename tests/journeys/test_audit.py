"""What administrators do is noted, also what was refused, and what was handed out; reading is not."""

from __future__ import annotations

import re

import pytest
from journeys.house import House

from oo_client import Refused


@pytest.mark.rows("F12")
async def test_acts_are_noted(house: House) -> None:
    """Who, what, about whom and what was answered; and after an erasure no longer about whom."""
    connection = await house.connect()
    assert connection is not None
    async with house.client as client:
        await client.connections()
        with pytest.raises(Refused):
            await client.sync("nobody")
        await client.export("ada")
        begun = await client.erase_user("ada")
        entries = await client.audit()
        acts = [(entry.act, entry.about, entry.status) for entry in entries]
        assert acts == [
            ("DELETE /v1/users/{user}", "user ada", 202),
            ("GET /v1/users/{user}/export", "user ada", 200),
            ("POST /v1/connections/{id}/sync", "connection nobody", 404),
            ("POST /v1/connect-sessions", "", 201),
            ("POST /v1/registrations", "", 201),
        ]
        assert {entry.who.partition(" ")[0] for entry in entries} == {"uid"}
        while (await client.erasure(begun.id, wait=20)).state != "done":
            pass
        about = [entry.about for entry in await client.audit()]
        assert re.fullmatch("[0-9a-f]{16}", about[0]), "a random id"
        assert about == [about[0], about[0], "connection nobody", "", ""]
        verdict = await client.audit_verdict()
        assert (verdict.entries, verdict.whole) == (5, True)
        assert (await client.audit_verdict(head=verdict.head)).whole
    assert verdict.head in house.log.getvalue().replace(" ", "")
