"""The way out to addresses that somebody gave: nothing hostile is connected to, however it is spelled and whatever the look-up says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from daemon.connections.world import answering, listening

from oo_daemon.connections.outward import Network, Outward, in_the_open, meant
from oo_daemon.connections.transport import AiohttpTransport
from oo_sdk import RetryLater

#: Addresses and spellings of them that are this machine, a neighbour, a cloud's metadata, or only stand for those.
# fmt: off
HOSTILE = [
    "127.0.0.1", "127.1", "127.0.1", "127.255.255.254", "0", "0.0.0.0", "0.1.2.3", "2130706433", "0x7f000001", "0x7f.0.0.1",
    "017700000001", "0177.0.0.1", "127.0.0.1.", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1",
    "192.168.255.254", "100.64.0.1", "100.127.255.254", "169.254.169.254", "169.254.0.1", "2852039166", "192.0.0.1", "192.0.0.170",
    "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.254", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.250",
    "240.0.0.1", "255.255.255.255", "[::1]", "[::]", "[::127.0.0.1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:10.0.0.1]",
    "[::ffff:169.254.169.254]", "[::ffff:0:7f00:1]", "[64:ff9b::7f00:1]", "[64:ff9b::169.254.169.254]", "[64:ff9b::10.0.0.1]",
    "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]", "[2002:0a00:1::1]", "[2001::1]", "[2001:0:7f00:1::]", "[2001:20::1]",
    "[2001:db8::1]", "[3fff::1]", "[5f00::1]", "[fe80::1]", "[fe80::1%25lo]", "[fec0::1]", "[fc00::1]", "[fd00:ec2::254]",
    "[ff02::1]", "[ff0e::1]", "[100::1]",
]
# fmt: on


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Told(AbstractResolver):
    """Says what it is told to, one answer after the other, and counts."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.asked = [*answers], 0

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        self.asked += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            {"hostname": host, "host": each, "port": port, "family": 10 if ":" in each else 2, "proto": 0, "flags": 4} for each in found
        ]

    async def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
async def way() -> AsyncIterator[Callable[..., Outward]]:
    """Ways out, to where the reader of names says."""
    async with AsyncExitStack() as stack:

        def made(resolver: Told | None = None, *reach: str) -> Outward:
            def transport(allowed: Callable[[str], bool]) -> AiohttpTransport:
                one = AiohttpTransport(
                    connect_timeout=2, read_timeout=2, response_limit=1000, user_agent="oo-test/1", allowed=allowed, resolver=resolver
                )
                stack.push_async_callback(one.close)
                return one

            networks: tuple[Network, ...] = tuple(map(ip_network, reach))
            return Outward.made(networks, transport)

        yield made


@pytest.mark.rows("A24")
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_nothing_hostile_is_connected_to(way: Callable[..., Outward], scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more than sixty spellings none opens a connection: each is refused by what it is, before anything is sent."""

    async def connected(*_: Any, **__: Any) -> Any:
        raise AssertionError("a connection was begun")

    monkeypatch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", connected)
    out = way()
    assert len(HOSTILE) >= 60
    for host in HOSTILE:
        with pytest.raises(RetryLater, match=r"not of the open internet|no connection|the address"):
            await out.post(f"{scheme}://{host}:9/", b"", {})


@pytest.mark.rows("A24")
def test_what_is_of_the_open_internet() -> None:
    """Ordinary addresses are, also through a translator; what only looks like one is none."""
    for text in ("1.1.1.1", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001::8", "64:ff9b::101:101", "::ffff:1.1.1.1"):
        address = meant(text)
        assert address is not None
        assert in_the_open(address), text
    assert meant("2130706433") is None
    assert meant("0177.0.0.1") is None


@pytest.mark.rows("A24")
async def test_a_name_is_looked_up_once(way: Callable[..., Outward]) -> None:
    """Where a second look-up would say otherwise, there is none: what was judged is what is connected to."""
    async with listening(answering(OK)) as server:
        port = server.url.rpartition(":")[2]
        rebinding = Told(["127.0.0.1"], ["127.0.0.2"])
        out = way(rebinding, "127.0.0.1")
        assert (await out.post(f"http://rebinding.example:{port}/", b"x", {})).status == 200
        assert rebinding.asked == 1
        with pytest.raises(RetryLater, match="not of the open internet"):
            await out.post(f"http://other.example:{port}/", b"x", {})
        assert server.connections == 1


@pytest.mark.rows("A24")
@pytest.mark.parametrize("answer", [["93.184.215.14", "127.0.0.1"], ["127.0.0.1", "93.184.215.14"], ["93.184.215.14", "::ffff:10.0.0.1"]])
async def test_one_bad_address_spoils_the_name(way: Callable[..., Outward], answer: list[str]) -> None:
    """A name with one address that may not be reached is not gone to at all."""
    for scheme in ("http", "https"):
        with pytest.raises(RetryLater, match="not of the open internet"):
            await way(Told(answer)).post(f"{scheme}://mixed.example/", b"", {})


@pytest.mark.rows("A24")
async def test_plain_http_goes_only_where_it_is_listed(way: Callable[..., Outward]) -> None:
    """In the open internet plain http is refused, and what is listed may be reached by it."""
    with pytest.raises(RetryLater, match="plain http goes nowhere else"):
        await way(Told(["93.184.215.14"])).post("http://open.example/", b"", {})
    async with listening(answering(OK)) as server:
        assert (await way(None, "127.0.0.0/8").post(server.url, b"x", {})).status == 200


@pytest.mark.rows("A24")
async def test_redirects_are_not_followed(way: Callable[..., Outward]) -> None:
    """An answer that points elsewhere is given as it is."""
    async with listening(answering(b"HTTP/1.1 307 Away\r\nLocation: http://127.0.0.2/\r\nContent-Length: 0\r\n\r\n")) as server:
        assert (await way(None, "127.0.0.1").post(server.url, b"x", {})).status == 307
        assert server.connections == 1


@pytest.mark.parametrize("url", ["ftp://a.example/", "https:///x", "https://user:secret@a.example/", "file:///x", "a.example", "//a"])
async def test_what_is_no_address(way: Callable[..., Outward], url: str) -> None:
    """It is said so, and not repeated."""
    with pytest.raises(RetryLater, match="correct it in the settings") as refused:
        await way().post(url, b"", {})
    assert "secret" not in str(refused.value)
