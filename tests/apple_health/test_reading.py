"""Reading exports: the fast way and expat give the same, and what phones get wrong is put right or told."""

import io
import re
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from apple_health.generator import HEAD, TAIL, Phone
from hypothesis import given, settings
from hypothesis import strategies as st
from oo_apple_health import AppleHealth
from oo_apple_health.archive import opened
from oo_apple_health.meaning import Meaning
from oo_apple_health.records import Records

from oo_sdk import Checkpoint, Event, Occurrences, Unreadable, Upload
from oo_sdk.vocabulary import ActivitySummary, Electrocardiogram, HealthGroup, HealthSample, Record, Route, Workout

BEGIN = HEAD.format(now="2026-01-04 10:30:00 +0100")
REALDATA = Path(__file__).parents[2].parent / "shared" / "realdata" / "apple_health"


def upload(body: bytes, name: str = "export.xml") -> Upload:
    return Upload(name=name, size=len(body), open=lambda: io.BytesIO(body))


def document(*elements: str, head: str = BEGIN, tail: str = TAIL) -> bytes:
    return (head + "".join(f" {element}\n" for element in elements) + tail).encode()


def told(body: bytes, *, fast: bool = True) -> list[tuple[str, str, Any]]:
    """(name, subject, payload) of all that the main file says."""
    found: list[tuple[str, str, Any]] = []
    with opened(upload(body)) as export, export.records() as stream:
        meaning = Meaning(export)
        for entry in Records(stream, fast=fast).read():
            for signal in meaning.rows(entry) if isinstance(entry, list) else meaning.element(entry):
                if isinstance(signal, Occurrences):
                    for subject, at, row in signal.rows:
                        found.append((signal.name, subject, (at, signal.payload(row).SerializeToString(deterministic=True))))
                elif isinstance(signal, Event):
                    payload = signal.payload.SerializeToString(deterministic=True) if signal.payload is not None else b""
                    found.append((signal.name, signal.subject, (signal.at, signal.change, signal.order, payload)))
    return found


def record(*, type_: str = "HKQuantityTypeIdentifierStepCount", more: str = "", inner: str = "", **attributes: str) -> str:
    given = {
        "sourceName": "Health",
        "unit": "count",
        "startDate": "2024-01-01 10:00:00 +0100",
        "endDate": "2024-01-01 10:00:05 +0100",
        "value": "7",
    }
    written = " ".join(f'{name}="{value}"' for name, value in (given | attributes).items() if value != "-")
    return f'<Record type="{type_}" {written}{more}' + (f">{inner}</Record>" if inner else "/>")


def payloads(body: bytes, name: str, into: type[Any]) -> list[Any]:
    return [into.FromString(payload[-1]) for named, _, payload in told(body) if named == name]


def everything(body: bytes) -> list[Any]:
    return list(AppleHealth().parse(upload(body), None))


@pytest.mark.parametrize(
    "path",
    [
        "dogsheep-healthkit-to-sqlite/tests/export.xml",
        "dogsheep-healthkit-to-sqlite/tests/zip_contents/apple_health_export/export.xml",
        "tdda-applehealthdata/testdata/export6s3sample.xml",
    ],
)
def test_real_files_are_read_to_the_last_record(path: str) -> None:
    """Real exports give as many samples, workouts and summaries as a plain parser counts, and the same by both ways."""
    if not REALDATA.exists():
        pytest.skip("the real exports of the Health app are not here (../shared/realdata/apple_health)")
    body = (REALDATA / path).read_bytes()
    cut = body[body.index(b"<HealthData") :]
    counted = Counter(element.tag for element in ElementTree.fromstring(cut))
    found = told(body)
    names = Counter(name for name, _, _ in found)
    assert names["workout"] == counted["Workout"]
    assert names["activity_summary"] == counted["ActivitySummary"]
    assert sum(names.values()) - names["workout"] - names["activity_summary"] - names["route"] == counted["Record"]
    assert told(body, fast=False) == found


def test_a_generated_export_reads_the_same_both_ways() -> None:
    """The fast way and expat agree on every entry of an export."""
    body = io.BytesIO()
    Phone(records=3_000, days=300).write(body)
    found = told(body.getvalue())
    assert len(found) > 3_000
    assert told(body.getvalue(), fast=False) == found


texts = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=8)
written = texts.map(lambda text: text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&#34;"))
attributes = st.fixed_dictionaries(
    {},
    optional={
        "sourceName": written,
        "sourceVersion": written,
        "device": written,
        "unit": st.sampled_from(["count", "km", "mi", "%", "degF", "furlong"]),
        "creationDate": st.just("2024-01-01 10:00:09 +0100"),
        "value": st.sampled_from(["1", "0.5", "-3e2", "1234567.891", "12.0"]),
        "startDate": st.sampled_from(["2024-01-01 10:00:00 +0100", "1999-12-31 23:59:59 -0930", "2024-02-29 00:00:00 +0000"]),
    },
)
entries = st.lists(st.tuples(written, written), max_size=3)


@given(st.lists(st.tuples(attributes, entries, st.permutations(range(8)), st.sampled_from(["", " ", "\n"])), max_size=5))
@settings(max_examples=60, deadline=None)
def test_both_ways_agree_on_variations(given_: list[tuple[dict[str, str], list[tuple[str, str]], list[int], str]]) -> None:
    """Whatever the order, the quoting and the gaps, and whatever is missing: the fast way gives what expat gives."""
    elements = []
    for chosen, metadata, order, gap in given_:
        whole = {"type": "HKQuantityTypeIdentifierStepCount", "sourceName": "x", "startDate": "2024-01-01 10:00:00 +0100"} | chosen
        whole["endDate"] = whole["startDate"]
        items = list(whole.items())
        if gap != "":
            items = [items[place % len(items)] for place in dict.fromkeys(place % len(items) for place in order)]
            items += [item for item in whole.items() if item not in items]
        inner = "".join(f'{gap}<MetadataEntry key="{key}" value="{value}"/>' for key, value in metadata)
        elements.append("<Record " + " ".join(f'{name}="{value}"' for name, value in items) + f">{inner}</Record>")
    body = document(*elements)
    assert told(body) == told(body, fast=False)


def test_a_malformed_doctype_is_cut_off() -> None:
    """The DTD of iOS 16 is not well-formed; nothing of it is read."""
    head = BEGIN.replace("]>", "<!ATTLIST VisionPrescription\n  type CDATA #REQUIRED\n<!ELEMENT RightEye EMPTY>\n>\n]>")
    assert len(told(document(record(), head=head))) == 1


def test_entities_never_expand() -> None:
    """An entity bomb is refused: its DTD is gone before anything is parsed."""
    bomb = BEGIN.replace("]>", '<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">\n]>')
    with pytest.raises(Unreadable, match=r"damaged.*export it again"):
        told(document(record(sourceName="&b;"), head=bomb))


def test_forbidden_bytes_are_dropped() -> None:
    """Control bytes that XML forbids are dropped and the rest is read."""
    [(_, _, (_, payload))] = told(document(record(sourceName="a\x0bb\x01")))
    assert HealthSample.FromString(payload).source == "ab"


def test_an_attribute_that_comes_twice_is_put_right() -> None:
    """iOS 16 wrote startDate twice in statistics: the second was meant to be the endDate."""
    statistics = (
        '<WorkoutStatistics type="HKQuantityTypeIdentifierHeartRate" startDate="2024-01-01 10:00:00 +0100" '
        'startDate="2024-01-01 11:00:00 +0100" average="140" unit="count/min"/>'
    )
    workout = (
        '<Workout workoutActivityType="HKWorkoutActivityTypeRunning" duration="60" durationUnit="min" sourceName="W" '
        f'startDate="2024-01-01 10:00:00 +0100" endDate="2024-01-01 11:00:00 +0100">{statistics}</Workout>'
    )
    [found] = payloads(document(workout), "workout", Workout)
    assert found.statistics[0].average == 140
    assert found.duration_seconds == 3600


@pytest.mark.parametrize("end", ["", ' <Record type="HKQuantityTypeIdentif', ' <Workout workoutActivityType="x"><MetadataEntry'])
def test_a_truncated_file_says_so(end: str) -> None:
    """A file that was cut off gives what it holds, and then says what to do."""
    signals, found = AppleHealth().parse(upload(document(record(), tail=end)), None), list[Any]()
    with pytest.raises(Unreadable, match="cut off: export it again"):
        found.extend(signals)
    assert len(found) == 1


def test_identity_is_stable_between_exports() -> None:
    """Another offset, pointer, order of attributes, unit or creation date makes no other sample; another value does."""
    first = record(
        type_="HKQuantityTypeIdentifierDistanceWalkingRunning",
        unit="km",
        value="1.609344",
        more=' device="&lt;&lt;HKDevice: 0x1&gt;, name:A&gt;"',
    )
    same = (
        '<Record sourceName="Health" type="HKQuantityTypeIdentifierDistanceWalkingRunning" value="1" unit="mi" '
        'startDate="2024-01-01 04:00:00 -0500" endDate="2024-01-01 04:00:05 -0500" device="&lt;&lt;HKDevice: 0x2&gt;, name:A&gt;" '
        'creationDate="2025-05-05 05:05:05 -0500"/>'
    )
    other = record(type_="HKQuantityTypeIdentifierDistanceWalkingRunning", unit="km", value="1.7")
    subjects = [subject for _, subject, _ in told(document(first, same, other))]
    assert subjects[0] == subjects[1] != subjects[2]


def test_two_exports_differ_only_in_what_is_new() -> None:
    """A later export of the same phone, with another offset and other pointers, repeats each sample of the earlier one."""
    earlier, later = io.BytesIO(), io.BytesIO()
    Phone(records=1_000, days=300, until=0.5).write(earlier)
    Phone(records=1_000, days=300, offset=2, pointer=0x77000000).write(later)
    before = {(name, subject) for name, subject, _ in told(earlier.getvalue())}
    after = {(name, subject) for name, subject, _ in told(later.getvalue())}
    assert before < after


def test_a_sync_identifier_is_the_identity() -> None:
    """A higher sync version replaces the lower one."""

    def tied(version: str, value: str) -> str:
        return record(
            value=value,
            inner='<MetadataEntry key="HKMetadataKeySyncIdentifier" value="a1"/>'
            f'<MetadataEntry key="HKMetadataKeySyncVersion" value="{version}"/>',
        )

    found = [signal for signal in everything(document(tied("1", "3"), tied("2", "4"))) if isinstance(signal, Event)]
    assert [event.order for event in found] == [1, 2]
    assert found[0].subject == found[1].subject


def test_values_keep_their_unit_and_have_a_canonical_one() -> None:
    """The number as written, and beside it the canonical one; a category has neither."""
    body = document(
        record(type_="HKQuantityTypeIdentifierBodyTemperature", unit="degF", value="98.6"),
        record(type_="HKQuantityTypeIdentifierBloodGlucose", unit="mmol&lt;180.1558800000541&gt;/L", value="5.5"),
        record(type_="HKCategoryTypeIdentifierSleepAnalysis", unit="-", value="HKCategoryValueSleepAnalysisAsleepCore"),
        record(type_="HKQuantityTypeIdentifierFutureThing", unit="furlong", value="3"),
    )
    found = [(name, HealthSample.FromString(payload)) for name, _, (_, payload) in told(body)]
    assert [name for name, _ in found] == ["body_temperature", "blood_glucose", "sleep_analysis", "unknown"]
    assert (found[0][1].value, found[0][1].unit) == (98.6, "degF")
    assert (round(found[0][1].canonical_value, 6), found[0][1].canonical_unit) == (37.0, "degC")
    assert (found[1][1].canonical_value, found[1][1].canonical_unit) == (5.5, "mmol/L")
    assert found[2][1].category.endswith("AsleepCore")
    assert not found[2][1].HasField("value")
    assert not found[3][1].HasField("canonical_value")
    assert found[3][1].value == 3


def test_a_correlation_does_not_double_its_records() -> None:
    """A blood pressure's records stand at top level, too: they have the same identity there."""
    body = io.BytesIO()
    Phone(records=10, days=100).write(body)
    systolic = [subject for name, subject, _ in told(body.getvalue()) if name == "blood_pressure_systolic"]
    assert len(systolic) == 4
    assert len(set(systolic)) == 2
    [group, _] = payloads(body.getvalue(), "blood_pressure", HealthGroup)
    assert [sample.kind[-9:] for sample in group.samples] == ["Diastolic", "eSystolic"]


def test_other_entries_are_told_too() -> None:
    """Heart beats, audiograms and what is not known come as they are; the person's own data do not."""
    beats = (
        '<HeartRateVariabilityMetadataList><InstantaneousBeatsPerMinute bpm="61" time="7:47:41.86 AM"/></HeartRateVariabilityMetadataList>'
    )
    body = document(
        record(type_="HKQuantityTypeIdentifierHeartRateVariabilitySDNN", unit="ms", value="40", inner=beats),
        '<Audiogram type="HKAudiogramSampleType" sourceName="A" startDate="2024-01-01 10:00:00 +0100" endDate="2024-01-01 10:00:00 +0100">'
        '<SensitivityPoint frequencyValue="500" frequencyUnit="Hz" leftEarValue="10" leftEarUnit="dBHL"/></Audiogram>',
        '<Horoscope sign="lion"/>',
    )
    found = told(body)
    assert [name for name, _, _ in found] == ["heart_rate_variability_sdnn", "audiogram", "unknown"]
    assert HealthSample.FromString(found[0][2][1]).beats[0].beats_per_minute == 61
    assert b"left_ear_value" in found[1][2][-1]
    assert Record.FromString(found[1][2][-1]).fields["sensitivity_point"]
    assert b"1985" not in b"".join(payload[-1] for _, _, payload in found)


def test_it_goes_on_at_a_checkpoint() -> None:
    """Read on from any checkpoint, an export gives exactly what came after it."""
    body = io.BytesIO()
    Phone(records=45_000, days=1_000).write(body)
    signals = everything(body.getvalue())
    places = [place for place, signal in enumerate(signals) if isinstance(signal, Checkpoint)]
    assert len(places) >= 3

    def subjects(some: list[Any]) -> list[str]:
        return [row[0] for signal in some if isinstance(signal, Occurrences) for row in signal.rows] + [
            signal.subject for signal in some if isinstance(signal, Event)
        ]

    for place in places:
        again = list(AppleHealth().parse(upload(body.getvalue()), signals[place].cursor))
        assert subjects(again) == subjects(signals[place + 1 :])


# --- archives ---


def archive(files: dict[str, bytes]) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in files.items():
            written.writestr(name, content)
    return body.getvalue()


@pytest.mark.parametrize("name", ["export.xml", "导出.xml", "輸出.xml", "eksport\u00f8.xml"])
def test_the_main_file_is_found_by_what_it_holds(name: str, tmp_path: Path) -> None:
    """The main file has its name in the phone's language; routes and electrocardiograms beside it are found as well."""
    phone = Phone(records=200, days=100)
    path = phone.zip(tmp_path / "export.zip", name=name)
    names: Counter[str] = Counter()
    for signal in AppleHealth().parse(upload(path.read_bytes()), None):
        if isinstance(signal, Event):
            names[signal.name] += 1
            if isinstance(signal.payload, Route):
                assert len(signal.payload.points) == 50
            if isinstance(signal.payload, Electrocardiogram):
                assert (len(signal.payload.microvolts), signal.payload.samples_per_second) == (1_024, 512)
                assert signal.payload.classification == "Sinus Rhythm"
                assert b"Ada" not in signal.payload.SerializeToString()
            if isinstance(signal.payload, ActivitySummary):
                assert signal.payload.energy_goal_kj == 500 * 4.184
    assert (names["workout"], names["route"], names["electrocardiogram"], names["activity_summary"]) == (10, 10, 1, 100)


def test_utf8_names_without_the_flag_are_understood() -> None:
    """A name in UTF-8 that does not say so is read as UTF-8: its route is found."""
    body = archive({"apple_health_export/export.xml": document(record()), "apple_health_export/électro.csv": b"x"})
    # Both headers of the second file lose the flag.
    broken = re.sub(rb"(PK\x03\x04..|PK\x01\x02....)\x00\x08", lambda found: found[1] + struct.pack("<H", 0), body, flags=re.DOTALL)
    assert broken != body
    with opened(upload(broken)) as export:
        assert "électro.csv" in export.parts


def refusals() -> Iterator[tuple[str, bytes, str]]:
    yield "empty", b"", "empty"
    yield "another file", b"%PDF-1.7 nothing of ours", "no export of the Health app"
    yield "another zip", archive({"a/readme.txt": b"x"}), "no export of the Health app in this zip"
    yield "nested", archive({"export.zip": archive({"export.xml": document()})}), "another zip file in this zip"
    yield "path trick", archive({"../../etc/export.xml": document()}), "leads out of it"
    yield "absolute", archive({"/etc/export.xml": document()}), "leads out of it"
    yield "cut zip", archive({"apple_health_export/export.xml": document(record())})[:-60], "not whole"
    yield "bomb", document("<Record " + " " * 17_000_000 + "/>"), "no export does"
    yield "deep", document("<a>" * 50 + "</a>" * 50), "nested more deeply"


@pytest.mark.parametrize(("body", "says"), [pytest.param(body, says, id=name) for name, body, says in refusals()])
def test_what_is_no_export_is_refused(body: bytes, says: str) -> None:
    """Each kind of wrong file is refused in a sentence that says so."""
    with pytest.raises(Unreadable, match=says):
        everything(body)


def test_a_damaged_zip_says_so() -> None:
    """A flipped bit inside the archive is noticed."""
    body = bytearray(archive({"apple_health_export/export.xml": document(*[record(value=str(n * 7919)) for n in range(2_000)])}))
    body[len(body) // 2] ^= 0xFF
    with pytest.raises(Unreadable, match="damaged"):
        everything(bytes(body))


ODD = [
    record(value="abc"),
    record(value="7,25"),
    record(value="nan"),
    record(startDate="soon"),
    record(endDate="2024-01-01 25:00:00 +0100"),
    record(endDate="2024-01-01T10:00:00"),
    '<Workout workoutActivityType="HKWorkoutActivityTypeRunning" startDate="soon" endDate="2024-01-01 10:00:00 +0100"/>',
    '<ActivitySummary dateComponents="2024-01-01" activeEnergyBurned="much" activeEnergyBurnedUnit="kcal"/>',
]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("odd", ODD)
def test_an_entry_that_cannot_be_is_passed_on_as_it_is(odd: str, fast: bool) -> None:
    """One entry whose date or number is none holds up nothing: all that it says is kept, as of what is not known."""
    first, second = record(value="1"), record(value="2")
    found = told(document(first, odd, second), fast=fast)
    (entry,) = [each for each in found if each[0] == "unknown"]
    found.remove(entry)
    assert found == told(document(first, second), fast=fast)
    kept, written = Record.FromString(entry[2][-1]), ElementTree.fromstring(odd)
    assert kept.fields["element"] == written.tag
    assert set(written.attrib.values()) <= {value for value in kept.fields.values() if isinstance(value, str)}
    assert entry in told(document(odd), fast=not fast)


def test_dates_of_iso_8601_are_the_same_instants() -> None:
    """As other programs write them."""
    plain = record(startDate="2024-01-01 10:00:00 +0100", endDate="2024-01-01 10:00:05 +0100")
    for start, end in (("2024-01-01T10:00:00+01:00", "2024-01-01T09:00:05Z"), ("2024-01-01T09:00:00.000Z", "20240101T100005+0100")):
        assert told(document(record(startDate=start, endDate=end))) == told(document(plain))
