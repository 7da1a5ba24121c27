"""Measurements kept in memory: counters, levels, and sums of what was observed."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping

Series = tuple[str, tuple[tuple[str, str], ...]]


class MemoryMetrics:
    """The port `Metrics`, for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[Series, float] = defaultdict(float)

    def count(self, name: str, by: int = 1, **labels: str) -> None:
        """Add to a counter."""
        self._add(f"{name}_total", by, labels)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one measurement."""
        self._add(f"{name}_sum", value, labels)
        self._add(f"{name}_count", 1, labels)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a level."""
        with self._lock:
            self._values[_series(name, labels)] = value

    def values(self) -> dict[Series, float]:
        """Everything measured so far."""
        with self._lock:
            return dict(self._values)

    def _add(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        with self._lock:
            self._values[_series(name, labels)] += value


def _series(name: str, labels: Mapping[str, str]) -> Series:
    return name, tuple(sorted(labels.items()))
