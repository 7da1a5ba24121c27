"""Health data come in: an export by the command's way, by the page's script and by its form, and pushes of a phone; over real HTTP."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest
from apple_health.generator import Phone
from journeys.house import House
from journeys.test_webhooks import sender

from oo_client import Event, Refused, Upload

PHONE = Phone(records=900, days=200)


@pytest.fixture
def export(tmp_path: Path) -> bytes:
    """An export, as the phone makes it."""
    return PHONE.zip(tmp_path / "export.zip").read_bytes()


async def ended(house: House, id_: str) -> Upload:
    async with asyncio.timeout(60), house.client as client:
        while (found := await client.upload(id_, wait=20)).state in {"awaited", "queued", "running"}:
            pass
    return found


async def get(url: str, method: str = "GET", **more: object) -> tuple[int, str, Mapping[str, str]]:
    async with sender() as session, session.request(method, url, allow_redirects=False, **more) as response:  # type: ignore[arg-type]
        return response.status, await response.text(), response.headers


async def test_over_the_private_door(house: House, export: bytes) -> None:
    """In parts, over a restart; everything is in the outbox once, the file is gone; again, and nothing is new."""
    half = len(export) // 2
    async with house.client as client:
        upload = (await client.await_upload(provider="apple_health", user="ada", name="/home/ada/export.zip", size=len(export))).upload
        sent = await client.send_upload(upload.id, export[:half], offset=0)
        assert (sent.received, sent.state, sent.name) == (half, "awaited", "export.zip")
    await house.stop()
    await house.start()
    async with house.client as client:
        (file,) = (house.folder / "uploads").iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        with pytest.raises(Refused) as refused:
            await client.send_upload(upload.id, export[half:], offset=half - 1)
        assert refused.value.code == "offset"
        assert (await client.send_upload(upload.id, export[half:], offset=half)).state in {"queued", "running"}
    done = await ended(house, upload.id)
    events = [event for event in await house.events(provider="apple_health") if event.type.startswith("apple_health.")]
    assert (done.state, done.events, len({event.id for event in events})) == ("done", len(events), len(events))
    assert len(events) > 900
    assert not list((house.folder / "uploads").iterdir())
    async with house.client as client:
        again = (await client.await_upload(provider="apple_health", user="ada", size=len(export))).upload
        await client.send_upload(again.id, export, offset=0)
        known = await ended(house, again.id)
        assert (known.state, known.records, known.events) == ("done", done.records, 0)
        assert [entry.act for entry in await client.audit()] == ["POST /v1/uploads"] * 2, "the parts are no acts of their own"
        begun = await client.erase_user("ada")
        while (erased := await client.erasure(begun.id, wait=20)).state != "done":
            pass
        assert erased.erased["upload"] == 2
        assert await client.uploads() == ()


async def test_by_the_form(house: House, export: bytes) -> None:
    """Without JavaScript: the page, the file, the progress, the summary with its charts; and no other file after it."""
    async with house.client as client:
        made = await client.await_upload(provider="apple_health", user="ada")
    status, page, headers = await get(made.url)
    assert (status, 'type="file"' in page, "<bdi>ada</bdi>" in page) == (200, True, True)
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert " style=" not in page
    empty = aiohttp.FormData()
    empty.add_field("file", b"", filename="")
    assert "No file was chosen" in (await get(made.url, "POST", data=empty))[1]
    form = aiohttp.FormData(quote_fields=False)  # as browsers do
    form.add_field("file", export, filename="Exportación.zip", content_type="application/zip")
    assert (await get(made.url, "POST", data=form))[0] == 303
    done = await ended(house, made.upload.id)
    assert (done.state, done.name, done.size) == ("done", "Exportación.zip", len(export))
    _, page, _ = await get(made.url)
    for words in ("was imported", "Heart rate", '<svg class="chart"', "As a table"):
        assert words in page
    again = aiohttp.FormData()
    again.add_field("file", export, filename="second.zip")
    assert (await get(made.url, "POST", data=again))[0] == 409
    assert (await get(f"{made.url}x"))[0] == 404


async def test_by_the_script(house: House, export: bytes) -> None:
    """Parts at their places; what does not fit is told with what is here; cancelled, it is over."""
    async with house.client as client:
        made = await client.await_upload(provider="apple_health", user="ada")
    half, where = len(export) // 2, f"{made.url}/file"
    first = {"offset": "0", "size": str(len(export)), "name": "export.zip"}
    assert (await get(where, "PUT", params=first, data=export[:half]))[0] == 200
    status, told, _ = await get(where, "PUT", params={**first, "offset": "7"}, data=export[:half])
    assert (status, f'"received":{half}' in told) == (409, True)
    assert f"{half / 1000:.0f} kB of" in (await get(made.url))[1]
    assert (await get(f"{made.url}/cancel", "POST"))[0] == 303
    assert "was cancelled" in (await get(made.url))[1]
    assert (await get(where, "PUT", params={**first, "offset": str(half)}, data=export[half:]))[0] == 409
    assert not list((house.folder / "uploads").iterdir())
    assert (await get(f"{house.app.public.address if house.app and house.app.public else ''}/import.js"))[0] == 200


@pytest.mark.rows("A4", "B6")
async def test_a_phone_pushes(house: House) -> None:
    """Health Auto Export, at an address of its own: a day that is pushed again is told only where it changed; a stranger is refused."""
    async with house.client as client:
        source = await client.add_source("phone", user="ada", provider="apple_health")

    async def push(steps: int, token: str | None = source.secret) -> int:
        day = [{"date": f"2026-11-{day:02} 00:00:00 +0100", "qty": qty, "source": "iPhone"} for day, qty in ((21, 8000), (22, steps))]
        body = json.dumps({"data": {"metrics": [{"name": "step_count", "units": "count", "data": day}]}})
        headers = {"Authorization": f"Bearer {token}", "automation-aggregation": "Days", "session-id": str(steps)}
        return (await get(source.url, "POST", data=body.encode(), headers={**headers, "Content-Type": "application/json"}))[0]

    async def told(count: int) -> list[Event]:
        async with asyncio.timeout(20):
            while len(found := [each for each in await house.events(provider="apple_health") if each.type.startswith("apple")]) < count:
                await asyncio.sleep(0)
        return found

    assert await push(100, "guessed") != 200
    assert await push(100) == 200
    assert {(event.type, event.revision) for event in await told(2)} == {("apple_health.pushed.step_count", 1)}
    assert await push(4000) == 200
    (*_, grown) = await told(3)
    assert grown.payload is not None
    assert (grown.revision, grown.payload["value"], grown.account) == (2, 4000, "phone")
    assert grown.payload["metadata"] == {"aggregation": "days"}
    assert await push(4000) == 200
    async with house.client as client:
        while await client.deliveries(state="received"):
            continue
    assert len(await told(3)) == 3
