"""The device flow: how often a provider is asked, and what each of its answers means."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from daemon.connections.test_connect import GIVEN, ME, Provider, World, a_world
from daemon.connections.world import CANARIES, SECRET, TOKEN, Acme, form_of, says
from daemon.virtual import lost

from oo_daemon.connections.connect import FlowRefused, LinkGone, NotNow
from oo_daemon.connections.errors import Declined
from oo_daemon.connections.token_endpoint import basic
from oo_daemon.connections.transport import NoAnswer
from oo_daemon.outbox import wire
from oo_daemon.ports import SECOND
from oo_daemon.store import connections, flows
from oo_daemon.store.errors import CannotStore
from oo_daemon.store.storage import InlineStorage, open_database
from oo_sdk import Response
from oo_vault import Secret

DEVICE = "https://acme.example/oauth/device"
CODE: dict[str, Any] = {
    "device_code": "canary-device-code-1",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://acme.example/device",
    "verification_uri_complete": "https://acme.example/device?user_code=WDJB-MJHT",
    "expires_in": 600,
    "interval": 5,
}


@dataclass
class Scene:
    """A provider that gives codes."""

    world: World

    async def begun(self, **given: Any) -> str:
        """A sign-in whose code is on the page."""
        self.world.script.answers = [says(**{**CODE, **given})]
        opened = await self.world.connect.open("acme", "ada", by_code=True)
        id_ = await self.world.connect.begin_device(opened.link, ME)
        self.world.script.sent.clear()
        return id_

    async def later(self, seconds: float, *answers: Response | Exception) -> int:
        """Let time pass, looking each second; gives how often the provider was asked."""
        self.world.script.answers = list(answers) or [says(400, error="authorization_pending")]
        before = len(self.world.script.sent)
        for _ in range(int(seconds)):
            self.world.clock.time += SECOND
            await self.world.connect.poll()
        return len(self.world.script.sent) - before


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    database = open_database(tmp_path / "oo.sqlite3")
    world = a_world(InlineStorage(database, wire.encode), provider=Provider(device=DEVICE))
    await world.registrations.add("acme", "our-client", [Secret(SECRET)])
    yield Scene(world)
    database.close()


@pytest.mark.rows("D12", "D4")
async def test_the_whole_way(scene: Scene) -> None:
    """A code and its address; asked for every five seconds; then the account is shown, and only a yes connects it."""
    opened = await scene.world.connect.open("acme", "ada", by_code=True)
    assert (await scene.world.connect.offer(opened.link)).by_code
    with pytest.raises(LinkGone):
        await scene.world.connect.begin(opened.link, ME)
    scene.world.script.answers = [says(**CODE)]
    id_ = await scene.world.connect.begin_device(opened.link, ME)
    (sent,) = scene.world.script.sent
    assert (sent.url, form_of(sent)) == (DEVICE, {"scope": "notes.read"})
    assert sent.headers["Authorization"] == basic("our-client", SECRET)
    shown = await scene.world.connect.outcome(id_, ME)
    assert shown.code is not None
    assert (shown.status, shown.code.user_code, shown.code.address) == ("waiting", "WDJB-MJHT", "https://acme.example/device")
    with pytest.raises(FlowRefused):
        await scene.world.connect.outcome(id_, "another-browser")
    with pytest.raises(LinkGone):
        await scene.world.connect.offer(opened.link, ME)
    assert await scene.later(20) == 4
    asked = scene.world.script.sent[-1]
    assert asked.url == "https://acme.example/oauth/token"
    assert form_of(asked) == {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": CODE["device_code"]}
    await scene.later(5, says(**GIVEN))
    assert (await scene.world.connect.outcome(id_, ME)).status == "pending"
    assert await scene.world.storage.read(connections.of, "ada", "acme", "default") is None
    assert (await scene.world.confirmed(id_)).status == "connected"
    assert (await scene.world.grant(await scene.world.connection())).access_token.reveal() == TOKEN
    assert await scene.later(60) == 0
    rows = await scene.world.storage.read(lambda it: it.rows("SELECT * FROM flow"))
    assert not any(secret in f"{rows}{scene.world.notes.lines}" for secret in (*CANARIES, CODE["device_code"]))


@pytest.mark.rows("D12")
async def test_how_often_it_is_asked(scene: Scene) -> None:
    """The provider's interval is kept to; each `slow_down` makes it five seconds longer, for good; faults make it twice as long."""
    await scene.begun(interval=2)
    assert await scene.later(20) == 10
    assert await scene.later(2, says(400, error="slow_down")) == 1  # now 7
    assert await scene.later(28) == 4
    assert await scene.later(7, says(400, error="slow_down")) == 1  # now 12
    assert await scene.later(24) == 2
    assert await scene.later(12, NoAnswer("nothing came back")) == 1  # now 24
    assert await scene.later(24, says(503)) == 1  # now 48
    assert await scene.later(48, says(500)) == 1  # 60, and no longer
    assert await scene.later(120) == 2


@pytest.mark.rows("D12")
@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (says(400, error="access_denied"), "denied", ""),
        (says(400, error="expired_token"), "failed", "not entered in time"),
        (says(400, error="invalid_grant"), "failed", "not entered in time"),
        (says(401, error="invalid_client"), "failed", "does not know this server"),
    ],
)
async def test_how_it_ends(scene: Scene, answer: Response, status: str, words: str) -> None:
    """A no, a code that grew old, and a client that is not known end it; nobody is asked again, and nothing is kept."""
    id_ = await scene.begun()
    await scene.later(5, answer)
    ended = await scene.world.connect.outcome(id_, ME)
    assert (ended.status, words in ended.reason) == (status, True)
    assert await scene.later(60) == 0
    sign_in = await scene.world.storage.read(flows.by_id, id_)
    assert sign_in is not None
    assert sign_in.sealed is None


@pytest.mark.rows("D12")
async def test_a_code_that_grew_old_here(scene: Scene) -> None:
    """After the time that the provider named nobody asks any more, and the page says so."""
    id_ = await scene.begun(expires_in=30)
    assert await scene.later(60) == 5
    assert (await scene.world.connect.outcome(id_, ME)).status == "failed"


async def test_a_restart_and_a_death(scene: Scene) -> None:
    """Whoever comes after a restart goes on asking; one that died over a question leaves it to be asked again after a minute."""
    id_ = await scene.begun()
    scene.world = scene.world.again()
    assert await scene.later(5) == 1
    now = scene.world.clock.now()
    scene.world.clock.time = now + 5 * SECOND
    claimed = await scene.world.storage.write(flows.to_poll, now + 5 * SECOND, now + 65 * SECOND)
    assert [each.id for each in claimed] == [id_]
    assert await scene.later(59) == 0
    assert await scene.later(2) == 1


@pytest.mark.parametrize("away", ["to_poll", "poll_again"])
async def test_storage_that_goes_away_meanwhile(scene: Scene, monkeypatch: pytest.MonkeyPatch, away: str) -> None:
    """Whether a claim's answer was lost or what the provider said could not be stored: it is asked again as often as it may be."""
    await scene.begun()

    def refuse(*_: object) -> None:
        raise CannotStore("the server went away")

    await scene.later(4)
    with monkeypatch.context() as failing:
        failing.setattr(flows, away, lost(flows.to_poll) if away == "to_poll" else refuse)
        with pytest.raises(CannotStore):
            await scene.later(1)
    assert await scene.later(5) == 0
    assert await scene.later(2) == 1
    assert await scene.later(20) == 4


@pytest.mark.parametrize(
    "answer",
    [
        says(503),
        NoAnswer("nothing came back"),
        says(200, nonsense=1),
        says(**{**CODE, "user_code": ""}),
        says(**{**CODE, "user_code": "x" * 50}),
        says(**{**CODE, "user_code": "<b>\n"}),
        says(**{**CODE, "verification_uri": "javascript:alert(1)"}),
        says(**{**CODE, "verification_uri": "http://acme.example/device"}),
        says(401, error="invalid_client"),
    ],
)
async def test_a_provider_that_gives_no_code(scene: Scene, answer: Response | Exception) -> None:
    """What no person could enter, or nobody should open, is no code; the link stays good for another try."""
    opened = await scene.world.connect.open("acme", "ada", by_code=True)
    scene.world.script.answers = [answer]
    with pytest.raises(NotNow):
        await scene.world.connect.begin_device(opened.link, ME)
    scene.world.script.answers = [says(**CODE)]
    await scene.world.connect.begin_device(opened.link, ME)


async def test_an_address_with_the_code_in_it(scene: Scene) -> None:
    """It is shown where it leads where people may be sent, and left out otherwise; Google's old name for the address is known."""
    for complete, shown in (("https://acme.example/d?c=1", "https://acme.example/d?c=1"), ("javascript:x", "")):
        id_ = await scene.begun(verification_uri_complete=complete, verification_uri="", verification_url="https://acme.example/d")
        code = (await scene.world.connect.outcome(id_, ME)).code
        assert code is not None
        assert (code.complete, code.address) == (shown, "https://acme.example/d")


@pytest.mark.rows("D12", "D4")
async def test_a_code_that_the_caller_shows(scene: Scene) -> None:
    """Who got the code over the API is asked about the account, and nobody's browser is; before there is one, nothing can be answered."""
    connect = scene.world.connect
    opened = await connect.open("acme", "ada", by_code=True)
    scene.world.script.answers = [says(**CODE)]
    assert (await connect.code(opened.id)).user_code == "WDJB-MJHT"
    for asking in (connect.code(opened.id), connect.answer(opened.id, True), connect.code("unknown"), connect.answer("unknown", True)):
        with pytest.raises(Declined):
            await asking
    await scene.later(5, says(**GIVEN))
    with pytest.raises(FlowRefused):
        await connect.confirm(opened.id, ME)
    reached = await connect.status(opened.id, 30)
    assert reached is not None
    assert reached.status == "pending"
    await connect.answer(opened.id, True)
    await connect.answer(opened.id, False)
    assert (await scene.world.connection()).label == "ada@example.org"
    browsers = await scene.begun()
    await scene.later(5, says(**GIVEN))
    with pytest.raises(Declined):
        await connect.answer(browsers, True)


async def test_a_provider_without_codes(scene: Scene) -> None:
    """Only where the connector declares it."""
    scene.world.provider.auth = replace(Acme.auth)
    with pytest.raises(Declined, match="no codes"):
        await scene.world.connect.open("acme", "ada", by_code=True)
