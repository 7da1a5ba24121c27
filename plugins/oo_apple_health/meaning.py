"""What an export's entries mean in the common vocabulary.

Identity is the same in every export of the same thing: the sync identifier where the app that wrote it gave one, else what was measured
by whom and when, in UTC and in the canonical unit. It leaves out what differs from one export to the next: the device's pointer, the
offset of the dates, the order of attributes. Two entries that are equal in all of that are one.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from oo_apple_health.archive import Export
from oo_apple_health.dates import seconds
from oo_apple_health.kinds import Unit, name, snake, unit
from oo_apple_health.records import ENTRY, HEAD_OF, Element, Row, text
from oo_apple_health.routes import points
from oo_sdk import Change, Event, Occurrences, Told
from oo_sdk.vocabulary import ActivitySummary, HealthGroup, HealthSample, Record, Route, Timestamp, Workout

#: Marks of an identity that the app which wrote a sample gave it.
TIES: Final = (b"HKMetadataKeySync", b"HKExternalUUID")
ZONE: Final = "HKTimeZone"
#: Points in one event: an event has at most 1 MiB.
STRETCH: Final = 10_000
_POINTER: Final = re.compile(r"<?<HKDevice: 0x[0-9a-f]+>,? ?", re.IGNORECASE)
_FEATURE: Final = re.compile(r"(name|hardware):([^,>]*(?:,\d+)?)")
_DISTANCES: Final = "HKQuantityTypeIdentifierDistance"
_BEGIN: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ENERGY: Final = "HKQuantityTypeIdentifierActiveEnergyBurned"


class _Odd(ValueError):
    """A date or a number of an entry cannot be one."""


@dataclass(slots=True)
class Head:
    """What many samples share: the kind, the source, the device and the unit."""

    name: str
    unit: Unit | None
    identity: blake2b  #: of what the identity is made of; a copy takes what each sample adds
    sample: HealthSample  #: filled anew for each
    start: Timestamp = field(init=False)
    end: Timestamp = field(init=False)
    metadata: bytes = b""  #: that it is filled with

    def __post_init__(self) -> None:
        self.start, self.end = self.sample.start, self.sample.end


#: One sample: its head, start, end, what was measured or which category it is, and metadata as in the file.
Sample = tuple[Head, int, int, float | str | None, bytes]


@dataclass(slots=True)
class Meaning:
    """Reads entries in the order of the file."""

    export: Export
    _heads: dict[bytes, Head] = field(default_factory=dict)

    def rows(self, rows: Sequence[Row]) -> Iterator[Told]:
        """Samples, in runs of one name; one that cannot be is passed on as it is. Raises `Unreadable`."""
        heads, (one, other) = self._heads, TIES
        run: list[tuple[str, int, Sample]] = []
        current = ""
        for row in rows:
            _, said, began, ended, value, metadata = row
            head = heads.get(said) or self._head(said)
            if head.name != current:
                if run:
                    yield Occurrences(current, run, payload)
                    run = []
                current = head.name
            try:
                try:
                    start = seconds(began)
                    end = start if ended == began else seconds(ended)
                except (ValueError, OverflowError):
                    start, end = _instant(began), _instant(ended)
                measured: float | str | None = None
                own = b"%d %d " % (start, end)
                if value:
                    if head.sample.unit:
                        measured = _number(value)
                        own += b"%.6g" % (measured * head.unit.factor + head.unit.offset) if head.unit else text(value).encode()
                    else:
                        measured = text(value)
                        own += measured.encode()
            except _Odd:
                yield _other("Record", _element(row))
                continue
            if metadata and (one in metadata or other in metadata):
                event = self._tied(head, start, end, measured, metadata)
                if event is not None:
                    yield event
                    continue
            digest = head.identity.copy()
            digest.update(own)
            run.append((digest.hexdigest(), start, (head, start, end, measured, metadata)))
        if run:
            yield Occurrences(current, run, payload)

    def element(self, element: Element) -> Iterator[Told]:
        """Whatever is no plain record; one that cannot be is passed on as it is. Raises `Unreadable`."""
        try:
            yield from self._element(element)
        except _Odd:
            yield _other(element.tag, element, named="unknown")

    def _element(self, element: Element) -> Iterator[Told]:
        match element.tag:
            case "Record":
                yield from self._record(element)
            case "Correlation":
                yield from self._group(element)
            case "Workout":
                yield from self._workout(element)
            case "ActivitySummary":
                yield _summary(element)
            case "ExportDate" | "Me":
                pass  # the birth date, the sex and the blood type are the person's own: never kept
            case tag:
                yield _other(tag, element)

    def _head(self, said: bytes) -> Head:
        found = HEAD_OF.fullmatch(said)
        assert found is not None
        kind, by, of, measure = map(text, found.groups(b""))
        known = unit(measure) if measure else None
        sample = HealthSample(kind=kind, unit=measure, source=by, device=device_name(of), canonical_unit=known.canonical if known else "")
        begun = blake2b(_key("sample", kind, by, known.canonical if known else measure), digest_size=12)
        if len(self._heads) >= 4096:
            self._heads.clear()
        head = self._heads[said] = Head(name(kind), known, begun, sample)
        return head

    def _tied(self, head: Head, start: int, end: int, measured: float | str | None, metadata: bytes) -> Event | None:
        """A sample with an identity of its own, whose later versions replace the earlier ones; None where that has no identifier."""
        entries = _entries(metadata)
        given = entries.get("HKMetadataKeySyncIdentifier") or entries.get("HKExternalUUID")
        if not given:
            return None
        version = entries.get("HKMetadataKeySyncVersion", "")
        order = int(version) if version.isascii() and version.isdigit() and len(version) < 19 else None
        sample = HealthSample()
        sample.CopyFrom(payload((head, start, end, measured, metadata)))
        return Event(
            head.name,
            f"sync-{identity('tied', sample.kind, _same(sample.source), given)}",
            Change.UPSERTED,
            at=_moment(start),
            payload=sample,
            version=version,
            order=order,
        )

    def _record(self, element: Element) -> Iterator[Told]:
        row, beats = _row(element), [beat for series in element.all("HeartRateVariabilityMetadataList") for beat in series.children]
        for told in self.rows([row]):
            if isinstance(told, Occurrences) and beats:
                yield Occurrences(told.name, told.rows, lambda sample: _with_beats(sample, beats))
            elif isinstance(told, Event) and beats:
                sample = told.payload
                assert isinstance(sample, HealthSample)
                sample.beats.extend(_beats(beats))
                yield told
            else:
                yield told

    def _sample(self, record: Element) -> HealthSample:
        (told,) = self.rows([_row(record)])
        sample = told.payload(told.rows[0][2]) if isinstance(told, Occurrences) else told.payload if isinstance(told, Event) else None
        if not isinstance(sample, HealthSample):
            raise _Odd
        return sample

    def _group(self, element: Element) -> Iterator[Told]:
        """A correlation. Its records mostly stand by themselves, too, and then are the same."""
        records = list(element.all("Record"))
        for record in records:
            yield from self._record(record)
        start, end = _span(element)
        kind, source = element.get("type"), element.get("sourceName")
        samples = []
        for record in records:
            sample = HealthSample()
            sample.CopyFrom(self._sample(record))
            samples.append(sample)
        samples.sort(key=lambda sample: (sample.kind, sample.start.seconds))
        group = HealthGroup(
            kind=kind,
            start=_timestamp(start),
            end=_timestamp(end),
            source=source,
            device=device_name(element.get("device")),
            samples=samples,
            metadata=_metadata(element),
        )
        named = name(kind)
        given = group.metadata.get("HKMetadataKeySyncIdentifier") or group.metadata.get("HKExternalUUID")
        members = "" if given else " ".join(sample.kind for sample in samples)
        subject = identity("group", kind, _same(source), given or f"{start} {end}", members)
        yield Event("group" if named == "unknown" else named, subject, Change.UPSERTED, at=_moment(start), payload=group)

    def _workout(self, element: Element) -> Iterator[Told]:
        start, end = _span(element)
        kind, source, metadata = element.get("workoutActivityType"), element.get("sourceName"), _metadata(element)
        subject = identity("workout", kind, _same(source), str(start), str(end))
        workout = Workout(
            kind=kind,
            start=_timestamp(start),
            end=_timestamp(end),
            duration_seconds=_duration(element, end - start),
            source=source,
            statistics=_statistics(element),
            moments=_moments(element),
            parts=[_part(part) for part in element.all("WorkoutActivity")],
            device=device_name(element.get("device")),
            time_zone=metadata.get(ZONE, ""),
            metadata=metadata,
        )
        distance = _total(workout, _DISTANCES, element, "totalDistance", "m")
        if distance is not None:
            workout.distance_m = distance
        energy = _total(workout, _ENERGY, element, "totalEnergyBurned", "kJ")
        if energy is not None:
            workout.energy_kj = energy
        yield Event("workout", subject, Change.UPSERTED, at=_moment(start), payload=workout)
        part = 0
        for route in element.all("WorkoutRoute"):
            for stretch in self._stretches(route):
                part += 1
                told = Route(workout=subject, part=part, points=stretch)
                yield Event("route", f"{subject}-{part}", Change.UPSERTED, at=_moment(start), payload=told)

    def _stretches(self, route: Element) -> Iterator[Sequence[Route.Point]]:
        places = [_place(location) for location in route.all("Location")]  # as old exports have them
        for file in route.all("FileReference"):
            places.extend(points(self.export.part(file.get("path"))))
        for first in range(0, len(places), STRETCH):
            yield places[first : first + STRETCH]


def payload(sample: Sample) -> HealthSample:
    """The payload of one sample; the message is filled anew for the next."""
    head, start, end, measured, metadata = sample
    filled = head.sample
    head.start.seconds = start
    head.end.seconds = end
    if measured is None:
        for name_ in ("value", "canonical_value", "category"):
            filled.ClearField(name_)
    elif isinstance(measured, float):
        filled.value = measured
        if head.unit is not None:
            filled.canonical_value = measured * head.unit.factor + head.unit.offset
    else:
        filled.category = measured
    if metadata != head.metadata:
        filled.ClearField("metadata")
        filled.metadata.update(_entries(metadata))
        filled.time_zone = filled.metadata.get(ZONE, "")
        head.metadata = metadata
    return filled


def _with_beats(sample: Sample, beats: Iterable[Element]) -> HealthSample:
    whole = HealthSample()
    whole.CopyFrom(payload(sample))
    whole.beats.extend(_beats(beats))
    return whole


def _beats(beats: Iterable[Element]) -> list[HealthSample.Beat]:
    return [HealthSample.Beat(beats_per_minute=_given(beat, "bpm") or 0.0, clock=beat.get("time")) for beat in beats]


def _summary(element: Element) -> Event:
    day = element.get("dateComponents")
    measure = unit(element.get("activeEnergyBurnedUnit"))
    kj = measure.factor if measure is not None and measure.canonical == "kJ" else None
    energy, goal = _given(element, "activeEnergyBurned"), _given(element, "activeEnergyBurnedGoal")
    moved = (element.get("appleMoveTime") and "appleMoveTime") or "appleMoveMinutes"
    summary = ActivitySummary(
        date=day,
        energy_kj=None if kj is None or energy is None else energy * kj,
        energy_goal_kj=None if kj is None or goal is None else goal * kj,
        move_minutes=_given(element, moved),
        move_goal_minutes=_given(element, f"{moved}Goal"),
        exercise_minutes=_given(element, "appleExerciseTime"),
        exercise_goal_minutes=_given(element, "appleExerciseTimeGoal"),
        stand_hours=_given(element, "appleStandHours"),
        stand_goal_hours=_given(element, "appleStandHoursGoal"),
    )
    return Event("activity_summary", day or "unknown", Change.UPSERTED, payload=summary)


_RECORDS: Final = {
    "Audiogram": "audiogram",
    "VisionPrescription": "vision_prescription",
    "ClinicalRecord": "clinical_record",
    "StateOfMind": "state_of_mind",
}


def _other(tag: str, element: Element, *, named: str = "") -> Event:
    """Audiograms, prescriptions, clinical records, states of mind, what is not known, and what cannot be: all its members, as they came."""
    named = named or _RECORDS.get(tag, "unknown")
    record = Record()
    record.fields.update({"element": tag, **_plain(element)})
    written = next((element.get(name) for name in ("startDate", "dateIssued", "receivedDate", "date") if element.get(name)), "")
    try:
        at = _moment(seconds(written.encode()))
    except (ValueError, OverflowError):
        at = None
    subject = element.get("identifier") or identity(tag, _flat(element))
    return Event(named, subject[:512], Change.UPSERTED if named == "clinical_record" else Change.OCCURRED, at=at, payload=record)


def _plain(element: Element) -> dict[str, Any]:
    fields: dict[str, Any] = {
        snake(key): device_name(value) if key == "device" else value for key, value in element.attributes.items() if key != "creationDate"
    }
    for child in element.children:
        inside = fields.setdefault(snake(child.tag), [])
        if isinstance(inside, list):
            inside.append(_plain(child))
    return fields


def _flat(element: Element) -> str:
    """All that an element says, with the instants in UTC and without what differs between exports."""
    parts = [element.tag]
    for key, value in sorted(element.attributes.items()):
        if key in {"device", "creationDate", "sourceVersion"}:
            continue
        try:
            value = str(seconds(value.encode()))
        except (ValueError, OverflowError):
            value = _same(value)
        parts.append(f"{key}={value}")
    return "\0".join([*parts, *sorted(map(_flat, element.children))])


def _statistics(element: Element) -> list[Workout.Statistic]:
    found = []
    for given in element.all("WorkoutStatistics"):
        measure = unit(given.get("unit"))
        whole = measure is not None and not measure.offset
        found.append(
            Workout.Statistic(
                kind=given.get("type"),
                unit=given.get("unit"),
                sum=_given(given, "sum"),
                average=_given(given, "average"),
                minimum=_given(given, "minimum"),
                maximum=_given(given, "maximum"),
                canonical_unit=measure.canonical if measure and whole else "",
                canonical_factor=measure.factor if measure and whole else 0.0,
            )
        )
    return sorted(found, key=lambda statistic: statistic.kind)


def _total(workout: Workout, kind: str, element: Element, attribute: str, canonical: str) -> float | None:
    """A total of the whole: from the statistics, where newer phones have it, else from the attribute of the older ones."""
    for statistic in workout.statistics:
        if statistic.kind.startswith(kind) and statistic.HasField("sum") and statistic.canonical_unit == canonical:
            return statistic.sum * statistic.canonical_factor
    number, measure = _given(element, attribute), unit(element.get(f"{attribute}Unit"))
    if number is None or measure is None or measure.canonical != canonical:
        return None
    return number * measure.factor


def _moments(element: Element) -> list[Workout.Moment]:
    found = []
    for event in element.all("WorkoutEvent"):
        at = _seconds(event.get("date"))
        found.append(Workout.Moment(kind=event.get("type"), at=_timestamp(at), duration_seconds=_duration(event, 0)))
    return found


def _part(element: Element) -> Workout.Part:
    start = _seconds(element.get("startDate"))
    end = _seconds(element.get("endDate")) if element.get("endDate") else start
    return Workout.Part(
        id=element.get("uuid"),
        start=_timestamp(start),
        end=_timestamp(end),
        duration_seconds=_duration(element, end - start),
        statistics=_statistics(element),
        moments=_moments(element),
        metadata=_metadata(element),
    )


def _place(location: Element) -> Route.Point:
    return Route.Point(
        latitude=_given(location, "latitude") or 0.0,
        longitude=_given(location, "longitude") or 0.0,
        elevation_m=_given(location, "altitude"),
        at=_timestamp(_seconds(location.get("date"))),
        speed_mps=_given(location, "speed"),
    )


def _duration(element: Element, otherwise: int) -> float:
    number, measure = _given(element, "duration"), unit(element.get("durationUnit") or "min")
    return float(otherwise) if number is None or measure is None else number * measure.factor


def _row(element: Element) -> Row:
    """An element as the fast way would have read it."""

    def given(key: str) -> bytes:
        return _escaped(element.get(key))

    said = b'type="%b" sourceName="%b" device="%b" unit="%b"' % tuple(map(given, ("type", "sourceName", "device", "unit")))
    entries = b"".join(
        b'<MetadataEntry key="%b" value="%b"/>' % (_escaped(entry.get("key")), _escaped(entry.get("value")))
        for entry in element.all("MetadataEntry")
    )
    return b"", said, given("startDate"), given("endDate"), given("value"), entries


def _element(row: Row) -> Element:
    """The other way round."""
    _, said, began, ended, value, metadata = row
    found = HEAD_OF.fullmatch(said)
    assert found is not None
    names = ("type", "sourceName", "device", "unit", "startDate", "endDate", "value")
    given = zip(names, (*found.groups(b""), began, ended, value), strict=True)
    entries = [Element("MetadataEntry", {"key": key, "value": entry}) for key, entry in _entries(metadata).items()]
    return Element("Record", {name: text(raw) for name, raw in given if raw}, entries)


def _escaped(value: str) -> bytes:
    return value.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;").encode()


def _entries(metadata: bytes) -> dict[str, str]:
    return {text(key): text(value) for key, value in ENTRY.findall(metadata)}


def _metadata(element: Element) -> dict[str, str]:
    return {entry.get("key"): entry.get("value") for entry in element.all("MetadataEntry")}


@lru_cache(maxsize=1024)
def device_name(written: str) -> str:
    """What measured it, without the pointer and the versions that differ from export to export.

    >>> device_name("<<HKDevice: 0xc937f6fa0>, name:Apple Watch, manufacturer:Apple Inc., hardware:Watch7,2, software:11.6.1>")
    'Apple Watch, Watch7,2'
    """
    features = dict(_FEATURE.findall(written))
    return ", ".join(features[part].strip() for part in ("name", "hardware") if part in features) or _POINTER.sub("", written)


def _number(value: bytes) -> float:
    try:
        number = float(value)
    except ValueError:
        try:
            number = float(text(value))
        except ValueError:
            raise _Odd from None
    if not math.isfinite(number):
        raise _Odd
    return number


def _instant(written: bytes) -> int:
    """A date that is not quite as the phone writes it: with references in it, or as ISO 8601 has it."""
    return _seconds(text(written))


def _given(element: Element, attribute: str) -> float | None:
    value = element.attributes.get(attribute)
    return _number(value.encode()) if value else None


def _seconds(written: str) -> int:
    try:
        return seconds(written.encode())
    except (ValueError, OverflowError):
        pass
    try:
        date = datetime.fromisoformat(written)
    except ValueError:
        raise _Odd from None
    if date.tzinfo is None:
        raise _Odd  # nobody knows which instant that is
    return (date - _BEGIN) // timedelta(seconds=1)


def _span(element: Element) -> tuple[int, int]:
    return _seconds(element.get("startDate")), _seconds(element.get("endDate"))


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _timestamp(at: int) -> Timestamp:
    return Timestamp(seconds=at)


def _same(written: str) -> str:
    return unicodedata.normalize("NFC", written)


def _key(what: str, *parts: str) -> bytes:
    return "\0".join([what, *map(_same, parts), ""]).encode()


def identity(what: str, *parts: str) -> str:
    """The same for the same parts."""
    return blake2b("\0".join([what, *parts]).encode(), digest_size=12).hexdigest()
