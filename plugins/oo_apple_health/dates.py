"""Dates as the phone writes them: "2024-11-03 07:30:05 +0100".

The offset is the phone's at the time of the export, the same for a whole file and another in the next: only the instant counts.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_DATE: Final = re.compile(rb"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d) ([+-])(\d\d):?(\d\d)")
#: The parts of dates that were met lately, in seconds: neighbours in an export share them.
_days: dict[bytes, int] = {}
_minutes: dict[bytes, int] = {}
_rest: dict[bytes, int] = {}


def seconds(written: bytes) -> int:
    """Seconds since 1970. Raises `ValueError` for what is no date."""
    try:
        return _days[written[:11]] + _minutes[written[11:16]] + _rest[written[16:]]
    except KeyError:
        return _learn(written)


def _learn(written: bytes) -> int:
    found = _DATE.fullmatch(written)
    if found is None:
        raise ValueError("no date")
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    offset = int(found[8]) * 3600 + int(found[9]) * 60
    begin = int(datetime(year, month, day, tzinfo=UTC).timestamp())
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError("no time of day")
    if len(_days) >= 4096:
        _days.clear()
    if len(_rest) >= 4096:
        _rest.clear()
    _days[written[:11]] = begin
    _minutes[written[11:16]] = hour * 3600 + minute * 60
    _rest[written[16:]] = second - (offset if found[7] == b"+" else -offset)
    return seconds(written)
