"""Measurements: what is measured, declared once; the values, kept in memory; and the text that Prometheus reads.

Labels come from closed sets (providers, outcomes, kinds), so that users add no series.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]

PREFIX: Final = "oo_integrations_"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
#: Upper bounds of the histograms, in seconds; what is measured in other units has bounds of its own.
BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

COUNTERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "actions": "Actions that came to an end, by provider and state.",
        "clock_steps": "Times that the host's clock was set by a minute or more.",
        "calls_put_off": "Calls that waited for the provider's limit, by provider.",
        "dead_letters": "Events that a consumer was given too often, by consumer.",
        "deliveries": "Deliveries worked on, by provider and outcome.",
        "erasures_begun": "Erasures asked for, by kind.",
        "erasures_done": "Erasures done, by kind.",
        "events_expired": "Events that the outbox let go of, by kind: read, unread, tombstone or size.",
        "events_accepted": "Events written to the outbox, by provider.",
        "intake_faults": "Looks at the inbox that failed by a fault of ours.",
        "items_unreadable": "Items of a provider that were set aside, by provider.",
        "job_faults": "Jobs that failed by a fault of ours, by kind.",
        "jobs": "Jobs that came to an end, by kind, provider and state.",
        "leases_rescued": "Work that a dead process had under way, freed at the start, by kind.",
        "plugin_blocks": "Times that a plugin kept all others from their turn for 0.2 seconds or more, by plugin.",
        "refreshes": "Credentials refreshed, by provider and outcome.",
        "revocations": "Connections ended, by provider and by what could be revoked.",
        "run_faults": "Syncs that failed by a fault of ours.",
        "sink_events": "Events taken by a sink.",
        "sink_failures": "Times that a sink did not take what it was given.",
        "sink_losses": "Times that a sink had lost what it had taken, and was given it again.",
        "imports": "Imports that came to an end, by provider and outcome.",
        "subscription_failures": "Looks at a connection's subscriptions that failed, by provider.",
        "subscriptions_made": "Subscriptions made or renewed, by provider.",
        "syncs": "Syncs that came to an end, by provider and outcome.",
        "withdrawals": "Connections erased because the person took the access back at the provider, by provider.",
        "webhooks": "Webhooks answered, by provider and outcome.",
    }
)
GAUGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "backup_age_seconds": "Age of the newest backup; each was restored and checked when it was made.",
        "budget_left_ratio": "Part of the calls that a limit allows at once that was left where least was, by provider and by whose it is.",
        "breaker_open": "1 where most calls to a provider fail and nobody calls it, by provider.",
        "connections": "Connections, by provider and state.",
        "consumer_lag": "Events that a consumer has still to read.",
        "consumer_oldest_seconds": "Age of the oldest event that a consumer has still to read.",
        "database_well": "1 where the last look over the database found no damage, else 0.",
        "disk_free_bytes": "Bytes left where the database is.",
        "erasures_oldest_seconds": "Age of the oldest erasure that is not done.",
        "erasures_unfinished": "Erasures that are not done.",
        "inbox_depth": "Deliveries that are still to become events.",
        "inbox_oldest_seconds": "Age of the oldest delivery that is still to become events.",
        "outbox_bytes": "Bytes of the events that are kept.",
        "outbox_depth": "Events that are kept.",
        "outbox_oldest_seconds": "Age of the oldest event that is kept.",
        "plugin_strikes": "Times within a day that a plugin ended the daemon or held it up for a minute, by plugin.",
        "resident_bytes": "Bytes of the daemon that are in memory.",
        "sync_stalest_seconds": "Time since the active connection that waits longest was last synced to its end, by provider.",
        "syncs_running": "Syncs under way.",
        "wal_bytes": "Bytes of the write-ahead log.",
    }
)
HISTOGRAMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "commit_seconds": "How long commits take, the disk's sync included.",
        "loop_lag_seconds": "How late the main loop is.",
        "import_seconds": "How long imports take from when they were begun, by provider.",
        "sink_seconds": "How long a sink takes for one delivery, by sink.",
        "sync_seconds": "How long syncs take, by provider.",
        "webhook_seconds": "How long a webhook waits for its answer, from its headers on.",
    }
)


class MemoryMetrics:
    """The port `Metrics`, for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[Series, float] = defaultdict(float)
        self._buckets: dict[Series, list[int]] = defaultdict(lambda: [0] * (len(BOUNDS) + 1))

    def count(self, name: str, by: int = 1, **labels: str) -> None:
        """Add to a counter."""
        series = _series(f"{name}_total", labels)
        with self._lock:
            self._values[series] += by

    def observe(self, name: str, *values: float, **labels: str) -> None:
        """Add measurements."""
        with_labels = _series(name, labels)[1]
        with self._lock:
            self._values[f"{name}_sum", with_labels] += sum(values)
            self._values[f"{name}_count", with_labels] += len(values)
            buckets = self._buckets[name, with_labels]
            for value in values:
                buckets[bisect_left(BOUNDS, value)] += 1

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a level."""
        with self._lock:
            self._values[_series(name, labels)] = value

    def values(self) -> dict[Series, float]:
        """Everything measured so far."""
        with self._lock:
            return dict(self._values)

    def histograms(self) -> dict[Series, Sequence[int]]:
        """How many measurements lie in each stretch between the bounds."""
        with self._lock:
            return {series: tuple(counts) for series, counts in self._buckets.items()}


def exposition(metrics: MemoryMetrics) -> bytes:
    """Everything measured so far, in the text format of Prometheus (0.0.4)."""
    from oo_daemon.ops.exposition import text  # here, since a daemon that nobody asks need not carry the library

    return text(metrics)


def _series(name: str, labels: Mapping[str, str]) -> Series:
    if len(labels) < 2:
        return name, tuple(labels.items())
    if len(labels) == 2:  # most have
        one, other = labels.items()
        return name, (one, other) if one < other else (other, one)
    return name, tuple(sorted(labels.items()))
