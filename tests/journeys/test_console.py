"""The console over a real daemon: signing in, every page, and a connection from its first sync to its end."""

import re
import socket
from pathlib import Path

import aiohttp
from browser.chromium import a_page, launched, seen
from journeys.house import House, served

from oo_client import Client
from oo_todoist import Todoist
from oo_todoist.sandbox import TodoistSandbox
from oo_vault import create_key_file

PLACES = (
    "",
    "connections",
    "sources",
    "inbox",
    "events",
    "events?user=ada",
    "plugins",
    "vault",
    "health",
    "erasures",
    "reference",
    "reference?listener=private&part=events",
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port: int = door.getsockname()[1]
        return port


class Operator:
    """A person at a browser."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url
        self.page = ""

    async def get(self, path: str) -> str:
        async with self.session.get(f"{self.url}/console/{path}") as answer:
            self.page = await answer.text()
            assert answer.status == 200, (path, self.page)
            return self.page

    async def send(self, path: str, status: int = 200, **form: str) -> str:
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.page)
        assert found is not None
        async with self.session.post(f"{self.url}/console/{path}", data={"csrf": found[1], **form}) as answer:
            self.page = await answer.text()
            assert answer.status == status, (path, self.page)
            return self.page


async def test_an_operator_looks_around_and_acts(tmp_path: Path) -> None:
    """Every page with a connection and its events is light and whole; sync, pause and erase work, and are in the audit log."""
    create_key_file(tmp_path / "root.key")
    sandbox, port = TodoistSandbox(), free_port()
    async with served(sandbox) as address:
        house = House(tmp_path, sandbox, address, settings={"sync": {"interval": 3600}, "private": {"port": port}})
        await house.start()
        try:
            known = await house.connect()
            assert known is not None
            async with house.client as client:
                token = (await client.create_token("op", scopes=["admin"])).token
                await client.sync(known.id, wait=20)
            jar = aiohttp.CookieJar(unsafe=True)
            async with aiohttp.ClientSession(cookie_jar=jar) as session:
                await _look_around(Operator(session, f"http://127.0.0.1:{port}"), token, known.id)
            async with house.client as client:
                await _all_noted(client)
        finally:
            await house.stop()


async def _look_around(operator: Operator, token: str, connection: str) -> None:
    await operator.get("sign-in")
    await operator.send("sign-in", token=token)
    for place in PLACES:
        page = await operator.get(place)
        assert len(page) < 80_000, place
        assert not re.search(r'(?:src|href|action)="(?!/console|\?|#)', page), place
        assert token not in page
    found = re.search(r'href="/console/(events/\d+)"', await operator.get("events"))
    assert found is not None
    event = await operator.get(found[1])
    assert "&#34;type&#34;: &#34;todoist." in event
    assert re.search(r"type: &#34;todoist\.", event)
    await _sources(operator)
    page = await operator.get(f"connections/{connection}")
    assert all(each.sentence in page for each in Todoist.scopes if each.required)
    assert "A sync begins now." in await operator.send(f"connections/{connection}/sync")
    assert "It is paused" in await operator.send(f"connections/{connection}/pause")
    assert "The erasure has begun." in await operator.send(f"connections/{connection}/erase", name="ada")
    await operator.get("vault")
    await operator.send("vault/rotate")


async def _sources(operator: Operator) -> None:
    """An address is made, told once with its secret, given another secret, closed and opened."""
    await operator.get("sources")
    page = await operator.send("sources", name="bell", user="ada", scheme="github")
    told = re.search(r'aria-label="Secret">([^<]+)</pre>', page)
    address = re.search(r'aria-label="Address">([^<]+)</pre>', page)
    assert told is not None
    assert address is not None
    page = await operator.get("sources/bell")
    assert told[1] not in page
    assert address[1] in page
    page = await operator.send("sources/bell/rotate")
    other = re.search(r'aria-label="Secret">([^<]+)</pre>', page)
    assert other is not None
    assert other[1] != told[1]
    assert "previous" in page
    assert "It is closed" in await operator.send("sources/bell/disable")
    assert "It is open" in await operator.send("sources/bell/enable")
    page = await operator.send("sources", 409, name="bell", user="ada", scheme="github")
    assert "There is a source bell already." in page
    assert 'value="bell"' in page, "what was typed is kept"
    assert '<a href="/console/sources/bell">' in await operator.get("sources")


async def _all_noted(client: Client) -> None:
    noted = [(entry.who, entry.act) for entry in await client.audit()]
    for act in ("sync", "pause", "erase"):
        assert ("token op", f"POST /console/connections/{{id}}/{act}") in noted


async def test_the_console_in_a_browser(tmp_path: Path) -> None:
    """By keyboard from the sign-in on: every page can be read by everybody, and the overview moves by itself."""
    create_key_file(tmp_path / "root.key")
    sandbox, port = TodoistSandbox(), free_port()
    async with served(sandbox) as address:
        house = House(tmp_path, sandbox, address, settings={"sync": {"interval": 3600}, "private": {"port": port}})
        await house.start()
        try:
            async with house.client as client:
                token = (await client.create_token("op", scopes=["admin"])).token
            async with launched() as browser:
                page = await a_page(browser)
                await page.goto(f"http://127.0.0.1:{port}/console/sign-in")
                await seen(page, "console sign-in")
                await page.focus("#token")
                await page.keyboard.type(token)
                await page.keyboard.press("Enter")
                await page.get_by_text("There are none yet").wait_for()
                known = await house.connect()
                assert known is not None
                await page.get_by_role("link", name="Todoist of ada").first.wait_for()
                await seen(page, "console overview")
                async with house.client as client:
                    await client.add_source("bell", user="ada", scheme="github")
                for place in (*PLACES[1:], "sources/bell", f"connections/{known.id}"):
                    await page.goto(f"http://127.0.0.1:{port}/console/{place}")
                    await seen(page, f"console {place}")
                await page.get_by_role("button", name="Pause").press("Enter")
                await page.get_by_text("It is paused: nothing is fetched").wait_for()
                await seen(page, "console paused")
        finally:
            await house.stop()
