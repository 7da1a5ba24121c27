"""Handshakes: what a sender asks before it sends, and what it is told; anything else is no handshake."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oo_daemon.connections import handshake, member
from oo_sdk.schemes import SCHEMES

KEY = b"zoomsecret"


def query(name: str, **asked: str) -> bytes | None:
    answer = handshake.to_query(SCHEMES[name], asked, "the-token")
    assert answer is None or answer.content_type == "text/plain"
    return answer.body if answer else None


def test_dropbox_gets_its_challenge_back() -> None:
    """As plain text; what could be a page, is too long or is not there is not given back."""
    assert query("dropbox", challenge="abc-123_x") == b"abc-123_x"
    for odd in ("<script>", "a b", "", "a" * 513, "ä", "\n", "a\n"):
        assert query("dropbox", challenge=odd) is None
    assert query("dropbox") is None


def test_meta_gets_its_challenge_for_the_token() -> None:
    """Only with the mode and with the last part of the address as the token."""
    spelt = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": "the-token"}
    answer = handshake.to_query(SCHEMES["meta"], spelt, "the-token")
    assert answer is not None
    assert answer.body == b"1158201444"
    for name, odd in (("hub.mode", "unsubscribe"), ("hub.verify_token", "guess"), ("hub.verify_token", ""), ("hub.challenge", "<b>")):
        assert handshake.to_query(SCHEMES["meta"], {**spelt, name: odd}, "the-token") is None


def test_slack_gets_its_challenge_back() -> None:
    """From a body of that type, and from no other."""
    body = json.dumps({"token": "x", "challenge": "3eZbrw1aB", "type": "url_verification"}).encode()
    answer = handshake.to_body(SCHEMES["slack"], KEY, body)
    assert answer is not None
    assert (answer.body, answer.content_type) == (b"3eZbrw1aB", "text/plain")
    for odd in (
        {"type": "event_callback", "challenge": "x"},
        {"type": "url_verification"},
        {"type": "url_verification", "challenge": ["x"]},
    ):
        assert handshake.to_body(SCHEMES["slack"], KEY, json.dumps(odd).encode()) is None


def test_zoom_gets_its_token_hashed() -> None:
    """In JSON, with the hash under our key."""
    body = json.dumps({"event": "endpoint.url_validation", "payload": {"plainToken": "qgg8vlvZRS6UYooatFL8Aw"}}).encode()
    answer = handshake.to_body(SCHEMES["zoom"], KEY, body)
    assert answer is not None
    expected = hmac.digest(KEY, b"qgg8vlvZRS6UYooatFL8Aw", hashlib.sha256).hex()
    assert json.loads(answer.body) == {"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": expected}
    assert answer.content_type == "application/json"


def test_notion_brings_its_secret() -> None:
    """A text of some length, and nothing else."""
    assert handshake.first_secret(SCHEMES["notion"], b'{"verification_token": "secret_tMrlL1qK5vuQAh1b6cZGhFChZTSY"}')
    for odd in (b"{}", b'{"verification_token": "short"}', b'{"verification_token": 12345678901234567890}', b"\xff"):
        assert handshake.first_secret(SCHEMES["notion"], odd) is None
    assert handshake.first_secret(SCHEMES["github"], b'{"verification_token": "secret_tMrlL1qK5vuQAh1b6cZGhFChZTSY"}') is None


@pytest.mark.rows("A8")
@pytest.mark.timeout(3600)
@settings(max_examples=int(os.environ.get("OO_TEST_HOSTILE", "100")), deadline=None)
@given(
    st.binary() | st.sampled_from([b"[" * 99_999, b'{"type":' * 99_999]), st.dictionaries(st.text(), st.text()), st.sampled_from([*SCHEMES])
)
def test_any_bytes_are_a_handshake_or_none(body: bytes, asked: dict[str, str], name: str) -> None:
    """Nothing makes them raise."""
    handshake.to_body(SCHEMES[name], KEY, body)
    handshake.first_secret(SCHEMES[name], body)
    handshake.to_query(SCHEMES[name], asked, "\ud800")


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"a": {"b": 1}}', 1),
        (b'{"a": {"b": "x"}, "a.b": 2}', "x"),
        (b'{"a": {"b": [1]}}', [1]),
        (b'{"a": 1}', None),
        (b"[]", None),
        (b'{"a": {"b": tru}}', None),
        (b'{"a": {"b": "\xff"}}', None),
        (b"", None),
    ],
)
def test_a_member_is_found_or_not(body: bytes, found: Any) -> None:
    """By its path; what is not there, or not JSON, is nothing."""
    assert member.of(body, "a.b") == found
