"""A person on their own page: what they see, what they can do, and what nobody else can."""

from __future__ import annotations

import io
import json
import re
import time
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser.chromium import a_page, launched, seen
from daemon.identity.world import a_key
from joserfc import jwt
from journeys.house import House
from playwright.async_api import Browser, expect
from tab import Tab

from oo_client import Client
from oo_todoist import Todoist

COOKIE = "oo-visit"


class Person(Tab):
    """A browser of a person's."""

    def __init__(self, house: House) -> None:
        assert house.app is not None
        super().__init__(house.app.public_url, COOKIE)

    async def visit(self, client: Client, user: str = "ada") -> None:
        """Open the page of a user."""
        path = urlsplit((await client.visit(user)).url).path
        assert await self.get(path) == 200
        assert user in self.page
        assert await self.send(path) == 303
        assert await self.get("/person") == 200


@pytest.fixture
async def tab(house: House) -> AsyncIterator[Person]:
    tab = Person(house)
    yield tab
    await tab.session.close()


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    """The browser."""
    async with launched() as browser:
        yield browser


async def end_of(house: House, connection: str) -> None:
    async with house.client as client:
        async for event in client.events(follow=True):
            if event.connection == connection and event.type == "connection.disconnected":
                return


@pytest.mark.rows("F1", "F12", "F13")
async def test_a_person_sees_and_ends_what_is_theirs(house: House, tab: Person) -> None:
    """Connections in words, disconnecting with what became of the access, the download, the erasure with its receipt; all is noted."""
    mine = await house.connect(write=True)
    assert mine is not None
    async with house.client as client:
        await client.sync_and_wait(mine.id)
        await tab.visit(client)
        for words in (Todoist.scopes[0].sentence, "last read", "Import from"):
            assert words in tab.page
        assert await tab.send("/person/connect", {"provider": "todoist"}) == 409
        assert "is connected there already" in tab.page
        assert await tab.send("/person/connect", {"provider": "todoist", "account": "a name"}) == 409
        assert 'value="a name"' in tab.page
        assert await tab.send("/person/connect", {"provider": "nowhere"}) == 409
        assert await tab.send("/person/connect", {"provider": "todoist", "account": "work"}) == 303
        assert tab.headers["Location"].startswith("/connect/")
        assert await tab.send("/person/import", {"provider": "todoist"}) == 409
        assert await tab.send("/person/import", {"provider": "apple_health"}) == 303
        assert await tab.get(tab.headers["Location"]) == 200
        assert "Hand in your export" in tab.page
        await tab.get("/person")
        assert await tab.send("/person/download") == 200
        with zipfile.ZipFile(io.BytesIO(tab.body)) as whole:
            assert json.loads(whole.read("connections.json"))[0]["provider"]
            assert b'"user":"ada"' in whole.read("events.jsonl").replace(b" ", b"")
        assert 'filename="oo-data.zip"' in tab.headers["Content-Disposition"]
        assert await tab.send(f"/person/connections/{mine.id}/disconnect") == 303
        assert await tab.get(tab.headers["Location"]) == 200
        assert "It is being disconnected" in tab.page
        await end_of(house, mine.id)
        await tab.get("/person")
        assert "Todoist has taken" in tab.page
        noted = [(entry.act, entry.status) for entry in await client.audit(limit=100) if entry.who.startswith("user ")]
        assert ("POST /person/connections/{id}/disconnect", 303) in noted
        assert {act for act, _ in noted} == {
            "POST /visit/{link}",
            "POST /person/connect",
            "POST /person/import",
            "POST /person/download",
            "POST /person/connections/{id}/disconnect",
        }
        await _erases(house, tab, client)


async def _erases(house: House, tab: Person, client: Client) -> None:
    other = Person(house)
    await other.visit(client)
    await tab.get("/person/erase")
    assert await tab.send("/person/erase", {"name": "eve"}) == 409
    assert "Nothing was erased" in tab.page
    assert 'value="eve"' in tab.page
    assert await client.erasures() == ()
    assert await tab.send("/person/erase", {"name": "ada"}) == 303
    assert await tab.get("/person") == 200
    (erasure,) = await client.erasures()
    assert erasure.id in tab.page
    await client.erasure(erasure.id, wait=20)
    assert await tab.get("/person") == 200
    assert "You are erased" in tab.page
    assert "Todoist has taken a part of the access back" in tab.page, "as it was when it was disconnected"
    assert "ada" not in re.split(r"\W+", tab.page)  # ids may have her letters
    for path in ("/person/download", "/person/connect", "/person/erase"):
        assert await tab.send(path, {"provider": "todoist", "name": "ada"}) == 303
        assert tab.headers["Location"] == "/person", "there is nothing to be done any more"
    assert await client.connections() == ()
    assert await other.get("/person") == 403
    await other.session.close()
    assert ("POST /person/erase", 303) in [(entry.act, entry.status) for entry in await client.audit(limit=100)]
    assert "user ada" not in {entry.about for entry in await client.audit(limit=100)}
    assert await tab.send("/person/leave") == 200
    assert await tab.get("/person") == 403


@pytest.mark.rows("D3", "D6")
async def test_nobody_elses_things_are_reached(house: House, tab: Person) -> None:
    """Over all routes: without a visit each is closed, and with ada's nothing of grace's is shown, changed or handed out."""
    mine, hers = await house.connect(), await house.connect(user="grace")
    assert mine is not None
    assert hers is not None
    assert house.app is not None
    assert house.app.public is not None
    routes = [
        (route.method, route.resource.canonical)
        for route in house.app.public._runner.app.router.routes()
        if route.resource is not None and route.resource.canonical.startswith("/person") and route.method != "HEAD"
    ]
    assert len(routes) == 8
    async with house.client as client:
        for method, path in routes:
            assert await tab.ask(method, path.replace("{id}", mine.id), data={}) == 403, (method, path)
        await tab.visit(client)
        told = {"provider": "todoist", "account": "grace", "user": "grace", "name": "grace", "id": hers.id, "connection": hers.id}
        for method, path in sorted(routes, key=lambda each: each[1].endswith("leave")):
            await tab.get("/person")
            status = await (tab.get(path) if method == "GET" else tab.send(path.replace("{id}", hers.id), told))
            assert status in {200, 303, 404, 409}, (method, path)
            if "{id}" in path:
                assert status == 404
            if path == "/person/download":
                with zipfile.ZipFile(io.BytesIO(tab.body)) as whole:
                    assert not any(b"grace" in whole.read(name) for name in whole.namelist())
            assert hers.id not in tab.page
            assert "grace" not in tab.page.replace('value="grace"', "")
        assert (await client.connection(hers.id)).state == "active"
        assert [each.user for each in await client.connections() if each.state == "active"] == ["ada", "grace"]
        assert await client.erasures() == ()
        assert {event.user for event in [event async for event in client.events(follow=False, user="grace")]} == {"grace"}


@pytest.mark.rows("D3")
async def test_the_page_is_the_persons_browsers_alone(house: House, tab: Person) -> None:
    """No planted cookie, no form of a stranger, no frame, no script: each is tried, and nothing is done."""
    mine = await house.connect()
    assert mine is not None
    act = f"/person/connections/{mine.id}/disconnect"
    async with house.client as client:
        link = urlsplit((await client.visit("ada")).url).path
        assert await tab.send(link) == 400, "the cookie of the page has not come"
        assert await tab.get(link) == 200
        planted = "p" * 43
        assert await tab.send(link, None, **{"Cookie": f"{COOKIE}={planted}; oo-browser=mine", "Sec-Purpose": "prefetch"}) == 503
        assert await tab.ask("HEAD", link) == 200
        assert await tab.send(link) == 303
        kept = {part.strip() for part in tab.headers["Set-Cookie"].split(";")}
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= kept
        assert tab.cookie not in {planted, ""}
        other = Person(house)
        assert await other.get("/person", Cookie=f"{COOKIE}={planted}") == 403
        assert await other.get(link) == 404, "the link is used up"
        await tab.get("/person")
        policy = tab.headers["Content-Security-Policy"]
        for rule in ("default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
            assert rule in policy
        assert "script-src" not in policy
        assert tab.headers["Cache-Control"] == "no-store"
        assert tab.headers["Referrer-Policy"] == "no-referrer"
        strange: list[tuple[dict[str, str], dict[str, str]]] = [
            ({"csrf": ""}, {}),
            ({"csrf": "0" * 64}, {}),
            ({}, {"Sec-Fetch-Site": "cross-site"}),
        ]
        for form, headers in strange:
            await tab.get("/person")
            assert await tab.send(act, form, **headers) == 403
            assert "Nothing was done" in tab.page
        await other.visit(client)
        (csrf,) = set(re.findall(r'name="csrf" value="([0-9a-f]+)"', other.page))
        await tab.get("/person")
        assert await tab.send(act, {"csrf": csrf}) == 403, "the form of another visit"
        assert (await client.connection(mine.id)).state == "active"
        await other.session.close()
        kept_cookie = tab.cookie
        await tab.get("/person")
        assert await tab.send("/person/leave") == 200
        assert await tab.get("/person", Cookie=f"{COOKIE}={kept_cookie}") == 403


@pytest.mark.rows("D3")
async def test_a_ticket_opens_the_page_and_vouches_for_what_begins_there(house: House) -> None:
    """The product sends its user with a ticket for the visit; connecting from the page asks for no other one."""
    await house.stop()
    key = a_key("product", "OKP")
    (house.folder / "ticket-keys.json").write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
    house.settings |= {"identity": {"connect": ["ticket"]}}
    await house.start()
    tab = Person(house)
    async with house.client as client:
        await client.register(provider="todoist", client_id=house.sandbox.client_id, client_secrets=[house.sandbox.client_secret])
        made, other = await client.visit("ada"), await client.visit("ada")

        def ticket(**told: object) -> str:
            said = {"aud": tab.url, "sub": "ada", "sid": made.id, "exp": int(time.time()) + 60, **told}
            return jwt.encode({"alg": "Ed25519", "kid": "product"}, said, key, algorithms=["Ed25519"])

        link = urlsplit(made.url).path
        assert await tab.get(link) == 200
        assert "Open it from the program" in tab.page
        assert await tab.send(link) == 403
        for wrong in (ticket(sub="grace"), ticket(sid=other.id), "none"):
            assert await tab.get(f"{link}?ticket={wrong}") == 403
        assert await tab.get(f"{link}?ticket={ticket()}") == 303
        assert await tab.get(link) == 200
        assert await tab.send(link) == 303
        assert await tab.get("/person") == 200
        assert await tab.send("/person/connect", {"provider": "todoist"}) == 303
        assert await tab.get(tab.headers["Location"]) == 200
        assert "What oO will be able to see" in tab.page
    await tab.session.close()


@pytest.mark.rows("D3", "F1", "F13")
async def test_the_page_in_a_browser(house: House, chromium: Browser, tmp_path: Path) -> None:
    """By keyboard alone, from the link to the receipt; every page on the way can be read by everybody, and fits on a phone."""
    async with house.client as client:
        await client.register(provider="todoist", client_id=house.sandbox.client_id, client_secrets=[house.sandbox.client_secret])
        link = (await client.visit("ada")).url
    page = await a_page(chromium)
    heading = page.get_by_role("heading", level=1)
    await page.goto(link)
    await seen(page, "person-invitation")
    await page.get_by_role("button", name="Open it").press("Enter")
    await expect(heading).to_have_text("What oO reads of yours")
    await seen(page, "person-empty")
    await page.get_by_role("button", name="Connect it").press("Enter")
    await expect(heading).to_have_text("Connect Todoist to oO")
    await page.get_by_role("button", name="Continue to").press("Enter")
    await page.locator("button[name=decision][value=allow]").press("Enter")
    await page.get_by_role("button", name="Yes").press("Enter")
    await expect(heading).to_have_text("Todoist is connected")
    await seen(page, "person-connected")
    await page.get_by_role("link", name="Back to your page").press("Enter")
    await expect(page.get_by_role("heading", name="Todoist")).to_be_visible()
    await seen(page, "person-page")
    await page.get_by_text("Disconnect", exact=False).first.press("Enter")
    await page.get_by_role("button", name="Disconnect Todoist").press("Enter")
    await expect(page.get_by_role("status")).to_contain_text("It is being disconnected")
    async with house.client as client:
        (known,) = await client.connections()
    await end_of(house, known.id)
    await page.reload()
    await expect(page.get_by_text("Disconnected.")).to_be_visible()
    await seen(page, "person-disconnected")
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Download it").press("Enter")
    await (await download.value).save_as(tmp_path / "data.zip")
    assert zipfile.is_zipfile(tmp_path / "data.zip")
    await page.get_by_role("button", name="Import from").first.press("Enter")
    await expect(heading).to_contain_text("Hand in your export")
    await page.go_back()
    await page.get_by_role("link", name="See what would be gone").press("Enter")
    await page.get_by_label("To erase everything").fill("somebody")
    await page.get_by_label("To erase everything").press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("Nothing was erased")
    await seen(page, "person-erase")
    await page.get_by_label("To erase everything").fill("ada")
    await page.get_by_label("To erase everything").press("Enter")
    await expect(heading).to_contain_text("erased")
    async with house.client as client:
        (erasure,) = await client.erasures()
        await client.erasure(erasure.id, wait=20)
    await page.reload()
    await expect(heading).to_have_text("You are erased")
    await seen(page, "person-erased")
    await page.get_by_role("button", name="Close your page").press("Enter")
    await expect(heading).to_have_text("Your page is closed")
    await seen(page, "person-closed")
