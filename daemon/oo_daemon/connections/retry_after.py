"""Retry-After: seconds or a date (RFC 9110 section 10.2.3)."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

from oo_daemon.ports import SECOND, micros

LONGEST = 24 * 3600.0


def retry_after(header: str | None, now: int) -> float | None:
    """Seconds to wait, at most a day; None where the header is missing or makes no sense."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST)
    try:
        date = parsedate_to_datetime(text)
        # A date without a zone is in UTC: one of the three forms of RFC 9110 section 5.6.7 has none.
        at = micros(date if date.tzinfo else date.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None
    return min(max((at - now) / SECOND, 0.0), LONGEST)
