"""What is kept of an export of the Health app, and what for. Birth date, sex and blood type are never kept."""

from __future__ import annotations

from typing import Final

from oo_sdk import Stored

_SAMPLE: Final = (
    "kind",
    "start",
    "end",
    "value",
    "unit",
    "category",
    "source",
    "canonical_value",
    "canonical_unit",
    "device",
    "time_zone",
    "metadata",
    "beats",
)

STORES: Final = (
    Stored(
        "workout",
        "your workouts: what sort, when, how long and how far, with heart rate and the like, and what measured it",
        "show how you train, over time",
        (
            "kind",
            "start",
            "end",
            "duration_seconds",
            "source",
            "distance_m",
            "energy_kj",
            "statistics",
            "moments",
            "parts",
            "device",
            "time_zone",
            "metadata",
        ),
    ),
    Stored("route", "the ways of your workouts, place by place", "show them on a map", ("workout", "part", "points")),
    Stored(
        "activity_summary",
        "what each day came to: energy, minutes of exercise, hours of standing, and your goals",
        "show how active you are, over time",
        (
            "date",
            "energy_kj",
            "energy_goal_kj",
            "move_minutes",
            "move_goal_minutes",
            "exercise_minutes",
            "exercise_goal_minutes",
            "stand_hours",
            "stand_goal_hours",
        ),
    ),
    Stored(
        "electrocardiogram",
        "your electrocardiograms: the curve, and what the watch made of it",
        "show them to you, or to somebody whom you ask",
        ("start", "classification", "samples_per_second", "microvolts", "device"),
    ),
    # An export names its own types, some hundred of them: single measurements, those that belong together (samples), and what has a form
    # of its own, such as an audiogram or a clinical record (fields).
    Stored(
        "*",
        "everything else in the file that was measured or noted: what, when, how much, and by which app and device",
        "show how you are, over time",
        (*_SAMPLE, "samples", "fields"),
    ),
)
