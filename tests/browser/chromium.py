"""A real browser for the tests of pages: headless Chromium, looked over its shoulder.

`seen` takes pictures of a page in light, in dark and as on a phone into build/pictures, and says what axe-core finds against WCAG 2.2 AA.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, TypedDict

from playwright.async_api import Browser, Page, async_playwright

BUILT = Path(__file__).parents[2] / "build" / "browser"
PICTURES = Path(__file__).parents[2] / "build" / "pictures"
#: No test waits longer for a page, in milliseconds.
PATIENCE = 15_000
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


class View(TypedDict):
    """How a page is looked at."""

    color_scheme: Literal["light", "dark"]
    width: int
    height: int


VIEWS: dict[str, View] = {
    "light": {"color_scheme": "light", "width": 1100, "height": 900},
    "dark": {"color_scheme": "dark", "width": 1100, "height": 900},
    "phone": {"color_scheme": "light", "width": 320, "height": 640},
}


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """A browser that ends with the block. It asks nobody outside of this machine for anything."""
    program = BUILT / "unpacked" / "chromium"
    assert program.is_file(), "make build/browser/installed fetches the browser"
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-quic"]
    home = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu", *quiet], env={**home, "FONTCONFIG_FILE": str(_fonts())}
        )
        try:
            yield browser
        finally:
            await browser.close()


def _fonts() -> Path:
    """The fonts that came with the browser, so that a machine without any shows the same: their own list names other folders."""
    listed = BUILT / "fonts.conf"
    folders = f"<dir>{BUILT / 'unpacked' / 'fonts'}</dir><cachedir>{BUILT / 'fonts-cache'}</cachedir>"
    listed.write_text(f'<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>{folders}</fontconfig>')
    return listed


async def a_page(browser: Browser, *, script: bool = True) -> Page:
    """A page of a person's own: nothing is shared with any other."""
    context = await browser.new_context(java_script_enabled=script)
    context.set_default_timeout(PATIENCE)
    return await context.new_page()


async def seen(page: Page, name: str) -> None:
    """Take pictures of the page, and refuse what a person could not read, reach or fit on a phone."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for view, how in VIEWS.items():
        await page.set_viewport_size({"width": how["width"], "height": how["height"]})
        await page.emulate_media(color_scheme=how["color_scheme"])
        await page.screenshot(path=PICTURES / f"{re.sub('[^a-z0-9-]', '-', name)}-{view}.png", full_page=True)
        assert await _violations(page) == [], f"{name}, {view}"
        assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} is too wide, {view}"


async def _violations(page: Page) -> list[str]:
    if not await page.evaluate("typeof axe !== 'undefined'"):
        await page.evaluate((BUILT / "node_modules" / "axe-core" / "axe.min.js").read_text())
    found: dict[str, Any] = await page.evaluate("rules => axe.run({runOnly: {type: 'tag', values: rules}})", RULES)
    return [f"{each['id']}: {node['html']}" for each in found["violations"] for node in each["nodes"]]
