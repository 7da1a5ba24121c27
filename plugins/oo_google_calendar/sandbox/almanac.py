"""When a series takes place: RFC 5545's rules, as far as calendars use them, expanded in the zone of the start.

A wall-clock time that a zone leaves out is moved on, one that it has twice is the first.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_MEMBERS = {"FREQ", "INTERVAL", "COUNT", "UNTIL", "BYDAY", "BYMONTHDAY", "BYMONTH", "WKST"}
#: An unbounded series is expanded as far as this.
HORIZON = timedelta(days=2 * 366)


class Unruly(ValueError):
    """A line that is no rule, or one of a kind that is not known here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One RRULE."""

    freq: str
    interval: int = 1
    count: int | None = None
    until: str = ""
    days: tuple[tuple[int, int], ...] = ()  #: (which of the period, 0 for all; weekday)
    month_days: tuple[int, ...] = ()
    months: tuple[int, ...] = ()
    first_day: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What the lines of a recurrence say."""

    rules: tuple[Rule, ...] = ()
    more: tuple[str, ...] = ()  #: RDATE, as written
    fewer: tuple[str, ...] = field(default=())  #: EXDATE, as written


def read(lines: Sequence[str]) -> Series:
    """Read the lines. Raises `Unruly`."""
    rules: list[Rule] = []
    dates: dict[str, list[str]] = {"RDATE": [], "EXDATE": []}
    for line in lines:
        head, colon, value = line.partition(":")
        name = head.partition(";")[0].upper()
        if not colon or name not in {"RRULE", *dates}:
            raise Unruly(line)
        if name == "RRULE":
            rules.append(_rule(value))
        else:
            dates[name] += value.split(",")
    return Series(rules=tuple(rules), more=tuple(dates["RDATE"]), fewer=tuple(dates["EXDATE"]))


def _rule(text: str) -> Rule:
    parts = dict(part.partition("=")[::2] for part in text.upper().split(";") if part)
    if not parts.keys() <= _MEMBERS or parts.get("FREQ") not in {"DAILY", "WEEKLY", "MONTHLY", "YEARLY"}:
        raise Unruly(text)
    try:
        return Rule(
            freq=parts["FREQ"],
            interval=int(parts.get("INTERVAL", "1")),
            count=int(parts["COUNT"]) if "COUNT" in parts else None,
            until=parts.get("UNTIL", ""),
            days=tuple(_day(day) for day in parts.get("BYDAY", "").split(",") if day),
            month_days=tuple(int(day) for day in parts.get("BYMONTHDAY", "").split(",") if day),
            months=tuple(int(month) for month in parts.get("BYMONTH", "").split(",") if month),
            first_day=DAYS.index(parts.get("WKST", "MO")),
        )
    except (ValueError, TypeError):
        raise Unruly(text) from None


def _day(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)", text)
    if found is None:
        raise Unruly(text)
    return int(found[1] or 0), DAYS.index(found[2])


def occurrences(lines: Sequence[str], start: dict[str, Any], until: datetime) -> Iterator[str]:
    """Give the starts of a series in order: days as "20260101", instants as "20260101T090000Z", up to a moment or the horizon."""
    series = read(lines)
    zone = ZoneInfo(start.get("timeZone") or "UTC")
    all_day = "date" in start
    if all_day:
        first = datetime.combine(date.fromisoformat(start["date"]), datetime.min.time())
    else:
        first = datetime.fromisoformat(start["dateTime"]).astimezone(zone).replace(tzinfo=None)

    def stamp(wall: datetime) -> str:
        return f"{wall:%Y%m%d}" if all_day else f"{wall.replace(tzinfo=zone).astimezone(UTC):%Y%m%dT%H%M%SZ}"

    last = until.astimezone(zone).replace(tzinfo=None)
    fewer = {_stamp(text, zone, all_day) for text in series.fewer}
    told = {_stamp(text, zone, all_day) for text in series.more}
    for rule in series.rules:
        ends = _until(rule.until, all_day)
        for number, wall in enumerate(_walls(rule, first, last)):
            written = stamp(wall)
            if (rule.count is not None and number >= rule.count) or (ends and written > ends):
                break
            told.add(written)
    told.add(stamp(first))
    yield from (each for each in sorted(told - fewer) if each <= stamp(last))


def _until(text: str, all_day: bool) -> str:
    """Write an UNTIL as stamps are written; a day given for instants counts to its end."""
    if not text:
        return ""
    return text[:8] if all_day else text if "T" in text else f"{text}T235959Z"


def _stamp(text: str, zone: ZoneInfo, all_day: bool) -> str:
    if all_day:
        return text[:8]
    wall = datetime.strptime(text.rstrip("Z"), "%Y%m%dT%H%M%S" if "T" in text else "%Y%m%d")  # noqa: DTZ007 - it gets its zone below
    return f"{wall.replace(tzinfo=UTC if text.endswith('Z') else zone).astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _walls(rule: Rule, first: datetime, last: datetime) -> Iterator[datetime]:
    """Give the wall-clock starts by one rule, from the first on."""
    for day in _days(rule, first.date(), min(last, first + HORIZON if rule.count is None and not rule.until else last).date()):
        if day >= first.date():
            yield datetime.combine(day, first.time())


def _days(rule: Rule, first: date, last: date) -> Iterator[date]:
    step = max(1, rule.interval)
    match rule.freq:
        case "DAILY":
            day = first
            while day <= last:
                if (not rule.days or any(day.weekday() == weekday for _, weekday in rule.days)) and _fits(rule, day):
                    yield day
                day += timedelta(days=step)
        case "WEEKLY":
            week = first - timedelta(days=(first.weekday() - rule.first_day) % 7)
            weekdays = {weekday for _, weekday in rule.days} or {first.weekday()}
            while week <= last:
                for day in (week + timedelta(days=offset) for offset in range(7)):
                    if day.weekday() in weekdays and _fits(rule, day):
                        yield day
                week += timedelta(weeks=step)
        case _:
            yield from _months(rule, first, last, step)


def _months(rule: Rule, first: date, last: date, step: int) -> Iterator[date]:
    year, month = first.year, first.month
    by_year = rule.freq == "YEARLY"
    while date(year, month, 1) <= last:
        for number in rule.months or (month,) if by_year else (month,):
            if by_year or not rule.months or number in rule.months:
                yield from _in_month(rule, first, year, number)
        if by_year:
            year += step
        else:
            year, month = year + (month - 1 + step) // 12, (month - 1 + step) % 12 + 1


def _in_month(rule: Rule, first: date, year: int, month: int) -> Iterator[date]:
    size = monthrange(year, month)[1]
    if rule.month_days:
        numbers = {day if day > 0 else size + 1 + day for day in rule.month_days}
    elif rule.days:
        numbers = set()
        for which, weekday in rule.days:
            every = [day for day in range(1, size + 1) if date(year, month, day).weekday() == weekday]
            numbers |= set(every if which == 0 else every[which - 1 : which] if which > 0 else every[which : which + 1 or None])
    else:
        numbers = {first.day}
    yield from (date(year, month, day) for day in sorted(numbers) if 1 <= day <= size)


def _fits(rule: Rule, day: date) -> bool:
    size = monthrange(day.year, day.month)[1]
    days = {number if number > 0 else size + 1 + number for number in rule.month_days}
    return (not rule.months or day.month in rule.months) and (not days or day.day in days)
