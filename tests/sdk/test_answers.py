"""What a provider's headers say: how long to wait, and where the next page is."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from oo_sdk import ConnectorBug, Response, Session, pages
from oo_sdk.answers import LONGEST, asked_wait, next_link, retry_after

NOW = datetime(2026, 11, 18, 11, 6, 40, tzinfo=UTC)
DAY = LONGEST.total_seconds()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("86400", DAY),
        ("86401", DAY),
        ("9" * 400, DAY),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("soon", None),
        ("12O", None),
        ("٣", None),
        ("5, 10", None),
        ("\udcff", None),
        ("Wed, 18 Nov 2026 11:06:50 GMT", 10.0),
        ("Wednesday, 18-Nov-26 11:06:50 GMT", 10.0),
        ("Wed Nov 18 11:06:50 2026", 10.0),
        ("Wed, 18 Nov 2026 11:06:50", 10.0),
        ("Wed, 18 Nov 2026 13:06:50 +0200", 10.0),
        ("Wed, 18 Nov 2026 11:06:30 GMT", 0.0),
        ("Wed, 18 Nov 2099 11:06:50 GMT", DAY),
        ("Wed, 18 Nov 1970 11:06:50 GMT", 0.0),
        ("Wed, 99 Nov 2026 11:06:50 GMT", None),
        ("Wed, 18 Nov 99999999999999999999 11:06:50 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2300", 0.0),
        ("Wed, 18 Nov 2026 11:06:50 +99999999999999", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    """Seconds and all three forms of dates are understood, a date without a zone is in UTC, nothing is longer than a day."""
    assert retry_after(header, NOW) == (None if seconds is None else timedelta(seconds=seconds))


def test_a_date_without_a_zone_is_not_the_host_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """A date without a zone is in UTC on a host in any zone."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert retry_after("Wed Nov 18 11:06:50 2026", NOW) == timedelta(seconds=10)
    finally:
        monkeypatch.undo()
        time.tzset()


@given(some.text() | some.text("0123456789 :,+-WedNovGMT"))
@example("Mon, 01 Jan 0001 00:00:00 +2359")
def test_no_text_breaks_it(text: str) -> None:
    """Whatever a provider writes, it is a wait between nothing and a day, or not understood."""
    wait = retry_after(text, NOW)
    assert wait is None or timedelta() <= wait <= LONGEST


@given(some.integers(0, int(DAY)))
def test_never_earlier_than_asked(seconds: int) -> None:
    """As seconds or as a date, within a day the wait is just what was asked for."""
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after(str(seconds), NOW) == retry_after(date, NOW) == timedelta(seconds=seconds)


@pytest.mark.rows("E5")
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "30"}, 30.0),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "40"}, 40.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW.timestamp()) + 50)}, 50.0),
        ({"x-ratelimit-remaining": "3", "x-ratelimit-reset": str(int(NOW.timestamp()) + 50)}, None),
        ({"x-rate-limit-remaining": "0", "x-rate-limit-reset": "nan"}, None),
        ({"x-rate-limit-remaining": "0", "x-rate-limit-reset": "soon"}, None),
        ({"retry-after": "30", "ratelimit-remaining": "0", "ratelimit-reset": "60"}, 60.0),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "999999"}, 86_400.0),
    ],
)
def test_the_longest_wait_wins(headers: dict[str, str], seconds: float | None) -> None:
    """Retry-After and the resets of limits are floors: the longest counts, up to a day."""
    assert asked_wait(headers, NOW) == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("link", "following"),
    [
        ('<https://api.example/items?page=2>; rel="next"', "https://api.example/items?page=2"),
        (
            '<https://api.example/items?page=1>; rel="prev", <https://api.example/items?page=3>; rel="next"',
            "https://api.example/items?page=3",
        ),
        ('</items?ids=1,2>; title="a, b"; rel=next', "/items?ids=1,2"),
        ('<?page=2>;REL="first Next"', "?page=2"),
        ('<?page=9>; rel="last"', None),
        ('<?page=2>; rel="nextish"', None),
        ('?page=2; rel="next"', None),
        ("<", None),
        ("", None),
    ],
)
def test_where_the_next_page_is(link: str, following: str | None) -> None:
    """The Link header's relation "next", in any of the spellings that RFC 8288 allows."""
    assert next_link(Response(status=200, headers={"link": link}, body=b"")) == following


class Paged:
    """A session whose provider has these pages."""

    def __init__(self, *links: str) -> None:
        self.links, self.asked = list(links), list[str]()

    async def request(self, method: str, url: str, **_: Any) -> Response:
        self.asked.append(url)
        return Response(status=200, headers={"link": self.links.pop(0)} if self.links else {}, body=b"[%d]" % len(self.asked))


async def test_pages_are_read_to_the_last() -> None:
    """One after another, where each says, relative addresses too; the last names none."""
    http = Paged('</items?page=2>; rel="next"', '<?page=3>; rel="next"')
    assert [page async for page in pages(cast(Session, http), "https://api.example/items", into=list[int])] == [[1], [2], [3]]
    assert http.asked == ["https://api.example/items", "https://api.example/items?page=2", "https://api.example/items?page=3"]


async def test_pages_do_not_go_round_in_circles() -> None:
    """A page that names one before it is a fault, not a sync without an end."""
    http = Paged('<?page=2>; rel="next"', '</items>; rel="next"')
    with pytest.raises(ConnectorBug, match="circle"):
        assert [page async for page in pages(cast(Session, http), "https://api.example/items", into=list[int])]
    assert len(http.asked) == 2
