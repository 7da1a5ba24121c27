"""How long a provider asks us to wait."""

from __future__ import annotations

import time
from email.utils import format_datetime

import pytest
from daemon.connections.world import NOW
from hypothesis import example, given
from hypothesis import strategies as some

from oo_daemon.connections.retry_after import LONGEST, retry_after
from oo_daemon.ports import SECOND, moment


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("86400", LONGEST),
        ("86401", LONGEST),
        ("9" * 400, LONGEST),
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
        ("Wed, 18 Nov 2099 11:06:50 GMT", LONGEST),
        ("Wed, 18 Nov 1970 11:06:50 GMT", 0.0),
        ("Wed, 99 Nov 2026 11:06:50 GMT", None),
        ("Wed, 18 Nov 99999999999999999999 11:06:50 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2300", 0.0),
        ("Wed, 18 Nov 2026 11:06:50 +99999999999999", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    """Seconds and all three forms of dates are understood, a date without a zone is in UTC, nothing is longer than a day."""
    assert retry_after(header, NOW) == seconds


def test_a_date_without_a_zone_is_not_the_host_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """A date without a zone is in UTC on a host in any zone."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert retry_after("Wed Nov 18 11:06:50 2026", NOW) == 10.0
    finally:
        monkeypatch.undo()
        time.tzset()


@given(some.text() | some.text("0123456789 :,+-WedNovGMT"))
@example("Mon, 01 Jan 0001 00:00:00 +2359")
def test_no_text_breaks_it(text: str) -> None:
    """Whatever a provider writes, it is a wait between nothing and a day, or not understood."""
    seconds = retry_after(text, NOW)
    assert seconds is None or 0.0 <= seconds <= LONGEST


@given(some.integers(0, int(LONGEST)))
def test_never_earlier_than_asked(seconds: int) -> None:
    """As seconds or as a date, within a day the wait is just what was asked for."""
    date = format_datetime(moment(NOW + seconds * SECOND), usegmt=True)
    assert retry_after(str(seconds), NOW) == retry_after(date, NOW) == seconds
