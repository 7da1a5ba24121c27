"""Which addresses a credential may be sent to."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from yarl import URL

from oo_daemon.connections import bounds
from oo_sdk import ConnectorBug

HOSTS = ("api.good.example", "Upper.Good.Example", "odd.good.example:8443", "127.0.0.1:8080", "[::1]:8081", "localhost:8082", "localhost")

WITHIN = [
    "https://api.good.example",
    "https://api.good.example/",
    "https://api.good.example?a=b",
    "https://api.good.example:443/v1/notes?a=b&c=%20",
    "https://API.GOOD.EXAMPLE/v1",
    "https://upper.good.example/",
    "https://odd.good.example:8443/",
    "https://api.good.example/@evil.example/",
    "https://api.good.example//evil.example/",
    "https://api.good.example/?next=https://evil.example/",
    "http://127.0.0.1:8080/",
    "http://[::1]:8081/",
    "http://localhost:8082/",
    "https://localhost/",
]

OUTSIDE = [
    "https://evil.example/",
    "https://api.good.example.evil.example/",
    "https://evil-api.good.example/",
    "https://sub.api.good.example/",
    "https://good.example/",
    "https://api.good.example./",
    "https://api.good.example@evil.example/",
    "https://user:pass@api.good.example/",
    "https://@api.good.example/",
    "https://evil.example#@api.good.example/",
    "https://evil.example?@api.good.example/",
    "https://evil.example\\@api.good.example/",
    "https://api.good.example\\.evil.example/",
    "https:\\\\api.good.example/",
    "https://api.good.example:80/",
    "https://api.good.example:444/",
    "https://api.good.example:/",
    "https://api.good.example:0/",
    "https://api.good.example:65979/",
    "https://api.good.example:443443/",
    "https://api.good.example:４４３/",
    "https://api.good.example:+443/",
    "https://odd.good.example/",
    "http://api.good.example/",
    "http://api.good.example:443/",
    "http://odd.good.example:8443/",
    "http://127.0.0.1/",
    "http://127.0.0.1:8081/",
    "http://127.1:8080/",
    "http://2130706433:8080/",
    "http://0x7f000001:8080/",
    "http://0177.0.0.1:8080/",
    "http://[::ffff:127.0.0.1]:8080/",
    "http://[::1%25lo]:8081/",
    "http://[0:0:0:0:0:0:0:1]:8081/",
    "http://localhost./",
    "https://аpi.good.example/",  # a Cyrillic а
    "https://xn--pi-7kc.good.example/",
    "https://api．good．example/",
    "https://api。good。example/",
    "https://api.good.example\u2044evil.example/",
    "https://api.good.example%2eevil.example/",
    "https://api%2egood%2eexample/",
    "https://api.good.example%00.evil.example/",
    "https://api.good.example/#fragment",
    "https://api.good.example#@evil.example/",
    "https://api.good.example/\r\nHost: evil.example",
    "https://api.good.example/\n",
    "https://api.good.example\n.evil.example/",
    "https://api.good.example/ HTTP/1.1",
    "https://api.good.example/\t",
    "https://api.good.example/\x00",
    "https://api.good.example/\x7f",
    "https://api.good.example/é",
    "https://api.good.example/{token}",
    " https://api.good.example/",
    "https://api.good.example/ ",
    "//api.good.example/",
    "/v1/notes",
    "api.good.example/v1",
    "https:api.good.example/",
    "https:/api.good.example/",
    "https:///api.good.example/",
    "HTTPS://api.good.example/",
    "ftp://api.good.example/",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "data:text/plain,a",
    "https://[api.good.example]/",
    "https://[::1",
    "https://",
    "",
]


@pytest.mark.parametrize("url", WITHIN)
def test_addresses_of_declared_hosts_are_within(url: str) -> None:
    """A declared host on its port, by https or on this machine, is within bounds, whatever its path and query say."""
    bounds.check(url, HOSTS)


@pytest.mark.rows("C8")
@pytest.mark.parametrize("url", OUTSIDE)
def test_all_others_are_outside(url: str) -> None:
    """Another host or port, plain http, user information, a fragment, an odd spelling of a host: none is within bounds."""
    with pytest.raises(ConnectorBug) as refused:
        bounds.check(url, HOSTS)
    assert len(url) < 10 or url not in str(refused.value)


@pytest.mark.parametrize(
    "declared", ["", "*", "https://evil.example", "evil.example/", "*.example", "evil.example:", "evil.example:x", "a b", ".", "-"]
)
@pytest.mark.parametrize("url", ["https://evil.example/", "https://a.example/", "https://x/"])
def test_a_declaration_that_makes_no_sense_opens_nothing(declared: str, url: str) -> None:
    """There are no wild cards, and a host that is declared wrongly is a host that cannot be called."""
    with pytest.raises(ConnectorBug):
        bounds.check(url, [declared])


CHARACTERS = "ab.:/@?#\\[]%-_1480 \t\r\n\x00éа．"


@settings(max_examples=400)
@given(
    some.builds(
        lambda scheme, *parts: scheme + "".join(parts),
        some.sampled_from(["https://", "http://", "https:/", "https:\\\\", "//"]),
        *[some.sampled_from(["api.good.example", "evil.example", "127.0.0.1", "[::1]", ":443", ":8080", "@", "#", "?", "/", "\\", ""])] * 4,
        some.text(CHARACTERS, max_size=4),
        some.sampled_from(["", "/", "/api.good.example"]),
    )
)
def test_no_two_parsers_disagree(url: str) -> None:
    """What is within bounds leads to a declared place by the standard library's reading and by that of the library that sends it."""
    try:
        bounds.check(url, HOSTS)
    except ConnectorBug:
        return
    sent = URL(url, encoded=True)
    places = {("https", "api.good.example", 443), ("https", "127.0.0.1", 8080), ("http", "127.0.0.1", 8080)}
    assert (sent.scheme, sent.raw_host, sent.port) in places
    parts = urlsplit(url)
    assert (parts.hostname, parts.username, parts.fragment) == (sent.raw_host, None, "")
    assert sent.user is None


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://a.example/x?y", "https://a.example"),
        ("http://127.0.0.1:80/", "http://127.0.0.1:80"),
        ("https://a.example", "https://a.example"),
    ],
)
def test_origin(url: str, origin: str) -> None:
    """An origin is what a page's policy can name."""
    assert bounds.origin(url) == origin
