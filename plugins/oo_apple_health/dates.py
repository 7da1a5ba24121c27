"""Dates as the phone writes them: "2024-11-03 07:30:05 +0100".

The offset is the phone's at the time of the export, the same for a whole file and another in the next: only the instant counts.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_DAY: Final = re.compile(rb"(\d{4})-(\d\d)-(\d\d) ([+-])(\d\d):?(\d\d)")
_TIMES: Final = {b"%02d:%02d" % (hour, minute): hour * 3600 + minute * 60 for hour in range(24) for minute in range(60)}
_SECONDS: Final = {b":%02d " % second: second for second in range(60)}
#: Days that were met lately, each with its offset: neighbours in an export share them.
_days: dict[bytes, int] = {}


def seconds(written: bytes) -> int:
    """Seconds since 1970. Raises `ValueError` for what is no date."""
    try:
        return _days[written[:11] + written[20:]] + _TIMES[written[11:16]] + _SECONDS[written[16:20]]
    except KeyError:
        return _day(written[:11] + written[20:]) + _time(_TIMES, written[11:16]) + _time(_SECONDS, written[16:20])


def _time(known: dict[bytes, int], written: bytes) -> int:
    if written not in known:
        raise ValueError("no time of day")
    return known[written]


def _day(written: bytes) -> int:
    found = _DAY.fullmatch(written)
    if found is None:
        raise ValueError("no date")
    offset = int(found[5]) * 3600 + int(found[6]) * 60
    midnight = datetime(int(found[1]), int(found[2]), int(found[3]), tzinfo=UTC)
    begin = int(midnight.timestamp()) - (offset if found[4] == b"+" else -offset)
    if len(_days) >= 4096:
        _days.clear()
    _days[written] = begin
    return begin
