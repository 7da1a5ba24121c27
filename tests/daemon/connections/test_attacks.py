"""Attacks on connecting: each script is what somebody with a browser, a link of their own and a provider of their own can do.

A foreign connection is one whose account is the victim's and whose user is the attacker, or the other way round, without a yes of the
person whose browser it is, on a page that names both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from daemon.connections.test_connect import GIVEN, Provider, World, a_world
from daemon.connections.world import form_of, says

from oo_daemon.connections.connect import FlowRefused, LinkGone
from oo_daemon.outbox import wire
from oo_daemon.ports import SECOND
from oo_daemon.registry import Registry
from oo_daemon.store import connections
from oo_daemon.store.storage import InlineStorage, open_database
from oo_sdk import OAuth2
from oo_vault import Secret

MALLORY, VICTIM = "mallorys-browser", "the-victims-browser"
REFUSED = (FlowRefused, LinkGone)


@dataclass
class Scene:
    """Mallory and the victim, each a user of the product with a browser, before one daemon."""

    world: World

    async def link(self, user: str = "mallory") -> str:
        return (await self.world.connect.open("acme", user)).link

    async def begun(self, browser: str, user: str = "mallory") -> tuple[str, str]:
        """A state, and the id of the sign-in."""
        opened = await self.world.connect.open("acme", user)
        return state_of(await self.world.connect.begin(opened.link, browser)), opened.id

    async def back(self, browser: str, state: str, code: str = "a-code", registration: str = "acme") -> str:
        """The provider's answer as it arrives from a browser."""
        return await self.world.finish(state, browser=browser, code=code, registration=registration)


def state_of(address: str) -> str:
    return parse_qs(urlsplit(address).query)["state"][0]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    database = open_database(tmp_path / "oo.sqlite3")
    world = a_world(InlineStorage(database, wire.encode))
    await world.registrations.add("acme", "our-client", [Secret("our-secret")])
    yield Scene(world)
    database.close()


Script = Callable[[Scene], Awaitable[object]]


async def the_provider_s_address_is_sent_on(scene: Scene) -> None:
    """Mallory presses the button and sends the provider's address to the victim, who agrees there."""
    state, _ = await scene.begun(MALLORY)
    await scene.back(VICTIM, state)


async def the_callback_is_sent_on(scene: Scene) -> None:
    """Mallory signs in as herself and has the victim open the callback, so that her account becomes the victim's."""
    state, _ = await scene.begun(MALLORY)
    await scene.back(VICTIM, state, code="mallorys-code")


async def a_callback_without_a_state(scene: Scene) -> None:
    """The victim is led to the callback with a code and nothing else."""
    await scene.begun(VICTIM, "victim")
    await scene.back(VICTIM, "", code="mallorys-code")


async def a_state_of_her_own_into_the_victim_s_sign_in(scene: Scene) -> None:
    """While the victim signs in, her browser is led to the callback with Mallory's state and code."""
    await scene.begun(VICTIM, "victim")
    state, _ = await scene.begun(MALLORY)
    await scene.back(VICTIM, state, code="mallorys-code")


async def the_victim_s_state_from_another_browser(scene: Scene) -> None:
    """Mallory has read the victim's state over her shoulder and brings a code of her own."""
    state, _ = await scene.begun(VICTIM, "victim")
    await scene.back(MALLORY, state, code="mallorys-code")


async def the_link_is_begun_and_then_sent(scene: Scene) -> None:
    """Mallory has begun with a link and hands it on: it is her browser's already."""
    link = await scene.link()
    await scene.world.connect.begin(link, MALLORY)
    await scene.world.connect.begin(link, VICTIM)


async def the_link_is_replayed(scene: Scene) -> None:
    """A link that has done its work is opened again in another browser."""
    link = await scene.link("victim")
    state = state_of(await scene.world.connect.begin(link, VICTIM))
    await scene.back(VICTIM, state)
    await scene.world.connect.begin(link, MALLORY)


async def the_callback_is_replayed(scene: Scene) -> None:
    """The address of a callback, found in a history, is opened again, with another code."""
    state, _ = await scene.begun(VICTIM, "victim")
    await scene.back(VICTIM, state)
    await scene.back(VICTIM, state, code="mallorys-code")


async def two_tabs(scene: Scene) -> None:
    """The older of two tabs comes back first; only the newest state counts."""
    link = await scene.link("victim")
    older = state_of(await scene.world.connect.begin(link, VICTIM))
    await scene.world.connect.begin(link, VICTIM)
    await scene.back(VICTIM, older)


async def another_device(scene: Scene) -> None:
    """What began at a desk comes back on a phone."""
    state, _ = await scene.begun(VICTIM, "victim")
    await scene.back("the-victims-phone", state)


async def the_outcome_is_confirmed_from_elsewhere(scene: Scene) -> None:
    """Mallory knows the id of her own sign-in that the victim's browser has begun and says the yes herself."""
    opened = await scene.world.connect.open("acme", "mallory")
    state = state_of(await scene.world.connect.begin(opened.link, VICTIM))
    await scene.back(VICTIM, state)
    await scene.world.connect.confirm(opened.id, MALLORY)


async def the_outcome_is_confirmed_without_a_cookie(scene: Scene) -> None:
    """A form of another site says the yes: the cookie does not come along."""
    opened = await scene.world.connect.open("acme", "mallory")
    state = state_of(await scene.world.connect.begin(opened.link, VICTIM))
    await scene.back(VICTIM, state)
    await scene.world.connect.confirm(opened.id, "")


async def the_victim_follows_a_link_of_mallory_s(scene: Scene) -> None:
    """The victim does everything up to the question; the page names Mallory's user and the victim's account, and nobody says yes."""
    opened = await scene.world.connect.open("acme", "mallory")
    offer = await scene.world.connect.offer(opened.link)
    assert offer.user_label == "mallory"
    id_ = await scene.back(VICTIM, state_of(await scene.world.connect.begin(opened.link, VICTIM)))
    asked = await scene.world.connect.outcome(id_, VICTIM)
    assert (asked.status, asked.user_label, asked.label) == ("pending", "mallory", "ada@example.org")


async def an_old_question_is_answered(scene: Scene) -> None:
    """A question left open in a browser is answered the next day."""
    state, id_ = await scene.begun(VICTIM)
    await scene.back(VICTIM, state)
    scene.world.clock.time += 24 * 3600 * SECOND
    await scene.world.connect.confirm(id_, VICTIM)


async def a_no_is_taken_back_by_another(scene: Scene) -> None:
    """After the victim's no, the yes is sent from her browser by a script that was late."""
    state, id_ = await scene.begun(VICTIM)
    await scene.back(VICTIM, state)
    await scene.world.connect.decline(id_, VICTIM)
    await scene.world.connect.confirm(id_, VICTIM)


SCRIPTS: list[Script] = [
    the_provider_s_address_is_sent_on,
    the_callback_is_sent_on,
    a_callback_without_a_state,
    a_state_of_her_own_into_the_victim_s_sign_in,
    the_victim_s_state_from_another_browser,
    the_link_is_begun_and_then_sent,
    the_link_is_replayed,
    the_callback_is_replayed,
    two_tabs,
    another_device,
    the_outcome_is_confirmed_from_elsewhere,
    the_outcome_is_confirmed_without_a_cookie,
    the_victim_follows_a_link_of_mallory_s,
    an_old_question_is_answered,
    a_no_is_taken_back_by_another,
]


@pytest.mark.rows("D3", "D1", "D2", "D4")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
async def test_no_foreign_connection(scene: Scene, script: Script) -> None:
    """Whatever the script does, no connection comes of it, and no code but one of the browser's own sign-in is exchanged."""
    with suppress(*REFUSED):
        await script(scene)
    assert await scene.world.storage.read(connections.listed) == []
    assert "mallorys-code" not in {form_of(request).get("code") for request in scene.world.script.sent}


# ---- providers that are mixed up


class Malicious(Provider):
    """A connector that was installed for a provider which wants others' codes."""

    id = "evil"
    title = "Evil Notes"
    hosts = ("api.evil.example",)

    def __init__(self) -> None:
        super().__init__()
        self.auth = OAuth2(
            authorize="https://evil.example/authorize",
            token="https://evil.example/token",
            revoke="https://evil.example/revoke",
            issuer="https://evil.example",
        )


@pytest.mark.rows("D5", "D6")
@pytest.mark.parametrize("iss", [None, "https://acme.example", "https://evil.example"])
@pytest.mark.parametrize("door", ["acme", "evil"])
@pytest.mark.parametrize("begun", ["acme", "evil"])
async def test_no_code_reaches_another_s_token_endpoint(scene: Scene, begun: str, door: str, iss: str | None) -> None:
    """An honest and a malicious provider in one run, in every mixture of whose sign-in, whose door and whose name: no code goes astray."""
    world, evil = scene.world, Malicious()
    world.provider.auth = replace(world.provider.auth, issuer="https://acme.example")
    registry = Registry(plugins=(), connectors={"acme": world.provider, "evil": evil})
    registrations = type(world.registrations)(
        storage=world.storage, keyring=world.keyring, registry=registry, clock=world.clock, public_url="https://oo.example"
    )
    await registrations.add("evil", "our-client-there", [Secret("our-secret-there")])
    connect = replace(world.connect, registry=registry, registrations=registrations)
    world.script.answers = [says(**GIVEN)]
    opened = await connect.open(begun, "ada")
    address = await connect.begin(opened.link, VICTIM)
    code = f"code-of-{door}"  # the provider at whose door it arrives has made it
    with suppress(FlowRefused):
        async with asyncio.timeout(5):
            await connect.finish(registration=door, state=state_of(address), browser=VICTIM, code=code, error=None, iss=iss)
    sent = {(urlsplit(request.url).hostname, form_of(request)["code"]) for request in world.script.sent}
    assert sent <= {("acme.example", "code-of-acme"), ("evil.example", "code-of-evil")}
    assert bool(sent) == (begun == door and iss in {None, f"https://{begun}.example"})
