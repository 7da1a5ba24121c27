"""The main job: sign in at Todoist, sync, read events from the outbox."""

from dataclasses import replace

import pytest
from journeys.house import House

from oo_client import Client, Event, Refused
from oo_daemon.cli.stage import Browser
from oo_todoist import Todoist


def latest(events: list[Event]) -> dict[tuple[str, str], Event]:
    """The last event of each object."""
    return {(event.type, event.subject): event for event in events}


async def sync(house: House, connection: str) -> tuple[str, str, int]:
    async with house.client as client:
        done = await client.sync(connection, wait=20)
        return done.outcome, done.detail, done.events


def written(house: House, *titles: str) -> list[str]:
    """Ids of new tasks at the provider."""
    made = house.change(*({"type": "item_add", "temp_id": title, "args": {"content": title}} for title in titles))
    return [made[title] for title in titles]


async def connected(house: House) -> str:
    connection = await house.connect()
    assert connection is not None
    assert connection.state == "active"
    assert (await sync(house, connection.id))[0] == "done"
    return connection.id


async def test_the_main_job(house: House) -> None:
    """Signing in leads to a sync whose events say what is at the provider, once each."""
    connection = await connected(house)
    events = await house.events()
    now = latest(events)
    assert set(house.tasks()) <= {subject for type_, subject in now if type_ == "todoist.task"}
    assert any(type_ == "todoist.project" for type_, _ in now)
    assert next(event.type for event in events) == "connection.connected"
    assert {event.connection for event in events} == {connection}
    assert len({event.id for event in events}) == len(events)
    assert await sync(house, connection) == ("done", "", 0)


async def test_changes_become_events(house: House) -> None:
    """New, changed, completed, reopened and deleted tasks are one event each, and A→B→A is two more."""
    changed, completed, deleted = written(house, "Change me", "Complete me", "Delete me")
    connection = await connected(house)
    before = (await house.events())[-1].position
    new = house.change({"type": "item_add", "temp_id": "n", "args": {"content": "Water the plants"}})["n"]
    house.change({"type": "item_update", "args": {"id": changed, "content": "Something else"}})
    house.change({"type": "item_complete", "args": {"id": completed}}, {"type": "item_delete", "args": {"id": deleted}})
    assert (await sync(house, connection))[2] == 4
    now = latest(await house.events(after=before))
    assert (now["todoist.task", new].payload or {})["title"] == "Water the plants"
    assert (now["todoist.task", changed].payload or {})["title"] == "Something else"
    assert (now["todoist.task", completed].payload or {})["completed"] is True
    assert now["todoist.task", deleted].change == "deleted"
    house.change(
        {"type": "item_update", "args": {"id": changed, "content": "Change me"}}, {"type": "item_uncomplete", "args": {"id": completed}}
    )
    assert (await sync(house, connection))[2] == 2
    assert now["todoist.task", changed].revision == 2
    assert latest(await house.events(after=before))["todoist.task", changed].revision == 3


async def test_a_full_listing_leaves_tombstones(house: House) -> None:
    """Where the provider forgets our place, a full listing tells what is gone from what was completed."""
    gone, completed = written(house, "Delete me", "Complete me")
    connection = await connected(house)
    before = (await house.events())[-1].position
    house.change({"type": "item_delete", "args": {"id": gone}}, {"type": "item_complete", "args": {"id": completed}})
    house.sandbox.misbehaviour.on("forced_full_sync", times=1)
    assert (await sync(house, connection))[0] == "done"
    now = latest(await house.events(after=before))
    assert now["todoist.task", gone].change == "deleted"
    assert (now["todoist.task", completed].payload or {})["completed"] is True
    assert {subject for _, subject in now} == {gone, completed}


async def test_a_forgotten_token_starts_over(house: House) -> None:
    """A sync token that the provider no longer knows leads to a new listing at once, with nothing doubled and nothing falsely gone."""
    connection = await connected(house)
    before = (await house.events())[-1].position
    house.sandbox.misbehaviour.on("forget_sync_tokens")
    assert await sync(house, connection) == ("done", "", 0)
    assert await house.events(after=before) == []


@pytest.mark.parametrize(
    ("switch", "args", "word"),
    [
        ("html_answer", {}, "web page"),
        ("wrong_content_type", {}, "web page"),
        ("truncated_json", {}, "cut short"),
        ("status_500", {}, "500"),
        ("status_503", {"seconds": 7}, "503"),
        ("status_429", {"seconds": 1}, "429"),
        ("status_429_date", {"seconds": 1}, "429"),
        ("status_429_bare", {}, "429"),
        ("drop_connection", {}, "did not arrive whole"),
        ("slow_answer", {"seconds": 60}, "did not arrive whole"),
        ("never_ending_body", {}, "arrive whole"),
    ],
)
async def test_a_provider_in_trouble(house: House, switch: str, args: dict[str, int], word: str) -> None:
    """What a provider does wrong for a while is told in a sentence, loses nothing, and is tried again later."""
    connection = await connected(house)
    house.change({"type": "item_add", "args": {"content": "Through thick and thin"}})
    house.sandbox.misbehaviour.on(switch, **args)
    outcome, detail, events = await sync(house, connection)
    assert (outcome, events) == ("later", 0)
    assert word in detail
    house.sandbox.misbehaviour.off(switch)
    assert await sync(house, connection) == ("done", "", 1)


async def test_an_expired_token_is_renewed_unseen(house: House) -> None:
    """Nobody notices that access tokens end, nor that one is refused before its time; each refresh token is used once."""
    connection = await connected(house)
    for _ in range(3):
        house.sandbox.misbehaviour.on("expire_tokens")
        assert await sync(house, connection) == ("done", "", 0)
    assert house.sandbox.requests["POST /oauth/access_token"] == 4


async def test_a_dead_grant_asks_for_its_owner(house: House) -> None:
    """A grant that the person took back pauses the connection and is told as an event; signing in again goes on where it was."""
    connection = await connected(house)
    house.sandbox.misbehaviour.on("kill_grant")
    outcome, detail, _ = await sync(house, connection)
    assert outcome == "signed_out"
    assert detail
    async with house.client as client:
        shown = await client.connection(connection)
        assert (shown.state, shown.next_sync_at) == ("needs_sign_in", None)
        with pytest.raises(Refused):
            await client.sync(connection)
    house.change({"type": "item_add", "args": {"content": "Meanwhile"}})
    again = await house.connect()
    assert again is not None
    assert again.id == connection
    assert (await sync(house, connection))[0] == "done"
    tail = [event.type for event in await house.events()][-3:]
    assert tail == ["connection.needs_sign_in", "connection.recovered", "todoist.task"]


async def test_another_account_needs_a_yes(house: House) -> None:
    """Who signs in again as somebody else is told whose place that would take; after a no, everything is as it was."""
    connection = await connected(house)
    async with house.client as client, Browser() as browser:
        session = await client.connect(provider="todoist", user="ada")
        await browser.open(session.url)
        await browser.press()
        grace = house.sandbox.world.account("grace")
        assert grace is not None
        await browser.press("decision", "allow", user=grace.id)
        assert "Until now oO followed" in browser.page
        assert (await client.connect_progress(session.id)).status == "pending"
        await browser.press("answer", "no")
        assert (await client.connect_progress(session.id)).status == "denied"
        assert (await client.connection(connection)).label == "ada@example.com"


async def test_denied_consent(house: House) -> None:
    """A person who says no is told that nothing was stored, and nothing is."""
    assert await house.connect(decision="deny") is None
    assert "was not connected" in house.pages[-1]
    async with house.client as client:
        assert await client.connections() == ()


async def test_everything_survives_a_restart(house: House) -> None:
    """After a restart the cursor, the credential and the outbox are as they were."""
    connection = await connected(house)
    events = await house.events()
    await house.stop()
    await house.start()
    assert await house.events() == events
    assert await sync(house, connection) == ("done", "", 0)


async def test_a_stranger_at_the_callback(house: House) -> None:
    """A forged, repeated or foreign callback gets one neutral page, and the provider is not asked."""
    await connected(house)
    asked = house.sandbox.requests["POST /oauth/access_token"]
    assert house.app is not None
    async with house.client as client, Browser() as browser, Browser() as other:
        session = await client.connect(provider="todoist", user="ada", account="second")
        await browser.open(session.url)
        await browser.press()
        state = browser.url.query["state"]
        pages = set()
        for who, query in (
            (other, {"state": state, "code": "c"}),
            (browser, {"state": state, "code": "c"}),  # the other browser has used it up
            (browser, {"state": "forged", "code": "c"}),
            (browser, {}),
        ):
            await who.open(str(house.app.public_url + "/oauth/todoist/callback"), query=query, expect=400)
            pages.add(who.page)
        assert len(pages) == 1
    assert house.sandbox.requests["POST /oauth/access_token"] == asked


async def test_positions_ahead_of_the_log(house: House) -> None:
    """A malformed position and one ahead of the log are told apart, and neither is waited for."""
    async with Client(house.folder / "oo.sock") as client:
        for position, code in (("1-999", "position_ahead"), ("7-0", "position_ahead"), ("x", "position"), ("1-", "position")):
            with pytest.raises(Refused) as refused:
                await client.page(after=position)
            assert refused.value.code == code


@pytest.mark.rows("F11")
async def test_what_is_not_declared_is_kept_nowhere(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says what is kept and what for; a field that is not declared is dropped before anything is written."""
    fewer = [replace(each, fields=tuple(name for name in each.fields if name != "description")) for each in Todoist.stores]
    monkeypatch.setattr(Todoist, "stores", fewer)
    house.change({"type": "item_add", "args": {"content": "Kept", "description": "canary-undeclared"}})
    await connected(house)
    page = house.pages[0]
    assert "Your tasks: what to do, by when, how much it matters, where it belongs, who is to do it, and whether it is done, to" in page
    assert "What Todoist pushes to oO, as it came and for 7 days after" in page
    assert any((event.payload or {}).get("title") == "Kept" for event in await house.events())
    async with house.client as client:
        (shown,) = [each for each in await client.plugins() if each.id == "todoist"]
    assert [stored.name for stored in shown.stores] == ["task", "project", "section", "label", "comment", "reminder"]
    assert "description" not in shown.stores[0].fields
    await house.stop()
    assert not any(b"canary-undeclared" in file.read_bytes() for file in house.folder.rglob("*") if file.is_file())
    await house.start()
