"""The text that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from oo_daemon.ops.metrics import BOUNDS, COUNTERS, GAUGES, HISTOGRAMS, PREFIX, Labels, MemoryMetrics


def text(metrics: MemoryMetrics) -> bytes:
    """Everything measured so far, in the text format of Prometheus (0.0.4)."""
    registry = CollectorRegistry()
    registry.register(_Declared(metrics))
    return generate_latest(registry)


class _Declared(Collector):
    def __init__(self, metrics: MemoryMetrics) -> None:
        self._values = metrics.values()
        self._histograms = metrics.histograms()

    def collect(self) -> Iterator[Metric]:
        """Give what is declared, each with all its series."""
        for name, says in COUNTERS.items():
            found = self._of(f"{name}_total")
            counter = CounterMetricFamily(PREFIX + name, says, labels=_names(found))
            for labels, value in found:
                counter.add_metric([text for _, text in labels], value)
            yield counter
        for name, says in GAUGES.items():
            found = self._of(name)
            gauge = GaugeMetricFamily(PREFIX + name, says, labels=_names(found))
            for labels, value in found:
                gauge.add_metric([text for _, text in labels], value)
            yield gauge
        for name, says in HISTOGRAMS.items():
            found = self._of(f"{name}_sum")
            histogram = HistogramMetricFamily(PREFIX + name, says, labels=_names(found))
            for labels, total in found:
                histogram.add_metric([text for _, text in labels], _cumulated(self._histograms[name, labels]), total)
            yield histogram

    def _of(self, name: str) -> list[tuple[Labels, float]]:
        return sorted((labels, value) for (found, labels), value in self._values.items() if found == name)


def _names(found: Sequence[tuple[Labels, float]]) -> list[str]:
    return [name for name, _ in found[0][0]] if found else []


def _cumulated(counts: Sequence[int]) -> list[tuple[str, float]]:
    buckets, sum_ = [], 0
    for bound, count in zip([*map(str, BOUNDS), "+Inf"], counts, strict=True):
        sum_ += count
        buckets.append((bound, float(sum_)))
    return buckets
