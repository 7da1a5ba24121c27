"""The limits of the doors, on real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from daemon.ingress.wire import PATIENCE, QUICK, Dial, Notebook, Open, Wire
from msgspec.structs import replace

from oo_daemon.ingress.answers import Refused, private_application, public_application, refused
from oo_daemon.ingress.api import in_its_words
from oo_daemon.ingress.connection import Answered, Post, Straight, allow_body
from oo_daemon.ingress.peers import client_address, hops, peer_uid
from oo_daemon.ingress.server import CannotListen, DoorTaken, Listening, listen_tcp, listen_unix, require_aiohttp
from oo_daemon.store.errors import CannotStore, Erased

GET = b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"
SECRET = "s3cr3t-canary"
LOCAL = [ip_network("127.0.0.0/8")]


def post(body: bytes, *, length: int | None = None, path: str = "/echo", more: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body) if length is None else length}\r\n{more}\r\n"
    return head.encode() + body


@pytest.fixture
def reached() -> list[str]:
    """What the routes did."""
    return []


@pytest.fixture
def gate() -> asyncio.Event:
    """Lets those who wait at /wait go."""
    return asyncio.Event()


def furnish(app: web.Application, reached: list[str], gate: asyncio.Event) -> web.Application:
    async def echo(request: web.Request) -> web.Response:
        body = await request.read()
        reached.append(f"{request.method} {len(body)}")
        return web.json_response({"size": len(body), "remote": request.remote})

    async def patient(request: web.Request) -> web.Response:
        allow_body(request, within=PATIENCE)
        return await echo(request)

    async def wait(request: web.Request) -> web.Response:
        reached.append("waiting")
        await gate.wait()
        return web.Response(text="done")

    async def later(request: web.Request) -> web.Response:
        await gate.wait()
        return await echo(request)

    async def broken(request: web.Request) -> web.Response:
        raise RuntimeError(SECRET)

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first half")
        raise RuntimeError(SECRET)

    async def choosy(request: web.Request) -> web.Response:
        raise Refused(409, "held", "The connection is busy.", "Try again.")

    async def busy(request: web.Request) -> web.Response:
        raise web.HTTPServiceUnavailable(headers={"Retry-After": "7"}, text=SECRET)

    async def big(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 32_000_000)

    app.add_routes(
        [
            web.get("/echo", echo),
            web.post("/echo", echo),
            web.post("/patient", patient),
            web.get("/wait", wait),
            web.post("/later", later),
            web.get("/broken", broken),
            web.get("/half", half),
            web.get("/choosy", choosy),
            web.get("/busy", busy),
            web.get("/big", big),
            web.post("/webhooks/{token}", echo),
        ]
    )
    return app


@pytest.fixture
def public(notebook: Notebook, reached: list[str], gate: asyncio.Event) -> web.Application:
    return furnish(public_application(log=notebook), reached, gate)


@pytest.fixture
def private(notebook: Notebook, reached: list[str], gate: asyncio.Event) -> web.Application:
    return furnish(private_application(log=notebook), reached, gate)


# --- slow ------------------------------------------------------------------------------------------------------------


async def test_a_connection_that_says_nothing_is_closed(open_door: Open, dial: Dial, public: web.Application) -> None:
    """A connection without a byte is closed when the time for headers is over, without a word."""
    wire = await dial(await open_door(public, limits=replace(QUICK, headers_within=0.05)))
    assert await wire.rest() == b""


@pytest.mark.rows("A16")
async def test_headers_that_do_not_end_are_refused(open_door: Open, dial: Dial, public: web.Application, reached: list[str]) -> None:
    """Headers that trickle in are cut off after their time, however many more bytes keep coming."""
    wire = await dial(await open_door(public, limits=replace(QUICK, headers_within=0.1)))
    await wire.send(b"GET /echo HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    assert b"408" in await trickle(wire, b"a")
    assert reached == []


async def trickle(wire: Wire, drop: bytes) -> bytes:
    """Send a drop every few milliseconds until something comes back."""
    async with asyncio.timeout(PATIENCE):
        while True:
            wire.writer.write(drop)
            try:
                return await asyncio.wait_for(wire.reader.read(65536), 0.01)
            except TimeoutError:
                continue


async def test_the_second_request_on_a_connection_is_not_given_longer(open_door: Open, dial: Dial, public: web.Application) -> None:
    """After a good request, slow headers are cut off just the same."""
    wire = await dial(await open_door(public, limits=replace(QUICK, headers_within=0.1)))
    await wire.send(GET)
    assert (await wire.answer())[0] == 200
    await wire.send(b"GET /echo HTTP/1.1\r\n")
    assert b"408" in await wire.rest()


async def test_quick_headers_stop_the_clock(open_door: Open, dial: Dial, public: web.Application, gate: asyncio.Event) -> None:
    """A route may take longer than the headers may."""
    wire = await dial(await open_door(public, limits=replace(QUICK, headers_within=0.02, body_within=0.02)))
    await wire.send(GET.replace(b"echo", b"wait"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wire.reader.read(1), 0.1)
    gate.set()
    assert (await wire.answer())[0] == 200


@pytest.mark.parametrize("begun", [b"", b"half of it"])
@pytest.mark.rows("A16")
async def test_a_body_that_does_not_come_is_refused(
    open_door: Open, dial: Dial, public: web.Application, reached: list[str], begun: bytes
) -> None:
    """A body that is not whole in time, as where Content-Length lies, gets 408 and the connection ends."""
    wire = await dial(await open_door(public, limits=replace(QUICK, body_within=0.1, body_rate=0)))
    await wire.send(post(begun, length=100))
    status, headers, _ = await wire.answer()
    assert (status, headers["connection"]) == (408, "close")
    assert await wire.rest() == b""
    assert reached == []


async def test_who_leaves_half_way_reaches_nothing(
    open_door: Open, dial: Dial, public: web.Application, reached: list[str], notebook: Notebook
) -> None:
    """A sender who hangs up before the end of its body has sent nothing, and that is no failure of ours."""
    listening = await open_door(public)
    wire = await dial(listening)
    await wire.send(post(b"half of it", length=100))
    wire.writer.close()
    async with asyncio.timeout(PATIENCE):
        while not listening._door.server.requests_count or listening._door.connections:
            await asyncio.sleep(0)
    await listening.close()
    assert reached == []
    assert notebook.events("request_failed") == []


@pytest.mark.rows("A16")
async def test_a_trickling_body_is_refused(open_door: Open, dial: Dial, public: web.Application, reached: list[str]) -> None:
    """A body below the rate is refused long before its time is over."""
    wire = await dial(await open_door(public, limits=replace(QUICK, body_within=60.0, body_rate=1000, rate_window=0.1)))
    await wire.send(post(b"", length=100_000))
    assert b"408" in await trickle(wire, b"a")
    assert reached == []


async def test_a_route_can_be_patient(open_door: Open, dial: Dial, public: web.Application) -> None:
    """A route that takes uploads gives the body more time."""
    wire = await dial(await open_door(public, limits=replace(QUICK, body_within=0.05, body_rate=0)))
    await wire.send(post(b"ab", length=4, path="/patient"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wire.reader.read(1), 0.15)
    await wire.send(b"cd")
    assert json.loads((await wire.answer())[2])["size"] == 4


@pytest.mark.rows("A16")
async def test_an_idle_connection_is_closed(open_door: Open, dial: Dial, public: web.Application) -> None:
    """A kept-alive connection is closed when nothing more is asked."""
    wire = await dial(await open_door(public, limits=replace(QUICK, idle=0.05)))
    await wire.send(GET)
    assert (await wire.answer())[0] == 200
    assert await wire.rest() == b""


async def test_who_does_not_read_is_cut_off(open_door: Open, dial: Dial, public: web.Application) -> None:
    """Somebody who asks for much and reads nothing does not hold a connection for ever."""
    listening = await open_door(public, limits=replace(QUICK, unread=0.05))
    wire = await dial(listening)
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]  # typeshed's WriteTransport; it is a whole Transport
    await wire.send(GET.replace(b"echo", b"big"))
    async with asyncio.timeout(PATIENCE):
        while listening._door.connections:
            await asyncio.sleep(0)


# --- straight --------------------------------------------------------------------------------------------------------


@dataclass
class Desk:
    """Takes posts straight, and answers when it is told to."""

    posts: list[tuple[Post, Answered]] = field(default_factory=list)

    def take(self, post: Post, answered: Answered) -> None:
        self.posts.append((post, answered))

    def straight(self) -> Straight:
        return Straight(path="/webhooks/", shown="/webhooks/{token}", take=self.take)

    async def has(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.posts) < count:
                await asyncio.sleep(0)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def hook(body: bytes = b"{}", path: str = "/webhooks/one", more: str = "") -> bytes:
    return post(body, path=path, more=more)


async def test_a_whole_post_goes_straight(
    open_door: Open, dial: Dial, public: web.Application, desk: Desk, reached: list[str], notebook: Notebook
) -> None:
    """It is handed over as it came, and what is said to it is sent; no route hears of it."""
    wire = await dial(await open_door(public, straight=desk.straight()))
    for what, status in ((None, 200), (refused(404), 404), (RuntimeError(SECRET), 503), (web.Response(text="said"), 200)):
        await wire.send(hook(b"body", more="X-More: 1\r\n"))
        await desk.has(1)
        taken, answered = desk.posts.pop()
        assert (taken.path, taken.body, taken.headers["x-more"]) == ("/webhooks/one", b"body", "1")
        answered(what)
        got, headers, said = await wire.answer()
        assert (got, headers["server"], headers["x-content-type-options"]) == (status, "oO", "nosniff")
        assert SECRET.encode() not in said
    assert said == b"said"
    assert reached == []
    assert [(line["method"], line["path"], line["status"]) for line in notebook.events("request")] == [
        ("POST", "/webhooks/{token}", status) for status in (200, 404, 503, 200)
    ]
    assert [line["error"] for line in notebook.events("request_failed")] == ["RuntimeError"]
    assert SECRET not in repr(notebook.lines)


@pytest.mark.rows("C3")
async def test_who_asks_is_told_of(open_door: Open, dial: Dial, public: web.Application, desk: Desk) -> None:
    """Each question, whatever becomes of it, and each post that goes straight."""
    told: list[int] = []
    listening = await open_door(public, straight=desk.straight(), asked=lambda: told.append(len(desk.posts)))
    wire = await dial(listening)
    for path in (b"/echo", b"/choosy", b"/nothing"):
        await wire.send(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        await wire.answer()
    assert told == [0, 0, 0]
    await wire.send(hook())
    await desk.has(1)
    assert told == [0, 0, 0, 0], "before anything is done with it"


@pytest.mark.parametrize(
    "sent",
    [
        hook(more="Expect: 100-continue\r\n"),
        hook(more="Content-Encoding: gzip\r\n"),
        hook(more="Connection: close\r\n"),
        hook().replace(b"HTTP/1.1", b"HTTP/1.0"),
        hook(path="/webhooks/one?more"),
        hook(path="/webhooks/one/more"),
        hook(path="/webhooks/"),
        hook(path="/echo"),
        hook().replace(b"POST", b"GET"),
        post(b"half", length=8, path="/webhooks/one"),
    ],
)
async def test_what_is_unusual_takes_the_route(open_door: Open, dial: Dial, public: web.Application, desk: Desk, sent: bytes) -> None:
    """What is packed, waited for, older, elsewhere or not there yet is none of those that come by the thousand."""
    listening = await open_door(public, straight=desk.straight())
    wire = await dial(listening)
    await wire.send(sent)
    async with asyncio.timeout(PATIENCE):
        while not listening._door.server.requests_count:
            await asyncio.sleep(0)
        if sent.endswith(b"half"):
            await wire.send(b"more")
        assert (await wire.reader.read(65536)).startswith(b"HTTP/1.")
    assert desk.posts == []


async def test_what_comes_meanwhile_is_answered_afterwards(
    open_door: Open, dial: Dial, public: web.Application, desk: Desk, reached: list[str]
) -> None:
    """Answers keep the order of what was asked, whichever way each went, and the clock of headers cuts none of them."""
    listening = await open_door(public, straight=desk.straight(), limits=replace(QUICK, headers_within=0.1))
    wire = await dial(listening)
    for sent, longer in ((hook(b"1"), 0.02), (GET, 0.02), (hook(b"3")[:20], 0.2), (hook(b"3")[20:] + post(b"four"), 0.02)):
        await wire.send(sent)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.reader.read(1), longer)
    assert len(desk.posts) == 1
    assert reached == []
    desk.posts.pop()[1](None)
    assert [(await wire.answer())[0] for _ in range(4)] == [200] * 4
    await wire.send(hook(b"5"))
    await desk.has(1)
    desk.posts.pop()[1](None)
    assert (await wire.answer())[0] == 200


async def test_one_of_many_pipelined_goes_straight(open_door: Open, dial: Dial, public: web.Application, desk: Desk) -> None:
    """More than aiohttp keeps waiting are read when there is room again."""
    wire = await dial(await open_door(public, straight=desk.straight()))
    await wire.send(hook() + b"".join(post(b"x" * size) for size in range(80)))
    await desk.has(1)
    desk.posts.pop()[1](None)
    assert (await wire.answer())[0] == 200
    assert [json.loads((await wire.answer())[2])["size"] for _ in range(80)] == list(range(80))


async def test_who_leaves_before_the_answer(open_door: Open, dial: Dial, public: web.Application, desk: Desk) -> None:
    """The answer is for nobody then, and what was counted is counted no more."""
    listening = await open_door(public, straight=desk.straight())
    wire = await dial(listening)
    await wire.send(hook())
    await desk.has(1)
    wire.writer.close()
    async with asyncio.timeout(PATIENCE):
        while listening._door.connections:
            await asyncio.sleep(0)
    desk.posts.pop()[1](None)
    assert listening._door._in_flight == {}


@pytest.mark.rows("A16")
async def test_a_connection_is_idle_after_its_answer(open_door: Open, dial: Dial, public: web.Application, desk: Desk) -> None:
    """It is kept while it waits for its answer, however long, and closed when nothing more is asked."""
    wire = await dial(await open_door(public, straight=desk.straight(), limits=replace(QUICK, idle=0.1)))
    await wire.send(hook())
    await desk.has(1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wire.reader.read(1), 0.25)
    desk.posts.pop()[1](None)
    assert (await wire.answer())[0] == 200
    assert await wire.rest() == b""


async def test_a_client_has_so_many_straight_posts(open_door: Open, dial: Dial, public: web.Application, desk: Desk) -> None:
    """Behind a proxy they are counted by whom it names, together with all else that is under way."""
    listening = await open_door(public, straight=desk.straight(), limits=replace(QUICK, per_address=2), trusted_proxies=LOCAL)
    for number, client in enumerate(("192.0.2.1", "192.0.2.1", "192.0.2.2")):
        await (await dial(listening)).send(hook(more=f"X-Forwarded-For: {client}\r\n"))
        await desk.has(number + 1)
    wire = await dial(listening)
    await wire.send(hook(more="X-Forwarded-For: 192.0.2.1\r\n"))
    assert (await wire.answer())[0] == 429
    assert len(desk.posts) == 3


@pytest.mark.rows("H1")
async def test_what_went_straight_is_answered_at_the_end(open_door: Open, dial: Dial, public: web.Application, desk: Desk) -> None:
    """A door that closes waits for it, and says that the connection ends; a connection at rest is hung up."""
    listening = await open_door(public, straight=desk.straight())
    wire, rests = await dial(listening), await dial(listening)
    for each in (rests, wire):
        await each.send(hook())
        await desk.has(1)
        if each is rests:
            desk.posts.pop()[1](None)
            assert (await rests.answer())[0] == 200
    closing = asyncio.ensure_future(listening.close())
    assert await rests.rest() == b""
    assert not closing.done()
    desk.posts.pop()[1](None)
    status, headers, _ = await wire.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert await wire.rest() == b""
    async with asyncio.timeout(PATIENCE):
        await closing


async def test_who_does_not_read_goes_straight_no_more(open_door: Open, dial: Dial, public: web.Application, desk: Desk) -> None:
    """Answers that nobody reads do not pile up: who goes on asking is cut off in time."""
    listening = await open_door(public, straight=desk.straight(), limits=replace(QUICK, unread=0.1))
    wire = await dial(listening)
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]  # typeshed's WriteTransport; it is a whole Transport
    await wire.send(hook())
    await desk.has(1)
    desk.posts.pop()[1](web.Response(body=bytes(32_000_000)))
    await wire.send(hook())
    async with asyncio.timeout(PATIENCE):
        while listening._door.connections:
            await asyncio.sleep(0)
    assert desk.posts == []


# --- many and large --------------------------------------------------------------------------------------------------


@pytest.mark.rows("A16")
async def test_an_address_has_so_many_connections(open_door: Open, dial: Dial, public: web.Application) -> None:
    """One connection too many from an address gets 503; when one is closed, there is room again."""
    listening = await open_door(public, limits=replace(QUICK, per_address=3))
    wires = [await dial(listening) for _ in range(3)]
    for wire in wires:
        await wire.send(GET)
        assert (await wire.answer())[0] == 200
    status, headers, _ = await (await dial(listening)).answer()
    assert (status, headers["retry-after"]) == (503, "30")
    await wires[0].send(GET.replace(b"Host", b"Connection: close\r\nHost"))
    await wires[0].rest()
    wire = await dial(listening)
    await wire.send(GET)
    assert (await wire.answer())[0] == 200


@pytest.mark.rows("A16")
async def test_there_are_so_many_connections_in_all(open_door: Open, dial: Dial, public: web.Application) -> None:
    """The total holds for proxies too, whose connections are not counted by address."""
    listening = await open_door(public, limits=replace(QUICK, per_address=1, connections=4), trusted_proxies=LOCAL)
    for wire in [await dial(listening) for _ in range(4)]:
        await wire.send(GET)
        assert (await wire.answer())[0] == 200
    assert (await (await dial(listening)).answer())[0] == 503


async def test_behind_a_proxy_each_client_has_so_many_requests(
    open_door: Open, dial: Dial, public: web.Application, gate: asyncio.Event, reached: list[str]
) -> None:
    """A proxy's client with too many requests under way gets 429; the others are served."""
    listening = await open_door(public, limits=replace(QUICK, per_address=2), trusted_proxies=LOCAL)

    async def ask(path: bytes, client: str) -> Wire:
        wire = await dial(listening)
        await wire.send(GET.replace(b"/echo", path).replace(b"Host", f"X-Forwarded-For: {client}\r\nHost".encode()))
        return wire

    waiting = [await ask(b"/wait", "2001:db8::1"), await ask(b"/wait", "2001:db8::2")]
    async with asyncio.timeout(PATIENCE):
        while len(reached) < 2:
            await asyncio.sleep(0)
    status, headers, _ = await (await ask(b"/echo", "2001:db8::3")).answer()
    assert (status, headers["retry-after"]) == (429, "5")
    assert (await (await ask(b"/echo", "2001:db8:1::3")).answer())[0] == 200
    gate.set()
    assert [(await wire.answer())[0] for wire in waiting] == [200, 200]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_huge_body_is_refused(open_door: Open, dial: Dial, public: web.Application, reached: list[str], chunked: bool) -> None:
    """A body above the limit gets 413, with a length or in chunks, and no route has it."""
    wire = await dial(await open_door(public, limits=replace(QUICK, body=1000, body_within=0.3)))
    body = b"x" * 5000
    if chunked:
        await wire.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n" + body + b"\r\n0\r\n\r\n")
    else:
        await wire.send(post(body))
    assert (await wire.answer())[0] == 413
    assert reached == []


async def test_a_body_is_handed_on_as_it_was_sent(open_door: Open, dial: Dial, public: web.Application) -> None:
    """A compressed body is not unpacked at the door: signatures are over what was sent, and bombs stay small."""
    wire = await dial(await open_door(public))
    await wire.send(post(b"not gzip at all", more="Content-Encoding: gzip\r\n"))
    assert json.loads((await wire.answer())[2])["size"] == 15


async def test_a_long_body_is_read_to_its_end(open_door: Open, dial: Dial, public: web.Application, gate: asyncio.Event) -> None:
    """What comes faster than it is read is held up for a while, and then comes."""
    wire = await dial(await open_door(public, limits=replace(QUICK, body=32_000_000)))
    sending = asyncio.ensure_future(wire.send(post(bytes(16_000_000), path="/later")))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(sending), 0.2)
    gate.set()
    await sending
    assert json.loads((await wire.answer())[2])["size"] == 16_000_000


async def test_chunks_are_put_together(open_door: Open, dial: Dial, public: web.Application) -> None:
    """A body in chunks arrives whole, also when its chunks come apart."""
    wire = await dial(await open_door(public))
    for part in (b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", b"c\r\n2\r", b"\nde\r\n0\r\n\r\n"):
        await wire.send(part)
    assert json.loads((await wire.answer())[2])["size"] == 5


async def test_pipelined_requests_are_answered_in_order(open_door: Open, dial: Dial, public: web.Application) -> None:
    """Requests sent in one go are each answered, and the clocks of one do not cut the next."""
    wire = await dial(await open_door(public, limits=replace(QUICK, headers_within=1.0)))
    await wire.send(b"".join(post(b"x" * size) for size in range(40)))
    assert [json.loads((await wire.answer())[2])["size"] for _ in range(40)] == list(range(40))


MALFORMED = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    f"GET /{SECRET} HTTX/1.1\r\n\r\n".encode(),
    f"GET / HTTP/1.1\r\n{SECRET}\x00: x\r\n\r\n".encode(),
    f"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nX: {SECRET}\r\n\r\n0\r\n\r\n".encode(),
    f"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\nX: {SECRET}\r\n\r\nab".encode(),
    f"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{SECRET}\r\n".encode(),
    post(b"abc" + SECRET.encode(), length=3),
    f"GET /{SECRET * 1000} HTTP/1.1\r\n\r\n".encode(),
    f"GET / HTTP/1.1\r\nX: {SECRET * 1000}\r\n\r\n".encode(),
    ("GET / HTTP/1.1\r\n" + f"X: {SECRET}\r\n" * 1000 + "\r\n").encode(),
]


@pytest.mark.parametrize("sent", MALFORMED)
async def test_what_is_not_http_is_refused_without_being_repeated(
    open_door: Open, dial: Dial, public: web.Application, notebook: Notebook, sent: bytes
) -> None:
    """Malformed requests, smuggling among them, get 400 and an end; neither answer nor log quotes them."""
    wire = await dial(await open_door(public))
    await wire.send(sent)
    said = await wire.rest()
    assert b" 400 " in said
    assert said.endswith(b"</html>")
    assert b"x-content-type-options: nosniff" in said.lower()
    assert SECRET not in said.decode() + repr(notebook.lines)


async def test_an_unknown_expectation_is_not_repeated(open_door: Open, dial: Dial, public: web.Application) -> None:
    """aiohttp would quote an Expect that it does not know."""
    wire = await dial(await open_door(public))
    await wire.send(post(b"", more=f"Expect: {SECRET}\r\n"))
    status, headers, body = await wire.answer()
    assert (status, headers["x-content-type-options"]) == (417, "nosniff")
    assert SECRET.encode() not in body


# --- what is told ----------------------------------------------------------------------------------------------------


async def ask(wire: Wire, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    await wire.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return await wire.answer()


@pytest.mark.parametrize(("path", "retry"), [("/broken", "30"), ("/busy", "7")])
@pytest.mark.rows("A12")
async def test_our_own_faults_are_503_to_the_public(open_door: Open, dial: Dial, public: web.Application, path: str, retry: str) -> None:
    """What breaks on our side is 503 with Retry-After, never 500 and never its text."""
    status, headers, body = await ask(await dial(await open_door(public)), path)
    assert (status, headers["retry-after"]) == (503, retry)
    assert SECRET.encode() not in body
    assert b"Traceback" not in body


async def test_a_wrong_method_looks_like_a_wrong_address(open_door: Open, dial: Dial, public: web.Application) -> None:
    """The public door's answers to a wrong address and a wrong method are the same bytes, but for the date."""
    wire = await dial(await open_door(public))
    answers = [await ask(wire, "/nothing"), await ask(wire, "/webhooks/known"), await ask(wire, "/echo", "DELETE")]
    for _, headers, _ in answers:
        headers.pop("date")
    assert answers[0][0] == 404
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.rows("A12")
@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        (CannotStore("the disk is full"), 503, "The database refused: the disk is full."),
        (Erased("what this belongs to was erased"), 404, "What this is about was erased meanwhile."),
    ],
)
async def test_what_the_hub_cannot_do_is_said_at_both_doors(
    open_door: Open, dial: Dial, notebook: Notebook, fault: Exception, status: int, words: str
) -> None:
    """The database refuses, or another daemon has just erased it: both have their own answers, and the public is told no details."""

    async def fail(_: web.Request) -> web.Response:
        raise fault

    for app in (private_application(log=notebook), public_application(log=notebook)):
        app.middlewares.append(in_its_words)
        app.add_routes([web.get("/fail", fail)])
        got, headers, body = await ask(await dial(await open_door(app)), "/fail", "GET")
        assert got == status
        assert (words.encode() in body) is headers["content-type"].startswith("application/json")


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/nothing", "GET", 404, "not_found"),
        ("/echo", "DELETE", 405, "method_not_allowed"),
        ("/broken", "GET", 500, "failed"),
        ("/busy", "GET", 503, "unavailable"),
        ("/choosy", "GET", 409, "held"),
    ],
)
async def test_the_private_door_speaks_json(
    open_door: Open, dial: Dial, private: web.Application, path: str, method: str, status: int, code: str
) -> None:
    """Every refusal of the private door is an error with a code, a message and a remedy."""
    got, headers, body = await ask(await dial(await open_door(private)), path, method)
    error = json.loads(body)["error"]
    assert (got, error["code"]) == (status, code)
    assert set(error) == {"code", "message", "remedy"}
    assert all(error.values())
    assert headers["content-type"].startswith("application/json")
    assert SECRET not in body.decode()


async def test_the_private_door_says_what_it_takes(open_door: Open, dial: Dial, private: web.Application) -> None:
    """Callers of the API keep Allow and Retry-After."""
    wire = await dial(await open_door(private))
    assert "GET" in (await ask(wire, "/echo", "DELETE"))[1]["allow"]
    assert (await ask(wire, "/busy"))[1]["retry-after"] == "7"


async def test_an_answer_that_breaks_half_way_is_cut(open_door: Open, dial: Dial, public: web.Application) -> None:
    """An answer that has begun is not ended as if it were whole, nor does another one follow it."""
    wire = await dial(await open_door(public))
    await wire.send(GET.replace(b"echo", b"half"))
    said = await wire.rest()
    assert said.count(b"HTTP/1.1") == 1
    assert not said.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("path", ["/echo", "/nothing", "/broken", "/busy"])
async def test_every_answer_carries_the_guards(open_door: Open, dial: Dial, public: web.Application, path: str) -> None:
    """No answer goes out without the headers that hold a browser back."""
    _, headers, _ = await ask(await dial(await open_door(public)), path)
    assert headers["content-security-policy"].startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["server"] == "oO"


async def test_the_access_log_holds_nothing_that_was_sent(open_door: Open, dial: Dial, public: web.Application, notebook: Notebook) -> None:
    """A line has the method, the route's pattern, the status and the time: no token, no query, no unknown path."""
    wire = await dial(await open_door(public))
    await wire.send(post(b"", path=f"/webhooks/{SECRET}?key={SECRET}", more=f"User-Agent: {SECRET}\r\n"))
    await wire.answer()
    await ask(wire, f"/{SECRET}")
    await ask(wire, "/broken")
    lines = notebook.events("request")
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("POST", "/webhooks/{token}", 200),
        ("GET", "(none)", 404),
        ("GET", "/broken", 503),
    ]
    assert all(line["ms"] >= 0 for line in lines)
    (failure,) = notebook.events("request_failed")
    assert failure["error"] == "RuntimeError"
    assert failure["where"].endswith("in broken")
    assert SECRET not in repr(notebook.lines)


# --- whose request ---------------------------------------------------------------------------------------------------

PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7,10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "198.51.100.7, nonsense", "10.0.0.1"),
        ("::ffff:10.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("fd00::1", "::ffff:198.51.100.7", "198.51.100.7"),
        ("", "198.51.100.7", ""),
    ],
)
def test_the_client_is_the_rightmost_that_is_no_proxy(peer: str, forwarded: str, client: str) -> None:
    """X-Forwarded-For is believed from right to left, as far as the proxies are ours."""
    assert client_address(peer, hops([forwarded], standard=False), PROXIES) == client


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("for=198.51.100.7", "198.51.100.7"),
        ('For="[2001:db8::7]:4711"', "2001:db8::7"),
        ("for=198.51.100.7:80;proto=https;by=10.0.0.1", "198.51.100.7"),
        ('proto=https;host="a;b";for=198.51.100.7', "198.51.100.7"),
        ("for=203.0.113.9, for=198.51.100.7, for=10.0.0.2", "198.51.100.7"),
        ("for=198.51.100.7, for=unknown", "10.0.0.1"),
        ("for=198.51.100.7, for=_hidden", "10.0.0.1"),
        ("for=203.0.113.9, proto=https", "10.0.0.1"),
        ("203.0.113.9", "10.0.0.1"),
        ('for="', "10.0.0.1"),
        ("for=" + "x;for=" * 2000, "10.0.0.1"),
        ("a=;" * 5000, "10.0.0.1"),
    ],
)
def test_the_standard_header_is_read_likewise(forwarded: str, client: str) -> None:
    """Forwarded is believed from right to left; whom it hides, or what is not well-formed, ends it."""
    assert client_address("10.0.0.1", hops([forwarded], standard=True), PROXIES) == client


@pytest.mark.parametrize(("trusted", "remote"), [([], "127.0.0.1"), (LOCAL, "198.51.100.7")])
async def test_routes_see_whose_request_it_is(
    open_door: Open, dial: Dial, public: web.Application, trusted: list[Any], remote: str
) -> None:
    """`request.remote` is the client behind a trusted proxy, and else the peer, whatever headers say."""
    wire = await dial(await open_door(public, trusted_proxies=trusted))
    await wire.send(GET.replace(b"Host", b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 198.51.100.7\r\nHost"))
    assert json.loads((await wire.answer())[2])["remote"] == remote


async def test_only_one_header_is_believed(open_door: Open, dial: Dial, public: web.Application) -> None:
    """The one that is configured: the other was let through as the client wrote it."""
    sent = GET.replace(b"Host", b"X-Forwarded-For: 203.0.113.9\r\nForwarded: for=198.51.100.7\r\nHost")
    for header, remote in (("X-Forwarded-For", "203.0.113.9"), ("Forwarded", "198.51.100.7")):
        wire = await dial(await open_door(public, trusted_proxies=LOCAL, forwarded_by=header))
        await wire.send(sent)
        assert json.loads((await wire.answer())[2])["remote"] == remote


# --- opening and closing ---------------------------------------------------------------------------------------------


async def test_a_taken_port_is_told(open_door: Open, public: web.Application, notebook: Notebook) -> None:
    """A port that somebody has is a DoorTaken with a remedy."""
    listening = await open_door(public)
    with pytest.raises(DoorTaken, match="stop it, or set another port"):
        await listen_tcp(public_application(log=notebook), host="127.0.0.1", port=listening.port or 0)


async def test_a_foreign_address_is_told(notebook: Notebook) -> None:
    """An address that is not ours cannot be listened on."""
    with pytest.raises(CannotListen, match="set another host or port"):
        await listen_tcp(public_application(log=notebook), host="203.0.113.1")


async def test_a_socket_can_be_inherited(open_door: Open, dial: Dial, public: web.Application) -> None:
    """A socket that systemd opened is listened on as it is."""
    sock = socket.create_server(("127.0.0.1", 0))
    listening = await open_door(public, sock=sock)
    assert listening.port == sock.getsockname()[1]
    assert (await ask(await dial(listening), "/echo"))[0] == 200


async def test_requests_in_flight_are_finished(
    open_door: Open, dial: Dial, public: web.Application, gate: asyncio.Event, reached: list[str]
) -> None:
    """Closing refuses new connections, hangs up on idle ones, and lets a request under way have its answer."""
    listening = await open_door(public)
    idle, wire = await dial(listening), await dial(listening)
    assert (await ask(idle, "/echo"))[0] == 200
    await wire.send(GET.replace(b"echo", b"wait"))
    async with asyncio.timeout(PATIENCE):
        while "waiting" not in reached:
            await asyncio.sleep(0)
    closing = asyncio.create_task(listening.close())
    assert await idle.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        await dial(listening)
    gate.set()
    status, headers, body = await wire.answer()
    assert (status, headers["connection"], body) == (200, "close", b"done")
    async with asyncio.timeout(PATIENCE):
        await closing
    await listening.close()


async def test_a_request_during_the_farewell_is_answered(open_door: Open, dial: Dial, public: web.Application) -> None:
    """A kept-alive connection whose request was on its way gets its answer, with the word to close."""
    listening = await open_door(public, limits=replace(QUICK, farewell=PATIENCE))
    wire = await dial(listening)
    assert "connection" not in (await ask(wire, "/echo"))[1]
    closing = asyncio.create_task(listening.close())
    async with asyncio.timeout(PATIENCE):
        while not listening._door.closing:
            await asyncio.sleep(0)
    assert (await ask(wire, "/echo"))[1]["connection"] == "close"
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing


@pytest.mark.rows("H1")
async def test_who_is_let_in_while_the_door_closes_is_answered(open_door: Open, public: web.Application) -> None:
    """A connection that the loop has accepted and not yet taken up is not dropped, though nobody else is there."""
    listening = await open_door(public, limits=replace(QUICK, farewell=0.1))
    loop, closing = asyncio.get_running_loop(), list[asyncio.Task[None]]()

    def close() -> None:
        closing.append(loop.create_task(listening.close()))

    with socket.create_connection(("127.0.0.1", listening.port)) as caller:  # waits for the loop, which accepts it in its next turn
        caller.sendall(GET)
        caller.setblocking(False)
        loop.call_soon(loop.call_soon, close)
        async with asyncio.timeout(PATIENCE):
            answer = await loop.sock_recv(caller, 4096)
            await closing[0]
    assert answer.startswith(b"HTTP/1.1 200")


async def test_who_never_ends_is_cut_in_the_end(open_door: Open, dial: Dial, public: web.Application, reached: list[str]) -> None:
    """Closing ends although a route does not."""
    listening = await open_door(public, limits=replace(QUICK, drain=0.1))
    wire = await dial(listening)
    await wire.send(GET.replace(b"echo", b"wait"))
    async with asyncio.timeout(PATIENCE):
        while "waiting" not in reached:
            await asyncio.sleep(0)
        await listening.close()
    assert await wire.rest() == b""


@pytest.mark.rows("A25")
@pytest.mark.parametrize(("version", "works"), [("3.14.4", False), ("3.9.11", False), ("3.14.5", True), ("3.15.0rc1", True), ("4.0", True)])
def test_an_old_aiohttp_is_refused(version: str, works: bool) -> None:
    """Only an aiohttp with the known holes closed opens a door."""
    if works:
        require_aiohttp(version)
    else:
        with pytest.raises(CannotListen, match="is older than"):
            require_aiohttp(version)


@pytest.mark.rows("A25")
def test_the_python_parser_is_refused() -> None:
    """Without the C parser no door opens."""
    from aiohttp.http_parser import HttpRequestParserPy

    with pytest.raises(CannotListen, match="C parser"):
        require_aiohttp(parser=HttpRequestParserPy)


# --- the Unix socket -------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path short enough for a socket (108 bytes on Linux)."""
    return tmp_path_factory.mktemp("run") / "oo.sock"


async def test_a_unix_socket_is_ours_to_use(dial: Dial, private: web.Application, place: Path) -> None:
    """Our own uid is let in; the file is for owner and group only and gone after closing."""
    listening = await listen_unix(private, path=place, limits=QUICK)
    assert listening.address == f"unix:{place}"
    assert place.stat().st_mode & 0o777 == 0o660
    assert (await ask(await dial(listening), "/echo"))[0] == 200
    await listening.close()
    assert not place.exists()


@pytest.mark.rows("H4")
@pytest.mark.parametrize(("uid", "status"), [(4242, 403), (777, 200), (0, 200)])
async def test_only_admins_are_let_in(dial: Dial, private: web.Application, place: Path, reached: list[str], uid: int, status: int) -> None:
    """Another uid than ours, root's and the admins' gets 403 as JSON and reaches nothing."""
    listening = await listen_unix(private, path=place, admins=frozenset({777}), limits=QUICK, peer=lambda sock: uid)
    got, _, body = await ask(await dial(listening), "/echo")
    assert got == status
    if status == 403:
        assert json.loads(body)["error"]["code"] == "not_allowed"
        assert reached == []
    await listening.close()


def test_the_peer_is_who_the_kernel_says() -> None:
    """The uid at the other end of a socket pair is our own."""
    here, there = socket.socketpair()
    with here, there:
        assert peer_uid(here) == os.getuid()


async def test_a_stale_socket_file_is_taken_over(dial: Dial, private: web.Application, place: Path) -> None:
    """A file left behind by a dead process does not stop the next one."""
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(place))
    dead.close()
    listening = await listen_unix(private, path=place, limits=QUICK)
    assert (await ask(await dial(listening), "/echo"))[0] == 200
    await listening.close()


async def test_a_socket_in_use_is_left_alone(dial: Dial, private: web.Application, notebook: Notebook, place: Path) -> None:
    """Where somebody answers, the second daemon is refused and the first goes on."""
    listening: Listening = await listen_unix(private, path=place, limits=QUICK)
    with pytest.raises(DoorTaken, match="stop it, or set another path"):
        await listen_unix(private_application(log=notebook), path=place, limits=QUICK)
    assert (await ask(await dial(listening), "/echo"))[0] == 200
    await listening.close()


async def test_a_file_in_the_way_is_not_removed(notebook: Notebook, place: Path) -> None:
    """What is no socket is never deleted."""
    place.write_text("precious")
    with pytest.raises(CannotListen, match="free that path"):
        await listen_unix(private_application(log=notebook), path=place)
    assert place.read_text() == "precious"


async def test_the_socket_of_a_successor_stays(private: web.Application, place: Path) -> None:
    """Closing removes our own file only."""
    listening = await listen_unix(private, path=place, limits=QUICK)
    place.unlink()
    place.write_text("the successor's")
    await listening.close()
    assert place.exists()
