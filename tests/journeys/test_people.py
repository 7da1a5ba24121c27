"""People at the API, known by the tokens of an authorization server that nobody here wrote."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from authorization_server.process import serving
from authorization_server.test_oidc_provider import PUBLIC, visited
from daemon.identity.world import FIRST, SECOND_KEY
from joserfc.jwk import Key
from journeys.house import House

from oo_client import Client, Refused
from oo_client.client import LOOPBACK
from oo_daemon.connections.token_endpoint import basic
from oo_daemon.identity import issuer as keys

SECRET = "a-secret-of-the-tests"
AUDIENCE = "https://oo.example/api"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port: int = door.getsockname()[1]
        return port


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
