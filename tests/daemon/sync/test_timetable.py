"""Timetables: every time once, whatever the clocks of a zone do."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from daemon.sync.world import Hub, Scripted

from oo_daemon.connections.errors import Declined
from oo_daemon.connections.pause import pause, resume
from oo_daemon.ports import SECOND, micros, moment
from oo_daemon.store import schedule
from oo_daemon.store.inbox import Pushed
from oo_daemon.sync.timetable import Cron, Every, Timetable, Timetables, checked, kept, next_time, plain, written
from oo_sdk import Checkpoint, RetryLater

ZONES = (
    "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "Africa/Cairo",
    "Asia/Kathmandu", "America/St_Johns", "Pacific/Chatham", "Asia/Tehran", "UTC",
)  # fmt: skip
BEGIN, END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)


def times(expression: str, zone: str, begin: datetime = BEGIN, end: datetime = END) -> list[datetime]:
    """When it is time between the two."""
    timetable, at, found = Cron(expression=expression, zone=zone), micros(begin) - 1, list[datetime]()
    while True:
        following = next_time(timetable, at)
        assert following is not None
        assert following > at
        if following >= micros(end):
            return found
        found.append(moment(following))
        at = following


@pytest.mark.rows("E10")
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("hour", [0, 2])
def test_every_day_once(zone: str, hour: int) -> None:
    """For two years in ten zones a time of night comes on each day once, also when its hour is left out or comes twice."""
    there = ZoneInfo(zone)
    begin = datetime(2025, 1, 1, tzinfo=there)
    found = times(f"30 {hour} * * *", zone, begin, datetime(2027, 1, 1, tzinfo=there))
    days = Counter(at.astimezone(there).date() for at in found)
    assert days == {date(2025, 1, 1) + timedelta(days=count): 1 for count in range(730)}
    late = [at.astimezone(there) for at in found if (at.astimezone(there).hour, at.astimezone(there).minute) != (hour, 30)]
    assert all(timedelta() < at.replace(tzinfo=None) - at.replace(hour=hour, minute=30, tzinfo=None) <= timedelta(hours=1) for at in late)
    assert len(late) <= 2, "only where the hour was left out"


@pytest.mark.rows("E10")
def test_the_hour_that_is_left_out_and_the_one_that_comes_twice() -> None:
    """Berlin, 2026: on 29 March there is no half past two, and on 25 October there are two."""
    assert times("30 2 * * *", "Europe/Berlin", datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 3, 31, tzinfo=UTC)) == [
        datetime(2026, 3, 28, 1, 30, tzinfo=UTC),
        datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
        datetime(2026, 3, 30, 0, 30, tzinfo=UTC),
    ]
    assert times("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 10, 26, 12, tzinfo=UTC)) == [
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        datetime(2026, 10, 26, 1, 30, tzinfo=UTC),
    ]


@pytest.mark.rows("E10")
def test_asked_in_the_hour_that_comes_again() -> None:
    """What was due in it was due the first time: the next time is after it, and never one that is over."""
    again = micros(datetime(2026, 10, 25, 1, 10, tzinfo=UTC))  # ten past two for the second time
    assert next_time(Cron(expression="*/15 * * * *", zone="Europe/Berlin"), again) == micros(datetime(2026, 10, 25, 2, 0, tzinfo=UTC))


@pytest.mark.rows("E10")
@pytest.mark.parametrize("zone", ZONES)
def test_never_two_at_once(zone: str) -> None:
    """Each quarter of an hour: never twice at one moment, and never further apart than the hour that comes twice."""
    there, day = ZoneInfo(zone), timedelta(days=1)
    days = [BEGIN + count * day for count in range(365)]
    for noon in [each for each in days if each.astimezone(there).utcoffset() != (each + day).astimezone(there).utcoffset()] or days[:1]:
        found = times("*/15 * * * *", zone, noon, noon + day)
        gaps = {later - earlier for earlier, later in pairwise(found)}
        assert min(gaps) >= timedelta(minutes=15)
        assert max(gaps) <= timedelta(minutes=75)


def test_weekdays_are_crons_own() -> None:
    """0 and 7 are Sunday, ranges may go over the end of the week, and names mean the same."""
    for expression, wanted in (
        ("0 0 * * 0", {6}), ("0 0 * * 7", {6}), ("0 0 * * 1-5", {0, 1, 2, 3, 4}), ("0 0 * * fri-mon", {4, 5, 6, 0}),
        ("0 0 * * sun,3", {6, 2}), ("0 0 * * */2", {6, 1, 3, 5}), ("0 0 * * mon-sun", set(range(7))),
    ):  # fmt: skip
        assert {at.weekday() for at in times(expression, "UTC", BEGIN, BEGIN + timedelta(days=21))} == wanted, expression


@pytest.mark.parametrize(
    ("every", "cron", "zone"),
    [
        (None, None, None),
        (300.0, "0 0 * * *", None),
        (59.0, None, None),
        (float("nan"), None, None),
        (32 * 86_400.0, None, None),
        (None, "0 0 * *", None),
        (None, "61 0 * * *", None),
        (None, "0 0 30 2 *", None),
        (None, "0 0 1 * mon", None),
        (None, "0 0 * * 8", None),
        (None, "0 0 * * 1,,2", None),
        (None, "0 0 * * mon-xxx", None),
        (None, "x", None),
        (None, "0 0 * * *", "Mars/Olympus"),
        (None, "0 0 * * *", "../etc/passwd"),
    ],
)
def test_what_makes_no_sense_is_declined(every: float | None, cron: str | None, zone: str | None) -> None:
    """With a sentence and a remedy."""
    with pytest.raises(Declined):
        checked(every, cron, zone)


@pytest.mark.parametrize("timetable", [Every(seconds=900.0), Cron(expression="30 6 * * mon-fri", zone="Europe/Berlin")])
def test_it_is_kept_as_it_is(timetable: Timetable) -> None:
    """What is kept comes back, in the words of the API."""
    assert kept(written(timetable)) == timetable
    shown = plain(timetable)
    assert checked(**shown) == timetable  # type: ignore[arg-type]
    assert kept(None) is None


def test_far_away_is_found() -> None:
    """Leap days are years apart."""
    at = next_time(checked(None, "0 0 29 2 *", "UTC"), micros(datetime(2026, 3, 1, tzinfo=UTC)))  # type: ignore[arg-type]
    assert at == micros(datetime(2028, 2, 29, tzinfo=UTC))


# --- what they do to the schedule ------------------------------------------------------------------------------------


def given(hub: Hub) -> Timetables:
    return Timetables(storage=hub.storage, clock=hub.clock, interval=hub.limits.interval)


@pytest.mark.rows("E10")
async def test_a_connection_with_an_interval_of_its_own(hub: Hub) -> None:
    """It counts from the last sync on, also where pushes would let polls thin out, until it is taken away."""
    connection, sync = await hub.connect(), hub.sync(Scripted([Checkpoint({"at": 1})]))
    await hub.once(sync)
    await given(hub).give(connection, every=900.0, cron=None, zone=None)
    for _ in range(3):
        mark = Pushed(connection=1, now=hub.clock.now())
        await hub.storage.write(mark.apply)
        began = hub.clock.now()
        await hub.when_due(sync)
        assert hub.clock.now() - began == 900 * SECOND
    await given(hub).take(connection)
    planned = await hub.schedule()
    assert planned.timetable is None
    assert planned.next_run_at == hub.clock.now() + 300 * SECOND


@pytest.mark.rows("E10")
async def test_a_connection_by_the_clocks_of_its_person(hub: Hub) -> None:
    """At half past six in the person's zone; trouble is tried again by itself; a push or a question comes in between all the same."""
    connection = await hub.connect()
    quiet = [Checkpoint({"at": 1})]
    sync = hub.sync(Scripted(quiet, quiet, [RetryLater("busy")], quiet))
    await hub.once(sync)
    await given(hub).give(connection, every=None, cron="30 6 * * *", zone=None)

    async def hour() -> str:
        planned = await hub.schedule()
        assert planned.next_run_at is not None
        return moment(planned.next_run_at).astimezone(ZoneInfo("Europe/Berlin")).strftime("%d %H:%M")

    assert await hour() == "15 06:30"
    await hub.when_due(sync)
    assert await hour() == "16 06:30"
    await hub.when_due(sync)
    assert await hour() == "16 06:30", "in its back-off"
    assert (await hub.schedule()).tries == 1
    await hub.when_due(sync)
    assert await hour() == "17 06:30"
    await hub.storage.write(schedule.due_now, 1, hub.clock.now())
    await hub.once(sync)
    assert await hour() == "17 06:30"


async def test_what_is_under_way_is_not_disturbed(hub: Hub) -> None:
    """A timetable that is given during a sync or a back-off holds from the end of that on; a pause and a sign-in leave it as it is."""
    connection = await hub.connect()
    sync = hub.sync(Scripted([RetryLater("busy", after=timedelta(seconds=3600))], [Checkpoint({"at": 1})]))
    await hub.once(sync)
    before = (await hub.schedule()).next_run_at
    await given(hub).give(connection, every=60.0, cron=None, zone=None)
    assert (await hub.schedule()).next_run_at == before
    await hub.when_due(sync)
    assert (await hub.schedule()).next_run_at == hub.clock.now() + 60 * SECOND
    await hub.storage.write(pause, connection.number, hub.clock.now())
    await hub.storage.write(resume, connection.number, hub.clock.now())
    assert (await hub.schedule()).timetable == written(Every(seconds=60.0))


@pytest.mark.rows("E10")
@pytest.mark.parametrize("step", [3600.0, -3600.0])
async def test_a_step_of_the_clock_makes_no_storm(hub: Hub, step: float) -> None:
    """Set by an hour either way, the clock makes at most one sync more in the next day."""
    connection, sync = await hub.connect(), hub.sync(Scripted([Checkpoint({"at": 1})]))
    await hub.once(sync)
    await given(hub).give(connection, every=None, cron="0 * * * *", zone="Europe/Berlin")
    await hub.when_due(sync)
    hub.clock.shift(step)
    if step < 0:
        await hub.storage.write(schedule.set_back, hub.clock.now(), int(-step * SECOND), 0, 10)
    end, runs = hub.clock.now() + 24 * 3600 * SECOND, 0
    while ((await hub.schedule()).next_run_at or 0) <= end:
        await hub.when_due(sync)
        runs += 1
    assert 24 <= runs <= 25
