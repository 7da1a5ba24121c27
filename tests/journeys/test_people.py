"""People at the API, known by the tokens of an authorization server that nobody here wrote."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from authorization_server.process import serving
from authorization_server.test_oidc_provider import PUBLIC, visited
from browser.chromium import a_page, launched, seen
from daemon.identity.world import FIRST, SECOND_KEY, a_key
from joserfc import jwt
from joserfc.jwk import Key
from journeys.house import House
from playwright.async_api import Browser, Page, expect
from ports import free_port

from oo_client import Client, Refused
from oo_client.client import LOOPBACK
from oo_daemon.connections.token_endpoint import basic
from oo_daemon.identity import issuer as keys

SECRET = "a-secret-of-the-tests"
AUDIENCE = "https://oo.example/api"


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    """The browser."""
    async with launched() as browser:
        yield browser


def document(*signing: Key) -> str:
    return json.dumps({"keys": [key.as_dict(private=True) for key in signing]})


async def token_of(address: str, scope: str = "read connect act", resource: str = AUDIENCE) -> dict[str, Any]:
    """Sign in as ada at the server, for an app of hers, and give what it answers."""
    asked = {
        "client_id": "oo",
        "response_type": "code",
        "redirect_uri": f"{PUBLIC}/back",
        "scope": f"openid {scope}",
        "resource": resource,
        "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        "code_challenge_method": "S256",
    }
    back = await visited(f"{address}/auth?{urlencode(asked)}")
    form = {
        "grant_type": "authorization_code",
        "code": back["code"],
        "redirect_uri": f"{PUBLIC}/back",
        "code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        "resource": resource,
    }
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{address}/token", data=form, headers={"Authorization": basic("oo", SECRET)}) as answer:
            given: dict[str, Any] = await answer.json()
            assert answer.status == 200, given
            return given


@dataclass
class There:
    """A house with that server as its issuer."""

    house: House
    issuer: int  #: its port
    url: str

    def serving(self, *signing: Key, **how: Any) -> Any:
        return serving(
            redirect=f"{PUBLIC}/back", secret=SECRET, resource=AUDIENCE, keys=document(*signing) if signing else "", port=self.issuer, **how
        )

    def client(self, token: str) -> Client:
        return Client(url=self.url, token=token)


@pytest.fixture
async def there(house: House) -> There:
    """The daemon again, with an issuer and a door on TCP."""
    await house.stop()
    issuer, private = free_port(), free_port()
    house.settings |= {
        "private": {"port": private},
        "identity": {
            "issuer": f"http://127.0.0.1:{issuer}",
            "audience": AUDIENCE,
            "operator_roles": ["staff"],
            "viewer_roles": ["looks"],
        },
    }
    await house.start()
    assert "127.0.0.1" in LOOPBACK
    return There(house, issuer, f"http://127.0.0.1:{private}")


async def code_of(asking: Any) -> str:
    with pytest.raises(Refused) as caught:
        await asking
    return caught.value.code


@asynccontextmanager
async def signing_in(house: House, *, roles: str = "", **identity: object) -> AsyncIterator[There]:
    """The daemon again, whose people sign in at the server; it asks them for a name."""
    await house.stop()
    issuer, public, private = free_port(), free_port(), free_port()
    house.settings |= {
        "public": {"port": public},
        "private": {"port": private},
        "identity": {"issuer": f"http://127.0.0.1:{issuer}", "client_id": "oo", **identity},
    }
    (house.folder / "identity.secret").write_text(SECRET)
    (house.folder / "identity.secret").chmod(0o400)
    await house.start()
    back = f"http://127.0.0.1:{public}/identity/callback http://127.0.0.1:{private}/console/sign-in/callback"
    async with serving(redirect=back, secret=SECRET, port=issuer, ask=True, roles=roles):
        yield There(house, issuer, f"http://127.0.0.1:{private}")


async def at_the_issuer(page: Page, name: str) -> None:
    await page.get_by_label("Account").fill(name)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("button", name="Allow").click()


@pytest.mark.rows("D3")
async def test_who_opens_a_link_signs_in_first(house: House, chromium: Browser) -> None:
    """At a real server: the right person goes on to what is asked, another one connects nothing, and one who says no is told so."""
    async with signing_in(house, connect=["sign_in"]):
        async with house.client as client:
            await client.register(provider="todoist", client_id=house.sandbox.client_id, client_secrets=[house.sandbox.client_secret])
            session = await client.connect(provider="todoist", user="ada")
        other, page = await a_page(chromium), await a_page(chromium)
        await other.goto(session.url)
        await expect(other.get_by_role("heading", level=1)).to_have_text("Who are you?")
        await seen(other, "who")
        await other.get_by_role("button", name="Sign in at").click()
        await at_the_issuer(other, "grace")
        await expect(other.get_by_role("heading", level=1)).to_have_text("This link is for somebody else")
        await seen(other, "not-theirs")
        await other.goto(session.url)
        await expect(other.get_by_role("heading", level=1)).to_have_text("Who are you?")

        await page.goto(session.url)
        await page.get_by_role("button", name="Sign in at").click()
        await at_the_issuer(page, "ada")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Connect Todoist to oO")
        assert page.url == session.url
        await other.goto(session.url)
        await expect(other.get_by_role("heading", level=1)).to_have_text("This link no longer works")
        await page.get_by_role("button", name="Continue to").click()
        await page.locator("button[name=decision][value=allow]").click()
        await page.get_by_role("button", name="Yes").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Todoist is connected")
        names = {each["name"] for each in await page.context.cookies() if each["domain"] == "127.0.0.1"}
        assert "oo-signing-in" not in names

        async with house.client as client:
            session = await client.connect(provider="todoist", user="ada", account="second")
        nobody = await a_page(chromium)
        await nobody.goto(session.url)
        await nobody.get_by_role("button", name="Sign in at").click()
        await nobody.get_by_label("Account").fill("ada")
        await nobody.get_by_role("button", name="Sign in").click()
        await nobody.get_by_role("button", name="Deny").click()
        await expect(nobody.get_by_role("heading", level=1)).to_have_text("oO does not know who you are")
        await seen(nobody, "not-proved")


@pytest.mark.rows("D3")
async def test_who_visits_their_page_signs_in_first(house: House, chromium: Browser) -> None:
    """At a real server: the page opens for its own person only, who is not asked again for what begins on it."""
    async with signing_in(house, connect=["sign_in"]):
        async with house.client as client:
            await client.register(provider="todoist", client_id=house.sandbox.client_id, client_secrets=[house.sandbox.client_secret])
            link = (await client.visit("ada")).url
        other, page = await a_page(chromium), await a_page(chromium)
        await other.goto(link)
        await expect(other.get_by_role("heading", level=1)).to_have_text("Who are you?")
        await other.get_by_role("button", name="Sign in at").click()
        await at_the_issuer(other, "grace")
        await expect(other.get_by_role("heading", level=1)).to_have_text("This link is for somebody else")
        await page.goto(link)
        await page.get_by_role("button", name="Sign in at").click()
        await at_the_issuer(page, "ada")
        await page.get_by_role("button", name="Open it").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("What oO reads of yours")
        await page.get_by_role("button", name="Connect it").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Connect Todoist to oO")
        await other.goto(link)
        await expect(other.get_by_role("heading", level=1)).to_have_text("This link no longer works")


@pytest.mark.rows("D3")
async def test_a_ticket_of_the_product(house: House, chromium: Browser) -> None:
    """The product sends its user with a ticket: the link opens in that browser only, and the ticket is not in the address any more."""
    await house.stop()
    public, key = free_port(), a_key("product", "OKP")
    (house.folder / "ticket-keys.json").write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
    house.settings |= {"public": {"port": public}, "identity": {"connect": ["ticket"]}}
    await house.start()
    async with house.client as client:
        await client.register(provider="todoist", client_id=house.sandbox.client_id, client_secrets=[house.sandbox.client_secret])
        session = await client.connect(provider="todoist", user="ada")
    now = int(time.time())
    said = {"aud": f"http://127.0.0.1:{public}", "sub": "ada", "sid": session.id, "exp": now + 60}
    ticket = jwt.encode({"alg": "Ed25519", "kid": "product"}, said, key, algorithms=["Ed25519"])
    page, other = await a_page(chromium), await a_page(chromium)
    await page.goto(session.url)
    await expect(page.get_by_text("Open it from the program")).to_be_visible()
    await seen(page, "who-product")
    await page.goto(f"{session.url}?ticket={ticket}")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Connect Todoist to oO")
    assert page.url == session.url
    await other.goto(f"{session.url}?ticket={ticket}")
    await expect(other.get_by_role("heading", level=1)).to_have_text("oO does not know who you are")
    assert ticket not in house.log.getvalue()


@pytest.mark.rows("D3")
async def test_operators_sign_in_to_the_console(house: House, chromium: Browser) -> None:
    """With an operator's role the console opens, with a viewer's to look only, without one not at all; signing out ends it."""
    for roles, opens in (("staff", True), ("looks", True), ("", False)):
        async with signing_in(house, roles=roles, operator_roles=["staff"], viewer_roles=["looks"]) as there:
            page = await a_page(chromium)
            await page.goto(f"{there.url}/console/")
            if roles == "staff":
                await seen(page, "console-sign-in-issuer")
            await page.get_by_role("button", name="Sign in at").click()
            await at_the_issuer(page, "eve")
            if not opens:
                await expect(page.get_by_role("alert")).to_contain_text("have no role here")
                await seen(page, "console-no-role")
                continue
            await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
            assert page.url == f"{there.url}/console/"
            await expect(page.get_by_text("eve", exact=True)).to_be_visible()
            await page.get_by_role("button", name="Sign out").click()
            await page.goto(f"{there.url}/console/")
            await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in to the console")


@pytest.mark.rows("D3", "D6")
async def test_a_user_touches_what_is_their_own(there: There) -> None:
    """Ada's token shows and changes ada's connection; grace's is not there for it, and nothing of hers is seen or changed."""
    mine, hers = await there.house.connect(write=True), await there.house.connect(user="grace", write=True)
    assert mine is not None
    assert hers is not None
    async with there.serving() as address:
        told = await token_of(address)
        async with there.client(told["access_token"]) as ada, there.client(told["id_token"]) as other:
            assert await code_of(other.connections()) == "token_needed"  # a token that says who signed in is not one for the API
            assert [each.id for each in await ada.connections()] == [mine.id]
            assert [each.id for each in await ada.connections(user="grace")] == [mine.id]
            assert (await ada.connection(mine.id)).user == "ada"
            assert (await ada.sync_and_wait(mine.id)).outcome
            assert {event.user for event in [event async for event in ada.events(follow=False, user="grace")]} <= {"ada"}
            done = await ada.act(mine.id, "complete_task", {"id": next(iter(there.house.tasks()))}, wait=20)
            assert (await ada.action(done.id)).state == "done"
            assert (await ada.connect(provider="todoist", user="ada")).url
            async with there.house.client as client:
                before = await client.connection(hers.id)
                acted = await client.act(hers.id, "add_task", {"title": "Hers"}, wait=20)
                session = await client.connect(provider="todoist", user="grace")
            for asking in (
                ada.connection, ada.disconnect, ada.sync, ada.pause, ada.resume, ada.runs,
                lambda id_: ada.act(id_, "add_task", {"title": "Mine"}), lambda _: ada.action(acted.id),
                lambda _: ada.connect_progress(session.id),
            ):  # fmt: skip
                assert await code_of(asking(hers.id)) == "not_found"
            assert await code_of(ada.connect(provider="todoist", user="grace")) == "user"
            assert await code_of(ada.runs()) == "connection"
            for closed in (ada.tokens, ada.status, ada.plugins, ada.consumers, ada.audit):
                assert await code_of(closed()) == "role"
            assert await code_of(ada.erase_user("ada")) == "role"
            headers = {"Authorization": f"Bearer {told['access_token']}"}
            host = there.house.address.removeprefix("http://")
            async with aiohttp.ClientSession(headers=headers) as product:
                for id_, status in ((mine.id, 200), (hers.id, 404)):
                    async with product.get(f"{there.url}/v1/connections/{id_}/proxy/{host}/api/v1/projects") as answer:
                        assert answer.status == status
            async with there.house.client as client:
                after = await client.connection(hers.id)
                assert (after.state, after.version if hasattr(after, "version") else 0) == (
                    before.state,
                    before.version if hasattr(before, "version") else 0,
                )
                noted = await client.audit()
            assert "ada" not in {word for entry in noted for word in entry.who.split()}
            assert any(entry.who.startswith("user ") for entry in noted)
            assert (await ada.disconnect(mine.id, wait=20)).state == "disconnected"


@pytest.mark.rows("D6")
async def test_keys_change_and_roles_count(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key of the server's is met at once; one that went counts for ten minutes more; a role makes an operator, and scopes count."""
    monkeypatch.setattr(keys, "PAUSE", 0.0)
    async with there.serving(FIRST) as address:
        old = (await token_of(address))["access_token"]
        async with there.client(old) as ada:
            assert await ada.connections() == ()
    async with there.serving(SECOND_KEY, FIRST, roles="staff") as address:
        new, less = (await token_of(address))["access_token"], (await token_of(address, "read"))["access_token"]
        async with there.client(new) as operator, there.client(old) as ada:
            assert (await operator.status()).version
            assert await operator.tokens() == ()
            assert await ada.connections() == ()
        async with there.client(less) as operator:
            assert (await operator.status()).version
    async with there.serving(SECOND_KEY) as address:
        async with there.client(old) as ada, there.client(await some(address, "read")) as reader:
            assert await code_of(reader.connect(provider="todoist", user="ada")) == "scope"
            monkeypatch.setattr(keys, "FRESH", 0.0)  # ten minutes later
            assert await code_of(ada.connections()) == "token_needed"


async def some(address: str, scope: str) -> str:
    token: str = (await token_of(address, scope))["access_token"]
    return token
