"""What the connector makes of webhooks."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_sdk import Delivery, Hears, Nudge, Unreadable
from oo_todoist import Todoist


def delivery(body: Any) -> Delivery:
    """Make a delivery of JSON, or of bytes as they are."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Delivery(id="d1", headers={}, body=raw, received_at=datetime(2026, 11, 22, tzinfo=UTC))


def test_it_hears() -> None:
    """The connector hears its provider, and how bodies are proved is declared."""
    todoist = Todoist()
    assert isinstance(todoist, Hears)
    scheme = todoist.webhooks
    assert (scheme.header, scheme.id_header) == ("X-Todoist-Hmac-SHA256", "X-Todoist-Delivery-ID")
    assert (scheme.key, scheme.algorithm, scheme.encoding, scheme.prefix) == ("client_secret", "sha256", "base64", "")


@pytest.mark.parametrize("name", ["doc_webhook_item_added", "sdk_webhook_v1_item_added", "sdk_webhook_v1_item_updated_with_extra"])
async def test_published_bodies(real: Any, name: str) -> None:
    """The bodies that Doist publishes are for their user, and say that something changed."""
    told = delivery(real(name))
    assert await Todoist().route(told) == ["2671355"]
    assert await Todoist().read(told) == [Nudge()]


@pytest.mark.parametrize("name", ["item:completed", "note:added", "project:archived", "reminder:fired", "of:the_future", ""])
@pytest.mark.parametrize("user", ["7", 7])
async def test_every_event_is_a_nudge(name: str, user: str | int) -> None:
    """Whatever happened, and whatever else is in the body, a sync will tell."""
    told = delivery({"event_name": name, "user_id": user, "event_data": None, "version": 10})
    assert (await Todoist().route(told), await Todoist().read(told)) == (["7"], [Nudge()])


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{}", b"\xff", b"user_id=7", {"event_name": "x"}, {"user_id": "7"}, {"event_name": "x", "user_id": ""}]
    + [{"event_name": "x", "user_id": user} for user in (None, True, 0, 1.5, ["7"])],
)
async def test_junk_is_set_aside(body: Any) -> None:
    """A body that does not say to whom what is told is set aside by both."""
    for ask in (Todoist().route, Todoist().read):
        with pytest.raises(Unreadable):
            await ask(delivery(body))


@given(body=st.binary(max_size=64) | st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner)).map(repr))
async def test_any_bytes(body: bytes | str) -> None:
    """Whatever the bytes, both answer or set aside."""
    told = delivery(body.encode() if isinstance(body, str) else body)
    for ask in (Todoist().route, Todoist().read):
        with suppress(Unreadable):
            assert await ask(told)
