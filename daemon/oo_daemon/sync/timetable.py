"""Timetables: when one connection is synced, where that was said for it alone: every so often, or by the hands of the clock in a zone.

A cron expression means local time. What falls into the hour that is left out in spring happens as soon as that hour is over, and what falls
into the hour that comes twice in autumn happens the first time: each once. APScheduler reads the expression and counts its times; it is
given them without a zone, since its own counting repeats or leaves out some in those two nights.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

import msgspec
from apscheduler.triggers.cron import CronTrigger

from oo_daemon.connections.errors import Declined
from oo_daemon.ports import SECOND, Clock, micros, moment
from oo_daemon.store import schedule
from oo_daemon.store.connections import Connection
from oo_daemon.store.database import Database
from oo_daemon.store.storage import Storage

#: The shortest and longest interval, in seconds.
SHORTEST, LONGEST = 60.0, 31 * 24 * 3600.0
DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART = re.compile(r"(\*|\d|[a-z]{3})(?:-(\d|[a-z]{3}))?(?:/([1-9]))?")


class Every(msgspec.Struct, frozen=True, kw_only=True):
    """So long after the last sync."""

    seconds: float


class Cron(msgspec.Struct, frozen=True, kw_only=True):
    """At these minutes, hours and days in a zone."""

    expression: str
    zone: str


Timetable: TypeAlias = Every | Cron


def checked(every: float | None, cron: str | None, zone: str | None) -> Timetable:
    """What was asked for, if it makes sense. Raises `Declined`."""
    if (every is None) == (cron is None):
        raise Declined("timetable", "It is not said when.", "Give either an interval or a cron expression.")
    if every is not None:
        if not SHORTEST <= every <= LONGEST:
            raise Declined("timetable", "That interval is too short or too long.", "Use one from a minute to 31 days.")
        return Every(seconds=every)
    found = Cron(expression=" ".join((cron or "").lower().split()), zone=zone or "UTC")
    try:
        ZoneInfo(found.zone)
    except (OSError, ValueError, KeyError):
        raise Declined("timetable", f"There is no zone {found.zone}.", "Use a name such as Europe/Berlin.") from None
    try:
        if _following(found.expression, datetime(2024, 1, 1, tzinfo=UTC)) is None:
            raise ValueError
    except ValueError:
        remedy = 'Write minute, hour, day, month and weekday, such as "30 6 * * mon-fri"; not both a day and a weekday.'
        raise Declined("timetable", f"{found.expression!r} is no cron expression, or never comes.", remedy) from None
    return found


class Timetables(msgspec.Struct, frozen=True, kw_only=True):
    """Gives connections their timetables."""

    storage: Storage
    clock: Clock
    interval: float  #: seconds between syncs of a connection that has none

    async def give(self, connection: Connection, *, every: float | None, cron: str | None, zone: str | None) -> None:
        """Have it synced so from now on. Without a zone, cron means the person's own, where that is known. Raises `Declined`."""
        known = connection.meta.get("zone")
        timetable = checked(every, cron, zone or (known if isinstance(known, str) else None))
        await self._set(connection, timetable)

    async def take(self, connection: Connection) -> None:
        """Have it synced as often as all."""
        await self._set(connection, None)

    async def _set(self, connection: Connection, timetable: Timetable | None) -> None:
        now = self.clock.now()

        def put(database: Database) -> None:
            planned = schedule.of(database, connection.number, now)
            last = (planned.finished_at if planned else None) or now
            if isinstance(timetable, Cron):
                at = next_time(timetable, now) or now
            else:
                at = max(now, last + int((timetable.seconds if timetable else self.interval) * SECOND))
            schedule.set_timetable(database, connection.number, written(timetable) if timetable else None, at)

        await self.storage.write(put)


def next_time(timetable: Cron, after: int) -> int | None:
    """When it is next time, later than this. None: never."""
    zone, now = ZoneInfo(timetable.zone), moment(after)
    label: datetime | None = now.astimezone(zone).replace(tzinfo=UTC)  # what the clock on the wall shows, as if there were no zones
    while label is not None and (label := _following(timetable.expression, label)) is not None:
        # Of two such times the first; one that the wall clock leaves out is counted on from before the gap.
        at = label.replace(tzinfo=zone, fold=0).astimezone(UTC)
        if at > now:
            return micros(at)
    return None


def written(timetable: Timetable) -> str:
    """As it is kept."""
    return msgspec.json.encode(plain(timetable)).decode()


def plain(timetable: Timetable) -> dict[str, float | str | None]:
    """As the API shows it."""
    match timetable:
        case Every(seconds=seconds):
            return {"every": seconds, "cron": None, "zone": None}
        case Cron(expression=expression, zone=zone):
            return {"every": None, "cron": expression, "zone": zone}


def kept(text: str | None) -> Timetable | None:
    """What was kept."""
    if text is None:
        return None
    found: dict[str, Any] = msgspec.json.decode(text)
    if found["cron"] is None:
        return Every(seconds=found["every"])
    return Cron(expression=found["cron"], zone=found["zone"])


def _following(expression: str, label: datetime) -> datetime | None:
    found: datetime | None = _trigger(expression).get_next_fire_time(label, label)
    return found


@lru_cache(maxsize=256)
def _trigger(expression: str) -> CronTrigger:
    """Raises `ValueError` for what makes no sense."""
    minute, hour, day, month, weekday = expression.split(" ")
    if day != "*" and weekday != "*":
        raise ValueError("cron fires on either, APScheduler on both")
    return CronTrigger(minute=minute, hour=hour, day=day, month=month, day_of_week=_weekdays(weekday), timezone=UTC)


def _weekdays(field: str) -> str:
    """Weekdays by name: cron counts them from Sunday, and APScheduler from Monday."""
    if field == "*":
        return field
    days: list[str] = []
    for part in field.split(","):
        found = _PART.fullmatch(part)
        if found is None:
            raise ValueError(part)
        first, last, step = found[1], found[2], int(found[3] or 1)
        begin, end = (0, 6) if first == "*" else (_weekday(first), _weekday(last or first))
        days += [DAYS[(begin + count) % 7] for count in range(0, (end - begin) % 7 + 1, step)]
    return ",".join(dict.fromkeys(days))


def _weekday(text: str) -> int:
    if text in DAYS:
        return DAYS.index(text)
    if text not in "01234567":
        raise ValueError(text)
    return int(text) % 7
