"""Handing in an export in a real browser: dropped or chosen, over a broken line and a restart, watched, cancelled, and summed up."""

from __future__ import annotations

import asyncio
import base64
import random
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from apple_health.generator import Phone
from browser.chromium import a_page, launched, seen
from journeys.house import House, served
from playwright.async_api import Browser, Page, Route, expect
from ports import free_port

from oo_daemon.reader_process import Process
from oo_daemon.sync.frames import Order
from oo_todoist.sandbox import TodoistSandbox
from oo_vault import create_key_file

#: Longest that a page may take to say what came of it, in milliseconds: a reader has to start.
LONGEST = 60_000
PHONE = Phone(records=900, days=200)


class Door:
    """Readers begin while it is open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = asyncio.Event()
        self.opened.set()
        real = Process.open

        async def open_(order: Order) -> Process:
            await self.opened.wait()
            return await real(order)

        monkeypatch.setattr(Process, "open", open_)


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    """It is there before the daemon is built."""
    return Door(monkeypatch)


@pytest.fixture
async def house(tmp_path: Path, door: Door) -> AsyncIterator[House]:
    """A daemon that is at the same address after a restart."""
    create_key_file(tmp_path / "root.key")
    sandbox = TodoistSandbox()
    async with served(sandbox) as address:
        house = House(tmp_path, sandbox, address, settings={"public": {"port": free_port()}})
        await house.start()
        try:
            yield house
        finally:
            await house.stop()


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    """The browser."""
    async with launched() as browser:
        yield browser


def export(folder: Path, *, beside: int = 0) -> Path:
    """An export with so many bytes beside it that no zip makes smaller."""
    path = PHONE.zip(folder / "export.zip")
    if beside:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("apple_health_export/clinical-records/a.json", random.Random(1).randbytes(beside))
    return path


async def handed_out(house: House, chromium: Browser) -> Page:
    """The page that a link leads to."""
    async with house.client as client:
        made = await client.await_upload(provider="apple_health", user="ada")
    page = await a_page(chromium)
    await page.goto(made.url)
    return page


async def test_from_the_file_to_the_summary(house: House, chromium: Browser, tmp_path: Path, door: Door) -> None:
    """The daemon goes away in the middle of sending and comes back: it is gone on with, read while one watches, and summed up."""
    door.opened.clear()
    page = await handed_out(house, chromium)
    await seen(page, "import hand in")
    offsets: list[str] = []

    async def on_its_way(route: Route) -> None:
        offsets.append(route.request.url.partition("offset=")[2].partition("&")[0])
        if len(offsets) == 2:
            await house.stop()
            await route.abort()
        else:
            await route.continue_()

    await page.route("**/file?*", on_its_way)
    await page.locator("input[type=file]").set_input_files(export(tmp_path, beside=9_000_000))
    await page.get_by_role("button", name="Import it").click()
    await expect(page.get_by_text("The line is broken")).to_be_visible(timeout=LONGEST)
    await expect(page.get_by_role("progressbar")).to_have_attribute("value", offsets[1])
    await seen(page, "import broken line")
    await house.start()
    await expect(page.get_by_role("heading", name="Your file is being imported")).to_be_visible(timeout=LONGEST)
    assert offsets[:3] == ["0", "4194304", "4194304"], "what had arrived is not sent again"
    await page.reload()
    await expect(page.get_by_role("heading", name="Your file is being imported")).to_be_visible(timeout=LONGEST)
    await seen(page, "import running")
    door.opened.set()
    await expect(page.get_by_role("heading", name="Your export was imported")).to_be_visible(timeout=LONGEST)
    assert await page.locator("svg.chart").count() > 5
    await expect(page.get_by_role("rowheader", name="Heart rate", exact=True)).to_be_visible(timeout=LONGEST)
    await seen(page, "import summary")


async def test_a_dropped_file_is_gone_on_with_and_cancelled(house: House, chromium: Browser, tmp_path: Path, door: Door) -> None:
    """Closed in the middle, the page says how much is here and takes the same file again; an import that began can be cancelled."""
    door.opened.clear()
    page = await handed_out(house, chromium)
    stuck = asyncio.Event()

    async def hold_the_second(route: Route) -> None:
        if "offset=0&" in route.request.url:
            await route.continue_()
        else:
            stuck.set()

    await page.route("**/file?*", hold_the_second)
    body = base64.b64encode(export(tmp_path, beside=5_000_000).read_bytes()).decode()
    dropped = await page.evaluate_handle(
        "body => { const all = new DataTransfer();"
        "all.items.add(new File([Uint8Array.from(atob(body), letter => letter.charCodeAt(0))], 'export.zip')); return all; }",
        body,
    )
    await page.dispatch_event("form[data-import=send]", "drop", {"dataTransfer": dropped})
    await stuck.wait()
    await page.reload()  # and only then let it through: what is held would be sent again
    await page.unroute_all(behavior="ignoreErrors")
    await expect(page.get_by_text("Choose the same file again to go on")).to_be_visible(timeout=LONGEST)
    await seen(page, "import go on")
    await page.locator("input[type=file]").set_input_files(tmp_path / "export.zip")
    await page.get_by_role("button", name="Import it").click()
    await page.get_by_role("button", name="Cancel the import").click(timeout=LONGEST)
    await expect(page.get_by_role("heading", name="The import was cancelled")).to_be_visible(timeout=LONGEST)
    await seen(page, "import cancelled")
    assert not list((house.folder / "uploads").iterdir())
