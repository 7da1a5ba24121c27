"""The network, going out, against servers that misbehave."""

from __future__ import annotations

import asyncio
import gzip
import socket
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

import pytest
from daemon.connections.world import PATIENCE, TOKEN, Serve, Server, answering, hear, listening

from oo_daemon.connections import transport
from oo_daemon.connections.transport import AiohttpTransport, NoAnswer, NotSent, Request
from oo_sdk import Response

LIMIT = 100_000
#: Seconds: what a slow server exceeds, and nothing else should.
SHORT = 0.15


@dataclass
class Net:
    """A server, and the way to it."""

    server: Server
    transport: AiohttpTransport

    async def ask(
        self, method: str = "GET", path: str = "/", *, body: bytes | None = None, url: str | None = None, **headers: str
    ) -> Response:
        said = {"Authorization": f"Bearer {TOKEN}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        async with asyncio.timeout(PATIENCE):
            return await self.transport.send(Request(method=method, url=url or self.server.url + path, headers=said, body=body))

    async def stream(self, url: str) -> tuple[int, dict[str, str], bytes]:
        """Ask for an answer that comes in parts."""
        async with asyncio.timeout(PATIENCE):
            incoming = await self.transport.open(Request(method="GET", url=url, headers={}), None)
            body = b""
            while chunk := await incoming.chunk():
                body += chunk
            incoming.close()
        return incoming.status, {name.lower(): value for name, value in incoming.headers}, body


class Cast(Protocol):
    def __call__(self, serve: Serve, *, connect: float = PATIENCE, read: float = PATIENCE) -> Awaitable[Net]: ...


@pytest.fixture
async def cast() -> AsyncIterator[Cast]:
    """Opens a server that does as told, and a client with as much patience as told."""
    async with AsyncExitStack() as stack:

        async def opened(serve: Serve, *, connect: float = PATIENCE, read: float = PATIENCE) -> Net:
            server = await stack.enter_async_context(listening(serve))
            client = AiohttpTransport(connect_timeout=connect, read_timeout=read, response_limit=LIMIT, user_agent="oo-test/1")
            stack.push_async_callback(client.close)
            return Net(server, client)

        yield opened


def ok(body: bytes = b"{}", *headers: str) -> bytes:
    """A good answer."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


async def test_a_good_answer_arrives_whole(cast: Cast) -> None:
    """Status, headers in small letters and body arrive; the request is what was asked for, under our name."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await hear(reader))
        writer.write(b"HTTP/1.1 418 Short\r\nX-Ab: Cd\r\nContent-Length: 4\r\n\r\nbody")

    net = await cast(serve)
    answer = await net.ask("POST", "/a%2fb?c=%20+", body=b"x=y")
    assert (answer.status, answer.headers["x-ab"], answer.body) == (418, "Cd", b"body")
    head, _, body = heard[0].decode().partition("\r\n\r\n")
    assert head.startswith("POST /a%2fb?c=%20+ HTTP/1.1\r\n")
    assert body == "x=y"
    assert "\r\nUser-Agent: oo-test/1\r\n" in head
    assert "\r\nContent-Length: 3\r\n" in f"{head}\r\n"
    assert "Content-Type" not in head


async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers never."""
    await reader.read()


async def stops(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Stops in the middle, and stays."""
    await hear(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    await reader.read()


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Resets the connection in the middle of the body."""
    await hear(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    await writer.drain()
    there = writer.get_extra_info("socket")
    there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    writer.transport.abort()


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends a body without an end."""
    await hear(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        await writer.drain()


async def trickles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends a byte well within the time for each, for ever."""
    await hear(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(SHORT / 5)


BAD: dict[str, Serve] = {
    "slow": slow,
    "stops": stops,
    "resets": resets,
    "endless": endless,
    "trickles": trickles,
    "hangs up": answering(b""),
    "no http": answering(b"220 mail.example ESMTP\r\n\r\n"),
    "tls": answering(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    "a length too great": answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
    "a negative length": answering(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
    "a length that is none": answering(b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n"),
    "two lengths": answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
    "a cut chunk": answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhalf"),
    "a chunk that is none": answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n0\r\n\r\n"),
    "too large": answering(ok(b"x" * (LIMIT + 1))),
    "headers without an end": answering(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000),
    "a line in a header": answering(b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n"),
    "garbled gzip": answering(ok(b"nonsense", "Content-Encoding: gzip")),
    "cut gzip": answering(ok(gzip.compress(b"x" * 1000)[:-12], "Content-Encoding: gzip")),
    "gzip and something": answering(ok(gzip.compress(b"x") + b"y", "Content-Encoding: gzip")),
    "a kind not asked for": answering(ok(zlib.compress(b"x"), "Content-Encoding: deflate")),
    "only information": answering(b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.rows("C8", "E11")
@pytest.mark.parametrize("serve", BAD.values(), ids=BAD)
async def test_what_does_not_arrive_whole_is_no_answer(cast: Cast, serve: Serve) -> None:
    """Whatever a server does but give a whole answer in time and size, the request may have arrived; and the error tells nothing of it."""
    net = await cast(serve, read=SHORT)
    with pytest.raises(NoAnswer) as error:
        await net.ask("POST", body=b"token=canary-body")
    assert net.server.connections == 1
    assert error.value.__context__ is None
    assert "canary" not in f"{error.value!r} {error.value}"


#: Of what is passed on as it comes, these go on for as long as somebody reads, or are none of our business.
PASSED_ON = {"endless", "trickles", "too large", "garbled gzip", "cut gzip", "gzip and something", "a kind not asked for"}


@pytest.mark.rows("C8", "E11")
@pytest.mark.parametrize("serve", [BAD[name] for name in BAD.keys() - PASSED_ON], ids=sorted(BAD.keys() - PASSED_ON))
async def test_what_is_passed_on_as_it_comes_ends_too(cast: Cast, serve: Serve) -> None:
    """An answer that does not go on is none, also where it is given part by part."""
    net = await cast(serve, connect=SHORT, read=SHORT)

    async def taken() -> None:
        answer = await net.transport.open(Request(method="POST", url=f"{net.server.url}/", headers={}, body=b"canary-body"), None)
        try:
            while await answer.chunk():
                pass
        finally:
            answer.close()

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(NoAnswer) as error:
            await taken()
    assert error.value.__context__ is None


@pytest.mark.rows("E11")
async def test_a_body_that_nobody_takes(cast: Cast) -> None:
    """A provider that takes the beginning of a large body and then nothing more is not waited for; one that takes it slowly is."""
    taken = 0

    async def large() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(1_000):
            taken += 1
            yield b"x" * 100_000

    async def takes_some(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.Event().wait()

    net = await cast(takes_some, connect=SHORT, read=SHORT)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(NoAnswer, match="TimeoutError"):
            await net.transport.open(Request(method="POST", url=f"{net.server.url}/", headers={}), large())
    assert 0 < taken < 1_000

    async def some() -> AsyncIterator[bytes]:
        for _ in range(8):
            await asyncio.sleep(SHORT / 2)
            yield b"x"

    async def takes_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n0\r\n\r\n"[4:])
        writer.write(ok())

    slowly = await cast(takes_all, connect=SHORT / 2, read=SHORT / 2)
    answer = await slowly.transport.open(Request(method="POST", url=f"{slowly.server.url}/", headers={}), some())
    assert await answer.chunk() == b"{}"


async def test_an_answer_at_the_limit_is_whole(cast: Cast) -> None:
    """An answer of exactly the limit is taken."""
    net = await cast(answering(ok(b"x" * LIMIT)))
    assert len((await net.ask()).body) == LIMIT


@pytest.mark.rows("C8")
async def test_a_bomb_is_cut_short(cast: Cast) -> None:
    """The limit is on what comes out of decompression, and little more than it is ever held."""
    bomb = gzip.compress(b"\0" * 50_000_000)
    net = await cast(answering(ok(bomb, "Content-Encoding: gzip")))
    tracemalloc.start()
    try:
        with pytest.raises(NoAnswer, match="larger than"):
            await net.ask()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


async def test_what_is_compressed_is_given_plain(cast: Cast) -> None:
    """A compressed answer arrives decompressed."""
    packed = gzip.compress(b"x" * LIMIT)
    net = await cast(
        answering(ok(packed, "Content-Encoding: GZip"), ok(b"", "Content-Encoding: gzip"), ok(b"plain", "Content-Encoding: identity"))
    )
    assert [len((await net.ask()).body) for _ in range(3)] == [LIMIT, 0, 5]


async def test_a_head_has_no_body_to_decompress(cast: Cast) -> None:
    """An answer that only names its compression is whole."""
    net = await cast(answering(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 99\r\n\r\n"))
    assert (await net.ask("HEAD")).body == b""


async def test_bytes_are_bytes(cast: Cast) -> None:
    """Neither a body nor a header that is no UTF-8 is a fault."""
    net = await cast(answering(ok(b"\xff\xfe\x00", "X-Name: caf\xe9")))
    answer = await net.ask()
    assert answer.body == b"\xff\xfe\x00"
    assert answer.headers["x-name"].startswith("caf")


async def test_equal_headers_are_a_list(cast: Cast) -> None:
    """A header that comes twice is one, with both values."""
    net = await cast(answering(ok(b"", "X-A: 1", "x-a: 2", "Retry-After: 5")))
    answer = await net.ask()
    assert (answer.headers["x-a"], answer.headers["retry-after"]) == ("1, 2", "5")


# ---- surely never sent


async def test_a_refused_connection_was_never_sent(cast: Cast) -> None:
    """Where nobody listens, nothing was sent."""
    net = await cast(slow)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(NotSent) as error:
        await net.ask(url=f"http://127.0.0.1:{port}/")
    assert error.value.__context__ is None


@pytest.mark.rows("E11")
async def test_a_connection_that_does_not_come_about_was_never_sent(cast: Cast) -> None:
    """A host that does not even take the connection in time was sent nothing."""
    net = await cast(slow, connect=SHORT)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.socket() as first, socket.socket() as second:
            for waiting in (first, second):
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            with pytest.raises(NotSent, match="time allowed"):
                await net.ask(url=f"http://127.0.0.1:{full.getsockname()[1]}/")


async def test_tls_to_a_port_without_it_was_never_sent(cast: Cast) -> None:
    """A server that does not speak TLS, or hangs up on it, is sent no request."""
    heard: list[bytes] = []

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(5))
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    net = await cast(plain)
    with pytest.raises(NotSent):
        await net.ask(url=f"https://127.0.0.1:{net.server.port}/")
    assert heard[0][:1] == b"\x16"  # a hello of TLS, and no request


@pytest.mark.parametrize("url", ["http://nowhere.invalid/", "http://a..b/", "nonsense", "http://127.0.0.1:99999/"])
async def test_an_address_that_is_none_was_never_sent(cast: Cast, url: str) -> None:
    """What names no host was sent nowhere."""
    with pytest.raises((NotSent, NoAnswer)) as error:
        await (await cast(slow)).ask(url=url)
    assert error.value.__context__ is None


# ---- one request, and nothing remembered


async def test_no_cookie_is_kept(cast: Cast) -> None:
    """What a server wants remembered is not."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            heard.append(await hear(reader))
            writer.write(ok(b"", "Set-Cookie: a=b; Path=/"))

    net = await cast(serve)
    for _ in range(2):
        await net.ask(url=f"http://localhost:{net.server.port}/")  # a name: jars take no cookies of bare addresses
    assert len(heard) == 2
    assert b"cookie" not in heard[1].lower()


@pytest.mark.rows("C8")
async def test_no_proxy_comes_from_the_environment(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies and passwords that the environment names are not used."""
    async with listening(answering(ok(b"proxied"))) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        net = await cast(answering(ok(b"direct")))
        assert (await net.ask()).body == b"direct"
        assert (await net.stream(net.server.url))[2] == b"direct"
        with pytest.raises((NotSent, NoAnswer)):
            await net.ask(url="https://nowhere.invalid/")
        assert proxy.connections == 0


@pytest.mark.rows("C8")
async def test_a_redirect_is_an_answer(cast: Cast) -> None:
    """A redirect is given as it is."""
    async with listening(answering(ok())) as elsewhere:
        net = await cast(answering(f"HTTP/1.1 302 Found\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n".encode()))
        answer = await net.ask()
        assert (answer.status, answer.headers["location"]) == (302, elsewhere.url)
        status, headers, _ = await net.stream(net.server.url)
        assert (status, headers["location"]) == (302, elsewhere.url)
        assert elsewhere.connections == 0


async def test_a_connection_is_used_again(cast: Cast) -> None:
    """Two requests after each other go over one connection."""
    net = await cast(answering(ok(b"1"), ok(b"2")))
    assert [(await net.ask()).body, (await net.ask()).body] == [b"1", b"2"]
    assert net.server.connections == 1


async def test_an_answer_nobody_asked_for_is_given_to_nobody(cast: Cast) -> None:
    """A server that answers one request twice does not thereby answer the next, which may be another user's."""
    net = await cast(answering(ok(b"mine") + ok(b"poison"), ok(b"late")))
    assert (await net.ask()).body == b"mine"
    try:
        body = (await net.ask()).body
    except NoAnswer:
        body = b""
    assert body != b"poison"


async def test_what_comes_between_requests_is_no_answer(cast: Cast) -> None:
    """A server that says something while nobody asks does not thereby answer the next request: it goes over another connection."""
    go_on, said = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hear(reader)
        if said.is_set():
            writer.write(ok(b"the answer"))
            return
        writer.write(ok(b"first"))
        await go_on.wait()
        writer.write(ok(b"poison"))
        await writer.drain()
        said.set()
        await reader.read()

    net = await cast(serve)
    assert (await net.ask()).body == b"first"
    go_on.set()
    await said.wait()
    for _ in range(10):  # the loop turns, and has read it
        await asyncio.sleep(0)
    assert (await net.ask()).body == b"the answer"
    assert net.server.connections == 2


async def test_who_speaks_first_is_not_asked_for_ever(cast: Cast) -> None:
    """A server that greets whoever comes is given up, in time."""

    async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read()

    net = await cast(greets)
    with pytest.raises((NotSent, NoAnswer)):
        await net.ask("POST", body=b"x")
    assert net.server.connections <= transport.CONNECTIONS


@pytest.mark.rows("C8")
@pytest.mark.parametrize(
    "wrong",
    [
        {"X_A": "a\r\nHost: evil.example"},
        {"X_A": "a\nb"},
        {"X_A": "a\rb"},
        {"X_A": "a\0b"},
        {"X_A\r\nHost": "evil.example"},
        {"Content_Length": "0"},
        {"transfer_encoding": "chunked"},
        {"method": "GET / HTTP/1.1\r\nX:"},
        {"method": "GET /evil"},
        {"path": "/a\r\nHost: evil.example"},
        {"path": "/a b"},
        {"path": "/ä"},
    ],
    ids=str,
)
async def test_a_request_is_one_or_is_not_sent(cast: Cast, wrong: dict[str, str]) -> None:
    """What could begin another line or another request, or end this one elsewhere, is not sent at all."""
    net = await cast(answering(ok()))
    with pytest.raises(NotSent, match="cannot be sent"):
        await net.ask(**wrong)  # type: ignore[arg-type]  # on purpose
    assert net.server.connections == 0


@pytest.mark.rows("C8")
async def test_an_address_has_no_user(cast: Cast) -> None:
    """A user in an address is neither signed in nor taken for a part of the host."""
    net = await cast(answering(ok()))
    for user in ("ada@", "ada:pass@", "@", f"127.0.0.1:{net.server.port}@"):
        with pytest.raises(NotSent):
            await net.ask(url=f"http://{user}127.0.0.1:{net.server.port}/")
    assert net.server.connections == 0


async def test_what_is_usual_can_be_said_otherwise(cast: Cast) -> None:
    """A request's own headers replace ours, however they are spelled; a body's length is said, and none where there never is one."""
    heard: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := (await hear(reader)).decode():
            heard.append(head)
            writer.write(ok())

    net = await cast(serve)
    await net.ask(user_agent="acme/2", ACCEPT="text/plain", host="virtual.example")
    await net.ask("POST", url=f"{net.server.url}?a=1#b")
    names = [line.partition(":")[0].lower() for line in heard[0].split("\r\n")[1:] if line]
    assert sorted(names) == ["accept", "accept-encoding", "authorization", "host", "user-agent"]
    assert "\r\nuser-agent: acme/2\r\n" in heard[0]
    assert "\r\nhost: virtual.example\r\n" in heard[0]
    assert heard[1].startswith("POST /?a=1 HTTP/1.1\r\n")
    assert "\r\nContent-Length: 0\r\n" in heard[1]


async def test_information_comes_before_the_answer(cast: Cast) -> None:
    """What only says that the answer is on its way is not taken for it."""
    net = await cast(answering(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok(b"whole"), ok(b"next")))
    assert [(await net.ask()).body, (await net.ask()).body] == [b"whole", b"next"]


async def test_a_get_is_sent_once_more(cast: Cast) -> None:
    """A GET over a connection that dies is sent over another one, once."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await hear(reader))
        if len(heard) != 2:
            writer.write(ok())
            heard.append(await hear(reader))

    net = await cast(serve)
    await net.ask()
    await net.ask()  # the first connection hears it and is closed without a word
    assert len(heard) == 3
    net.server.serve = answering(b"")
    with pytest.raises(NoAnswer):
        await net.ask()


async def test_a_connection_that_has_not_heard_all_is_not_used_again(cast: Cast) -> None:
    """A server that answers before it has read the body gets the next request over another connection, not behind the rest."""

    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok(b"enough", "X-Paused: yes"))
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is one that reads
        await asyncio.Event().wait()

    net = await cast(hasty)
    assert (await net.ask("POST", body=bytes(20_000_000))).body == b"enough"
    net.server.serve = answering(ok(b"next"))
    assert (await net.ask("POST", body=b"x")).body == b"next"
    assert net.server.connections == 2


async def test_many_places_are_known(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of places has a bound, and is found out again."""
    monkeypatch.setattr(transport, "PLACES", 2)
    net = await cast(answering(*[ok(b"here")] * 4))
    for name in ("127.0.0.1", "localhost", "127.0.0.1", "LOCALHOST"):
        assert (await net.ask(url=f"http://{name}:{net.server.port}/")).body == b"here"


async def test_a_post_is_sent_once(cast: Cast) -> None:
    """A POST over a connection that dies is not repeated: it may have arrived."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await hear(reader))
        writer.write(ok())
        heard.append(await hear(reader))

    net = await cast(serve)
    await net.ask("POST", body=b"1")
    with pytest.raises(NoAnswer):
        await net.ask("POST", body=b"2")
    assert len(heard) == 2


async def test_a_cancelled_request_is_cancelled(cast: Cast) -> None:
    """Whoever gives up is let go at once."""
    net = await cast(slow)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await net.ask()


def test_a_request_does_not_print() -> None:
    """A request prints its method and nothing else."""
    request = Request(method="POST", url=f"https://a.example/{TOKEN}", headers={"Authorization": TOKEN}, body=TOKEN.encode())
    assert repr(request) == "Request(method='POST')"
