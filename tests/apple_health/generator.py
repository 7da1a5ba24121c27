"""Writes exports as a phone would: records grouped by type and in order of time, metadata, workouts with statistics, summaries, routes.

The same seed gives the same bytes. `offset` is the phone's at the time of the export, which shows in every date.
"""

import random
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from io import FileIO
from pathlib import Path
from typing import IO

HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE HealthData [
<!-- HealthKit Export Version: 14 -->
<!ELEMENT HealthData (ExportDate,Me,(Record|Correlation|Workout|ActivitySummary|ClinicalRecord|Audiogram|VisionPrescription)*)>
<!ATTLIST HealthData
  locale CDATA #REQUIRED
>
<!ELEMENT Record ((MetadataEntry|HeartRateVariabilityMetadataList)*)>
<!-- Note: Any Records that appear as children of a correlation also appear as top-level records in this document. -->
]>
<HealthData locale="en_GB">
 <ExportDate value="{now}"/>
 <Me HKCharacteristicTypeIdentifierDateOfBirth="1985-04-12" HKCharacteristicTypeIdentifierBiologicalSex="HKBiologicalSexFemale" \
HKCharacteristicTypeIdentifierBloodType="HKBloodTypeAPositive" \
HKCharacteristicTypeIdentifierFitzpatrickSkinType="HKFitzpatrickSkinTypeNotSet" \
HKCharacteristicTypeIdentifierCardioFitnessMedicationsUse="None"/>
"""
TAIL = "</HealthData>\n"
WATCH = (
    "&lt;&lt;HKDevice: 0x{pointer:x}&gt;, name:Apple Watch, manufacturer:Apple Inc., model:Watch, hardware:Watch7,2, software:11.6.1, "
    "creation date:2024-09-20 08:00:00 +0000&gt;"
)
PHONE = (
    "&lt;&lt;HKDevice: 0x{pointer:x}&gt;, name:iPhone, manufacturer:Apple Inc., model:iPhone, hardware:iPhone15,2, software:18.1, "
    "creation date:2024-09-20 08:00:00 +0000&gt;"
)


class _Forward(FileIO):
    """A file that cannot go back, so that an archive in it has data descriptors."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError("no place to tell")

    def seek(self, place: int, whence: int = 0, /) -> int:
        raise OSError("cannot go back")


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of record: how often it is measured, and as what."""

    type: str
    unit: str
    low: float
    high: float
    share: float  #: of all records
    lasts: int = 0  #: seconds
    digits: int = 0
    metadata: tuple[tuple[str, str], ...] = ()
    phone: bool = False


PRESSURE = (("HKMetadataKeyBarometricPressure", "98.2 kPa"),)
CONTEXT = (("HKMetadataKeyHeartRateMotionContext", "1"),)
KINDS = (
    Kind("HKQuantityTypeIdentifierHeartRate", "count/min", 48, 160, 0.18, metadata=CONTEXT),
    Kind("HKQuantityTypeIdentifierActiveEnergyBurned", "kcal", 0.05, 9, 0.32, lasts=60, digits=3),
    Kind("HKQuantityTypeIdentifierBasalEnergyBurned", "kcal", 0.5, 20, 0.15, lasts=900, digits=3),
    Kind("HKQuantityTypeIdentifierStepCount", "count", 1, 900, 0.10, lasts=300, phone=True),
    Kind("HKQuantityTypeIdentifierDistanceWalkingRunning", "km", 0.001, 0.9, 0.12, lasts=300, digits=5),
    Kind("HKQuantityTypeIdentifierPhysicalEffort", "kcal/hr·kg", 1, 8, 0.05, lasts=60, digits=1),
    Kind("HKQuantityTypeIdentifierAppleStandTime", "min", 1, 5, 0.03, lasts=300),
    Kind("HKQuantityTypeIdentifierOxygenSaturation", "%", 0.91, 1.0, 0.01, digits=2, metadata=PRESSURE),
    Kind("HKQuantityTypeIdentifierRespiratoryRate", "count/min", 11, 20, 0.01, digits=1),
    Kind("HKQuantityTypeIdentifierEnvironmentalAudioExposure", "dBASPL", 40, 90, 0.02, lasts=1800, digits=3),
    Kind("HKQuantityTypeIdentifierBodyMass", "kg", 60, 80, 0.001, digits=1, phone=True, metadata=(("HKWasUserEntered", "1"),)),
)  # fmt: skip
STAGES = ("InBed", "AsleepCore", "AsleepDeep", "AsleepREM", "Awake")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phone:
    """One person's phone at one time."""

    seed: int = 1
    records: int = 2_000
    start: datetime = datetime(2019, 1, 1, tzinfo=UTC)
    days: int = 1_500
    until: float = 1.0  #: how much of all that an earlier export has
    offset: int = 1  #: hours
    pointer: int = 0x30000000

    def lines(self) -> Iterator[str]:
        """The main file, line by line."""
        zone = timezone(timedelta(hours=self.offset))
        yield HEAD.format(now=f"{datetime(2026, 1, 4, 9, 30, tzinfo=UTC).astimezone(zone):%Y-%m-%d %H:%M:%S %z}")
        for kind in KINDS:
            yield from self._records(kind, zone)
        yield from self._sleep(zone)
        yield from self._pressures(zone)
        yield from self._workouts(zone)
        yield from self._summaries()
        yield TAIL

    def write(self, file: IO[bytes]) -> int:
        """Write the main file; gives its size."""
        size, some = 0, []
        for line in self.lines():
            some.append(line)
            if len(some) == 2_000:
                size += file.write("".join(some).encode())
                some.clear()
        return size + file.write("".join(some).encode())

    def zip(self, path: Path, *, name: str = "export.xml") -> Path:
        """Write an archive as the phone does, with sizes that are told only after each file."""
        with _Forward(path, "wb") as out, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
            with archive.open(f"apple_health_export/{name}", "w", force_zip64=True) as file:
                self.write(file)
            archive.writestr("apple_health_export/export_cda.xml", "<ClinicalDocument/><ClinicalDocument/>")
            for number in range(self._many(self.days // 10)):
                archive.writestr(f"apple_health_export/workout-routes/route_{number}.gpx", self.route(number))
            archive.writestr("apple_health_export/electrocardiograms/ecg_2024-03-01.csv", self.electrocardiogram())
        return path

    def _many(self, all_: int) -> int:
        return int(all_ * self.until)

    def _times(self, count: int, random_: random.Random) -> Iterator[datetime]:
        step = self.days * 86_400 / max(count, 1)
        at = 0.0
        for _ in range(self._many(count)):
            at += step * (0.5 + random_.random())
            yield self.start + timedelta(seconds=int(at))

    def _records(self, kind: Kind, zone: timezone) -> Iterator[str]:
        random_ = random.Random(f"{self.seed} {kind.type}")
        entries = "".join(f'  <MetadataEntry key="{key}" value="{value}"/>\n' for key, value in kind.metadata)
        # The pointer of a device is another one in each export, and even within one.
        devices = [(PHONE if kind.phone else WATCH).format(pointer=self.pointer + 64 * place) for place in range(3)]
        by, version = ("Ada’s iPhone", "18.1") if kind.phone else ("Ada’s Apple\u00a0Watch", "11.6.1")
        for number, at in enumerate(self._times(int(self.records * kind.share), random_)):
            begun = at.astimezone(zone)
            ended = begun + timedelta(seconds=kind.lasts)
            value = f"{random_.uniform(kind.low, kind.high):.{kind.digits}f}"
            yield (
                f' <Record type="{kind.type}" sourceName="{by}" sourceVersion="{version}" device="{devices[number % 3]}" '
                f'unit="{kind.unit}" creationDate="{ended:%Y-%m-%d %H:%M:%S %z}" startDate="{begun:%Y-%m-%d %H:%M:%S %z}" '
                f'endDate="{ended:%Y-%m-%d %H:%M:%S %z}" value="{value}"'
            ) + (f">\n{entries} </Record>\n" if entries else "/>\n")

    def _sleep(self, zone: timezone) -> Iterator[str]:
        random_ = random.Random(f"{self.seed} sleep")
        for at in self._times(int(self.records * 0.009), random_):
            begun = at.astimezone(zone)
            yield (
                ' <Record type="HKCategoryTypeIdentifierSleepAnalysis" sourceName="Ada’s Apple\u00a0Watch" sourceVersion="11.6.1" '
                f'creationDate="{begun:%Y-%m-%d %H:%M:%S %z}" startDate="{begun:%Y-%m-%d %H:%M:%S %z}" '
                f'endDate="{begun + timedelta(minutes=random_.randint(5, 90)):%Y-%m-%d %H:%M:%S %z}" '
                f'value="HKCategoryValueSleepAnalysis{random_.choice(STAGES)}">\n'
                '  <MetadataEntry key="HKTimeZone" value="Europe/Amsterdam"/>\n </Record>\n'
            )

    def _pressures(self, zone: timezone) -> Iterator[str]:
        """Blood pressures: each record stands by itself and in its correlation."""
        random_ = random.Random(f"{self.seed} pressure")
        whole = []
        for at in self._times(max(self.records // 5_000, 2), random_):
            begun = f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S %z}"
            span = f'creationDate="{begun}" startDate="{begun}" endDate="{begun}"'
            inner = [
                f'<Record type="HKQuantityTypeIdentifierBloodPressure{which}" sourceName="Cuff &amp; Co" sourceVersion="3" unit="mmHg" '
                f'{span} value="{random_.randint(low, high)}"/>\n'
                for which, low, high in (("Systolic", 105, 140), ("Diastolic", 60, 90))
            ]
            yield from (f" {record}" for record in inner)
            whole.append((span, inner))
        for span, inner in whole:
            yield f' <Correlation type="HKCorrelationTypeIdentifierBloodPressure" sourceName="Cuff &amp; Co" sourceVersion="3" {span}>\n'
            yield from (f"  {record}" for record in inner)
            yield " </Correlation>\n"

    def _workouts(self, zone: timezone) -> Iterator[str]:
        random_ = random.Random(f"{self.seed} workouts")
        for number, at in enumerate(self._times(self.days // 10, random_)):
            begun = at.astimezone(zone)
            ended = begun + timedelta(minutes=random_.randint(20, 90))
            span = f'startDate="{begun:%Y-%m-%d %H:%M:%S %z}" endDate="{ended:%Y-%m-%d %H:%M:%S %z}"'
            device = WATCH.format(pointer=self.pointer + 64 * (number % 3))
            yield (
                f' <Workout workoutActivityType="HKWorkoutActivityTypeRunning" duration="{(ended - begun).seconds / 60}" '
                'durationUnit="min" '
                f'sourceName="Ada’s Apple\u00a0Watch" sourceVersion="11.6.1" device="{device}" '
                f'creationDate="{ended:%Y-%m-%d %H:%M:%S %z}" {span}>\n'
                '  <MetadataEntry key="HKTimeZone" value="Europe/Amsterdam"/>\n'
                '  <MetadataEntry key="HKWeatherTemperature" value="61.9694 degF"/>\n'
                f'  <WorkoutEvent type="HKWorkoutEventTypePause" date="{begun + timedelta(minutes=9):%Y-%m-%d %H:%M:%S %z}"/>\n'
                f'  <WorkoutStatistics type="HKQuantityTypeIdentifierDistanceWalkingRunning" {span} sum="{random_.uniform(3, 15):.5f}" '
                'unit="km"/>\n'
                f'  <WorkoutStatistics type="HKQuantityTypeIdentifierActiveEnergyBurned" {span} sum="{random_.uniform(200, 900):.3f}" '
                'unit="kcal"/>\n'
                f'  <WorkoutStatistics type="HKQuantityTypeIdentifierHeartRate" {span} average="141.7" minimum="92" maximum="175" '
                'unit="count/min"/>\n'
                f'  <WorkoutRoute sourceName="Ada’s Apple\u00a0Watch" sourceVersion="18.1" {span}>\n'
                f'   <FileReference path="/workout-routes/route_{number}.gpx"/>\n'
                "  </WorkoutRoute>\n </Workout>\n"
            )

    def _summaries(self) -> Iterator[str]:
        random_ = random.Random(f"{self.seed} summaries")
        for day in range(self._many(self.days)):
            date = self.start + timedelta(days=day)
            yield (
                f' <ActivitySummary dateComponents="{date:%Y-%m-%d}" activeEnergyBurned="{random_.uniform(200, 900):.3f}" '
                'activeEnergyBurnedGoal="500" activeEnergyBurnedUnit="kcal" appleMoveTime="0" appleMoveTimeGoal="0" '
                f'appleExerciseTime="{random_.randint(0, 90)}" appleExerciseTimeGoal="30" appleStandHours="{random_.randint(4, 15)}" '
                'appleStandHoursGoal="12"/>\n'
            )

    def route(self, number: int) -> str:
        """A route of fifty points."""
        random_ = random.Random(f"{self.seed} route {number}")
        begun = self.start + timedelta(days=number * 10)
        points = "".join(
            f'<trkpt lon="{4.9 + place * 1e-4:.6f}" lat="{52.3 + random_.random() * 1e-3:.6f}"><ele>{random_.uniform(-2, 9):.6f}</ele>'
            f"<time>{begun + timedelta(seconds=place):%Y-%m-%dT%H:%M:%SZ}</time><extensions><speed>2.9</speed><course>80</course>"
            "<hAcc>3.1</hAcc><vAcc>2.2</vAcc></extensions></trkpt>\n"
            for place in range(50)
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n<gpx version="1.1" creator="Apple Health Export" '
            'xmlns="http://www.topografix.com/GPX/1/1">\n<metadata><time>2026-01-04T08:30:00Z</time></metadata>\n'
            f"<trk><name>Route</name><trkseg>\n{points}</trkseg></trk></gpx>\n"
        )

    def electrocardiogram(self) -> str:
        """An electrocardiogram with fewer voltages than a real one."""
        random_ = random.Random(f"{self.seed} ecg")
        head = (
            "Name,Ada Example\nDate of Birth,12 Apr 1985\nRecorded Date,2024-03-01 08:12:30 +0100\nClassification,Sinus Rhythm\n"
            'Symptoms,\nSoftware Version,1.90\nDevice,"Watch7,2"\nSample Rate,512 hertz\n\n\nLead,Lead I\nUnit,µV\n\n'
        )
        return head + "".join(f"{random_.uniform(-300, 900):.3f}\n" for _ in range(1_024))
