"""The client against a real server on a Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from client.fake_daemon import FakeDaemon, connection, event, plugin, reached, registration, running, sync

from oo_client import Client, DaemonNotRunning, Refused, TryLater, Unexpected


@pytest.fixture
async def client(daemon: FakeDaemon) -> AsyncIterator[Client]:
    """Give a client of the fake daemon."""
    async with Client(daemon.socket) as opened:
        yield opened


async def test_every_noun_is_typed(daemon: FakeDaemon, client: Client) -> None:
    """Each answer becomes a value with times that know their zone."""
    daemon.plugins.append(plugin())
    daemon.registrations.append(registration())
    daemon.connections.append(connection())
    daemon.syncs["c-7f3a"] = [sync()]
    status = await client.status()
    assert status.started_at == datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
    assert status.connections == {"active": 1}
    assert (await client.plugins())[0].scopes[0].access == "read"
    daemon.plugins[0]["strikes"] = 1
    assert (await client.release_plugin("todoist"))[0].strikes == 0
    assert (await client.registrations())[0].secrets == 1
    assert (await client.connections(user="ada"))[0].meta == {"cursor": {"sync_token": "abc"}}
    assert await client.connections(user="grace") == ()
    assert (await client.connection("c-7f3a")).state == "active"
    assert (await client.sync("c-7f3a", wait=5)).outcome == "done"
    assert (await client.openapi()).startswith("openapi: 3.1")


async def test_register_sends_the_secret_in_the_body_only(daemon: FakeDaemon, client: Client) -> None:
    """A client secret travels in the body, and an id that was not given is not sent."""
    added = await client.register(provider="todoist", client_id="a1", client_secrets=["s3cret"])
    assert added.secrets == 1
    (asked,) = daemon.asked("POST /v1/registrations")
    assert asked.body == {"provider": "todoist", "client_id": "a1", "client_secrets": ["s3cret"]}
    assert "s3cret" not in asked.path + str(asked.query) + asked.answer.decode()


async def test_connect_and_wait(daemon: FakeDaemon, client: Client) -> None:
    """A link comes with its end, and the question how far the person has come says how long to wait."""
    daemon.progress = [reached("begun"), reached("connected")]
    session = await client.connect(provider="todoist", user="ada")
    assert not (await client.connect_progress(session.id, wait=2)).ended
    assert (await client.connect_progress(session.id)).connection == "c-7f3a"
    assert [it.query for it in daemon.asked("GET /v1/connect-sessions/{id}")] == [{"wait": "2"}, {}]


async def test_a_long_sync_is_waited_for(daemon: FakeDaemon) -> None:
    """A sync that outlasts one question is looked at until it has ended, and is asked for only once."""
    daemon.connections.append(connection(last_sync=None))
    daemon.syncs["c-7f3a"] = [sync("running")]
    states = [None, {**sync("running"), "events": 0}, sync("failed", events=3)]

    async def nap(seconds: float) -> None:
        daemon.connections[0]["last_sync"] = states.pop(0)

    async with Client(daemon.socket, sleep=nap) as client:
        run = await client.sync_and_wait("c-7f3a")
    assert (run.outcome, run.events, states) == ("failed", 3, [])
    assert len(daemon.asked("POST /v1/connections/{id}/sync")) == 1


@pytest.mark.parametrize("known", [True, False])
async def test_an_earlier_sync_is_not_mistaken_for_ours(daemon: FakeDaemon, known: bool) -> None:
    """The end of a run that was there before is not the answer, whether or not ours had already begun."""
    earlier = sync(started_at="2026-11-22T09:00:00Z")
    daemon.connections.append(connection(last_sync=earlier))
    daemon.syncs["c-7f3a"] = [sync("running") if known else sync("running", started_at=None)]
    states = [earlier, earlier, sync(events=7)]

    async def nap(seconds: float) -> None:
        daemon.connections[0]["last_sync"] = states.pop(0)

    async with Client(daemon.socket, sleep=nap) as client:
        assert (await client.sync_and_wait("c-7f3a")).events == 7
        daemon.syncs["c-7f3a"] = [sync("running")]
        assert (await client.sync_and_wait("c-7f3a", patience=0)).outcome == "running"


@pytest.mark.parametrize("name", ["..", ".", "a/b", "a?b=c", "a b", "a%2Fb", "ä"])
async def test_an_id_is_one_segment(daemon: FakeDaemon, client: Client, name: str) -> None:
    """An id cannot leave its place in the path, whatever is in it."""
    with pytest.raises(Refused) as refused:
        await client.sync(name)
    assert refused.value.code == "not_found"
    (asked,) = daemon.asked("POST /v1/connections/{id}/sync")
    assert asked.path.count("/") == 4


async def test_a_refusal_has_a_code_a_sentence_and_a_remedy(client: Client) -> None:
    """What the daemon says about a refusal arrives whole."""
    with pytest.raises(Refused) as refused:
        await client.connection("nobody")
    assert (refused.value.code, str(refused.value)) == ("not_found", "There is no such connection. See `oo connections`.")
    assert not isinstance(refused.value, TryLater)


async def test_later_says_when(daemon: FakeDaemon, client: Client) -> None:
    """A 503 is its own error, with the seconds that the daemon asks for."""
    daemon.instead = [(503, b'{"error":{"code":"full","message":"The disk is full.","remedy":"Make room."}}', {"Retry-After": "7"})]
    with pytest.raises(TryLater) as later:
        await client.status()
    assert later.value.after == 7


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (500, b"<h1>oops</h1>", "answered 500 without saying why"),
        (302, b"", "answered 302 without saying why"),
        (200, b"hello", "is not as described"),
        (200, b'{"version": 1}', "is not as described"),
        (503, b"{}", "answered 503 without saying why"),
    ],
)
async def test_what_is_no_answer_of_ours_is_unexpected(daemon: FakeDaemon, client: Client, status: int, body: bytes, says: str) -> None:
    """HTML, redirects and other shapes are one error that says where to look."""
    daemon.instead = [(status, body, {"Location": "http://elsewhere.example/"})]
    with pytest.raises(Unexpected, match=says):
        await client.status()


async def test_no_daemon(tmp_path: Path) -> None:
    """A missing socket, a left-over one and a path through a file all mean that no daemon runs."""
    (tmp_path / "file").touch()
    left = await asyncio.start_unix_server(lambda r, w: None, tmp_path / "left.sock")
    left.close()
    await left.wait_closed()
    for path in (tmp_path / "none.sock", tmp_path / "left.sock", tmp_path / "file" / "oo.sock"):
        async with Client(path) as client:
            with pytest.raises(DaemonNotRunning) as error:
                await client.status()
            assert str(error.value) == f"no daemon answers at {path}: start it with `oo run`"


async def test_a_path_that_the_kernel_refuses_is_said(tmp_path: Path) -> None:
    """A path too long for a socket is not mistaken for a daemon that does not run."""
    async with Client(tmp_path / ("x" * 120)) as client:
        with pytest.raises(Unexpected, match=r"places\.socket"):
            await client.status()


async def test_a_daemon_that_hangs_up(tmp_path: Path) -> None:
    """A connection that ends before the answer means that the daemon went away."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_unix_server(hang_up, tmp_path / "oo.sock"):
        async with Client(tmp_path / "oo.sock") as client:
            with pytest.raises(DaemonNotRunning, match="went away before it answered"):
                await client.register(provider="todoist", client_id="a", client_secrets=["s3cret"])


async def test_every_question_has_an_end(tmp_path: Path) -> None:
    """A daemon that takes the question and never answers is given up."""
    done = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    async with await asyncio.start_unix_server(say_nothing, tmp_path / "oo.sock"):
        async with Client(tmp_path / "oo.sock", timeout=0.05) as client:
            with pytest.raises(Unexpected, match=r"did not answer within 0\.05 s"):
                await client.status()
        done.set()


async def test_reading_to_the_end(daemon: FakeDaemon, client: Client) -> None:
    """Without following, all events come in order, over as many pages as it takes, and then it ends."""
    daemon.events = [event(number) for number in range(1, 8)]
    pages = [page async for page in client.pages(follow=False, size=3)]
    assert [[it.position for it in page.events] for page in pages] == [["1-1", "1-2", "1-3"], ["1-4", "1-5", "1-6"], ["1-7"]]
    assert [it.position async for it in client.events(after="1-5", follow=False)] == ["1-6", "1-7"]
    assert "wait" not in daemon.asked("GET /v1/events")[0].query


async def test_filters_are_asked_for_and_passed_over(daemon: FakeDaemon, client: Client) -> None:
    """Events that do not match are passed over, also where a whole page has none."""
    daemon.events = [event(1, user="grace"), event(2, user="grace"), event(3)]
    assert [it.position async for page in client.pages(follow=False, size=2, user="ada") for it in page.events] == ["1-3"]


async def test_following_waits_for_more(daemon: FakeDaemon, client: Client) -> None:
    """A follower gets what is there and then what comes, each once."""
    daemon.events = [event(1)]
    got: list[str] = []
    async with aclosing(client.events()) as events, asyncio.timeout(10):
        async for each in events:
            got.append(each.position)
            if len(got) == 3:
                break
            daemon.add(event(len(got) + 1))
    assert got == ["1-1", "1-2", "1-3"]
    assert [it.query.get("after") for it in daemon.asked("GET /v1/events")][:3] == [None, "1-1", "1-2"]


async def test_a_follower_outlives_a_restart(tmp_path: Path) -> None:
    """When the daemon goes and comes back, the follower goes on from its position, each pause longer than the one before."""
    fake = FakeDaemon(socket=tmp_path / "oo.sock", events=[event(1)])
    again = FakeDaemon(socket=tmp_path / "oo.sock", events=[event(1), event(2)])
    naps: list[float] = []
    first, second = running(fake), running(again)
    await asyncio.to_thread(first.__enter__)

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            await asyncio.to_thread(second.__enter__)

    async with Client(fake.socket, sleep=nap) as client, aclosing(client.events()) as events, asyncio.timeout(20):
        assert (await anext(events)).position == "1-1"
        await asyncio.to_thread(first.__exit__, None, None, None)
        assert (await anext(events)).position == "1-2"
    await asyncio.to_thread(second.__exit__, None, None, None)
    assert naps == [0.5, 1, 2]
    assert again.asked("GET /v1/events")[0].query["after"] == "1-1"


async def test_a_follower_gives_up_in_the_end(daemon: FakeDaemon) -> None:
    """A daemon that stays away is reported after a bounded time, and one that never was there at once."""
    naps: list[float] = []
    body = b'{"error":{"code":"stopping","message":"The daemon stops.","remedy":"Ask again."}}'

    async def nap(seconds: float) -> None:
        naps.append(seconds)

    daemon.events = [event(1)]
    async with Client(daemon.socket, sleep=nap) as client:
        async with aclosing(client.events()) as events:
            await anext(events)
            daemon.instead = [(503, body, {"Retry-After": "40"})] * 10
            with pytest.raises(TryLater):
                await anext(events)
        assert naps == [40, 40, 40]
        async with aclosing(client.events()) as events:
            with pytest.raises(TryLater):
                await anext(events)
        assert len(naps) == 3


async def test_a_log_that_does_not_move_on_is_noticed(daemon: FakeDaemon, client: Client) -> None:
    """A page that promises more without moving is an error, not a loop."""
    stuck = b'{"events":[],"position":"1-1","more":true,"missing":0}'
    daemon.instead = [(200, stuck, {})] * 2
    with pytest.raises(Unexpected, match="does not move on"):
        async for _ in client.pages(follow=False):
            pass


@pytest.mark.parametrize(("after", "code"), [("nonsense", "position"), ("1-99", "position_ahead")])
async def test_positions_are_refused_by_code(client: Client, after: str, code: str) -> None:
    """A malformed position and one ahead of the log are told apart."""
    with pytest.raises(Refused) as refused:
        await anext(client.events(after=after))
    assert refused.value.code == code


async def test_proxies_of_the_environment_are_ignored(daemon: FakeDaemon, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment is not asked."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert (await client.status()).version == "0.1.0"


async def test_a_client_is_opened_first(tmp_path: Path) -> None:
    """A client that was not entered says so."""
    with pytest.raises(RuntimeError, match="async with"):
        await Client(tmp_path / "oo.sock").status()
