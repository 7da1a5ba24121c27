"""Todoist's due dates: what it accepts, what it answers, and when a recurring one comes next.

A due is {date, timezone, string, lang, is_recurring}. `date` is a day, a floating time in the user's zone, or a fixed time in UTC
with a Z and a zone. Todoist reads free text in many languages; here a small English part of it is read and the rest refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from oo_todoist.sandbox.refusals import Refusal, invalid, missing

Json = dict[str, Any]

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?Z?")
_AT = re.compile(r"(?P<what>.*?)(?: at (?P<hour>\d{1,2}):(?P<minute>\d{2}))?")
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_UNITS = "|".join(("day", "week", "month", "year", "weekday", "workday", *_WEEKDAYS))
_EVERY = re.compile(rf"every(?P<after>!)? (?:(?P<other>other) |(?P<count>\d{{1,3}}) )?(?P<unit>{_UNITS})s?")
_BY_WEEKDAY = frozenset({"weekday", "workday", *_WEEKDAYS})


def stamp(moment: datetime) -> str:
    """Write a moment as Todoist does: UTC with microseconds and Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read_due(value: object, *, argument: str, today: date, zone: str) -> Json | None:
    """Turn the due that a command gave into the due that is stored.

    `today` and `zone` (an IANA name) are the user's.
    """
    if value is None:
        return None
    if not isinstance(value, dict):
        raise invalid(argument, expected="Input should be a valid dictionary")
    text, given, lang = value.get("string"), value.get("date"), value.get("lang") or "en"
    if (text is not None and not isinstance(text, str)) or not isinstance(lang, str):
        raise invalid(argument, expected="Input should be a valid string")
    recurring = text is not None and re.match(r"every\b", text.strip().lower()) is not None
    if given is not None:
        at = _checked(given, argument)
        fixed = at.endswith("Z")
        return {
            "date": at,
            "timezone": (value.get("timezone") or zone) if fixed else None,
            "string": text or at,
            "lang": lang,
            "is_recurring": recurring,
        }
    if text is None:
        raise missing(f"{argument}.date")
    if text.strip().lower() in {"", "no date", "no due date"}:
        return None
    at = _words(text, today, argument)
    return {"date": at, "timezone": None, "string": text, "lang": lang, "is_recurring": recurring}


def read_deadline(value: object, *, argument: str) -> Json | None:
    """Turn the deadline that a command gave into the one that is stored: {date, lang}, whole days only."""
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("date"), str) or not _DAY.fullmatch(value["date"]):
        raise invalid(argument, expected="Input should be a date in YYYY-MM-DD format")
    return {"date": _checked(value["date"], argument), "lang": value.get("lang") or "en"}


def next_due(due: Json, today: date) -> Json:
    """Move a recurring due to its next day after today, keeping its time of day."""
    day, rest = due["date"][:10], due["date"][10:]
    what = _AT.fullmatch(due["string"].strip().lower())
    assert what is not None
    return {**due, "date": _following(date.fromisoformat(day), what["what"], today).isoformat() + rest}


def _checked(given: object, argument: str) -> str:
    refused = invalid(argument, expected="Input should be a date in YYYY-MM-DD, YYYY-MM-DDTHH:MM:SS or YYYY-MM-DDTHH:MM:SSZ format")
    if not isinstance(given, str) or not (_DAY.fullmatch(given) or _TIME.fullmatch(given)):
        raise refused
    try:
        datetime.fromisoformat(given)
    except ValueError:
        raise refused from None
    return given


def _words(text: str, today: date, argument: str) -> str:
    refused = invalid(argument, explanation=f"The sandbox does not read the due date {text!r}")
    split = _AT.fullmatch(text.strip().lower())
    assert split is not None
    what = split["what"]
    try:
        day = _named(what, today, refused)
        clock = f"T{time(int(split['hour']), int(split['minute'])).isoformat()}" if split["hour"] else ""
    except ValueError:
        raise refused from None
    return day.isoformat() + clock


def _named(what: str, today: date, refused: Refusal) -> date:
    if what in {"today", "tomorrow"}:
        return today + timedelta(days=what == "tomorrow")
    if what in _WEEKDAYS:
        return _next_day(today, lambda day: _WEEKDAYS[day.weekday()] == what)
    if _DAY.fullmatch(what):
        return date.fromisoformat(what)
    if rule := _EVERY.fullmatch(what):
        # "every day" is due today already; "every monday" on the next Monday, which may be today.
        return _following(today - timedelta(days=1), what, today - timedelta(days=1)) if rule["unit"] in _BY_WEEKDAY else today
    raise refused


def _next_day(after: date, fits: Callable[[date], bool]) -> date:
    day = after + timedelta(days=1)
    while not fits(day):
        day += timedelta(days=1)
    return day


def _following(start: date, rule: str, today: date) -> date:
    """Give the first day after `today` that the rule reaches from `start`; "every!" counts from today instead."""
    read = _EVERY.fullmatch(rule)
    unit = read["unit"] if read else "day"
    count = 1 if read is None else 2 if read["other"] else max(1, int(read["count"] or 1))
    anchor = today if read and read["after"] else start
    if unit in _BY_WEEKDAY:
        fits: Callable[[date], bool] = (
            (lambda day: day.weekday() < 5) if unit in {"weekday", "workday"} else (lambda day: _WEEKDAYS[day.weekday()] == unit)
        )
        return _next_day(max(anchor, today), fits)
    steps = 1
    while (day := _step(anchor, unit, steps * count)) <= today:
        steps += 1
    return day


def _step(anchor: date, unit: str, count: int) -> date:
    if unit in {"month", "year"}:
        months = anchor.month - 1 + count * (12 if unit == "year" else 1)
        year, month = anchor.year + months // 12, months % 12 + 1
        last = (date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)).day
        return date(year, month, min(anchor.day, last))
    return anchor + timedelta(days=count * (7 if unit == "week" else 1))
