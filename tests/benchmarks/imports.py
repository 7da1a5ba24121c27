"""Imports of files: nothing is measured until there is a guest that can be imported into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.harness import Results

TITLE = "Import of a person's own export"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much."""

    rounds: int = 1


SIZES = {"full": Size(), "gate": Size(), "tiny": Size()}


def bench(size: Size, tell: Callable[[str], None]) -> Results:
    """Say that there is nothing to measure."""
    results = Results(benchmark="import", title=TITLE, settings={})
    results.missing["oO"] = "no guest takes an import yet"
    return results
