"""Bars and bands over hours, as numbers that a template can draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

import msgspec

from oo_daemon.ports import moment
from oo_daemon.store.latency import Took
from oo_daemon.store.overview import Hour

#: The drawing, and the field of the bars in it, in its own units.
WIDTH, HEIGHT = 720, 200
LEFT, TOP, BOTTOM = 56, 8, 168
#: Below so many hours with events a sentence says more.
LEAST = 5
_LABEL_EVERY = 6


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One hour."""

    x: float
    y: float
    width: float
    height: float
    label: str  #: under the axis; empty for most
    hour: str
    events: int


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A value on the axis."""

    y: float
    value: float


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    bars: tuple[Bar, ...]
    lines: tuple[Line, ...]
    total: int
    worth_drawing: bool


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """One hour of a band: from how long half of them took, to how long the slowest but one of a hundred took."""

    x: float
    y: float
    width: float
    height: float
    label: str
    hour: str
    took: Took | None


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, on an axis of which each line is ten times the one below."""

    stretches: tuple[Stretch, ...]
    path: str  #: the band itself, as SVG draws it; interrupted where hours had none
    lines: tuple[Line, ...]  #: seconds
    deliveries: int
    half: float  #: the longest of any hour, in seconds
    most: float
    worth_drawing: bool


def band(hours: Sequence[tuple[int, Took | None]]) -> Band:
    """Draw how long things took in each hour, hours in UTC."""
    found = [took for _, took in hours if took is not None]
    low = math.floor(math.log10(min((took.half for took in found), default=0.001)))
    high = max(math.ceil(math.log10(max((took.most for took in found), default=1.0))), low + 1)
    step = (WIDTH - LEFT) / max(len(hours), 1)

    def y(seconds: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * (math.log10(seconds) - low) / (high - low), 1)

    drawn = []
    for number, (begins_at, took) in enumerate(hours):
        at = moment(begins_at)
        top, base = (y(took.most), y(took.half)) if took is not None else (BOTTOM, BOTTOM)
        drawn.append(
            Stretch(
                x=round(LEFT + number * step, 1),
                y=top - 1,
                width=round(step, 1),
                height=round(base - top + 2, 1),
                label=f"{at:%H:%M}" if at.hour % _LABEL_EVERY == 0 else "",
                hour=f"{at:%-d %B, %H:%M}",
                took=took,
            )
        )
    return Band(
        stretches=tuple(drawn),
        path=_outline(drawn),
        lines=tuple(Line(y=y(10.0**power), value=10.0**power) for power in range(low, high + 1)),
        deliveries=sum(took.deliveries for took in found),
        half=max((took.half for took in found), default=0.0),
        most=max((took.most for took in found), default=0.0),
        worth_drawing=len(found) >= LEAST,
    )


def _outline(drawn: Sequence[Stretch]) -> str:
    """One closed line around each row of hours that had some: along the top, and back along the bottom."""
    parts = []
    for some, row in groupby(drawn, key=lambda each: each.took is not None):
        if some:
            hours = list(row)
            top = " ".join(f"V{each.y} H{round(each.x + each.width, 1)}" for each in hours)
            bottom = " ".join(f"V{round(each.y + each.height, 1)} H{each.x}" for each in reversed(hours))
            parts.append(f"M{hours[0].x} {hours[0].y} {top} {bottom} Z")
    return " ".join(parts)


def bars(hours: Sequence[Hour]) -> Chart:
    """Draw events per hour, hours in UTC."""
    top = ceiling(max((hour.events for hour in hours), default=0))
    step = (WIDTH - LEFT) / max(len(hours), 1)

    def height(events: int) -> float:
        return round((BOTTOM - TOP) * events / top, 1)

    drawn = []
    for number, hour in enumerate(hours):
        at = moment(hour.begins_at)
        drawn.append(
            Bar(
                x=round(LEFT + number * step + 3, 1),
                y=round(BOTTOM - height(hour.events), 1),
                width=round(step - 6, 1),
                height=height(hour.events),
                label=f"{at:%H:%M}" if at.hour % _LABEL_EVERY == 0 else "",
                hour=f"{at:%-d %B, %H:%M}",
                events=hour.events,
            )
        )
    values = sorted({0, top // 2, top}) if top > 1 else [0, 1]
    return Chart(
        bars=tuple(drawn),
        lines=tuple(Line(y=round(BOTTOM - height(value), 1), value=value) for value in values),
        total=sum(hour.events for hour in hours),
        worth_drawing=sum(hour.events > 0 for hour in hours) >= LEAST,
    )


def ceiling(value: int) -> int:
    """The next round number, for the top of an axis.

    >>> [ceiling(value) for value in (0, 1, 7, 12, 30, 51, 999)]
    [1, 1, 10, 20, 50, 100, 1000]
    """
    size: int = 10 ** max(len(str(value)) - 1, 0)
    return next(nice for nice in (size, 2 * size, 5 * size, 10 * size) if nice >= max(value, 1))
