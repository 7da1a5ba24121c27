"""Reading over HTTP: pages, long polls, streams and CloudEvents say the same; readers go on where they were, whatever happens."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from daemon.ingress.reading import Post, within
from yarl import URL

from oo_client import Refused
from oo_daemon.ingress import events as room
from oo_daemon.ports import SECOND
from oo_daemon.store import consumers, outbox
from oo_sdk import cloudevents
from oo_sdk.cloudevents import CloudEventBatch

#: No test waits longer for anything.
PATIENCE = 20.0


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    made = Post(tmp_path)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def ask(post: Post) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession("http://oo", connector=aiohttp.UnixConnector(str(post.socket))) as session:
        yield session


async def lines(response: aiohttp.ClientResponse, count: int) -> list[dict[str, Any]]:
    """So many elements of a stream of lines."""
    return [json.loads(await within(PATIENCE, response.content.readline())) for _ in range(count)]


async def test_a_question_waits_for_news(post: Post, ask: aiohttp.ClientSession) -> None:
    """A long poll is answered as soon as something fits; without news it ends when its time is up, and says where it is."""
    waiting = asyncio.ensure_future(ask.get("/v1/events", params={"wait": "20", "type": "acme.memo"}))
    await post.write(2)
    await post.write(name="memo")
    page = await (await within(PATIENCE, waiting)).json()
    assert ([event["position"] for event in page["events"]], page["position"], page["more"]) == (["1-3"], "1-3", False)
    async with ask.get("/v1/events", params={"wait": "0.05", "after": "1-3"}) as nothing:
        assert await nothing.json() == {"events": [], "position": "1-3", "more": False, "missing": 0}


@pytest.mark.rows("B8")
async def test_a_stream_of_lines(post: Post, ask: aiohttp.ClientSession) -> None:
    """What is there and what comes, in order, each once; what does not fit is passed over, and the place beyond it is said."""
    await post.write(3)
    async with ask.get("/v1/events", params={"after": "1-1", "user": "ada"}, headers={"Accept": "application/jsonl"}) as stream:
        assert stream.content_type == "application/jsonl"
        assert [line["position"] for line in await lines(stream, 2)] == ["1-2", "1-3"]
        await post.write(user="bob")
        await post.write()
        (line,) = await lines(stream, 1)
        assert (line["position"], line["subject"]) == ("1-5", "n4")


@pytest.mark.rows("B8")
@pytest.mark.parametrize("user", [{}, {"user": "ada"}], ids=str)
async def test_a_stream_that_is_far_behind(post: Post, ask: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, user: Any) -> None:
    """Many pages on end, each event once and in order, and then what comes."""
    monkeypatch.setattr(room, "STRETCH", 7)
    monkeypatch.setattr(outbox, "AHEAD", 20)
    for _ in range(10):
        await post.write(10)
        await post.write(3, user="bob")
    wanted = [f"n{number}" for number in range(130) if not user or number % 13 < 10]
    async with ask.get("/v1/events", params=user, headers={"Accept": "application/jsonl"}) as stream:
        told: list[str] = []
        for place in range(2):
            while len(told) < len(wanted):
                told += [line["subject"] for line in await lines(stream, 1) if "subject" in line]
            if not place:
                await post.write()
                wanted.append("n130")
    assert told == wanted


async def test_a_stream_beats(post: Post, ask: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without events a stream says from time to time where it is, in both forms."""
    monkeypatch.setattr(room, "BEAT", 0.02)
    await post.write(user="bob")
    async with ask.get("/v1/events", params={"user": "ada"}, headers={"Accept": "application/jsonl"}) as stream:
        assert await lines(stream, 2) == [{"position": "1-1"}] * 2
    async with ask.get("/v1/events", params={"user": "ada"}, headers={"Accept": "application/x-protobuf"}) as stream:
        assert await within(PATIENCE, stream.content.readexactly(12)) == b"\x05\x0a\x031-1" * 2


@pytest.mark.rows("B17")
async def test_a_place_that_is_not_there_is_refused(post: Post, ask: aiohttp.ClientSession) -> None:
    """A position ahead of the log is refused and not waited for, also by a stream; a malformed one, too."""
    await post.write()
    for accept in ("application/json", "application/jsonl", "application/x-protobuf", cloudevents.JSON_BATCH):
        for after, status, code in [("1-500", 409, "position_ahead"), ("x", 400, "position")]:
            async with ask.get("/v1/events", params={"after": after, "wait": "20"}, headers={"Accept": accept}) as refused:
                assert (refused.status, (await refused.json())["error"]["code"]) == (status, code)


async def test_a_stop_ends_streams_and_long_polls(post: Post, ask: aiohttp.ClientSession) -> None:
    """A daemon that stops lets nobody wait: long polls are answered and streams end in order."""
    polling = asyncio.ensure_future(ask.get("/v1/events", params={"wait": "30"}))
    async with ask.get("/v1/events", headers={"Accept": "application/jsonl"}) as stream:
        reading = asyncio.ensure_future(stream.content.read())
        await asyncio.sleep(0)
        await within(PATIENCE, post.close())
        assert [set(json.loads(line)) for line in (await within(PATIENCE, reading)).splitlines()] in ([], [{"position"}])
    assert (await within(PATIENCE, polling)).status in {200, 503}


@pytest.mark.rows("B15")
async def test_pages_of_cloudevents(post: Post, ask: aiohttp.ClientSession) -> None:
    """By Accept a page comes as CloudEvents, in both formats; the next one is found by its link."""
    await post.write(3)
    async with ask.get("/v1/events", params={"limit": "2", "user": "ada"}, headers={"Accept": cloudevents.JSON_BATCH}) as answer:
        assert (answer.headers["Content-Type"], answer.headers["OO-Missing"]) == (cloudevents.JSON_BATCH, "0")
        first = await answer.json(content_type=None)
        following = URL(str(answer.links["next"]["url"]))
    assert [each["position"] for each in first] == ["1-1", "1-2"]
    assert str(following).endswith("/v1/events?limit=2&user=ada&after=1-2")
    async with ask.get(following.relative(), headers={"Accept": cloudevents.PROTOBUF_BATCH}) as answer:
        (third,) = CloudEventBatch.FromString(await answer.read()).events
        assert third.attributes["position"].ce_string == "1-3"
    async with post.client() as client:
        shown = [event async for event in client.events(follow=False)]
    told = [*map(cloudevents.from_json, first), cloudevents.from_protobuf(third)]
    assert [(event.id, event.subject) for event in told] == [(event.id, event.subject) for event in shown]


# --- the client ----------------------------------------------------------------------------------------------------------


@pytest.mark.rows("B8")
async def test_the_clients_stream_outlives_a_restart(post: Post) -> None:
    """It goes on behind the last event that it gave, over as many restarts as there are: nothing twice, nothing missed."""
    await post.write(3)
    got: list[tuple[str, str]] = []
    pauses: list[float] = []

    async def nap(seconds: float) -> None:
        pauses.append(seconds)
        if not post_is_open():
            await post.open()
            await post.write(2)

    def post_is_open() -> bool:
        return post.socket.exists()

    async with post.client(sleep=nap) as client, aclosing(client.stream()) as stream:
        async for position, event in stream:
            got.append((position, event.subject))
            if len(got) in {3, 5}:
                await post.close()
            if len(got) == 7:
                break
    assert got == [(f"1-{number + 1}", f"n{number}") for number in range(7)]
    assert pauses


async def test_the_clients_stream_knows_when_nobody_is_there(post: Post) -> None:
    """A daemon that does not run is said at once, and so is what it refuses."""
    async with post.client() as client:
        with pytest.raises(Refused, match="ahead of the log"):
            await anext(client.stream(after="1-9"))
    await post.close()
    async with post.client() as client:
        with pytest.raises(Exception, match="no daemon answers"):
            await anext(client.stream())


@pytest.mark.rows("B7")
async def test_consuming_acknowledges_as_it_goes(post: Post) -> None:
    """What was done is not given again, also where the daemon was away when it was to be said; what was at hand comes again."""
    await post.write(5)

    async def nap(seconds: float) -> None:
        if not post.socket.exists():
            await post.open()

    async with post.client(sleep=nap) as client:
        await client.add_consumer("backend")
        async with aclosing(client.consume("backend", size=2)) as events:
            got = [(await anext(events)).subject for _ in range(3)]
        assert got == ["n0", "n1", "n2"]
        assert (await client.consumer("backend")).position == "1-2"
        await client.reset_consumer("backend", "here")  # not to wait until what was at hand comes again
        again: list[str] = []
        async with aclosing(client.consume("backend", size=2)) as events:
            async for event in events:
                again.append(event.subject)
                if len(again) == 2:
                    await post.close()
                if event.subject == "n4":
                    break
        assert again == ["n2", "n3", "n4"]


@pytest.mark.rows("B7")
async def test_who_leaves_gives_the_rest_back(post: Post) -> None:
    """Whoever leaves in the middle of a batch holds up nobody until its lease ends: the event at hand is given again soon, then later."""
    await post.write(5)
    async with post.client() as client:
        await client.add_consumer("backend")

        async def leave_at(subject: str) -> tuple[list[str], float]:
            got = []
            async with aclosing(client.consume("backend", lease=600)) as events:
                async for event in events:
                    got.append(event.subject)
                    if event.subject == subject:
                        break
            now, kept = post.clock.now(), await post.storage.read(consumers.of, "backend")
            assert kept is not None
            return got, (kept.free_at(now) - now) / SECOND

        got, wait = await leave_at("n2")
        assert got == ["n0", "n1", "n2"]
        assert 0.5 < wait <= 1
        got, wait = await within(PATIENCE, leave_at("n2"))
        assert got == ["n2"]
        assert 1.5 < wait <= 2
        known = await client.consumer("backend")
        assert (known.position, known.state, known.tries, known.reason) == ("1-2", "held", 2, "its reader stopped at it")


@pytest.mark.rows("B7")
async def test_who_leaves_without_a_word(post: Post) -> None:
    """A loop that is left gives back what it holds, at the latest when its client closes; nobody is told of errors by a reader's end."""
    await post.write(5)
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    async def kept() -> tuple[int, int, str]:
        found = await post.storage.read(consumers.of, "backend")
        assert found is not None
        return found.position, found.tries, found.reason

    async with post.client() as client:
        await client.add_consumer("backend")
        async for event in client.consume("backend", lease=600):
            if event.subject == "n2":
                break
    assert await kept() == (2, 1, "its reader stopped at it")
    async with post.client() as client:
        await client.reset_consumer("backend", "here")
        held = client.consume("backend", lease=600)
        assert [(await anext(held)).subject for _ in range(2)] == ["n2", "n3"]
    assert await kept() == (3, 1, "its reader stopped at it")
    with pytest.raises(RuntimeError, match="inside `async with`"):
        [event async for event in held]
    async with post.client() as client:
        stream, pages, known = client.stream(), client.events(), client.consume("backend")
        await client.reset_consumer("backend", "here")
        for reader in (stream, pages, known):
            await anext(reader)
        await client.remove_consumer("backend")
        await post.close()
    del held, stream, pages, known, reader
    for _ in range(10):
        gc.collect()
        await asyncio.sleep(0)
    assert told == []


@pytest.mark.rows("B7")
async def test_two_readers_of_one_consumer(post: Post) -> None:
    """Both together are given everything, in order, and nothing at the same time."""
    await post.write(40)
    got: list[str] = []

    async def work() -> None:
        async with post.client() as client, aclosing(client.consume("backend", size=7)) as events:
            async for event in events:
                got.append(event.subject)
                if len(got) >= 40:
                    return
                await asyncio.sleep(0)

    async with post.client() as client:
        await client.add_consumer("backend")
        workers = [asyncio.ensure_future(work()) for _ in range(2)]
        await within(PATIENCE, asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED))
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    assert got == [f"n{number}" for number in range(40)]


@pytest.mark.rows("B7")
async def test_what_a_consumer_cannot_take_over_http(post: Post) -> None:
    """Held for the delay, then given alone; in the end set aside, listed, and dropped when it is said so."""
    await post.write(2)
    async with post.client() as client:
        await client.add_consumer("backend", most_tries=1, type="acme.note")
        batch = await client.take("backend")
        assert batch.token
        known = await client.nack("backend", batch.token, "1-1", reason="too odd")
        assert (known.dead_letters, known.position) == (1, "1-1")
        (letter,) = await client.dead_letters("backend")
        assert letter.event is not None
        assert (letter.event.subject, letter.reason, letter.tries) == ("n0", "too odd", 1)
        assert await client.drop_dead_letters("backend") == 1
        with pytest.raises(Refused) as late:
            await client.ack("backend", batch.token, "1-2")
        assert late.value.code == "lease_lost"
        assert [each.name for each in await client.consumers()] == ["backend"]
        await client.remove_consumer("backend")
        with pytest.raises(Refused, match="no consumer backend"):
            await client.consumer("backend")
