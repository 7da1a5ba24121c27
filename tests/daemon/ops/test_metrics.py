"""Measurements in memory."""

import threading

import pytest

from oo_daemon.ops.metrics import MemoryMetrics, exposition


def test_counters_and_levels() -> None:
    """A counter adds up, a level is what it was set to last, an observation is counted and summed."""
    metrics = MemoryMetrics()
    metrics.count("syncs", provider="acme", outcome="done")
    metrics.count("syncs", 2, outcome="done", provider="acme")
    metrics.count("syncs", provider="other", outcome="done")
    metrics.gauge("syncs_running", 3)
    metrics.gauge("syncs_running", 1)
    metrics.observe("sync_seconds", 0.5)
    metrics.observe("sync_seconds", 1.5)
    assert metrics.values() == {
        ("syncs_total", (("outcome", "done"), ("provider", "acme"))): 3,
        ("syncs_total", (("outcome", "done"), ("provider", "other"))): 1,
        ("syncs_running", ()): 1,
        ("sync_seconds_sum", ()): 2.0,
        ("sync_seconds_count", ()): 2,
    }


def test_values_are_a_copy() -> None:
    """What was read does not change any more."""
    metrics = MemoryMetrics()
    metrics.count("syncs")
    before = metrics.values()
    metrics.count("syncs")
    assert before == {("syncs_total", ()): 1}


def test_from_many_threads() -> None:
    """Counting from several threads at once loses nothing."""
    metrics = MemoryMetrics()

    def work() -> None:
        for _ in range(2000):
            metrics.count("x")
            metrics.observe("y", 1.0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert set(metrics.values().values()) == {8000}


@pytest.mark.rows("H5", "H6")
def test_what_prometheus_reads() -> None:
    """Counters, levels and histograms in its text format, with its own names for them."""
    metrics = MemoryMetrics()
    metrics.count("syncs", provider="acme", outcome="done")
    metrics.gauge("inbox_depth", 4)
    metrics.observe("sync_seconds", 0.3, 400, provider="acme")
    lines = exposition(metrics).decode().splitlines()
    assert 'oo_integrations_syncs_total{outcome="done",provider="acme"} 1.0' in lines
    assert "oo_integrations_inbox_depth 4.0" in lines
    assert 'oo_integrations_sync_seconds_bucket{le="0.25",provider="acme"} 0.0' in lines
    assert 'oo_integrations_sync_seconds_bucket{le="0.5",provider="acme"} 1.0' in lines
    assert 'oo_integrations_sync_seconds_bucket{le="+Inf",provider="acme"} 2.0' in lines
    assert 'oo_integrations_sync_seconds_count{provider="acme"} 2.0' in lines
    assert 'oo_integrations_sync_seconds_sum{provider="acme"} 400.3' in lines
    assert "# TYPE oo_integrations_sync_seconds histogram" in lines
