"""Retry-After: seconds or a date (RFC 9110 section 10.2.3)."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from oo_daemon.ports import SECOND, micros

LONGEST = 24 * 3600.0


def retry_after(header: str | None, now: int) -> float | None:
    """Seconds to wait, at most a day; None where the header is missing or makes no sense."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), LONGEST)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        return None
    return min(max((micros(date) - now) / SECOND, 0.0), LONGEST)
