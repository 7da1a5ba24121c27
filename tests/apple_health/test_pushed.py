"""Pushes of Health Auto Export: each shape that it sends, and that saying it again changes only what changed."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from oo_apple_health import AppleHealth

from oo_sdk import Change, Delivery, Event, Unreadable
from oo_sdk.vocabulary import Electrocardiogram, HealthGroup, HealthSample, Record, Route, Workout

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


async def pushed(data: Any, by: str = "Days") -> list[Event]:
    headers = {"automation-aggregation": by} if by else {}
    body = json.dumps(data if isinstance(data, list) else {"data": data}).encode()
    return [
        event
        for event in await AppleHealth().read(Delivery(id="d", headers=headers, body=body, received_at=NOW))
        if isinstance(event, Event)
    ]


def metric(name: str, units: str, *data: dict[str, Any]) -> dict[str, Any]:
    return {"metrics": [{"name": name, "units": units, "data": list(data)}]}


async def only(data: Any, by: str = "Days") -> Any:
    (event,) = await pushed(data, by)
    return event


async def test_a_day_is_one_thing_whatever_comes_of_it() -> None:
    """Its number grows, the phone is in another zone, its sources come in another order: the same subject, upserted."""
    early = await only(metric("step_count", "count", {"date": "2024-02-06 00:00:00 -0800", "qty": 10, "source": "Watch|iPhone"}))
    late = await only(metric("step_count", "count", {"date": "2024-02-06 00:00:00 +0100", "qty": 900, "source": "iPhone|Watch"}))
    assert (early.name, early.change, early.at) == ("pushed.step_count", Change.UPSERTED, datetime(2024, 2, 6, 8, tzinfo=UTC))
    assert late.subject == early.subject
    assert isinstance(late.payload, HealthSample)
    assert (late.payload.value, late.payload.unit, late.payload.source, late.payload.metadata["aggregation"]) == (
        900,
        "count",
        "Watch|iPhone",
        "days",
    )
    others = [
        metric("step_count", "count", {"date": "2024-02-07 00:00:00 -0800", "qty": 10, "source": "Watch|iPhone"}),
        metric("step_count", "count", {"date": "2024-02-06 00:00:00 -0800", "qty": 10, "source": "Watch"}),
        metric("flights_climbed", "count", {"date": "2024-02-06 00:00:00 -0800", "qty": 10, "source": "Watch|iPhone"}),
    ]
    subjects = {early.subject, (await only(others[0], "Hours")).subject, *[(await only(each)).subject for each in others]}
    assert len(subjects) == 5


@pytest.mark.parametrize(
    "written",
    ["2024-02-06 14:30:05 -0800", "2024-02-06 2:30:05 PM -0800", "2024-02-06 2:30:05\u202fPM -0800", "2024-02-06T22:30:05Z"],
)
async def test_times_as_the_app_writes_them(written: str) -> None:
    """With either clock, and with a narrow space before PM: shorter than a day, an instant is known by itself."""
    event = await only(metric("heart_rate", "count/min", {"date": written, "Min": 50, "Avg": 61.5, "Max": 90, "source": "Watch"}), "Hours")
    assert event.at == datetime(2024, 2, 6, 22, 30, 5, tzinfo=UTC)
    again = metric("heart_rate", "count/min", {"date": "2024-02-06 23:30:05 +0100", "Min": 1, "Avg": 1, "Max": 1, "source": "Watch"})
    assert event.subject == (await only(again, "Hours")).subject
    assert isinstance(event.payload, HealthGroup)
    assert [(each.kind, each.value, each.canonical_unit) for each in event.payload.samples] == [
        ("avg", 61.5, "count/min"),
        ("max", 90, "count/min"),
        ("min", 50, "count/min"),
    ]


@pytest.mark.parametrize(("written", "hour"), [("2024-02-06 12:00:00 AM +0000", 0), ("2024-02-06 12:00:00 PM +0000", 12)])
async def test_noon_and_midnight(written: str, hour: int) -> None:
    """Twelve is not twelve hours after noon."""
    assert (await only(metric("step_count", "count", {"date": written, "qty": 1}))).at == datetime(2024, 2, 6, hour, tzinfo=UTC)


async def test_several_numbers_are_a_group() -> None:
    """Blood pressure and a night; what is no number is kept in words, times in UTC."""
    pressure = await only(metric("blood_pressure", "mmHg", {"date": "2024-02-06 08:00:00 +0100", "systolic": 118, "diastolic": 77}), "")
    assert [(each.kind, round(each.canonical_value, 2)) for each in pressure.payload.samples] == [("diastolic", 10.27), ("systolic", 15.73)]
    night = {
        "date": "2024-02-06 00:00:00 +0100",
        "sleepStart": "2024-02-05 23:10:00 +0100",
        "sleepEnd": "2024-02-06 06:50:00 +0100",
        "inBedStart": "2024-02-05 22:50:00 +0100",
        "core": 4.2,
        "deep": 1.1,
        "rem": 1.6,
        "awake": 0.3,
        "sleepSource": "Watch",
    }
    slept = await only(metric("sleep_analysis", "hr", night))
    assert (slept.payload.start.ToDatetime(UTC), slept.payload.end.ToDatetime(UTC)) == (
        datetime(2024, 2, 5, 22, 10, tzinfo=UTC),
        datetime(2024, 2, 6, 5, 50, tzinfo=UTC),
    )
    assert {each.kind: each.canonical_value for each in slept.payload.samples}["core"] == pytest.approx(4.2 * 3600)
    assert (slept.payload.source, slept.payload.metadata["inBedStart"]) == ("Watch", "2024-02-05 21:50:00+00:00")
    glucose = await only(metric("blood_glucose", "mg/dL", {"date": "2024-02-06 08:00:00 +0100", "qty": 90, "mealTime": "Before Meal"}), "")
    assert (round(glucose.payload.canonical_value, 2), glucose.payload.metadata["mealTime"]) == (5.0, "Before Meal")
    share = await only(metric("blood_oxygen_saturation", "%", {"date": "2024-02-06 08:00:00 +0100", "qty": 97}), "")
    assert (share.payload.value, share.payload.canonical_unit) == (97, "")


async def test_stages_that_begin_together_are_several() -> None:
    """Sleep that is not summed up: each stage by its value."""
    stage = {"startDate": "2024-02-05 23:10:00 +0100", "endDate": "2024-02-05 23:40:00 +0100", "qty": 0.5, "source": "Watch"}
    told = await pushed(metric("sleep_analysis", "hr", {**stage, "value": "Core"}, {**stage, "value": "In Bed"}), "")
    assert [event.payload.category for event in told] == ["Core", "In Bed"]  # type: ignore[union-attr]
    assert len({event.subject for event in told}) == 2


async def test_workouts_of_both_versions() -> None:
    """With an id and units in the newer form, without in the older one; a route in as many events as it needs; nulls are nothing."""
    newer = {
        "id": "A-1",
        "name": "Outdoor Run",
        "start": "2024-02-06 08:00:00 +0100",
        "end": "2024-02-06 08:30:00 +0100",
        "duration": 1800,
        "distance": {"qty": 5.2, "units": "km"},
        "activeEnergyBurned": {"qty": 300, "units": "kcal"},
        "heartRateData": [{"Min": 100, "Avg": 120, "Max": 130, "units": "bpm"}, {"Min": 90, "Avg": 140, "Max": 171, "units": "bpm"}],
        "route": [{"latitude": 52.3, "longitude": 4.9, "altitude": 1, "speed": 2.9, "timestamp": "2024-02-06 08:00:01 +0100"}] * 10_001,
        "intensity": None,
    }
    workout, *routes = await pushed({"workouts": [newer]})
    assert isinstance(workout.payload, Workout)
    assert (workout.name, workout.subject, workout.payload.distance_m, workout.payload.energy_kj) == ("workout", "A-1", 5200, 300 * 4.184)
    beats = workout.payload.statistics[-1]
    assert (beats.kind, beats.minimum, beats.average, beats.maximum) == ("heart_rate", 90, 130, 171)
    assert [(route.subject, len(route.payload.points)) for route in routes if isinstance(route.payload, Route)] == [
        ("A-1-1", 10_000),
        ("A-1-2", 1),
    ]
    older = {"name": "Yoga", "start": "2024-02-06 08:00:00 +0100", "end": "2024-02-06 08:30:00 +0100", "route": [{"lat": 1.5, "lon": 2.5}]}
    (first, route), (again, _) = await pushed({"workouts": [older]}), await pushed({"workouts": [{**older, "duration": 7}]})
    assert first.subject == again.subject
    assert isinstance(route.payload, Route)
    assert (route.payload.points[0].latitude, route.payload.points[0].longitude) == (1.5, 2.5)


async def test_everything_else_is_told_as_it_came() -> None:
    """Moods, medications and the like by their id or what they are; an electrocardiogram as one."""
    mood = {"id": "m-1", "start": "2024-02-06T08:00:00Z", "valence": 0.4, "labels": ["calm"]}
    pill = {"name": "Iron", "start": "2024-02-06 08:00:00 +0100", "dosage": None}
    curve = {
        "start": "2024-02-06 08:00:00 +0100",
        "end": "2024-02-06 08:00:30 +0100",
        "classification": "Sinus Rhythm",
        "severity": "Not Set",
        "averageHeartRate": 61.5,
        "numberOfVoltageMeasurements": 2,
        "samplingFrequency": 512,
        "source": "Watch",
        "voltageMeasurements": [
            {"date": "2024-02-06 08:00:00 +0100", "voltage": 0.0001, "units": "V"},
            {"date": "2024-02-06 08:00:00 +0100", "voltage": -0.00002, "units": "V"},
        ],
    }
    told = await pushed({"stateOfMind": [mood], "medications": [pill], "ecg": [curve], "symptoms": []})
    assert [(event.name, event.change) for event in told] == [
        ("pushed.state_of_mind", Change.UPSERTED),
        ("pushed.medications", Change.UPSERTED),
        ("electrocardiogram", Change.UPSERTED),
    ]
    assert isinstance(told[0].payload, Record)
    assert (told[0].subject, told[0].payload.fields["valence"]) == ("m-1", 0.4)
    assert isinstance(told[2].payload, Electrocardiogram)
    read = told[2].payload
    assert [round(each) for each in read.microvolts] == [100, -20]
    assert (read.classification, read.average_heart_rate, read.samples_per_second, read.device) == ("Sinus Rhythm", 61.5, 512, "Watch")
    assert dict(read.metadata) == {"severity": "Not Set"}


async def test_what_is_no_push_is_set_aside() -> None:
    """An empty push says nothing; a body of another kind is told in a sentence."""
    assert await pushed({}) == []
    assert await pushed({"metrics": None, "workouts": [None, 3]}) == []
    with pytest.raises(Unreadable, match="JSON"):
        await pushed([1])
    deep: Any = "x"
    for _ in range(40):
        deep = [deep]
    with pytest.raises(Unreadable, match="deeply"):
        await pushed({"symptoms": [{"name": deep}]})
