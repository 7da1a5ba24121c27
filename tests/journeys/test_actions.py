"""Write-back: what a product asks for is done at the provider, once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from journeys.house import House

from oo_client import Action, Client, Connection, Refused
from oo_daemon.cli.stage import Browser, Stage, stage


async def writing(house: House) -> Connection:
    """A connection that may change things, synced once."""
    async with house.client as client, Browser() as browser:
        await client.register(provider="todoist", client_id=house.sandbox.client_id, client_secrets=[house.sandbox.client_secret])
        session = await client.connect(provider="todoist", user="ada", write=True)
        await browser.open(session.url)
        house.pages.append(browser.page)
        await browser.press()
        await browser.press("decision", "allow")
        await browser.press("answer", "yes")
        reached = await client.connect_progress(session.id)
        assert reached.connection is not None
        assert (await client.sync(reached.connection, wait=20)).outcome == "done"
        return await client.connection(reached.connection)


async def act(house: House, connection: Connection, name: str, arguments: dict[str, Any], **how: Any) -> Action:
    async with house.client as client:
        return await client.act(connection.id, name, arguments, **{"wait": 20, **how})


async def refused(house: House, *asked: Any, **how: Any) -> Refused:
    with pytest.raises(Refused) as why:
        await act(house, *asked, **how)
    return why.value


async def events(house: House, type_: str) -> list[Any]:
    async with house.client as client:
        return [event async for event in client.events(follow=False) if event.type.startswith(type_)]


async def test_a_task_is_completed_from_our_side(house: House) -> None:
    """What was asked for has happened at the provider, is told as an event, and comes back as a change by a sync of its own."""
    connection = await writing(house)
    task = next(iter(house.tasks()))
    before = (await house.events())[-1].position
    done = await act(house, connection, "complete_task", {"id": task}, key="k-1")
    assert (done.state, done.tries, done.connection, done.key) == ("done", 1, connection.id, "k-1")
    assert done.result is not None
    assert done.result.subject == task
    assert task not in house.tasks()
    async with house.client as client:
        followed = client.events(after=before)
        async with asyncio.timeout(20):
            told = {event.type: event async for event in _first(followed, 2)}
    assert told["todoist.task"].subject == task
    fields = told["action.done"].payload
    assert fields is not None
    assert fields["fields"] == {"name": "complete_task", "key": "k-1", "subject": task}
    assert told["action.done"].subject == done.id


async def _first(events: Any, count: int) -> AsyncIterator[Any]:
    async for event in events:
        yield event
        count -= 1
        if count == 0:
            await events.aclose()
            return


async def test_changing_is_asked_for_apart(house: House) -> None:
    """A connection that may only read is told what to do; the page says in words of its own what may be changed; then it works."""
    connection = await house.connect()
    assert connection is not None
    assert "What it will be able to change</h2>\n<p>Nothing.</p>" in house.pages[0]
    why = await refused(house, connection, "add_task", {"title": "Buy bread"})
    assert why.code == "missing_scope"
    assert why.remedy == f"Have ada open {why.connect_url} and allow it, then ask again."
    await house.follow(why.connect_url)
    async with house.client as client:
        again = await client.connection(connection.id)
    assert again.id == connection.id
    assert "data:read_write" in again.scopes
    assert "Complete and change your tasks" in house.pages[-3], "and not more than that"
    assert (await act(house, again, "add_task", {"title": "Buy bread"})).state == "done"
    assert "Buy bread" in house.tasks().values()
    once_more = await house.connect()  # as after a grant that has ended: what was allowed is asked for again
    assert once_more is not None
    assert set(once_more.scopes) == set(again.scopes)


async def test_the_same_key_is_the_same_action(house: House) -> None:
    """However often it is asked for, under one key there is one task; another wish under that key is refused."""
    connection = await writing(house)
    first, *others = [await act(house, connection, "add_task", {"title": "Once"}, key="only") for _ in range(3)]
    assert {other.id for other in others} == {first.id}
    assert [title for title in house.tasks().values() if title == "Once"] == ["Once"]
    assert (await refused(house, connection, "add_task", {"title": "Twice"}, key="only")).code == "key_reused"
    await act(house, connection, "add_task", {"title": "Once"})
    assert list(house.tasks().values()).count("Once") == 2, "without a key each wish is a wish of its own"


@pytest.mark.parametrize(
    ("name", "arguments", "code", "word"),
    [
        ("fly", {}, "unknown_action", "complete_task"),
        ("complete_task", {}, "arguments", "`id`"),
        ("complete_task", {"id": 7}, "arguments", "`$.id`"),
        ("complete_task", {"id": "7", "colour": "red"}, "arguments", "colour"),
    ],
)
async def test_what_makes_no_sense(house: House, name: str, arguments: dict[str, Any], code: str, word: str) -> None:
    """An unknown action and arguments that do not fit are refused at once, with what there is; nothing is queued."""
    connection = await writing(house)
    why = await refused(house, connection, name, arguments)
    assert why.code == code
    assert word in str(why)
    assert await events(house, "action.") == []


async def test_a_provider_that_refuses(house: House) -> None:
    """What the provider will not do has failed at once, with a sentence, and is told as an event."""
    connection = await writing(house)
    failed = await act(house, connection, "complete_task", {"id": "6nowhere"})
    assert (failed.state, failed.result, failed.tries) == ("failed", None, 1)
    assert "does not know the task" in failed.reason
    (event,) = await events(house, "action.")
    assert event.type == "action.failed"
    assert event.payload["fields"]["reason"] == failed.reason


async def test_a_provider_that_is_down(house: House) -> None:
    """While the provider fails an action waits and is tried again; it is done once, and those behind it after it."""
    connection = await writing(house)
    house.sandbox.misbehaviour.on("status_500", times=2, endpoint="sync")
    first = await act(house, connection, "add_task", {"title": "First"}, wait=0)
    second = await act(house, connection, "add_task", {"title": "Second"})
    async with house.client as client:
        assert (await client.action(first.id)).state == "done"
        assert (await client.action(first.id)).tries == 3
    assert second.state == "done"
    assert list(house.tasks().values())[-2:] == ["First", "Second"]


async def test_a_lost_answer(house: House) -> None:
    """An answer that did not arrive leads to another try under the same key, and the provider executes it once."""
    connection = await writing(house)
    house.sandbox.misbehaviour.on("drop_connection", times=1, endpoint="sync")
    done = await act(house, connection, "add_task", {"title": "Not twice"})
    assert (done.state, done.tries) == ("done", 2)
    assert list(house.tasks().values()).count("Not twice") == 1


async def test_a_grant_that_is_gone(house: House) -> None:
    """An action that meets a dead grant has failed, and the connection asks for its owner; the next one is refused."""
    connection = await writing(house)
    house.sandbox.misbehaviour.on("kill_grant")
    assert (await act(house, connection, "add_task", {"title": "Too late"})).state == "failed"
    async with house.client as client:
        assert (await client.connection(connection.id)).state == "needs_sign_in"
    assert [event.type for event in await house.events()][-2:] == ["action.failed", "connection.needs_sign_in"]
    assert (await refused(house, connection, "add_task", {"title": "Too late"})).code == "not_active"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Stage]:
    """Real processes: a daemon and a sandbox."""
    async with stage(tmp_path) as here:
        here.settings["sync"] = {"interval": 3600}
        await here.start_sandbox("todoist")
        here.write_settings()
        await here.oo("vault", "init")
        await here.start_daemon()
        yield here


async def connected(here: Stage) -> str:
    secret = here.sandbox["client_secret"]
    await here.oo("registration", "add", "todoist", "--client-id", here.sandbox["client_id"], "--secret-file", "-", given=secret)
    async with Client(here.socket) as client, Browser() as browser:
        session = await client.connect(provider="todoist", user="ada", write=True)
        await browser.open(session.url)
        await browser.press()
        await browser.press("decision", "allow")
        await browser.press("answer", "yes")
        reached = await client.connect_progress(session.id)
        assert reached.connection is not None
        assert (await client.sync(reached.connection, wait=20)).outcome == "done"
        return reached.connection


async def titles(here: Stage) -> list[str]:
    state = await here.control("state")
    return [task["content"] for user in state["users"] if user["name"] == "ada" for task in user["tasks"]]


async def test_killed_in_the_middle(here: Stage) -> None:
    """A daemon killed after the provider has acted, and before it could say so, goes on after its start: it is done once."""
    connection = await connected(here)
    await here.control("misbehave", {"name": "slow_answer", "times": 1, "args": {"seconds": 60, "endpoint": "sync"}})
    async with Client(here.socket) as client:
        asked = await client.act(connection, "add_task", {"title": "Survivor"})
        async with asyncio.timeout(20):
            while "Survivor" not in await titles(here):
                pass
        assert (await client.action(asked.id)).state == "queued"
    await here.processes["daemon"].kill()
    await here.start_daemon()
    async with Client(here.socket) as client:
        done = await client.action(asked.id, wait=20)
        assert (done.state, done.tries) == ("done", 2)
        told = [event.type async for event in client.events(follow=False) if event.type.startswith("action.")]
    assert told == ["action.done"]
    assert (await titles(here)).count("Survivor") == 1


async def test_the_verb(here: Stage) -> None:
    """`oo act` shows what can be done, does it, and ends with 1 and a sentence where it was not done."""
    connection = await connected(here)
    listed = await here.oo("act", connection, "--list")
    assert "complete_task" in listed
    assert "Complete a task" in listed
    assert (await here.oo("act", connection, "add_task", "title=By hand", "duration_minutes=20")).startswith("Done: add_task (")
    assert "By hand" in await titles(here)
    code, _, words = await here.ended("act", connection, "complete_task", "id=6nowhere")
    assert code == 1
    assert "does not know the task" in words
