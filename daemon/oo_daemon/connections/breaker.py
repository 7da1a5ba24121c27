"""The breaker of a provider: where most calls fail, nobody calls but one that looks whether it is over.

Kept in the process: each learns for itself in twenty calls. What a provider refuses is no failure of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from oo_daemon.ports import Metrics

#: It opens when at least half of at least so many calls within so many seconds have failed.
CALLS, WITHIN, PART = 20, 60.0, 0.5
#: Seconds until one call looks whether it is over.
OPEN = 60.0
#: What says nothing about whether the provider works: the grant, or the pace.
_NO_SIGN = frozenset({401, 403, 429})


@dataclass(slots=True, eq=False)
class Breaker:
    """One provider's."""

    _calls: deque[tuple[float, bool]] = field(default_factory=deque)  #: when, and whether it failed
    _failed: int = 0
    _opens_at: float | None = None  #: when the next call may look; None: it is closed

    def wait(self, now: float) -> float:
        """Seconds for which nobody calls; 0 for one that goes. Of an open breaker that is one in a while."""
        if self._opens_at is None:
            return 0.0
        if now < self._opens_at:
            return self._opens_at - now
        self._opens_at = now + OPEN
        return 0.0

    def heard(self, status: int | None, now: float) -> None:
        """Note what came of a call; None: no answer."""
        if status in _NO_SIGN:
            return
        failed = status is None or status == 408 or status >= 500
        if self._opens_at is not None:
            if failed:
                self._opens_at = now + OPEN
            else:
                self._opens_at, self._failed = None, 0
                self._calls.clear()
            return
        self._calls.append((now, failed))
        self._failed += failed
        while self._calls[0][0] <= now - WITHIN:
            self._failed -= self._calls.popleft()[1]
        if len(self._calls) >= CALLS and self._failed >= PART * len(self._calls):
            self._opens_at = now + OPEN

    @property
    def is_open(self) -> bool:
        """Most calls fail."""
        return self._opens_at is not None


class Breakers(msgspec.Struct, frozen=True, kw_only=True):
    """Those of all providers."""

    monotonic: Callable[[], float]
    metrics: Metrics
    _of: dict[str, Breaker] = msgspec.field(default_factory=dict)

    def wait(self, provider: str) -> float:
        """Seconds for which nobody calls this provider; 0: go on."""
        return self._its(provider).wait(self.monotonic())

    def is_open(self, provider: str) -> bool:
        """Most calls to this provider fail."""
        return self._its(provider).is_open

    def heard(self, provider: str, status: int | None) -> None:
        """Note what came of a call."""
        breaker = self._its(provider)
        was = breaker.is_open
        breaker.heard(status, self.monotonic())
        if breaker.is_open != was:
            self.metrics.gauge("breaker_open", float(breaker.is_open), provider=provider)

    def _its(self, provider: str) -> Breaker:
        if (found := self._of.get(provider)) is None:
            found = self._of[provider] = Breaker()
        return found
