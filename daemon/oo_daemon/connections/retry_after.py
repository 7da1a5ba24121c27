"""How long a provider asks us to wait: Retry-After, in seconds or as a date (RFC 9110 section 10.2.3), or when its limit is reset."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from oo_daemon.ports import SECOND, micros

LONGEST = 24 * 3600.0
#: Where providers say how much is left, and when there is more: seconds from now, or a time since 1970.
_LIMITS = (
    ("ratelimit-remaining", "ratelimit-reset"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("x-rate-limit-remaining", "x-rate-limit-reset"),
)
#: A larger number is a time since 1970, not a wait.
_TIME = 1_000_000_000


def asked_wait(headers: Mapping[str, str], now: int) -> float | None:
    """Seconds to wait, at most a day, by whichever header asks for the longest; None where none does.

    A reset counts only where it is said that nothing is left.
    """
    waits = [retry_after(headers.get("retry-after"), now)]
    waits += [_reset(headers[reset], now) for left, reset in _LIMITS if reset in headers and headers.get(left, "").strip() == "0"]
    return max((wait for wait in waits if wait is not None), default=None)


def _reset(text: str, now: int) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return retry_after(text, now)
    wait = value - now / SECOND if value >= _TIME else value
    return min(max(wait, 0.0), LONGEST) if wait == wait else None


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
