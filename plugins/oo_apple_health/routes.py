"""The files beside the main one: where a workout went (GPX), and electrocardiograms (CSV)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final
from xml.parsers import expat

from oo_apple_health.dates import seconds
from oo_sdk import Change, Event
from oo_sdk.vocabulary import Electrocardiogram, Route, Timestamp

_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}")
_RATE: Final = re.compile(r"(\d+(?:[.,]\d+)?) ?(?:hertz|Hz|赫兹|赫茲|ヘルツ|헤르츠|герц)", re.IGNORECASE)
_VOLTAGE: Final = re.compile(r"-?\d+(?:[.,]\d+)?")
_CLASSIFICATIONS: Final = 3  #: the line of it among those of the head, in every language
#: Most voltages of one: those of thirty seconds are some 15,400.
MOST: Final = 200_000


class _Way:
    """Collects the points that expat tells."""

    def __init__(self) -> None:
        self.points: list[Route.Point] = []
        self.point: Route.Point | None = None
        self.text = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.text = ""
        if tag == "trkpt":
            self.point = Route.Point(latitude=float(attributes["lat"]), longitude=float(attributes["lon"]))

    def words(self, text: str) -> None:
        self.text += text

    def end(self, tag: str) -> None:
        point = self.point
        if point is None:
            return
        match tag:
            case "ele":
                point.elevation_m = float(self.text)
            case "speed":
                point.speed_mps = float(self.text)
            case "time":
                at = datetime.fromisoformat(self.text.strip())
                point.at.FromDatetime(at if at.tzinfo else at.replace(tzinfo=UTC))
            case "trkpt":
                self.points.append(point)
                self.point = None


def points(gpx: bytes) -> list[Route.Point]:
    """The places of a route; those up to where the file is damaged."""
    way = _Way()
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = way.start, way.end, way.words
    parser.StartDoctypeDeclHandler = _no_doctype
    with contextlib.suppress(expat.ExpatError, ValueError, KeyError, OverflowError):
        parser.Parse(gpx, True)
    return way.points


def _no_doctype(*_: object) -> None:
    raise ValueError("a route needs no DTD, and entities could expand")


def electrocardiogram(csv: bytes) -> Iterator[Event]:
    """An electrocardiogram, unless the file makes no sense. Its head names the person and the birth date, which are not kept.

    The words of the head are in the language of the phone, so that its lines are known by their shape.
    """
    at, rate, classification, device = None, 0.0, "", ""
    voltages: list[float] = []
    fields: list[str] = []
    for line in csv.decode("utf-8-sig", "replace").splitlines():
        _key, _, value = line.partition(",")
        value = value.strip().strip('"')
        if _VOLTAGE.fullmatch(line.strip()) and len(voltages) < MOST:
            voltages.append(float(line.strip().replace(",", ".")))
        elif not voltages and value:
            fields.append(value)
            if date := _DATE.search(value):
                at = at or seconds(date[0].encode())
            elif hertz := _RATE.fullmatch(value):
                rate = float(hertz[1].replace(",", "."))
            elif re.fullmatch(r"(Apple )?Watch\w+,\d+", value):
                device = value
    if at is None or not voltages:
        return
    if len(fields) > _CLASSIFICATIONS:
        classification = fields[_CLASSIFICATIONS]
    told = Electrocardiogram(
        start=Timestamp(seconds=at), classification=classification, samples_per_second=rate, microvolts=voltages, device=device
    )
    subject = blake2b(f"ecg {at} {len(voltages)} {voltages[:64]}".encode(), digest_size=12).hexdigest()
    yield Event("electrocardiogram", subject, Change.OCCURRED, at=datetime.fromtimestamp(at, UTC), payload=told)
