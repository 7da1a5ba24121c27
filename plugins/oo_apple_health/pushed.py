"""Pushes of Health Auto Export: an app on the phone that posts what the Health app has, as JSON, at times of its own.

Each push says whole days again, and the numbers of a day grow until it is over: everything is an upsert, known by what it is, when, of
whom and how it was summed up. A day is known by its date, so that it stays the same one when the phone has moved to another zone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from oo_apple_health.kinds import snake, unit
from oo_apple_health.meaning import STRETCH, identity
from oo_sdk import Change, ConnectorBug, Delivery, Event, Struct, TokenScheme, Unreadable, decode
from oo_sdk.vocabulary import Electrocardiogram, HealthGroup, HealthSample, Record, Route, Timestamp, Workout

#: It signs nothing: a header that the person enters in the app carries the secret.
SCHEME: Final = TokenScheme(
    header="Authorization",
    prefix="Bearer ",
    keep=("automation-aggregation",),
    limit=16 * 1024 * 1024,
    ours=True,
)
#: Deeper than this nobody could read it again: protobuf holds three messages for each level, and readers take 100.
DEEPEST: Final = 30
_DATE: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)[ T](\d{1,2}):(\d\d)(?::(\d\d)(?:\.\d+)?)? ?([AP]M)? ?(Z|[+-]\d\d:?\d\d)", re.IGNORECASE)
#: Members that say when and of whom, and not what was measured.
_FRAME: Final = {"date", "startDate", "endDate", "value", "source", "sleepSource", "inBedSource", "units"}
#: Members of an electrocardiogram that have a field of their own.
_CURVE: Final = {"start", "end", "classification"}
_STARTS, _ENDS = ("startDate", "sleepStart", "inBedStart", "start", "date"), ("endDate", "sleepEnd", "inBedEnd", "end")
_SOURCES: Final = ("source", "sleepSource", "inBedSource")


class Push(Struct):
    """A body; each member of the data is a list, and any may be missing."""

    data: dict[str, Any]


def read(delivery: Delivery) -> list[Event]:
    """What a push says. Raises `Unreadable`."""
    try:
        data = decode(delivery.body, Push).data
    except ConnectorBug:
        raise Unreadable("This is no push of Health Auto Export: set its export format to JSON.") from None
    by = delivery.headers.get("automation-aggregation", "").strip().lower()
    return [event for what, items in data.items() for item in _members(items) for event in _item(what, item, by)]


def _item(what: str, item: Mapping[str, Any], by: str) -> Iterator[Event]:
    match what:
        case "metrics":
            name, units = _text(item, "name"), _text(item, "units")
            for datum in _members(item.get("data")):
                yield _datum(name, units, datum, by)
        case "workouts":
            yield from _workout(item)
        case "ecg" if item.get("voltageMeasurements"):
            yield _electrocardiogram(item)
        case _:
            if _depth(item) > DEEPEST:
                raise Unreadable("The push is nested more deeply than any is.")
            payload = Record()
            payload.fields.update(item)
            start = _time(item, *_STARTS)
            subject = _text(item, "id") or identity(what, str(start), str(_time(item, *_ENDS)), _text(item, "name"), _source(item))
            yield Event(f"pushed.{_named(what)}", subject[:512], Change.UPSERTED, at=start, payload=payload)


def _datum(name: str, units: str, datum: Mapping[str, Any], by: str) -> Event:
    start = _time(datum, *_STARTS)
    end = _time(datum, *_ENDS) or start
    source, category = _source(datum), _text(datum, "value")
    numbers = {key: float(value) for key, value in datum.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    texts = {key: value for key, value in datum.items() if isinstance(value, str) and key not in _FRAME}
    metadata = {key: str(_time(datum, key) or value) for key, value in texts.items()} | ({"aggregation": by} if by else {})
    shared: dict[str, Any] = {"start": _timestamp(start), "end": _timestamp(end), "source": source, "metadata": metadata}
    payload: HealthSample | HealthGroup
    if numbers.keys() <= {"qty"}:
        payload = _sample(name, units, numbers.get("qty"), category=category, **shared)
    else:
        samples = [_sample(snake(key), units, number, source=source) for key, number in sorted(numbers.items())]
        payload = HealthGroup(kind=name, samples=samples, **shared)
    # The date of a day is what the phone calls it; anything shorter is an instant.
    when = _text(datum, "date")[:10] if by.startswith("day") else f"{start} {end}"
    subject = identity("pushed", name, by, when, source, category)
    return Event(f"pushed.{_named(name)}", subject, Change.UPSERTED, at=_time(datum, "date") or start, payload=payload)


def _sample(kind: str, units: str, number: float | None, **more: Any) -> HealthSample:
    # The app writes shares as numbers up to 100, and does not say so.
    known = unit(units) if units != "%" else None
    sample = HealthSample(kind=kind, unit=units, canonical_unit=known.canonical if known else "", **more)
    if number is not None:
        sample.value = number
        if known:
            sample.canonical_value = number * known.factor + known.offset
    return sample


def _workout(item: Mapping[str, Any]) -> Iterator[Event]:
    start, end = _time(item, "start"), _time(item, "end")
    subject = _text(item, "id") or identity("pushed workout", _text(item, "name"), str(start), str(end))
    numbers = {key: value for key, value in item.items() if isinstance(value, dict) and isinstance(value.get("qty"), int | float)}
    workout = Workout(
        kind=_text(item, "name"),
        start=_timestamp(start),
        end=_timestamp(end),
        duration_seconds=_number(item, "duration") or 0.0,
        statistics=[_statistic(snake(key), _text(value, "units"), sum=value["qty"]) for key, value in sorted(numbers.items())],
        metadata={key: value for key, value in item.items() if isinstance(value, str) and key not in {"id", "name", "start", "end"}},
    )
    if beats := [beat for beat in _members(item.get("heartRateData")) if _number(beat, "Avg") is not None]:
        low, high, mean = ([_number(beat, key) or 0.0 for beat in beats] for key in ("Min", "Max", "Avg"))
        given = {"minimum": min(low), "maximum": max(high), "average": sum(mean) / len(mean)}
        workout.statistics.append(_statistic("heart_rate", _text(beats[0], "units") or "count/min", **given))
    for statistic in workout.statistics:
        canonical = statistic.sum * statistic.canonical_factor
        if statistic.kind == "distance" and statistic.canonical_unit == "m":
            workout.distance_m = canonical
        if statistic.kind in {"active_energy_burned", "active_energy"} and statistic.canonical_unit == "kJ":
            workout.energy_kj = canonical
    yield Event("workout", subject[:512], Change.UPSERTED, at=start, payload=workout)
    points = [_point(each) for each in _members(item.get("route"))]
    for part, first in enumerate(range(0, len(points), STRETCH), start=1):
        told = Route(workout=subject[:512], part=part, points=points[first : first + STRETCH])
        yield Event("route", f"{subject[:512]}-{part}", Change.UPSERTED, at=start, payload=told)


def _statistic(kind: str, units: str, **given: float) -> Workout.Statistic:
    known = unit(units)
    whole = known is not None and not known.offset and units != "%"
    factor = {"canonical_unit": known.canonical, "canonical_factor": known.factor} if known and whole else {}
    return Workout.Statistic(kind=kind, unit=units, **given, **factor)  # type: ignore[arg-type]  # texts and numbers in one mapping


def _point(each: Mapping[str, Any]) -> Route.Point:
    return Route.Point(
        latitude=_number(each, "latitude", "lat") or 0.0,
        longitude=_number(each, "longitude", "lon") or 0.0,
        elevation_m=_number(each, "altitude"),
        speed_mps=_number(each, "speed"),
        at=_timestamp(_time(each, "timestamp")),
    )


def _electrocardiogram(item: Mapping[str, Any]) -> Event:
    start = _time(item, "start", "date")
    volts = [each for each in _members(item["voltageMeasurements"]) if _number(each, "voltage") is not None]
    known = unit(_text(volts[0], "units")) if volts else None
    factor = known.factor * 1e6 if known and known.canonical == "V" else 1.0
    told = Electrocardiogram(
        start=_timestamp(start),
        classification=_text(item, "classification"),
        samples_per_second=_number(item, "samplingFrequency") or 0.0,
        microvolts=[(_number(each, "voltage") or 0.0) * factor for each in volts],
        device=_source(item),
        average_heart_rate=_number(item, "averageHeartRate"),
        metadata={key: value for key, value in item.items() if isinstance(value, str) and key not in {*_FRAME, *_CURVE}},
    )
    return Event("electrocardiogram", identity("pushed ecg", str(start), _source(item)), Change.UPSERTED, at=start, payload=told)


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _members(items: Any) -> Sequence[Mapping[str, Any]]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else ()


def _text(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    return value if isinstance(value, str) else ""


def _number(item: Mapping[str, Any], *keys: str) -> float | None:
    return next((float(item[key]) for key in keys if isinstance(item.get(key), int | float)), None)


def _source(item: Mapping[str, Any]) -> str:
    """Who measured it; several are joined, in any order."""
    said = next((_text(item, key) for key in _SOURCES if item.get(key)), "")
    return "|".join(sorted(part.strip() for part in said.split("|")))


def _time(item: Mapping[str, Any], *keys: str) -> datetime | None:
    """The first of these members that is a time. With a clock of twelve hours the app writes a narrow space before AM and PM."""
    for key in keys:
        found = _DATE.fullmatch(_text(item, key).replace("\u202f", " ").strip())
        if found is None:
            continue
        year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
        if found[7]:
            hour = hour % 12 + (12 if found[7].upper() == "PM" else 0)
        try:
            return datetime(year, month, day, hour, minute, second, tzinfo=_zone(found[8])).astimezone(UTC)
        except (ValueError, OverflowError):
            continue
    return None


def _zone(written: str) -> timezone:
    if written in {"Z", "z"}:
        return UTC
    away = timedelta(hours=int(written[1:3]), minutes=int(written[-2:]))
    return timezone(away if written[0] == "+" else -away)


def _timestamp(at: datetime | None) -> Timestamp | None:
    return None if at is None else Timestamp(seconds=int(at.timestamp()))


def _named(what: str) -> str:
    """A name in the spelling of event names."""
    return re.sub(r"[^a-z0-9_]+", "_", snake(what) if not what.islower() else what).strip("_")[:100] or "unknown"
