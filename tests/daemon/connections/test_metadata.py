"""What a provider publishes about itself is held against what its connector declares, before anybody is sent there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from daemon.connections.test_connect import GIVEN, ME, Provider, World, a_world
from daemon.connections.world import SECRET, says

from oo_daemon.connections.connect import FlowRefused, NotNow
from oo_daemon.connections.metadata import FRESH, KEPT, Published
from oo_daemon.connections.transport import NotSent, Request
from oo_daemon.host import SameLoop
from oo_daemon.outbox import wire
from oo_daemon.ports import SECOND
from oo_daemon.registry import PluginRefused, check
from oo_daemon.store.storage import InlineStorage, open_database
from oo_sdk import Response
from oo_vault import Secret

ISSUER = "https://acme.example/eu"
DOCUMENT: dict[str, Any] = {
    "issuer": ISSUER,
    "authorization_endpoint": "https://acme.example/oauth/authorize",
    "token_endpoint": "https://acme.example/oauth/token",
    "revocation_endpoint": "https://acme.example/oauth/revoke",
    "authorization_response_iss_parameter_supported": True,
}


@dataclass
class Scene:
    """A provider that publishes `members`, and is `down` or not."""

    world: World
    members: dict[str, Any]
    down: bool = False
    looks: int = 0

    async def send(self, request: Request) -> Response:
        assert request.url == "https://acme.example/.well-known/oauth-authorization-server/eu"
        self.looks += 1
        if self.down:
            raise NotSent("no connection to the provider")
        return says(**{name: value for name, value in (DOCUMENT | self.members).items() if value is not None})

    async def begun(self) -> str:
        """The state of a sign-in."""
        opened = await self.world.connect.open("acme", "ada")
        return parse_qs(urlsplit(await self.world.connect.begin(opened.link, ME)).query)["state"][0]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    database = open_database(tmp_path / "oo.sqlite3")
    world = a_world(InlineStorage(database, wire.encode), provider=Provider(issuer=ISSUER, metadata="oauth"))
    await world.registrations.add("acme", "our-client", [Secret(SECRET)])
    scene = Scene(world, {})
    published = Published(transport=scene, guests=SameLoop(), clock=world.clock)
    scene.world = replace(world, connect=replace(world.connect, published=published))
    yield scene
    database.close()


@pytest.mark.rows("D6")
async def test_it_agrees(scene: Scene) -> None:
    """A document that names the same endpoints is fetched once an hour; since it says so, a callback must name the issuer."""
    for _ in range(5):
        await scene.begun()
    assert scene.looks == 1
    for iss in (None, "https://acme.example/us", ISSUER + "/"):
        with pytest.raises(FlowRefused):
            await scene.world.finish(await scene.begun(), iss=iss)
    assert scene.world.script.sent == []
    scene.world.script.answers = [says(**GIVEN)]
    assert (await scene.world.confirmed(await scene.world.finish(await scene.begun(), iss=ISSUER))).status == "connected"


@pytest.mark.rows("D6")
@pytest.mark.parametrize("silent", [False, None])
async def test_an_issuer_that_is_not_sent(scene: Scene, silent: bool | None) -> None:
    """Where the document does not say that it is sent, a callback without it counts, and one with another is still refused."""
    scene.members = {"authorization_response_iss_parameter_supported": silent}
    with pytest.raises(FlowRefused):
        await scene.world.finish(await scene.begun(), iss="https://evil.example")
    assert await scene.world.finish(await scene.begun(), iss=None)


@pytest.mark.rows("D5", "D6")
@pytest.mark.parametrize(
    "members",
    [
        {"issuer": "https://acme.example"},
        {"issuer": ISSUER + "/"},
        {"issuer": 7},
        {"authorization_endpoint": "https://evil.example/authorize"},
        {"token_endpoint": "https://evil.example/token"},
        {"revocation_endpoint": "https://acme.example/oauth/revoke/"},
    ],
)
async def test_it_differs(scene: Scene, members: dict[str, Any]) -> None:
    """Another issuer's document, and other endpoints than the connector's: nobody is sent anywhere, and the operator is told."""
    scene.members = members
    with pytest.raises(NotNow):
        await scene.begun()
    assert [event for event, _ in scene.world.notes.lines] == ["metadata_differs"]


async def test_what_it_leaves_out(scene: Scene) -> None:
    """An endpoint that the document does not name is taken from the connector."""
    scene.members = {"revocation_endpoint": None}
    await scene.begun()


@pytest.mark.rows("D6")
async def test_it_is_out_of_reach(scene: Scene) -> None:
    """A document that is known stands in for a day; without one nobody is sent, and the link stays good."""
    scene.down = True
    with pytest.raises(NotNow):
        await scene.begun()
    scene.down = False
    state = await scene.begun()
    scene.down = True
    scene.world.clock.time += int((FRESH + 1) * SECOND)
    await scene.begun()
    with pytest.raises(FlowRefused):  # that one has grown old
        await scene.world.finish(state, iss=ISSUER)
    scene.world.clock.time += int(KEPT * SECOND)
    with pytest.raises(NotNow):
        await scene.begun()


def test_metadata_without_an_issuer() -> None:
    """Nobody's document cannot be held against anything."""
    with pytest.raises(PluginRefused, match="without an issuer"):
        check(Provider(metadata="oauth"))
