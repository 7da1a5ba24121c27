"""Connecting in a real browser, at Todoist's sandbox and at an authorization server that nobody here wrote."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from authorization_server.process import serving
from browser.chromium import a_page, launched, seen
from journeys.house import House
from msgspec.structs import replace
from playwright.async_api import Browser, Page, expect
from ports import free_port

from oo_client import Refused
from oo_daemon.registry import Registry
from oo_daemon.registry import discover as discovered
from oo_sdk import ApiKey, Connector, Flow, KeyField, KeyFlow, OAuth2, Scope, SignInAgain, StoredCredential, Struct
from oo_todoist import Todoist

SECRET = "a-secret-of-the-tests"


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    """The browser."""
    async with launched() as browser:
        yield browser


async def link(house: House, **how: Any) -> tuple[str, str]:
    """A link for Todoist and the id of its sign-in."""
    async with house.client as client:
        await client.register(provider="todoist", client_id=house.sandbox.client_id, client_secrets=[house.sandbox.client_secret])
        session = await client.connect(provider="todoist", user="ada", **how)
        return session.url, session.id


async def status(house: House, session: str) -> str:
    async with house.client as client:
        return (await client.connect_progress(session)).status


async def at_todoist(page: Page, decision: str = "allow", user: str = "") -> None:
    """Press our button, and answer at the sandbox."""
    await page.get_by_role("button", name="Continue to").click()
    if user:
        await page.locator("select[name=user]").select_option(user)
    await page.locator(f"button[name=decision][value={decision}]").click()


@pytest.mark.rows("A1", "D3", "D4", "D8", "D14")
@pytest.mark.parametrize("script", [True, False], ids=["with scripts", "without scripts"])
async def test_connecting_todoist(house: House, chromium: Browser, script: bool) -> None:
    """From the link to the outcome, by buttons alone; a reload of any page on the way exchanges nothing twice."""
    url, session = await link(house, write=True)
    page = await a_page(chromium, script=script)
    await page.goto(url)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Connect Todoist to oO")
    if script:
        await seen(page, "offer")
    await at_todoist(page)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Is this the right account?")
    await expect(page.get_by_text("ada@example.com")).to_be_visible()
    if script:
        await seen(page, "confirm")
    await page.reload()
    assert await status(house, session) == "pending"
    await page.get_by_role("button", name="Yes").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Todoist is connected")
    if script:
        await seen(page, "connected")
    await page.reload()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Todoist is connected")
    await page.go_back()
    await page.go_forward()
    assert await status(house, session) == "connected"
    assert house.sandbox.requests["POST /oauth/access_token"] == 1
    assert {urlsplit(each["domain"]).path for each in await page.context.cookies()} == {"127.0.0.1"}


async def test_by_keyboard_alone(house: House, chromium: Browser) -> None:
    """Tab and Enter are enough, and where the focus is can be seen."""
    url, session = await link(house)
    page = await a_page(chromium)
    await page.goto(url)
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.className") == "skip"
    await page.keyboard.press("Tab")
    assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    await page.keyboard.press("Enter")
    await page.locator("button[name=decision][value=allow]").click()
    await expect(page.get_by_role("button", name="Yes")).to_be_visible()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Todoist is connected")
    assert await status(house, session) == "connected"


async def test_no_at_the_provider_and_no_to_the_account(house: House, chromium: Browser) -> None:
    """Who denies at the provider, or says that it is the wrong account, is told that nothing is connected."""
    for decision, ended in (("deny", "denied"), ("allow", "denied")):
        url, session = await link(house)
        page = await a_page(chromium)
        await page.goto(url)
        await at_todoist(page, decision)
        if decision == "allow":
            await page.get_by_role("button", name="No").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Todoist was not connected")
        await seen(page, f"denied-{decision}")
        assert await status(house, session) == ended
    async with house.client as client:
        assert await client.connections() == ()


async def test_another_account_and_a_second_one(house: House, chromium: Browser) -> None:
    """Another account is asked about with both names and takes the place after a yes; under a name of its own it is a second one."""
    grace = house.sandbox.world.account("grace")
    assert grace is not None
    for account, user in (("default", ""), ("default", grace.id), ("work", "")):
        url, session = await link(house, account=account)
        page = await a_page(chromium)
        await page.goto(url)
        await at_todoist(page, user=user)
        if user:
            await expect(page.get_by_text("Until now oO followed")).to_be_visible()
            await seen(page, "another-account")
        await page.get_by_role("button", name="Yes").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Todoist is connected")
        assert await status(house, session) == "connected"
    async with house.client as client:
        assert [(each.account, each.label) for each in await client.connections()] == [
            ("default", "grace@example.com"),
            ("work", "ada@example.com"),
        ]


async def test_pages_where_something_is_wrong(house: House, chromium: Browser) -> None:
    """A used link, a forged callback, another browser's callback and an address that leads nowhere are pages that can be read, too."""
    url, session = await link(house)
    mine, other = await a_page(chromium), await a_page(chromium)
    await mine.goto(url)
    await at_todoist_begun(mine)
    await other.goto(url)
    await other.get_by_role("button", name="Continue to").click()
    await expect(other.get_by_role("heading", level=1)).to_have_text("This link no longer works")
    await seen(other, "gone")
    assert house.app is not None
    await other.goto(f"{house.app.public_url}/oauth/todoist/callback?state=forged&code=c")
    await expect(other.get_by_role("heading", level=1)).to_have_text("This could not be finished")
    await seen(other, "refused")
    await other.goto(f"{house.app.public_url}/nothing")
    await seen(other, "nothing")
    await other.goto(house.app.public_url)
    await seen(other, "front")
    assert await status(house, session) == "begun"


async def at_todoist_begun(page: Page) -> None:
    await page.get_by_role("button", name="Continue to").click()
    await expect(page.locator("button[name=decision][value=allow]")).to_be_visible()


# ---- a key in place of a sign-in


class Keyed(Todoist):
    """The sandbox again, whose tokens a person could as well copy."""

    id = "keyed"
    title = "Keyed Notes"
    manual_revocation = "https://keyed.example/keys"
    auth: ApiKey = ApiKey(  # type: ignore[assignment]  # the base class's is of another kind
        fields=[
            KeyField("name", "User name", "As it stands at the top of its pages.", secret=False),
            KeyField("key", "API key", "Under Settings, Keys. One that can only read is enough."),
        ]
    )

    async def accept_key(self, flow: KeyFlow) -> StoredCredential:
        """Not asked for in this test."""
        if len(flow.told["name"]) > 3:
            raise SignInAgain("no")
        return flow.stored().of("7", label=f"{flow.told['name']} at Keyed")


async def test_entering_a_key(house: House, chromium: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is entered, refused, corrected and confirmed on pages that can be read in light, dark and on a phone."""
    await house.stop()

    def discover(**how: Any) -> Registry:
        found = discovered(**how)
        return replace(found, connectors={**found.connectors, "keyed": Keyed()})

    monkeypatch.setattr("oo_daemon.app.ground.discover", discover)
    await house.start()
    async with house.client as client:
        session = await client.connect(provider="keyed", user="ada")
    page = await a_page(chromium, script=True)
    await page.goto(session.url)
    await page.get_by_label("User name").fill("Adalbert")
    await seen(page, "key")
    await page.get_by_label("API key").fill("wrong")
    await page.get_by_role("button", name="Connect Keyed").click()
    await expect(page.get_by_role("alert")).to_contain_text("does not accept this key")
    await expect(page.get_by_label("User name")).to_have_value("Adalbert")
    await expect(page.get_by_label("API key")).to_have_value("")
    await page.get_by_label("User name").fill("ada")
    await page.get_by_label("API key").fill("ä")
    await page.get_by_role("button", name="Connect Keyed").click()
    await expect(page.get_by_text("does not look whole")).to_be_visible()
    await seen(page, "key-refused")
    await page.get_by_label("API key").fill("a-key-of-the-tests")
    await page.get_by_role("button", name="Connect Keyed").click()
    await expect(page.get_by_text("ada at Keyed")).to_be_visible()
    await seen(page, "key-confirm")
    await page.get_by_role("button", name="Yes").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Keyed Notes is connected")
    await seen(page, "key-connected")
    assert await status(house, session.id) == "connected"


# ---- an authorization server that is not ours


class Me(Struct):
    """Who signed in."""

    sub: str


class Real(Connector):
    """A connector for it, with one thing that may be left out."""

    id = "real"
    title = "Real Notes"
    scopes = (
        Scope("openid", "Know who you are."),
        Scope("offline_access", "Go on while you are away."),
        Scope("notes.read", "See your notes.", required=False),
    )

    def __init__(self, address: str) -> None:
        self.hosts = [urlsplit(address).netloc]
        self.auth = OAuth2(
            authorize=f"{address}/auth",
            token=f"{address}/token",
            revoke=f"{address}/token/revocation",
            device=f"{address}/device/auth",
            issuer=address,
            metadata="openid",
            extra={"prompt": "consent"},
        )

    async def finish_oauth(self, flow: Flow, code: str) -> StoredCredential:
        """Exchange the code and ask whose account it is."""
        stored = await flow.exchange(code)
        me = await flow.http.get(f"https://{self.hosts[0]}/me".replace("https", "http"), into=Me)
        return stored.of(me.sub, label=f"{me.sub} of the tests")


@dataclass
class There:
    """A house with that server beside it."""

    house: House
    address: str

    async def link(self, **how: Any) -> tuple[str, str]:
        async with self.house.client as client:
            await client.register(provider="real", client_id="oo", client_secrets=[SECRET])
            session = await client.connect(provider="real", user="ada", **how)
            return session.url, session.id


@pytest.fixture
async def there(house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[There]:
    """The daemon again, with a connector for that server."""
    await house.stop()
    port = free_port()
    public = f"http://127.0.0.1:{port}"
    back = "http://127.0.0.1:9/settings"
    async with serving(redirect=f"{public}/oauth/real/callback", secret=SECRET, ask=True) as address:

        def discover(**how: Any) -> Registry:
            found = discovered(**how)
            return replace(found, connectors={**found.connectors, "real": Real(address)})

        monkeypatch.setattr("oo_daemon.app.ground.discover", discover)
        house.settings |= {"public": {"port": port}, "oauth": {"return_to": [back]}}
        await house.start()
        yield There(house, address)


async def sign_in(page: Page, account: str) -> None:
    await page.get_by_role("button", name="Continue to").click()
    await page.get_by_label("Account").fill(account)
    await page.get_by_role("button", name="Sign in").click()


@pytest.mark.rows("D4", "D6", "D10")
async def test_part_of_it_at_a_real_server(there: There, chromium: Browser) -> None:
    """The box is ticked, the provider's is not: the page says what oO cannot do, and the way back to the product is a link."""
    url, _ = await there.link(return_to="http://127.0.0.1:9/settings")
    page = await a_page(chromium)
    await page.goto(url)
    await page.get_by_role("checkbox").check()
    await seen(page, "offer-real")
    await sign_in(page, "ada")
    await page.get_by_label("notes.read").uncheck()
    await page.get_by_role("button", name="Allow").click()
    await expect(page.get_by_text("You did not allow everything")).to_be_visible()
    await page.get_by_role("button", name="Yes").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Real Notes is connected")
    await expect(page.get_by_text("See your notes.")).to_be_visible()
    await expect(page.get_by_role("link", name="Back to")).to_have_attribute("href", "http://127.0.0.1:9/settings")
    await seen(page, "part")
    async with there.house.client as client:
        (connection,) = await client.connections()
        assert (connection.label, connection.scopes) == ("ada of the tests", ("offline_access", "openid"))


@pytest.mark.rows("D9")
async def test_a_no_at_a_real_server(there: There, chromium: Browser) -> None:
    """Denied at a server that names itself in the answer: nothing is connected."""
    url, session = await there.link()
    page = await a_page(chromium)
    await page.goto(url)
    await sign_in(page, "ada")
    await page.get_by_role("button", name="Deny").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Real Notes was not connected")
    assert await status(there.house, session) == "denied"


async def agree_elsewhere(page: Page, address: str, code: str, *, yes: bool = True) -> None:
    """On another machine: enter the code at the server, and say yes or no."""
    await page.goto(address)
    if "user_code" not in address:
        await page.locator("input[name=user_code]").fill(code)
        await page.locator("button[type=submit]").first.click()
    await expect(page.get_by_text(code)).to_be_visible()
    if not yes:
        await page.locator("button[name=abort]").click()
        return
    await page.locator("button[type=submit]:not([name=abort])").first.click()
    await page.get_by_label("Account").fill("ada")
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("button", name="Allow").click()


@pytest.mark.rows("D4", "D12")
async def test_a_code_that_is_entered_elsewhere(there: There, chromium: Browser) -> None:
    """The page shows the code and its address; once it was entered and agreed to at the server, the account is asked about as ever."""
    url, session = await there.link(device=True)
    page, phone = await a_page(chromium), await a_page(chromium)
    await page.goto(url)
    await seen(page, "offer-device")
    await page.get_by_role("button", name="Get a code").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Enter this code at Real Notes")
    await seen(page, "code")
    code = await page.locator(".code").inner_text()
    await page.get_by_role("button", name="I have agreed").click()
    await expect(page.get_by_text("has not heard from")).to_be_visible()
    address = await page.get_by_role("link", name="127.0.0.1").get_attribute("href")
    assert address is not None
    await agree_elsewhere(phone, address, code.strip())
    async with there.house.client as client:
        while (await client.connect_progress(session)).status == "begun":
            pass
    await page.get_by_role("button", name="I have agreed").click()
    await expect(page.get_by_text("ada of the tests")).to_be_visible()
    await page.get_by_role("button", name="Yes").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Real Notes is connected")


@pytest.mark.rows("D12")
async def test_a_code_over_the_api(there: There, chromium: Browser) -> None:
    """Whoever got the code over the API answers for the account; a no at the server ends it, and no page can take it over."""
    for yes, right, ended in ((True, True, "connected"), (True, False, "denied"), (False, None, "denied")):
        url, session = await there.link(device=True, account=f"account-{yes}-{right}")
        async with there.house.client as client:
            code = await client.connect_code(session)
            with pytest.raises(Refused, match="begun before"):
                await client.connect_code(session)
            page = await a_page(chromium)
            await page.goto(url)
            await expect(page.get_by_role("heading", level=1)).to_have_text("This link no longer works")
            with pytest.raises(Refused, match="nothing to be answered"):
                await client.answer(session, right=True)
            await agree_elsewhere(page, code.verification_uri, code.user_code, yes=yes)
            while (reached := await client.connect_progress(session, wait=5)).status == "begun":
                pass
            if right is not None:
                assert (reached.status, reached.label) == ("pending", "ada of the tests")
                reached = await client.answer(session, right=right)
            assert reached.status == ended
