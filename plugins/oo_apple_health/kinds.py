"""What can be measured, and in which units: names, canonical units and how one comes to them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: Prefixes of the phone's own names.
PREFIXES: Final = ("HKQuantityTypeIdentifier", "HKCategoryTypeIdentifier", "HKCorrelationTypeIdentifier", "HKDataType")

#: What is known, by the phone's names without their prefixes; events of what is not are called `unknown`.
_NAMES: Final = """
StepCount DistanceWalkingRunning DistanceCycling DistanceSwimming DistanceWheelchair DistanceDownhillSnowSports DistanceRowing
DistancePaddleSports DistanceSkatingSports DistanceCrossCountrySkiing FlightsClimbed SwimmingStrokeCount PushCount NikeFuel
ActiveEnergyBurned BasalEnergyBurned AppleExerciseTime AppleStandTime AppleMoveTime PhysicalEffort TimeInDaylight HeartRate
RestingHeartRate WalkingHeartRateAverage HeartRateVariabilitySDNN HeartRateRecoveryOneMinute AtrialFibrillationBurden
OxygenSaturation RespiratoryRate VO2Max BloodPressureSystolic BloodPressureDiastolic PeripheralPerfusionIndex BodyMass
BodyMassIndex BodyFatPercentage LeanBodyMass Height WaistCircumference BodyTemperature BasalBodyTemperature
AppleSleepingWristTemperature AppleSleepingBreathingDisturbances BloodGlucose InsulinDelivery BloodAlcoholContent
NumberOfAlcoholicBeverages NumberOfTimesFallen ElectrodermalActivity ForcedExpiratoryVolume1 ForcedVitalCapacity
PeakExpiratoryFlowRate InhalerUsage UVExposure UnderwaterDepth WaterTemperature EnvironmentalAudioExposure
EnvironmentalSoundReduction HeadphoneAudioExposure WalkingSpeed WalkingStepLength WalkingAsymmetryPercentage
WalkingDoubleSupportPercentage AppleWalkingSteadiness SixMinuteWalkTestDistance StairAscentSpeed StairDescentSpeed RunningSpeed
RunningPower RunningStrideLength RunningVerticalOscillation RunningGroundContactTime CyclingSpeed CyclingPower CyclingCadence
CyclingFunctionalThresholdPower RowingSpeed PaddleSportsSpeed CrossCountrySkiingSpeed WorkoutEffortScore
EstimatedWorkoutEffortScore DietaryEnergyConsumed DietaryCarbohydrates DietaryFiber DietarySugar DietaryFatTotal
DietaryFatMonounsaturated DietaryFatPolyunsaturated DietaryFatSaturated DietaryCholesterol DietaryProtein DietaryVitaminA
DietaryThiamin DietaryRiboflavin DietaryNiacin DietaryPantothenicAcid DietaryVitaminB6 DietaryBiotin DietaryVitaminB12
DietaryVitaminC DietaryVitaminD DietaryVitaminE DietaryVitaminK DietaryFolate DietaryCalcium DietaryChloride DietaryIron
DietaryMagnesium DietaryPhosphorus DietaryPotassium DietarySodium DietaryZinc DietaryWater DietaryCaffeine DietaryChromium
DietaryCopper DietaryIodine DietaryManganese DietaryMolybdenum DietarySelenium SleepAnalysis AppleStandHour MindfulSession
HighHeartRateEvent LowHeartRateEvent IrregularHeartRhythmEvent LowCardioFitnessEvent AppleWalkingSteadinessEvent
AudioExposureEvent HeadphoneAudioExposureEvent EnvironmentalAudioExposureEvent HandwashingEvent ToothbrushingEvent
CervicalMucusQuality MenstrualFlow IntermenstrualBleeding OvulationTestResult PregnancyTestResult ProgesteroneTestResult
SexualActivity Contraceptive Pregnancy Lactation BleedingAfterPregnancy BleedingDuringPregnancy InfrequentMenstrualCycles
IrregularMenstrualCycles PersistentIntermenstrualBleeding ProlongedMenstrualPeriods AbdominalCramps Acne AppetiteChanges
BladderIncontinence Bloating BreastPain ChestTightnessOrPain Chills Constipation Coughing Diarrhea Dizziness DrySkin Fainting
Fatigue Fever GeneralizedBodyAche HairLoss Headache Heartburn HotFlashes LossOfSmell LossOfTaste LowerBackPain MemoryLapse
MoodChanges Nausea NightSweats PelvicPain RapidPoundingOrFlutteringHeartbeat RunnyNose ShortnessOfBreath SinusCongestion
SkippedHeartbeat SleepApneaEvent SleepChanges SoreThroat VaginalDryness Vomiting Wheezing SleepDurationGoal BloodPressure Food
"""
KNOWN: Final = frozenset(_NAMES.split())


@dataclass(frozen=True, slots=True)
class Unit:
    """How a unit as written becomes the canonical one: times the factor, plus the offset."""

    canonical: str
    factor: float = 1.0
    offset: float = 0.0


_MMOL: Final = re.compile(r"mmol<180\.15588\d*>/L")
UNITS: Final = {
    "m": Unit("m"), "km": Unit("m", 1000.0), "cm": Unit("m", 0.01), "mm": Unit("m", 0.001), "mi": Unit("m", 1609.344),
    "ft": Unit("m", 0.3048), "in": Unit("m", 0.0254), "yd": Unit("m", 0.9144),
    "kg": Unit("kg"), "g": Unit("kg", 0.001), "mg": Unit("kg", 1e-6), "mcg": Unit("kg", 1e-9), "lb": Unit("kg", 0.45359237),
    "oz": Unit("kg", 0.028349523125), "st": Unit("kg", 6.35029318),
    "kJ": Unit("kJ"), "J": Unit("kJ", 0.001), "kcal": Unit("kJ", 4.184), "Cal": Unit("kJ", 4.184), "cal": Unit("kJ", 0.004184),
    "s": Unit("s"), "ms": Unit("s", 0.001), "min": Unit("s", 60.0), "hr": Unit("s", 3600.0), "d": Unit("s", 86400.0),
    "degC": Unit("degC"), "degF": Unit("degC", 5 / 9, -160 / 9), "K": Unit("degC", 1.0, -273.15),
    "kPa": Unit("kPa"), "mmHg": Unit("kPa", 0.133322387415), "cmAq": Unit("kPa", 0.0980665),
    "m/s": Unit("m/s"), "km/hr": Unit("m/s", 1 / 3.6), "mi/hr": Unit("m/s", 0.44704), "ft/s": Unit("m/s", 0.3048),
    "mL": Unit("L", 0.001), "L": Unit("L"), "fl_oz_us": Unit("L", 0.0295735295625), "L/min": Unit("L/min"),
    "W": Unit("W"), "V": Unit("V"), "mV": Unit("V", 0.001), "mcV": Unit("V", 1e-6), "mcS": Unit("S", 1e-6), "IU": Unit("IU"),
    "%": Unit("1"), "count": Unit("1"), "count/min": Unit("count/min"), "count/s": Unit("count/min", 60.0),
    "dBASPL": Unit("dBASPL"), "dBHL": Unit("dBHL"), "mL/min·kg": Unit("mL/min·kg"), "kcal/hr·kg": Unit("kcal/hr·kg"),
    "mg/dL": Unit("mmol/L", 1 / 18.01558800000541), "mmol/L": Unit("mmol/L"),
}  # fmt: skip


def unit(written: str) -> Unit | None:
    """The unit, if it is one that is known. Shares are written as fractions of one, also where the unit says %."""
    return UNITS.get(written) or (Unit("mmol/L") if _MMOL.fullmatch(written) else None)


def name(kind: str) -> str:
    """What events of a kind are called.

    >>> name("HKQuantityTypeIdentifierHeartRateVariabilitySDNN"), name("HKQuantityTypeIdentifierVO2Max"), name("HKFutureThing")
    ('heart_rate_variability_sdnn', 'vo2_max', 'unknown')
    """
    for prefix in PREFIXES:
        short = kind.removeprefix(prefix)
        if short != kind and short in KNOWN:
            return snake(short)
    return "unknown"


def snake(camel: str) -> str:
    """A name in the spelling of event names."""
    parts = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]+[0-9]*(?![a-z])|[A-Z][a-z]*[0-9]*|[a-z]+|[0-9]+", camel)
    return "_".join(part.lower() for part in parts)
